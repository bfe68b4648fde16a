//! Apply: creates and updates records one after the other. If an answer was lost, the record is read again.
//!
//! A refusal concerns one record and stops no other. If Nexudus is unavailable or refuses the credentials, the rest is skipped.
//! Each run compares states, so another run continues where the last one stopped.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use url::Url;

use super::account::Account;
use super::observed::{Observed, WEBHOOKS, address};
use super::plan::{Comparison, Pair, differences};
use super::redact;
use super::wanted::Wanted;
use crate::config::{SignaturePolicy, Source};
use crate::nexudus::client::{ATTEMPTS, Call, Client};
use crate::nexudus::record::Record;
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
    pub created: Vec<Done>,
    /// Changed records.
    pub updated: Vec<Done>,
    /// The failures.
    pub failed: Vec<Failure>,
}

impl Applied {
    /// Returns the sources that check signatures, had no webhook before, and have one since this run: somebody has to type
    /// their shared secrets in Nexudus. None if Nexudus reaches the bridge on loopback: then it is a double, which knows
    /// the secrets.
    pub fn new_sources<'a>(&self, comparison: &'a Comparison, public_url: &Url) -> Vec<&'a str> {
        let pairs = &comparison.pairs;
        let is_new = |source: &Source| {
            let mut own = pairs.iter().filter(|pair| pair.wanted.source.name == source.name);
            self.created.iter().any(|done| *done.source == *source.name)
                && own.all(|pair| pair.found.is_none())
        };
        let sources = pairs.iter().map(|pair| &*pair.wanted.source);
        let sources = sources.filter(|source| {
            source.policy != SignaturePolicy::Off && !is_loopback(public_url) && is_new(source)
        });
        let mut names: Vec<&str> = sources.map(|source| &*source.name).collect();
        names.dedup();
        names
    }
}

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
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
    /// The reason, with the text of the API if there is one.
    pub error: String,
}

/// The reason why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The request has failed.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The number of the action is unknown.
    #[error("Nexudus gives no number for this action")]
    NoNumber,
    /// An update would have to leave out `Action`.
    #[error(
        "the record as Nexudus gives it names no action, and an update without one could clear it: choose the action in Nexudus, or let `webhooks apply` set it"
    )]
    NoAction,
    /// The record has changed since it was listed.
    #[error("the record was changed meanwhile, run it again")]
    Changed,
}

/// The progress, reported before each record is written.
pub type Progress<'a> = dyn Fn(&Pair) + Send + Sync + 'a;

impl Account {
    /// Writes the differences of `pairs`, then lists again. A pair that differs in the new list counts as failed, whether it
    /// was written or right at first. So does a written pair if the list cannot be read, and with [`Scope::All`] a pair with
    /// several active records. Without a difference, or if Nexudus is unavailable, there is no second list.
    pub async fn apply(&self, pairs: &[Pair], scope: Scope, progress: &Progress<'_>) -> Applied {
        let mut applied = Applied::default();
        let mut stopped: Option<String> = None;
        let mut tried = false;
        for pair in pairs.iter().filter(|pair| scope.concerns(pair)) {
            progress(pair);
            tried = true;
            if let Some(why) = &stopped {
                applied.failed.push(failure(pair, format!("not tried, since {why}")));
                continue;
            }
            let result = match &pair.found {
                None => self.create(&pair.wanted).await.map(|id| applied.created.push(done(pair, id))),
                Some(found) => self
                    .update(&pair.wanted, found, scope)
                    .await
                    .map(|_| applied.updated.push(done(pair, found.id))),
            };
            if let Err(error) = result {
                if let WriteError::Api(api) = &error
                    && api.is_general()
                {
                    stopped = Some(api.to_string());
                }
                applied.failed.push(failure(pair, redact::tokens(&error.to_string())));
            }
        }
        match stopped {
            None if tried => self.look_again(pairs, scope, &mut applied).await,
            _ => applied.fail_duplicated(pairs.iter(), scope),
        }
        applied
    }

    async fn look_again(&self, pairs: &[Pair], scope: Scope, applied: &mut Applied) {
        let known = |pair: &Pair| Some((pair.wanted.action().to_ascii_lowercase(), pair.wanted.action_id?));
        let numbers: BTreeMap<String, i64> = pairs.iter().filter_map(known).collect();
        let now = match self.compare(&numbers).await {
            Ok(now) => now,
            Err(error) => {
                let unseen = format!("written, but it could not be looked at again: {error}");
                let written = applied.created.drain(..).chain(applied.updated.drain(..));
                applied.failed.extend(written.map(|done| done.failed(unseen.clone())));
                return;
            }
        };
        for list in [&mut applied.created, &mut applied.updated] {
            list.retain(|done| match still_differs(&now, done, scope) {
                None => true,
                Some(error) => {
                    applied.failed.push(done.clone().failed(error));
                    false
                }
            });
        }
        // In a long run others may change records, so each record is read again before a write.
        for pair in pairs.iter().filter(|pair| !scope.concerns(pair)) {
            if let Some(error) = changed_since(&now, pair, scope) {
                applied.failed.push(failure(pair, error));
            }
        }
        let chosen = |now: &&Pair| pairs.iter().any(|pair| pair.wanted.is_same_as(&now.wanted));
        applied.fail_duplicated(now.pairs.iter().filter(chosen), scope);
    }

    /// Creates a record and returns its id. If the answer was lost, looks for the record before the next attempt.
    async fn create(&self, wanted: &Wanted) -> Result<i64, WriteError> {
        let number = wanted.action_id.ok_or(WriteError::NoNumber)?;
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
        let body = bytes::Bytes::from(body.to_string());
        let mut attempt = 1;
        loop {
            let call = Call::create(WEBHOOKS.path, body.clone(), "WebHook-Create");
            let error = match self.client().write(&call).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => self.client().error(ErrorKind::Unavailable("its answer names no Id".to_owned())),
                Err(error) if error.is_unclear() => error,
                Err(error) => return Err(error.into()),
            };
            // The record may be there all the same, or appear yet: a second one would deliver everything twice. Nexudus can be
            // at it for as long as an answer may take.
            self.client().let_settle(attempt, &error).await;
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
        let mut attempt = 1;
        loop {
            let mut record = read(self.client(), found.id).await?;
            let now = Observed::read(&record).ok_or(WriteError::Changed)?;
            let leads_to =
                |webhook: &Observed| address(&self.client().config().public_url, webhook.url.expose());
            if now.id != found.id || now.business_id != found.business_id || leads_to(&now) != leads_to(found)
            {
                return Err(WriteError::Changed);
            }
            let fields = scope.of(wanted, &now);
            if fields.is_empty() {
                return Ok(attempt > 1); // then an attempt without an answer was done after all
            }
            for (name, value) in fields {
                record.set(name, value);
            }
            if matches!(record.raw("Action"), None | Some("null")) {
                return Err(WriteError::NoAction);
            }
            let call = Call::update(WEBHOOKS.path, record.to_json(), "WebHook-Edit");
            match self.client().write(&call).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_unclear() && attempt < ATTEMPTS => {
                    self.client().back_off(attempt, &error).await;
                }
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }
}

async fn read(client: &Client, id: i64) -> Result<Record, ApiError> {
    let path = format!("{}/{id}", WEBHOOKS.path);
    client.get(&Call::read("read", &path, &[], "WebHook-Read")).await
}

impl Applied {
    /// Counts each of `pairs` that has several active records as failed, whoever created them.
    fn fail_duplicated<'a>(&mut self, pairs: impl Iterator<Item = &'a Pair>, scope: Scope) {
        if scope == Scope::Enable {
            return;
        }
        for pair in pairs {
            let Some(duplicates) = pair.duplicated() else { continue };
            let same = |done: &Done| done.source == duplicates.source && done.action == duplicates.action;
            self.created.retain(|done| !same(done));
            self.updated.retain(|done| !same(done));
            self.failed.push(failure(pair, duplicates.remedy()));
        }
    }
}

impl Scope {
    fn concerns(self, pair: &Pair) -> bool {
        match (self, &pair.found) {
            (Self::All, None) => true,
            (Self::Enable, None) => false,
            (_, Some(found)) => !self.of(&pair.wanted, found).is_empty(),
        }
    }

    /// The fields to write, with their new values.
    fn of(self, wanted: &Wanted, found: &Observed) -> Vec<(&'static str, serde_json::Value)> {
        let mut fields = differences(wanted, found);
        if self == Self::Enable {
            fields.retain(|name, _| *name == "Active");
        }
        fields.into_iter().map(|(name, [_, new])| (name, new)).collect()
    }

    /// The names of the fields to write, if there are any.
    fn differing(self, wanted: &Wanted, found: &Observed) -> Option<String> {
        let names: Vec<&str> = self.of(wanted, found).into_iter().map(|(name, _)| name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

fn still_differs(now: &Comparison, done: &Done, scope: Scope) -> Option<String> {
    let pair = now.pair(&done.source, &done.action)?;
    let Some(found) = &pair.found else {
        return Some("Nexudus took it, and yet there is no such webhook".to_owned());
    };
    let differing = scope.differing(&pair.wanted, found)?;
    Some(format!("Nexudus took it, and yet it differs in {differing}"))
}

/// Returns the failure of a pair without a difference, if it has changed.
fn changed_since(now: &Comparison, before: &Pair, scope: Scope) -> Option<String> {
    before.found.as_ref()?; // where there was none, nothing was asked for
    let pair = now.pair(&before.wanted.source.name, before.wanted.action())?;
    let Some(found) = &pair.found else {
        return Some("removed by somebody during this run".to_owned());
    };
    let differing = scope.differing(&pair.wanted, found)?;
    Some(format!("changed by somebody, or by Nexudus, during this run: it differs in {differing}"))
}

impl Done {
    /// It still differs after the write.
    fn failed(self, error: String) -> Failure {
        let Self { source, action, webhook_id } = self;
        Failure { source, action, webhook_id: Some(webhook_id), error }
    }
}

fn done(pair: &Pair, webhook_id: i64) -> Done {
    let source = pair.wanted.source.name.to_string();
    Done { source, action: pair.wanted.action().to_owned(), webhook_id }
}

fn failure(pair: &Pair, error: String) -> Failure {
    Failure {
        source: pair.wanted.source.name.to_string(),
        action: pair.wanted.action().to_owned(),
        webhook_id: pair.found.as_ref().map(|found| found.id),
        error,
    }
}
