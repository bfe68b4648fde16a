//! Changes of records and webhooks, as users of Nexudus make them.
//!
//! `add`, `change` and `remove` are silent. `create`, `update` and `delete` do the same, and an event occurs if the
//! catalogue has an action for it. Errors: an unknown kind, action or `Id`, or a value that is not JSON.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use nexudus_bridge::action::Action;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::nexudus::record::RawRecord;
use serde_json::value::RawValue;

use crate::record::{self, time_text};
use crate::state::{Delivery, Located, State, World};

/// The fields that can hold a record's location.
const LOCATION_FIELDS: [&str; 4] = ["BusinessId", "IssuedById", "InvoicingBusinessId", "FloorPlanBusinessId"];

impl World {
    /// Returns an example of a kind at a location, with a new id, `UniqueId` and times. A kind without a field for the location gets
    /// the location's first parent record, such as the room of a booking. The record is not added.
    pub fn example(&self, kind: &str, business_id: i64) -> Result<RawRecord> {
        let mut record = record::example(kind).with_context(|| unknown_kind(kind))?;
        let mut state = self.lock();
        let now = time_text(state.now());
        record.set("UpdatedOn", &now);
        record.set("CreatedOn", &now);
        record.set("Id", state.new_id());
        record.set("UniqueId", uuid::Uuid::now_v7().to_string());
        if let Some(field) = LOCATION_FIELDS.into_iter().find(|field| record.raw(field).is_some()) {
            record.set(field, business_id);
        } else if let Some((field, parent)) = record::parent_of(kind)
            && let Some(id) = state.ids_at(parent, business_id).first()
        {
            record.set(field, id);
        }
        Ok(record)
    }

    /// Adds a record at a location silently, or replaces the one with the same `Id`. Returns the `Id`.
    pub fn add(&self, kind: &str, business_id: i64, record: RawRecord) -> Result<i64> {
        let kind = record::kind_named(kind).with_context(|| unknown_kind(kind))?;
        let id = record.id().context("the record has no Id")?;
        self.lock().records.entry(kind).or_default().insert(id, Located { business_id, record });
        Ok(id)
    }

    /// Sets fields of a record silently, to values in JSON. Sets `UpdatedOn` to the current time.
    pub fn change(&self, kind: &str, id: i64, fields: &[(&str, &str)]) -> Result<RawRecord> {
        let mut state = self.lock();
        let now = time_text(state.now());
        let Located { record, .. } = state.located(kind, id)?;
        set_fields(record, &now, fields)?;
        Ok(record.clone())
    }

    /// Removes a record silently and returns it.
    pub fn remove(&self, kind: &str, id: i64) -> Result<RawRecord> {
        let removed = self.lock().records.get_mut(kind).and_then(|records| records.remove(&id));
        removed.map(|located| located.record).with_context(|| not_there(kind, id))
    }

    /// Does [`World::add`], and the *created* event occurs. Returns its action, if the kind has one.
    pub fn create(&self, kind: &str, business_id: i64, record: RawRecord) -> Result<Option<&'static str>> {
        let id = self.add(kind, business_id, record)?;
        self.occurred(kind, id, &["created", "registered"])
    }

    /// Does [`World::change`], and the *updated* event occurs. Returns its action, if the kind has one.
    pub fn update(&self, kind: &str, id: i64, fields: &[(&str, &str)]) -> Result<Option<&'static str>> {
        self.change(kind, id, fields)?;
        self.occurred(kind, id, &["updated"])
    }

    /// Does [`World::remove`], and the *deleted* event occurs. Returns its action, if the kind has one.
    pub fn delete(&self, kind: &str, id: i64) -> Result<Option<&'static str>> {
        let action = self.occurred(kind, id, &["deleted"])?;
        self.remove(kind, id)?;
        Ok(action)
    }

    fn occurred(&self, kind: &str, id: i64, verbs: &[&str]) -> Result<Option<&'static str>> {
        let (business_id, json) = {
            let mut state = self.lock();
            let Located { business_id, record } = state.located(kind, id)?;
            (*business_id, record.to_json())
        };
        let action = record::action_of(kind, verbs).map(|entry| entry.name);
        action.map_or(Ok(()), |action| self.happened(action, business_id, json))?;
        Ok(action)
    }

    /// Makes an event of an action (name or number) occur at a location. Each enabled webhook for it gets the record's bytes
    /// unchanged. Without such a webhook, the event is missed.
    pub fn happened(&self, action: &str, business_id: i64, record: impl Into<Bytes>) -> Result<()> {
        let mut state = self.lock();
        let number = state.action(action)?;
        let record = record.into();
        let is_for = |webhook: &RawRecord| {
            webhook.integer("Action") == Some(number)
                && webhook.integer("BusinessId") == Some(business_id)
                && is_active(webhook)
        };
        let enabled = state.webhooks.iter().filter(|(_, webhook)| is_for(webhook));
        let enabled: Vec<i64> = enabled.map(|(id, _)| *id).collect();
        state.deliveries.missed += usize::from(enabled.is_empty());
        for webhook_id in enabled {
            let record = record.clone();
            state.deliveries.add(Delivery {
                webhook_id,
                business_id,
                record,
                attempts: 0,
                is_posting: false,
            });
        }
        Ok(())
    }

    /// Returns the ids of a kind's records, in order.
    pub fn ids(&self, kind: &str) -> Vec<i64> {
        self.lock().records.get(kind).map(|records| records.keys().copied().collect()).unwrap_or_default()
    }

    /// Returns a record.
    pub fn record(&self, kind: &str, id: i64) -> Option<RawRecord> {
        self.lock().located(kind, id).ok().map(|located| located.record.clone())
    }
}

impl State {
    /// Returns the ids of a kind's records at a location, in order.
    pub(super) fn ids_at(&self, kind: &str, business_id: i64) -> Vec<i64> {
        let records = self.records.get(kind).into_iter().flatten();
        records.filter(|(_, located)| located.business_id == business_id).map(|(id, _)| *id).collect()
    }

    fn located(&mut self, kind: &str, id: i64) -> Result<&mut Located> {
        let found = self.records.get_mut(kind).and_then(|records| records.get_mut(&id));
        found.with_context(|| not_there(kind, id))
    }

    /// Returns all values of `eWebhookAction`: numbers and names.
    pub(super) fn actions(&self) -> impl Iterator<Item = (i64, &str)> {
        let known = ENTRIES.iter().map(|entry| (i64::from(entry.id), entry.name));
        let extra = self.behaviour.extra_actions.iter().map(|(number, name)| (*number, name.as_str()));
        std::iter::once((NO_ACTION, "None")).chain(known).chain(extra)
    }

    /// Returns the number of an action, by its name or number.
    fn action(&self, action: &str) -> Result<i64> {
        let known = Action::known(action).map(|entry| i64::from(entry.id));
        let found = known.or_else(|| self.actions().find(|(_, name)| *name == action).map(|(id, _)| id));
        found.with_context(|| format!("{action:?} is not an action of the catalogue"))
    }
}

fn set_fields(record: &mut RawRecord, now: &str, fields: &[(&str, &str)]) -> Result<()> {
    record.set("UpdatedOn", now);
    for (field, json) in fields {
        let json: &RawValue = serde_json::from_str(json).with_context(|| format!("{field} = {json}"))?;
        record.set(field, json);
    }
    Ok(())
}

fn unknown_kind(kind: &str) -> String {
    format!("{kind:?} is not a kind of record, expected one such as Booking or Coworker")
}

fn not_there(kind: &str, id: i64) -> String {
    format!("there is no {kind} with Id {id}")
}

/// The first value of `eWebhookAction`, which no webhook can have.
pub(super) const NO_ACTION: i64 = 1;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: i64,
    /// Its location.
    pub business_id: i64,
    /// Its name.
    pub name: String,
    /// Number of its action.
    pub action: i64,
    /// URL of the deliveries.
    pub url: String,
    /// True if it is enabled.
    pub active: bool,
    /// Number of failed attempts since the last success.
    pub error_count: i64,
    /// The whole record.
    pub json: String,
}

impl Webhook {
    fn of(record: &RawRecord) -> Self {
        let text = |field: &str| record.get::<String>(field).unwrap_or_default();
        let integer = |field: &str| record.integer(field).unwrap_or_default();
        Self {
            id: integer("Id"),
            business_id: integer("BusinessId"),
            name: text("Name"),
            action: integer("Action"),
            url: text("URL"),
            active: is_active(record),
            error_count: integer("ErrorCount"),
            json: String::from_utf8_lossy(&record.to_json()).into_owned(),
        }
    }
}

/// Returns true if a webhook is enabled.
pub(super) fn is_active(webhook: &RawRecord) -> bool {
    webhook.get("Active") == Some(true)
}

impl World {
    /// Adds a webhook for an action (name or number).
    pub fn add_webhook(&self, business_id: i64, action: &str, url: &str, active: bool) -> Result<i64> {
        let mut state = self.lock();
        let number = state.action(action)?;
        let (id, mut webhook) = state.new_webhook("admin@example.com");
        webhook.set("BusinessId", business_id);
        webhook.set("Name", action);
        webhook.set("ToStringText", action);
        webhook.set("Action", number);
        webhook.set("URL", url);
        webhook.set("Active", active);
        state.webhooks.insert(id, webhook);
        Ok(id)
    }

    /// Sets fields of a webhook, read-only ones included, to values in JSON. Sets `UpdatedOn` to the current time.
    pub fn change_webhook(&self, id: i64, fields: &[(&str, &str)]) -> Result<()> {
        let mut state = self.lock();
        let now = time_text(state.now());
        let webhook = state.webhooks.get_mut(&id).with_context(|| not_there("WebHook", id))?;
        set_fields(webhook, &now, fields)
    }

    /// Removes a webhook. Returns whether it existed.
    pub fn remove_webhook(&self, id: i64) -> bool {
        self.lock().webhooks.remove(&id).is_some()
    }

    /// Returns all webhooks, by id.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.lock().webhooks.values().map(Webhook::of).collect()
    }

    /// Returns a webhook.
    pub fn webhook(&self, id: i64) -> Option<Webhook> {
        self.lock().webhooks.get(&id).map(Webhook::of)
    }
}

impl State {
    /// Returns the id and the record of a new webhook that has only the fields that the server sets.
    pub(super) fn new_webhook(&mut self, updated_by: &str) -> (i64, RawRecord) {
        const EMPTY: &str = r#"{"BusinessId":null,"BusinessName":null,"Name":null,"Action":1,"Description":null,
            "URL":null,"Active":false,"LastError":null,"ErrorCount":0,"LastTrigger":null,"Id":0,"UpdatedOn":null,
            "CreatedOn":null,"UniqueId":null,"UpdatedBy":null,"IsNew":false,"SystemId":null,"ToStringText":null,
            "LocalizationDetails":null,"CustomFields":null}"#;
        let mut record: RawRecord = serde_json::from_str(EMPTY).expect("the constant is a record");
        let (id, now) = (self.new_id(), time_text(self.now()));
        record.set("Id", id);
        record.set("UpdatedOn", &now);
        record.set("CreatedOn", &now);
        record.set("UniqueId", uuid::Uuid::now_v7().to_string());
        record.set("UpdatedBy", updated_by);
        (id, record)
    }
}

/// The top of the demo's network.
pub const NETWORK: i64 = 1_999_000_000;

/// The demo's locations.
pub const LOCATIONS: [i64; 2] = [1_999_000_001, 1_999_000_002];

/// Names of the demo's locations.
const NAMES: [&str; 2] = ["Espacio Ñandú", "Example North"];

/// Kinds of which each location has a record. Parents come before their children.
const KINDS: &str =
    "Resource Coworker Booking CoworkerContract Team Visitor Tariff CommunityThread HelpDeskMessage";

impl World {
    /// Adds the demo's network silently: three businesses, nine records at each of the two locations, and their shared
    /// secret. It has no webhooks.
    pub fn populate(&self, secret: Option<&str>) {
        self.add_business(NETWORK, "Example Spaces", None);
        for (business_id, name) in LOCATIONS.into_iter().zip(NAMES) {
            self.add_location(business_id, name);
            self.set_secret(business_id, secret);
        }
    }

    /// Adds a location with its records to the demo's network.
    pub fn add_location(&self, business_id: i64, name: &str) {
        self.add_business(business_id, name, Some(NETWORK));
        for kind in KINDS.split(' ') {
            let example = self.example(kind, business_id).expect("the kind is known");
            self.add(kind, business_id, example).expect("the kind is known");
        }
    }

    fn add_business(&self, id: i64, name: &str, root: Option<i64>) {
        let mut record = self.example("Business", id).expect("the kind is known");
        record.set("Id", id);
        record.set("Name", name);
        record.set("ToStringText", name);
        record.set("WebAddress", name.to_lowercase().replace(' ', "-"));
        record.set("RootLocationId", root);
        self.add("Business", id, record).expect("the kind is known");
    }
}
