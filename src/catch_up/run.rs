//! The run: each record in full, as an event of the action that tells of its change.
//!
//! Records go out in the order in which they changed, so a run that breaks can be gone on with from a moment. That moment
//! is not later than the creation of any new record that is left, lest it count as merely changed the next time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::location::Locations;
use super::survey::Candidate;
use super::window::{Meaning, Window};
use crate::config::Source;
use crate::delivery::Refusal;
use crate::delivery::replay::Replayer;
use crate::nexudus::client::Call;
use crate::nexudus::record::Record;
use crate::nexudus::{ApiError, Client, time};
use crate::outcome::Outcome;

/// What came of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The run, as the header `ce_nexuduscatchup` names it.
    pub run_id: String,
    /// Whether nothing was published.
    pub dry_run: bool,
    /// Events that were published, or would have been, by source and action.
    pub published: Vec<Published>,
    /// Records that changed, but no wanted action tells of it, by kind.
    pub uncovered: BTreeMap<&'static str, usize>,
    /// Records whose location nobody knows, by kind.
    pub unplaced: BTreeMap<&'static str, usize>,
    /// Records of locations that were not asked for.
    pub elsewhere: usize,
    /// Records that did not change in the window after all.
    pub outside: usize,
    /// Records that were deleted since they were listed.
    pub gone: usize,
    /// Records that Kafka does not take.
    pub failed: Vec<Failed>,
    /// Wanted actions whose events leave nothing to be read: deletions, signals, transitions.
    pub unreadable: Vec<&'static str>,
    /// Wanted actions that have no webhook, so that nobody knows since when they are missing.
    pub unknown_since: Vec<String>,
    /// Where to go on, if it is not all done.
    pub go_on_since: Option<String>,
}

/// Events of one source and action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// How many.
    pub records: usize,
}

/// A record that Kafka does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The action's name.
    pub action: String,
    /// The record's `Id`.
    pub id: i64,
    /// Why.
    pub error: String,
}

/// What ends a run before its time.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Nexudus does not say.
    #[error("{0}")]
    Nexudus(#[from] ApiError),
    /// Kafka does not confirm.
    #[error("{0}")]
    Kafka(String),
}

/// Publishes what was found.
pub struct Run<'a> {
    client: &'a Client,
    window: Window,
    /// None in a dry run.
    replayer: Option<&'a Replayer>,
    id: Arc<str>,
    locations: Locations,
    published: BTreeMap<(Arc<str>, String), usize>,
    summary: Summary,
}

impl<'a> Run<'a> {
    /// A run of its own; without a `replayer` a dry one.
    pub fn new(client: &'a Client, window: Window, replayer: Option<&'a Replayer>) -> Self {
        let id = Uuid::now_v7().to_string();
        let summary = Summary {
            run_id: id.clone(),
            dry_run: replayer.is_none(),
            unreadable: window.unreadable.clone(),
            unknown_since: window.unknown.clone(),
            ..Summary::default()
        };
        let (locations, published) = Default::default();
        Self { client, window, replayer, id: id.into(), locations, published, summary }
    }

    /// Publishes all candidates, in their order, and tells of each when it is done. What came of it, and what broke it.
    pub async fn all(mut self, candidates: &[Candidate], told: impl Fn()) -> (Summary, Option<Broken>) {
        let (mut broken, mut left) = (None, candidates.len());
        for candidate in candidates {
            if let Err(error) = self.one(candidate).await {
                broken = Some(error);
                break;
            }
            left -= 1;
            told();
        }
        let Self { window, published, mut summary, .. } = self;
        let undone = candidates[candidates.len() - left..].iter();
        let failed = |candidate: &&Candidate| summary.failed.iter().any(|failed| failed.id == candidate.id);
        let go_on =
            undone.chain(candidates.iter().filter(failed)).filter_map(|left| begin(left, &window)).min();
        summary.go_on_since = go_on.map(|time| time.to_string());
        summary.published = published
            .into_iter()
            .map(|((source, action), records)| Published { source: source.to_string(), action, records })
            .collect();
        (summary, broken)
    }

    async fn one(&mut self, candidate: &Candidate) -> Result<(), Broken> {
        let name = candidate.entity.name;
        let Some((bytes, record)) = self.read(candidate).await? else {
            self.summary.gone += 1;
            return Ok(());
        };
        let moment = |field: &str| record.get::<String>(field).as_deref().and_then(time::read);
        let Some(updated_on) = moment("UpdatedOn") else {
            self.summary.outside += 1;
            return Ok(());
        };
        let Some(business) = self.locations.of(self.client, candidate.entity, &record).await? else {
            *self.summary.unplaced.entry(name).or_default() += 1;
            return Ok(());
        };
        let sources: Vec<Arc<Source>> = self.window.sources_of(business).cloned().collect();
        if sources.is_empty() {
            self.summary.elsewhere += 1;
        }
        for source in sources {
            match self.window.meaning(&source, candidate.entity, moment("CreatedOn"), updated_on) {
                Meaning::Outside => self.summary.outside += 1,
                Meaning::Uncovered => *self.summary.uncovered.entry(name).or_default() += 1,
                Meaning::Event(place) => self.publish(candidate, &source, place, &bytes).await?,
            }
        }
        Ok(())
    }

    /// A record in full, its bytes as they are; none if it is gone.
    async fn read(&self, candidate: &Candidate) -> Result<Option<(Bytes, Record)>, ApiError> {
        let (path, role) = (
            format!("{}/{}", candidate.entity.path, candidate.id),
            format!("{}-Read", candidate.entity.name),
        );
        let call = Call::read("read", &path, &[], role.clone());
        let both = |body: &Bytes| {
            let record: Record = serde_json::from_slice(body).ok()?;
            (record.id() == Some(candidate.id)).then(|| (body.clone(), record))
        };
        let error = match self.client.get_text(&call, both).await {
            Ok(read) => return Ok(Some(read)),
            Err(error @ (ApiError::Refused { .. } | ApiError::Unavailable(_))) => error,
            Err(error) => return Err(error),
        };
        // For a record that is gone the API answers 404, or 500: only a second look tells it from trouble.
        let path = format!("{}/", candidate.entity.path);
        let query = [("id", format!("[{}]", candidate.id))];
        let second = Call::read("read", &path, &query, role);
        match self.client.get::<Vec<Record>>(&second).await {
            Ok(records) if records.iter().all(|record| record.id() != Some(candidate.id)) => Ok(None),
            _ => Err(error),
        }
    }

    async fn publish(
        &mut self,
        candidate: &Candidate,
        source: &Arc<Source>,
        place: usize,
        bytes: &Bytes,
    ) -> Result<(), Broken> {
        let action = source.actions.get(place).name();
        if let Some(replayer) = self.replayer {
            let event = replayer.route_fetched(&source.name, place, bytes.clone(), &self.id);
            let result = match event {
                Some(event) => replayer.publish(&event).await.map(drop),
                None => Err(Refusal::new(Outcome::Broker, "the record makes no event")),
            };
            match result {
                Ok(()) => {}
                Err(refusal) if refusal.outcome == Outcome::Timeout => {
                    return Err(Broken::Kafka(refusal.detail.into_owned()));
                }
                Err(refusal) => {
                    let (action, id, error) = (action.to_owned(), candidate.id, refusal.detail.into_owned());
                    self.summary.failed.push(Failed { action, id, error });
                    return Ok(());
                }
            }
        }
        *self.published.entry((Arc::clone(&source.name), action.to_owned())).or_default() += 1;
        Ok(())
    }
}

/// From when on a later run would find a record, and see it as this one does.
fn begin(candidate: &Candidate, window: &Window) -> Option<Timestamp> {
    let begin = window.begin(candidate.entity);
    let created = candidate.created_on.filter(|created| begin.is_some_and(|begin| *created >= begin));
    [created, candidate.updated_on].into_iter().flatten().min().or(begin)
}
