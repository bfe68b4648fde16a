//! Changes of records and webhooks as somebody makes them in Nexudus, with or without an event.
//!
//! `add`, `change` and `remove` are silent. `create`, `update` and `delete` do the same and let the action of the
//! catalogue happen that fits, if there is one.

use bytes::Bytes;
use nexudus_bridge::action::Action;
use nexudus_bridge::action::catalogue::ENTRIES;

use crate::kinds;
use crate::record::{self, NotARecord, Record};
use crate::state::{Happened, Located, Missed, Pending, State, Why, World};

/// The fields that name a record's business, where it has one.
const LOCATION_FIELDS: [&str; 4] = ["BusinessId", "IssuedById", "InvoicingBusinessId", "FloorPlanBusinessId"];

/// Something that the double was told to do and cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The catalogue has no such entity.
    #[error("{0:?} is not an entity, expected one such as Booking or Coworker")]
    Entity(String),
    /// Neither the catalogue nor `extra_actions` has such an action.
    #[error("{0:?} is not an action, expected one such as BookingCreate")]
    Action(String),
    /// There is no such record.
    #[error("there is no {0} with Id {1}")]
    Record(String, i64),
    /// The text is no record.
    #[error(transparent)]
    Text(#[from] NotARecord),
}

impl World {
    /// A record of an entity to begin with: the fixture of its action, with an id, a `UniqueId` and times of its own,
    /// at this business; if it has no field for that, it belongs to the first record there that has one, such as a booking
    /// to a room. It is not yet in Nexudus.
    ///
    /// # Errors
    /// [`Unknown::Entity`].
    pub fn example(&self, entity: &str, business_id: i64) -> Result<Record, Unknown> {
        let text = kinds::example(entity).ok_or_else(|| Unknown::Entity(entity.to_owned()))?;
        let mut record = Record::parse(text)?;
        let mut state = self.lock();
        let now = record::time_text(state.clock.now());
        for field in ["UpdatedOn", "CreatedOn"] {
            record.set_text(field, &now);
        }
        record.set("Id", state.new_id().to_string());
        record.set_text("UniqueId", &uuid::Uuid::now_v7().to_string());
        let located = LOCATION_FIELDS.into_iter().find(|field| record.get(field).is_some());
        if let Some(field) = located {
            record.set(field, business_id.to_string());
        } else if let Some((field, parent)) = kinds::parent_of(entity)
            && let Some(id) = state.ids_at(parent, business_id).first()
        {
            record.set(field, id.to_string());
        }
        Ok(record)
    }

    /// Puts a record at a business, silently, in place of the one of the same `Id` if there is one. Returns that `Id`.
    ///
    /// # Errors
    /// [`Unknown::Entity`].
    pub fn add(&self, entity: &str, business_id: i64, record: Record) -> Result<i64, Unknown> {
        let entity = entity_of(entity)?;
        let id = record.id();
        let located = Located { business_id, record };
        self.lock().records.entry(entity).or_default().insert(id, located);
        Ok(id)
    }

    /// Changes fields of a record, silently; values are JSON text. `UpdatedOn` moves to now.
    ///
    /// # Errors
    /// [`Unknown::Entity`], [`Unknown::Record`].
    pub fn change(&self, entity: &str, id: i64, fields: &[(&str, &str)]) -> Result<Record, Unknown> {
        let mut state = self.lock();
        let now = record::time_text(state.clock.now());
        let located = state.located(entity, id)?;
        located.record.set_text("UpdatedOn", &now);
        for (field, json) in fields {
            located.record.set(field, *json);
        }
        Ok(located.record.clone())
    }

    /// Takes a record away, silently, and returns it as it last was.
    ///
    /// # Errors
    /// [`Unknown::Entity`], [`Unknown::Record`].
    pub fn remove(&self, entity: &str, id: i64) -> Result<Record, Unknown> {
        let name = entity_of(entity)?;
        let removed = self.lock().records.get_mut(name).and_then(|records| records.remove(&id));
        removed.map(|located| located.record).ok_or_else(|| Unknown::Record(name.to_owned(), id))
    }

    /// [`World::add`], and the entity's *created* action happens.
    ///
    /// # Errors
    /// [`Unknown::Entity`].
    pub fn create(&self, entity: &str, business_id: i64, record: Record) -> Result<Happened, Unknown> {
        let id = self.add(entity, business_id, record)?;
        self.happened_to(entity, id, &["created", "registered"])
    }

    /// [`World::change`], and the entity's *updated* action happens.
    ///
    /// # Errors
    /// [`Unknown::Entity`], [`Unknown::Record`].
    pub fn update(&self, entity: &str, id: i64, fields: &[(&str, &str)]) -> Result<Happened, Unknown> {
        self.change(entity, id, fields)?;
        self.happened_to(entity, id, &["updated"])
    }

    /// [`World::remove`], and the entity's *deleted* action happens with the record as it last was.
    ///
    /// # Errors
    /// [`Unknown::Entity`], [`Unknown::Record`].
    pub fn delete(&self, entity: &str, id: i64) -> Result<Happened, Unknown> {
        let business_id = self.lock().located(entity, id)?.business_id;
        let record = self.remove(entity, id)?;
        self.happened_at(entity, business_id, id, &record, &["deleted"])
    }

    /// The ids of an entity's records, in order.
    pub fn ids(&self, entity: &str) -> Vec<i64> {
        self.lock().records.get(entity).map(|records| records.keys().copied().collect()).unwrap_or_default()
    }

    /// A record as it is.
    pub fn record(&self, entity: &str, id: i64) -> Option<Record> {
        self.lock().located(entity, id).ok().map(|located| located.record.clone())
    }

    /// Adds a business: a location under `root`, or the top of a network.
    pub fn add_business(&self, id: i64, name: &str, root: Option<i64>) {
        let mut record = self.example("Business", id).expect("the catalogue has it");
        record.set("Id", id.to_string());
        record.set_text("Name", name);
        record.set_text("ToStringText", name);
        record.set_text("WebAddress", &name.to_lowercase().replace(' ', "-"));
        record.set("RootLocationId", root.map_or("null".to_owned(), |root| root.to_string()));
        self.add("Business", id, record).expect("the catalogue has it");
    }

    fn happened_to(&self, entity: &str, id: i64, verbs: &[&str]) -> Result<Happened, Unknown> {
        let (business_id, record) = {
            let mut state = self.lock();
            let located = state.located(entity, id)?;
            (located.business_id, located.record.clone())
        };
        self.happened_at(entity, business_id, id, &record, verbs)
    }

    fn happened_at(
        &self,
        entity: &str,
        business_id: i64,
        id: i64,
        record: &Record,
        verbs: &[&str],
    ) -> Result<Happened, Unknown> {
        match kinds::action_of(entity, verbs) {
            Some(entry) => {
                let happened = self.happened(entry.name, business_id, record.to_json())?;
                Ok(Happened { record_id: Some(id), ..happened })
            }
            None => Ok(Happened { action: None, record_id: Some(id), webhooks: Vec::new() }),
        }
    }

    /// Lets an action (name or number) happen to a record at a business: each active webhook for it gets the record's
    /// bytes as they are. Without one, the event is missed.
    ///
    /// # Errors
    /// [`Unknown::Action`].
    pub fn happened(
        &self,
        action: &str,
        business_id: i64,
        record: impl Into<Bytes>,
    ) -> Result<Happened, Unknown> {
        let mut state = self.lock();
        let number = state.action_number(action).ok_or_else(|| Unknown::Action(action.to_owned()))?;
        let name =
            state.actions().find(|(known, _)| *known == number).map_or(action, |(_, name)| name).to_owned();
        let record = record.into();
        let (on, off): (Vec<_>, Vec<_>) = state
            .webhooks
            .values()
            .filter(|webhook| webhook.number("Action") == Some(number))
            .filter(|webhook| webhook.number("BusinessId") == Some(business_id))
            .partition(|webhook| webhook.is_true("Active"));
        let webhooks: Vec<i64> = on.into_iter().map(Record::id).collect();
        let off = off.first().map(|webhook| webhook.id());
        if webhooks.is_empty() {
            let why = if off.is_some() { Why::Off } else { Why::NoWebhook };
            let action = name.clone();
            state.deliveries.miss(Missed { action, business_id, record, webhook_id: off, why });
        } else {
            for webhook_id in &webhooks {
                state.deliveries.add(Pending {
                    webhook_id: *webhook_id,
                    action: name.clone(),
                    business_id,
                    record: record.clone(),
                    attempts: 0,
                    posting: false,
                });
            }
        }
        Ok(Happened { action: Some(name), record_id: None, webhooks })
    }
}

impl State {
    /// The ids of an entity's records at a business, in order.
    pub(super) fn ids_at(&self, entity: &str, business_id: i64) -> Vec<i64> {
        let records = self.records.get(entity).into_iter().flatten();
        records.filter(|(_, it)| it.business_id == business_id).map(|(id, _)| *id).collect()
    }

    fn located(&mut self, entity: &str, id: i64) -> Result<&mut Located, Unknown> {
        let entity = entity_of(entity)?;
        let found = self.records.get_mut(entity).and_then(|records| records.get_mut(&id));
        found.ok_or_else(|| Unknown::Record(entity.to_owned(), id))
    }
}

/// An entity as the catalogue writes it.
fn entity_of(name: &str) -> Result<&'static str, Unknown> {
    kinds::named(name).ok_or_else(|| Unknown::Entity(name.to_owned()))
}

/// The enum's first value, which makes no webhook.
pub(super) const NONE: i64 = 1;

/// A webhook record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: i64,
    /// The location that it is bound to.
    pub business_id: i64,
    /// Its name.
    pub name: String,
    /// The action's number in the enum.
    pub action: i64,
    /// Its description.
    pub description: Option<String>,
    /// Where deliveries are posted to.
    pub url: String,
    /// Whether it is on.
    pub active: bool,
    /// What the last failed delivery met.
    pub last_error: Option<String>,
    /// Failures since the last success.
    pub error_count: i64,
    /// The last success.
    pub last_trigger: Option<String>,
    /// The whole record.
    pub record: Record,
}

impl World {
    /// Adds a webhook for an action (name or number) of the catalogue or the extras, as somebody did it in Nexudus.
    ///
    /// # Errors
    /// [`Unknown::Action`].
    pub fn add_webhook(
        &self,
        business_id: i64,
        action: &str,
        url: &str,
        active: bool,
    ) -> Result<i64, Unknown> {
        let mut state = self.lock();
        let number = state.action_number(action).ok_or_else(|| Unknown::Action(action.to_owned()))?;
        let mut webhook = state.new_webhook("admin@example.com");
        webhook.set("BusinessId", business_id.to_string());
        webhook.set_text("Name", action);
        webhook.set_text("ToStringText", action);
        webhook.set("Action", number.to_string());
        webhook.set_text("URL", url);
        webhook.set("Active", active.to_string());
        let id = webhook.id();
        state.webhooks.insert(id, webhook);
        Ok(id)
    }

    /// Changes fields of a webhook as somebody else would, read-only ones included; values are JSON text. `UpdatedOn` moves to now.
    ///
    /// # Errors
    /// [`Unknown::Record`].
    pub fn change_webhook(&self, id: i64, fields: &[(&str, &str)]) -> Result<(), Unknown> {
        let mut state = self.lock();
        let now = record::time_text(state.clock.now());
        let webhook = state.webhooks.get_mut(&id).ok_or_else(|| Unknown::Record("WebHook".to_owned(), id))?;
        webhook.set_text("UpdatedOn", &now);
        for (field, json) in fields {
            webhook.set(field, *json);
        }
        Ok(())
    }

    /// Takes a webhook away as somebody else would; says whether it was there.
    pub fn remove_webhook(&self, id: i64) -> bool {
        self.lock().webhooks.remove(&id).is_some()
    }

    /// All webhooks, by id.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.lock().webhooks.values().map(Webhook::of).collect()
    }

    /// A webhook.
    pub fn webhook(&self, id: i64) -> Option<Webhook> {
        self.lock().webhooks.get(&id).map(Webhook::of)
    }
}

impl Webhook {
    fn of(record: &Record) -> Self {
        Self {
            id: record.id(),
            business_id: record.number("BusinessId").unwrap_or_default(),
            name: record.text("Name").unwrap_or_default(),
            action: record.number("Action").unwrap_or(NONE),
            description: record.text("Description"),
            url: record.text("URL").unwrap_or_default(),
            active: record.is_true("Active"),
            last_error: record.text("LastError"),
            error_count: record.number("ErrorCount").unwrap_or_default(),
            last_trigger: record.text("LastTrigger"),
            record: record.clone(),
        }
    }
}

impl State {
    /// A webhook record with nothing in it but what the server sets.
    pub(super) fn new_webhook(&mut self, by: &str) -> Record {
        const EMPTY: &str = r#"{"BusinessId":null,"BusinessName":null,"Name":null,"Action":1,"Description":null,
            "URL":null,"Active":false,"LastError":null,"ErrorCount":0,"LastTrigger":null,"Id":0,"UpdatedOn":null,
            "CreatedOn":null,"UniqueId":null,"UpdatedBy":null,"IsNew":false,"SystemId":null,"ToStringText":null,
            "LocalizationDetails":null,"CustomFields":null}"#;
        let mut record = Record::parse(EMPTY).expect("it is a record");
        let now = record::time_text(self.clock.now());
        record.set("Id", self.new_id().to_string());
        record.set_text("UpdatedOn", &now);
        record.set_text("CreatedOn", &now);
        record.set_text("UniqueId", &uuid::Uuid::now_v7().to_string());
        record.set_text("UpdatedBy", by);
        record
    }

    /// Every value of the enum, extras behind.
    pub(super) fn actions(&self) -> impl Iterator<Item = (i64, &str)> {
        let known = ENTRIES.iter().map(|entry| (i64::from(entry.id), entry.name));
        let extra = self.manners.extra_actions.iter().map(|(number, name)| (*number, name.as_str()));
        std::iter::once((NONE, "None")).chain(known).chain(extra)
    }

    /// The number of an action, by its name or number.
    pub(super) fn action_number(&self, action: &str) -> Option<i64> {
        let known = Action::known(action).map(|entry| i64::from(entry.id));
        known.or_else(|| self.actions().find(|(_, name)| *name == action).map(|(number, _)| number))
    }
}
