//! The account in Nexudus: compares its webhooks with the configuration, and checks its locations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::observed::{Observed, WEBHOOKS};
use super::plan::Comparison;
use super::wanted::wanted;
use crate::action::Action;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nexudus::client::{Call, Client, ClientError};
use crate::nexudus::listing::Collection;
use crate::nexudus::record::Record;
use crate::nexudus::wait::Watcher;
use crate::nexudus::{ApiError, ErrorKind};

const BUSINESSES: Collection = Collection { entity: "Business", path: "/api/sys/businesses" };

/// Nexudus's name for the first value of its enum of actions: no action.
const NO_ACTION: i64 = 1;

/// The account in Nexudus, with the configuration for it.
#[derive(Debug)]
pub struct Account {
    client: Client,
    config: Config,
}

/// The result of one look at the account.
#[derive(Debug, Clone)]
pub struct Look {
    /// The comparison of existing and wanted webhooks.
    pub comparison: Comparison,
    /// Actions of Nexudus that are neither in the catalogue nor in `extra_actions`.
    pub unknown_actions: Vec<UnknownAction>,
    /// True if the list of Nexudus's actions was read.
    pub knows_actions: bool,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// A value of Nexudus's enum that neither the catalogue nor any source's `extra_actions` has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct UnknownAction {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// A location of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its number, for `business_id`.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// The reason why the account cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no `[nexudus]`.
    #[error(
        "[nexudus] is not configured, expected it with public_url, username and password_file, or token_file"
    )]
    NotConfigured,
    /// No source names a location.
    #[error("no source has a business_id, so there is nowhere for webhooks to be{}", seen(.0))]
    NoLocation(Option<Vec<Location>>),
    /// A source names a location that the account does not have.
    #[error("sources.{source_name}.business_id = {id} is not a location that the user of [nexudus] sees{}", seen(.locations))]
    UnseenLocation {
        /// The source.
        source_name: String,
        /// The number that it names.
        id: i64,
        /// The existing ones.
        locations: Option<Vec<Location>>,
    },
    /// `--source` names one that there is not.
    #[error("no source is called {0:?}, expected one of {1}")]
    NoSource(String, String),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A request to Nexudus has failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Look {
    /// Returns the plan as JSON.
    pub fn document(&self) -> Value {
        let comparison = &self.comparison;
        json!({
            "changes": comparison.changes(),
            "duplicates": comparison.duplicates(),
            "unchanged": comparison.unchanged(),
            "unwanted": comparison.unwanted,
            "others": comparison.others,
            "unknown_actions": self.unknown_actions,
        })
    }
}

impl AccountError {
    /// Returns true if the configuration is at fault.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Client(_) | Self::Api(_))
    }
}

impl Account {
    /// The account of `[nexudus]`. Asks nothing yet.
    ///
    /// # Errors
    /// [`AccountError::NotConfigured`], [`AccountError::Client`].
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, AccountError> {
        let nexudus = config.nexudus.as_ref().ok_or(AccountError::NotConfigured)?;
        Ok(Self { client: Client::new(nexudus, metrics)?, config: config.clone() })
    }

    /// Takes over the sources of a configuration whose `[nexudus]` is the same. The client keeps its pace and its token, and
    /// sends again what Nexudus had refused: somebody may have changed it there.
    pub fn take_sources(&mut self, config: &Config) {
        self.config = config.clone();
        self.client.try_again();
    }

    /// Shows each wait for Nexudus from now on to `watcher`.
    pub fn watch_waits(&mut self, watcher: Watcher) {
        self.client.watch_waits(watcher);
    }

    /// The API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The configuration that it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Checks that these sources (none: all) name locations that the account has. Where the user may not list
    /// locations, only that one is named at all.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn check_locations(&self, chosen: &[String]) -> Result<(), AccountError> {
        if let Some(unknown) = chosen.iter().find(|name| !self.config.sources.contains_key(name.as_str())) {
            let known: Vec<&str> = self.config.sources.keys().map(|name| &**name).collect();
            return Err(AccountError::NoSource(unknown.clone(), known.join(", ")));
        }
        let sources = self.config.sources.values();
        let named =
            sources.filter(|source| chosen.is_empty() || chosen.iter().any(|name| **name == *source.name));
        let placed: Vec<_> = named.filter_map(|source| Some((&source.name, source.business_id?))).collect();
        let locations = match self.locations().await {
            Ok(locations) => Some(locations),
            Err(error) if matches!(error.kind, ErrorKind::Unauthorized { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if placed.is_empty() {
            return Err(AccountError::NoLocation(locations));
        }
        let Some(known) = &locations else { return Ok(()) };
        match placed.iter().find(|(_, id)| known.iter().all(|location| location.id != *id)) {
            Some((name, id)) => {
                Err(AccountError::UnseenLocation { source_name: name.to_string(), id: *id, locations })
            }
            None => Ok(()),
        }
    }

    async fn locations(&self) -> Result<Vec<Location>, ApiError> {
        let records = self.client.list(BUSINESSES, &[]).await?;
        let name = |record: &Record| record.get("Name").unwrap_or_default();
        Ok(records.iter().map(|(id, record)| Location { id: *id, name: name(record) }).collect())
    }

    /// Looks at every webhook of the account.
    ///
    /// # Errors
    /// [`ApiError`]. That the enum of actions cannot be read is only a warning.
    pub async fn look(&self) -> Result<Look, ApiError> {
        let mut warnings = Vec::new();
        let actions = self.actions().await;
        let knows_actions = actions.is_ok();
        let actions = actions.unwrap_or_else(|error| {
            warnings.push(format!("the list of actions cannot be read: {error}"));
            Vec::new()
        });
        let numbers = actions.iter().map(|action| (action.name.to_ascii_lowercase(), action.id)).collect();
        let comparison = self.compare(&numbers).await?;
        for pair in &comparison.pairs {
            if pair.wanted.action_id.is_none() {
                warnings.push(format!(
                    "source {}: Nexudus gives no number for the action {}, so no webhook can be made for it",
                    pair.wanted.source.name,
                    pair.wanted.action()
                ));
            }
        }
        warnings.extend(actions.iter().filter_map(renamed));
        Ok(Look { comparison, unknown_actions: self.unknown(actions), knows_actions, warnings })
    }

    /// Compares again, with the numbers of actions as they are known.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn compare(&self, numbers: &BTreeMap<String, i64>) -> Result<Comparison, ApiError> {
        let nexudus = self.client.config();
        let records = self.client.list(WEBHOOKS, &[]).await?;
        let wanted = wanted(&self.config, nexudus, &[], numbers);
        Ok(Comparison::new(
            &self.config,
            &nexudus.public_url,
            wanted,
            records.values().filter_map(Observed::read).collect(),
        ))
    }

    async fn actions(&self) -> Result<Vec<UnknownAction>, ApiError> {
        let query = [("name", "eWebhookAction".to_owned())];
        let call = Call::read("enums", "/api/utils/enums", &query, "of a user with API access");
        let values: Vec<Record> = self.client.get(&call).await?;
        let action = |value: &Record| Some(UnknownAction { id: value.id()?, name: value.get("Name")? });
        Ok(values.iter().filter_map(action).collect())
    }

    fn unknown(&self, actions: Vec<UnknownAction>) -> Vec<UnknownAction> {
        let configured = |name: &str| {
            self.config.sources.values().any(|source| source.actions.find(name).is_some() && !name.is_empty())
        };
        let known = |action: &UnknownAction| {
            action.id == NO_ACTION
                || Action::known(&action.id.to_string()).is_some()
                || configured(&action.name)
        };
        let mut unknown: Vec<UnknownAction> = actions.into_iter().filter(|action| !known(action)).collect();
        unknown.sort();
        unknown
    }
}

/// Returns a warning about an action that has another name in Nexudus than in the catalogue.
fn renamed(action: &UnknownAction) -> Option<String> {
    let entry = Action::known(&action.id.to_string())?;
    let same = entry.name.eq_ignore_ascii_case(&action.name);
    (!same).then(|| {
        format!("Nexudus calls action {} {:?} now; the catalogue has {}", action.id, action.name, entry.name)
    })
}

fn seen(locations: &Option<Vec<Location>>) -> String {
    match locations.as_deref() {
        None => "; its user may not list them (role Business-List)".to_owned(),
        Some([]) => "; the user of [nexudus] sees none".to_owned(),
        Some(locations) => {
            let lines = locations.iter().map(|Location { id, name }| {
                let name = name.escape_debug(); // a name with a line break must not look like another location
                format!("\n  business_id = {id}  # {name}")
            });
            format!("; it sees{}", lines.collect::<String>())
        }
    }
}
