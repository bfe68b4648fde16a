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
use crate::nexudus::client::{ApiClient, Call};
use crate::nexudus::listing::Collection;
use crate::nexudus::record::RawRecord;
use crate::nexudus::{ApiError, ErrorKind};

const BUSINESSES: Collection = Collection { entity: "Business", path: "/api/sys/businesses" };

/// The first value of Nexudus's enum of actions, which stands for no action.
const NO_ACTION: i64 = 1;

/// The account in Nexudus, with the configuration for it.
pub struct Account {
    /// The API.
    pub client: ApiClient,
    /// The configuration.
    pub config: Config,
}

/// The result of one look at the account.
#[derive(Debug, Clone)]
pub struct Look {
    /// The comparison of existing and wanted webhooks.
    pub comparison: Comparison,
    /// Actions of Nexudus that are neither in the catalogue nor in `extra_actions`.
    pub unknown_actions: Vec<NumberedAction>,
    /// True if the list of Nexudus's actions was read.
    pub knows_actions: bool,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// A value of Nexudus's enum of actions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NumberedAction {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// The names of the account's locations, by their numbers.
type Locations = BTreeMap<i64, String>;

/// The reason why the account cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The configuration has no `[nexudus]`.
    #[error(
        "[nexudus] is not configured, expected it with public_url, username and password_file, or token_file"
    )]
    NotConfigured,
    /// No source names a location.
    #[error("no source has a business_id, so no webhook can be created{}", existing(.0.as_ref()))]
    NoLocation(Option<Locations>),
    /// A source names a location that the account does not have.
    #[error("sources.{0}.business_id = {1} is not a location that the user of [nexudus] can read{locations}", locations = existing(Some(.2)))]
    UnknownLocation(String, i64, Locations),
    /// `--source` names a source that does not exist.
    #[error("there is no source {0:?}, expected one of {1}")]
    NoSource(String, String),
    /// No HTTP client can be made.
    #[error("cannot make an HTTP client for {0}")]
    Client(String),
    /// A request to Nexudus has failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Look {
    /// Returns the plan as JSON.
    pub fn document(&self) -> Value {
        let comparison = &self.comparison;
        let changes = comparison.changes();
        let duplicates = comparison.duplicated().map(|pair| {
            let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
            json!({"source": source, "action": action, "webhook_ids": pair.webhook_ids().collect::<Vec<_>>()})
        });
        json!({
            "unchanged": comparison.pairs.len() - changes.len(),
            "changes": changes,
            "duplicates": duplicates.collect::<Vec<_>>(),
            "unwanted": comparison.unwanted,
            "others": comparison.others,
            "unknown_actions": self.unknown_actions,
        })
    }
}

impl AccountError {
    /// Returns true if the configuration is at fault.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Client(..) | Self::Api(_))
    }
}

impl Account {
    /// Returns the account of `[nexudus]`, without a request to it.
    ///
    /// # Errors
    /// [`AccountError::NotConfigured`], [`AccountError::Client`].
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, AccountError> {
        let nexudus = config.nexudus.as_ref().ok_or(AccountError::NotConfigured)?;
        let client = ApiClient::new(nexudus, metrics).map_err(AccountError::Client)?;
        Ok(Self { client, config: config.clone() })
    }

    /// Checks that these sources name locations that the account has; an empty list stands for all sources. If the user may not list
    /// locations, checks only that at least one is named.
    pub async fn check_locations(&self, chosen: &[String]) -> Result<(), AccountError> {
        let sources = &self.config.sources;
        if let Some(unknown) = chosen.iter().find(|name| !sources.contains_key(name.as_str())) {
            let known: Vec<&str> = sources.keys().map(|name| &**name).collect();
            return Err(AccountError::NoSource(unknown.clone(), known.join(", ")));
        }
        let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
        let mut named = sources
            .values()
            .filter(|source| is_chosen(&source.name))
            .filter_map(|source| Some((&source.name, source.business_id?)))
            .peekable();
        let name = |record: RawRecord| record.get("Name").unwrap_or_default();
        let locations: Option<Locations> = match self.client.list(BUSINESSES, &[], name).await {
            Ok(locations) => Some(locations),
            Err(error) if matches!(error.kind, ErrorKind::Unauthorized { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if named.peek().is_none() {
            return Err(AccountError::NoLocation(locations));
        }
        let Some(locations) = locations else { return Ok(()) };
        match named.find(|(_, id)| !locations.contains_key(id)) {
            Some((name, id)) => Err(AccountError::UnknownLocation(name.to_string(), id, locations)),
            None => Ok(()),
        }
    }

    /// Reads and compares every webhook of the account. A failure to read the enum of actions is a warning only.
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
        let unnumbered =
            comparison.pairs.iter().map(|pair| &pair.wanted).filter(|wanted| wanted.action_id.is_none());
        warnings.extend(unnumbered.map(|wanted| {
            let (source, action) = (&wanted.source.name, wanted.action());
            format!("source {source}: Nexudus gives no number for the action {action}, so no webhook can be made for it")
        }));
        Ok(Look { comparison, unknown_actions: self.unknown(actions), knows_actions, warnings })
    }

    /// Compares the webhooks of the account with the configuration. `numbers` is as for [`wanted`].
    pub async fn compare(&self, numbers: &BTreeMap<String, i64>) -> Result<Comparison, ApiError> {
        let public_url = &self.client.config.public_url;
        let observed = self.client.list(WEBHOOKS, &[], |record| Observed::read(&record)).await?;
        let wanted = wanted(&self.config, public_url, numbers);
        Ok(Comparison::new(&self.config, public_url, wanted, observed.into_values().flatten().collect()))
    }

    async fn actions(&self) -> Result<Vec<NumberedAction>, ApiError> {
        let query = [("name", "eWebhookAction".to_owned())];
        let call = Call::read("enums", "/api/utils/enums", &query, "of a user with API access");
        let values: Vec<RawRecord> = self.client.get(&call).await?;
        let action = |value: &RawRecord| Some(NumberedAction { id: value.id()?, name: value.get("Name")? });
        Ok(values.iter().filter_map(action).collect())
    }

    /// Returns the actions that neither the catalogue nor `extra_actions` has.
    fn unknown(&self, mut actions: Vec<NumberedAction>) -> Vec<NumberedAction> {
        let configured =
            |name: &str| self.config.sources.values().any(|source| source.actions.find(name).is_some());
        actions.retain(|NumberedAction { id, name }| {
            *id != NO_ACTION && Action::known(&id.to_string()).is_none() && !configured(name)
        });
        actions.sort();
        actions
    }
}

/// Returns the end of an error, which lists the existing locations; `None` if the user may not list them.
fn existing(locations: Option<&Locations>) -> String {
    let Some(locations) = locations else {
        return "; its user may not list them (role Business-List)".to_owned();
    };
    if locations.is_empty() {
        return "; the user of [nexudus] can read no location".to_owned();
    }
    let lines = locations.iter().map(|(id, name)| {
        let name = name.escape_debug(); // a name with a line break must not look like another location
        format!("\n  business_id = {id}  # {name}")
    });
    format!("; the user can read{}", lines.collect::<String>())
}
