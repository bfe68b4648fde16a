//! Webhook records as tests see and seed them; what the API does with them is in `api/webhooks.rs`.

use super::clock;
use super::record::Record;
use super::records::Unknown;
use super::state::{State, World};
use nexudus_bridge::action::Action;
use nexudus_bridge::action::catalogue::ENTRIES;

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
        let now = clock::text(state.clock.now());
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
        let now = clock::text(self.clock.now());
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
