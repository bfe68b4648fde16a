//! Apply: creates and updates records one after the other. If an answer was lost, the record is read again.
//!
//! A refusal concerns one record, and the others are still written. If Nexudus is unavailable or refuses the credentials, the rest
//! is skipped. Each run compares states, so another run writes only what is left.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::account::Account;
use super::observed::{Observed, WEBHOOKS, address};
use super::plan::{Comparison, Pair, differences};
use super::redact;
use super::wanted::Wanted;
use crate::config::{SignaturePolicy, Source};
use crate::nexudus::client::{ATTEMPTS, Call};
use crate::nexudus::record::RawRecord;
use crate::nexudus::{ApiError, ErrorKind};
use crate::outgoing::is_loopback;

/// The differences to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything that differs.
    All,
    /// Disabled webhooks are re-enabled only.
    Enable,
}

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Applied {
    /// New records.
    pub created: Vec<Written>,
    /// Changed records.
    pub updated: Vec<Written>,
    /// The failures.
    pub failed: Vec<Failure>,
}

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The record's number.
    pub webhook_id: i64,
}

/// A record that still differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The id of the record; `None` without a record.
    pub webhook_id: Option<i64>,
    /// The reason, with the text of the API if it has one.
    pub error: String,
}

/// The reason why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The request has failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The record or the action cannot be written.
    #[error("{0}")]
    Record(&'static str),
}

/// The record has changed since it was listed.
const CHANGED: WriteError =
    WriteError::Record("the record has changed since it was listed, run the command again");

impl Account {
    /// Writes the differences of `pairs`, each after a call of `progress`, then lists the webhooks again. A pair counts as failed if:
    ///
    /// - it differs in the new list, even if it was not written,
    /// - it was written, and the new list cannot be read,
    /// - it has several active records, with [`Scope::All`].
    ///
    /// If nothing differs, or if Nexudus is unavailable, the webhooks are not listed again.
    pub async fn apply(&self, pairs: &[Pair], scope: Scope, progress: &(impl Fn(&Pair) + Sync)) -> Applied {
        let mut results = Vec::new();
        let (mut is_any_tried, mut stopped) = (false, None::<String>);
        for pair in pairs {
            if !scope.concerns(pair) {
                results.push(Ok(None));
                continue;
            }
            progress(pair);
            is_any_tried = true;
            let result = match &stopped {
                Some(reason) => Err(format!("not tried, since {reason}")),
                None => self.write(pair, scope).await.map(Some).map_err(|error| {
                    stopped = error.general().map(ApiError::to_string);
                    redact::tokens(&error.to_string())
                }),
            };
            results.push(result.map_err(|error| (pair.found.as_ref().map(|found| found.id), error)));
        }
        let look_again = is_any_tried && stopped.is_none();
        let number = |pair: &Pair| Some((pair.wanted.action().to_ascii_lowercase(), pair.wanted.action_id?));
        let numbers = pairs.iter().filter_map(number).collect();
        let looked = if look_again { Some(self.compare(&numbers).await) } else { None };
        let mut applied = Applied::default();
        for (pair, result) in pairs.iter().zip(results) {
            let (source, action) = (pair.wanted.source.name.to_string(), pair.wanted.action().to_owned());
            let fault = |written| fault(pair, written, looked.as_ref(), scope);
            match result.and_then(|written| fault(written).map_or(Ok(written), Err)) {
                Ok(None) => {}
                Ok(Some(webhook_id)) => {
                    let list = if pair.found.is_none() { &mut applied.created } else { &mut applied.updated };
                    list.push(Written { source, action, webhook_id });
                }
                Err((webhook_id, error)) => {
                    applied.failed.push(Failure { source, action, webhook_id, error });
                }
            }
        }
        applied
    }

    /// Creates or updates the record of a pair and returns its id.
    async fn write(&self, pair: &Pair, scope: Scope) -> Result<i64, WriteError> {
        match &pair.found {
            None => self.create(&pair.wanted).await,
            Some(found) => self.update(&pair.wanted, found, scope).await.map(|_| found.id),
        }
    }

    /// Creates a record and returns its id. If the answer was lost, searches the record before the next attempt.
    async fn create(&self, wanted: &Wanted) -> Result<i64, WriteError> {
        let no_number = WriteError::Record("Nexudus gives no number for this action");
        let number = wanted.action_id.ok_or(no_number)?;
        let source = &wanted.source.name;
        let body = json!({
            "BusinessId": wanted.business_id,
            "Name": format!("nexudus-bridge {source} {}", wanted.action()),
            "Action": number,
            "URL": wanted.url.expose(),
            "Description": format!(
                "Kept by nexudus-bridge for its source {source}: events of {} go to Kafka.", wanted.action()
            ),
            "Active": true,
        });
        let call = Call::create(WEBHOOKS.path, body.to_string().into(), "WebHook-Create");
        let mut attempt = 1;
        loop {
            let error = match self.client.write(&call).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => self.client.error(ErrorKind::Unavailable("its answer names no Id".to_owned())),
                Err(error) if error.is_unclear() => error,
                Err(error) => return Err(error.into()),
            };
            // The record may exist, or Nexudus may still create it within the time-out of a request. A second record would deliver
            // every event twice.
            self.client.let_settle(attempt, &error).await;
            match self.find(wanted).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) if attempt < ATTEMPTS => attempt += 1,
                Ok(None) | Err(_) => return Err(error.into()),
            }
        }
    }

    async fn find(&self, wanted: &Wanted) -> Result<Option<i64>, ApiError> {
        let comparison = self.compare(&BTreeMap::new()).await?;
        let pair = comparison.pair(&wanted.source.name, wanted.action());
        Ok(pair.and_then(|pair| Some(pair.found.as_ref()?.id)))
    }

    /// Changes the managed fields of a record, unless they are right already. Returns whether it wrote.
    pub(super) async fn update(
        &self,
        wanted: &Wanted,
        found: &Observed,
        scope: Scope,
    ) -> Result<bool, WriteError> {
        let (client, path) = (&self.client, format!("{}/{}", WEBHOOKS.path, found.id));
        let address = |webhook: &Observed| address(&client.config.public_url, webhook.url.expose());
        let mut attempt = 1;
        loop {
            let mut record: RawRecord = client.get(&Call::read("read", &path, &[], "WebHook-Read")).await?;
            let now = Observed::read(&record).ok_or(CHANGED)?;
            if (now.id, now.business_id, address(&now)) != (found.id, found.business_id, address(found)) {
                return Err(CHANGED);
            }
            let fields = scope.fields(wanted, &now);
            if fields.is_empty() {
                return Ok(attempt > 1); // an earlier attempt without an answer has taken effect
            }
            for (name, value) in fields {
                record.set(name, value);
            }
            if matches!(record.raw("Action"), None | Some("null")) {
                return Err(WriteError::Record(
                    "the record from Nexudus has no action, and an update without an action could clear it: choose the action in \
                     Nexudus, or run `webhooks apply`",
                ));
            }
            match client.write(&Call::update(WEBHOOKS.path, record.to_json(), "WebHook-Edit")).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_unclear() && attempt < ATTEMPTS => {
                    client.back_off(attempt, &error).await;
                }
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }
}

impl Applied {
    /// Returns the sources whose shared secrets a person has to enter in Nexudus: those that check signatures and got their first
    /// webhook in this run. Returns none if `public_url` is on loopback: then Nexudus is a double, which has the secrets.
    pub fn new_sources<'a>(&self, comparison: &'a Comparison, public_url: &Url) -> Vec<&'a str> {
        let pairs = &comparison.pairs;
        let is_new = |source: &&Source| {
            let mut own = pairs.iter().filter(|pair| pair.wanted.source.name == source.name);
            source.policy != SignaturePolicy::Off
                && self.created.iter().any(|written| *written.source == *source.name)
                && own.all(|pair| pair.found.is_none())
        };
        let sources = pairs.iter().map(|pair| &*pair.wanted.source).filter(is_new);
        let mut names: Vec<&str> = sources.map(|source| &*source.name).collect();
        names.dedup();
        if is_loopback(public_url) { Vec::new() } else { names }
    }
}

impl WriteError {
    /// Returns the error if every other write would fail with it too.
    pub(super) fn general(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) if error.is_general() => Some(error),
            _ => None,
        }
    }
}

impl Scope {
    fn concerns(self, pair: &Pair) -> bool {
        match &pair.found {
            None => self == Self::All,
            Some(found) => !self.fields(&pair.wanted, found).is_empty(),
        }
    }

    /// The fields to write, with their new values.
    fn fields(self, wanted: &Wanted, found: &Observed) -> BTreeMap<&'static str, Value> {
        let fields = differences(wanted, found).into_iter().map(|(name, [_, new])| (name, new));
        fields.filter(|(name, _)| self == Self::All || *name == "Active").collect()
    }
}

/// Returns the id and the fault of a pair after the writes. `written` is the id of the record if this run wrote it. `looked` is the
/// second list, if any: others can change records during a long run.
fn fault(
    pair: &Pair,
    written: Option<i64>,
    looked: Option<&Result<Comparison, ApiError>>,
    scope: Scope,
) -> Option<(Option<i64>, String)> {
    let duplicated = |pair: &Pair| {
        let remedy = pair.remedy().filter(|_| scope == Scope::All)?;
        Some((pair.webhook_ids().next(), remedy))
    };
    let now = match looked {
        None => return duplicated(pair),
        Some(Ok(now)) => now.pair(&pair.wanted.source.name, pair.wanted.action())?,
        Some(Err(error)) => {
            let unknown = format!("written, but it could not be read again: {error}");
            return written.map(|id| (Some(id), unknown));
        }
    };
    let id = written.or_else(|| Some(pair.found.as_ref()?.id))?;
    let Some(found) = &now.found else {
        let error = match written {
            Some(_) => "Nexudus accepted the write, but the webhook does not exist",
            None => "deleted by somebody during this run",
        };
        return Some((Some(id), error.to_owned()));
    };
    let fields: Vec<&str> = scope.fields(&now.wanted, found).into_keys().collect();
    if !fields.is_empty() {
        let cause = match written {
            Some(_) => "Nexudus accepted the write, but the record differs in",
            None => "changed by somebody, or by Nexudus, during this run: it differs in",
        };
        return Some((Some(id), format!("{cause} {}", fields.join(", "))));
    }
    duplicated(now)
}
