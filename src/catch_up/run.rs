//! The run: reads each record in full and publishes an event for each of its changes in the window.
//!
//! Records are published in the order of their first change in the window. A run that ends early is resumed with the same
//! windows, begun at the first change of the first record that is left. Creation and update are judged independently, so a
//! later beginning can drop an event of a record, but never publish it under another action.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::fetch::{Fetched, fetch};
use super::location::{Locations, Placed};
use super::survey::Candidate;
use super::window::{Meaning, Times, Window};
use crate::config::Source;
use crate::delivery::replay::{Cause, REFUSALS, Refusals, Replayer, Unconfirmed};
use crate::nexudus::{ApiError, Client};

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The run, as the header `ce_nexuduscatchup` names it.
    pub run_id: String,
    /// True if nothing was published.
    pub dry_run: bool,
    /// Events that were published, or would have been, by source and action.
    pub published: Vec<Published>,
    /// Number of changed records without a wanted action, by kind.
    pub uncovered: BTreeMap<&'static str, usize>,
    /// Number of records with an unknown location, by kind.
    pub unplaced: BTreeMap<&'static str, usize>,
    /// Number of records of other locations.
    pub elsewhere: usize,
    /// Records that did not change in the window after all.
    pub outside: usize,
    /// Records that were deleted since they were listed.
    pub gone: usize,
    /// Records that Kafka does not take, or Nexudus does not give.
    pub failed: Vec<Failed>,
    /// Wanted actions whose events cannot be read back: deletions, signals, transitions, actions outside the catalogue.
    pub unreadable: Vec<String>,
    /// Wanted actions without a webhook, so the begin of their outage is unknown.
    pub unknown_since: Vec<String>,
    /// The reason why the run ended early.
    pub error: Option<String>,
    /// The values of `--since` that continue the run; none when all is done. A dry run that ended early begins again at its
    /// beginning.
    pub go_on_since: Vec<String>,
}

/// Events of one source and action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// Their number.
    pub events: usize,
}

/// A record that Kafka does not take, or Nexudus does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its kind.
    pub entity: &'static str,
    /// Its `Id`.
    pub id: i64,
    /// The source and action under which Kafka does not take it.
    pub event: Option<String>,
    /// Why.
    pub error: String,
}

/// A reason to end a run early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A request to Nexudus has failed.
    #[error("{0}")]
    Nexudus(#[from] ApiError),
    /// Kafka does not confirm.
    #[error("{0}")]
    Kafka(String),
    /// Every topic that is left has refused [`REFUSALS`] events in a row.
    #[error("every topic that is left has refused {REFUSALS} events in a row; the last reason: {0}")]
    Refused(String),
    /// The operator has interrupted it.
    #[error("interrupted")]
    Interrupted,
}

/// Publishes the found records.
pub struct Run<'a> {
    client: &'a Client,
    window: Window,
    /// None in a dry run.
    replayer: Option<&'a Replayer>,
    id: Arc<str>,
    locations: Locations,
    /// By the name of the action, which stands for its topic.
    refusals: Refusals,
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
        let (locations, refusals, published) = Default::default();
        Self { client, window, replayer, id: id.into(), locations, refusals, published, summary }
    }

    /// Publishes all candidates in their order, until all are done or `stop` completes. Calls `done` after each. Returns the
    /// result.
    pub async fn all(
        mut self,
        candidates: &[Candidate],
        stop: impl Future<Output = ()>,
        done: impl Fn(),
    ) -> Summary {
        let mut stop = pin!(stop);
        let mut left = Vec::new();
        for (at, candidate) in candidates.iter().enumerate() {
            let failed = self.summary.failed.len();
            let result = tokio::select! {
                biased;
                () = &mut stop => Err(Broken::Interrupted),
                result = self.one(candidate) => result,
            };
            if let Err(broken) = result {
                self.summary.error = Some(broken.to_string());
                left.extend(&candidates[at..]);
                break;
            }
            if self.summary.failed.len() > failed {
                left.push(candidate);
                if let Some(broken) = self.refused(&candidates[at + 1..]) {
                    self.summary.error = Some(broken.to_string());
                    left.extend(&candidates[at + 1..]);
                    break;
                }
            }
            done();
        }
        let Self { window, published, mut summary, .. } = self;
        if let Some(first) = left.first() {
            let next = if summary.dry_run { window } else { window.not_before(first.first_change) };
            summary.go_on_since = next.beginnings().arguments();
        }
        summary.published = published
            .into_iter()
            .map(|((source, action), events)| Published { source: source.to_string(), action, events })
            .collect();
        summary
    }

    async fn one(&mut self, candidate: &Candidate) -> Result<(), Broken> {
        let Candidate { entity, id, times, business_id, .. } = *candidate;
        if self.has_given_up(candidate) {
            self.failed(
                candidate,
                None,
                format!("not read: its topic has refused {REFUSALS} events in a row"),
            );
            return Ok(());
        }
        // A record that the list shows to have no event is not read.
        if let (Times { created_on: Some(_), updated_on: Some(_) }, Some(business_id)) = (times, business_id)
        {
            let meanings = self.window.meanings(business_id, entity, times);
            if self.leaves_out(candidate, &meanings) {
                return Ok(());
            }
        }
        let (bytes, record) = match fetch(self.client, entity, id).await? {
            Fetched::Whole(bytes, record) => (bytes, record),
            Fetched::Gone => {
                self.summary.gone += 1;
                return Ok(());
            }
            Fetched::Unreadable(error) => {
                self.failed(candidate, None, error.to_string());
                return Ok(());
            }
        };
        let business_id = match self.locations.of(self.client, entity, &record).await? {
            Placed::At(business_id) => business_id,
            Placed::Nowhere => {
                *self.summary.unplaced.entry(entity.name).or_default() += 1;
                return Ok(());
            }
            Placed::Unreadable(error) => {
                self.failed(candidate, None, error.to_string());
                return Ok(());
            }
        };
        let meanings = self.window.meanings(business_id, entity, Times::of(&record));
        if !self.leaves_out(candidate, &meanings) {
            for (source, meaning) in meanings {
                if let Meaning::Event(action_index) = meaning {
                    self.publish(candidate, &source, action_index, &bytes).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether every topic that a record can be published to has refused too many events.
    fn has_given_up(&self, candidate: &Candidate) -> bool {
        let actions = self.window.actions(candidate.entity, candidate.times, candidate.business_id);
        !actions.is_empty() && actions.into_iter().all(|action| self.refusals.has_given_up(action))
    }

    /// Returns the error that ends the run if none of the records that are left can be published.
    fn refused(&self, left: &[Candidate]) -> Option<Broken> {
        let last = self.summary.failed.last()?;
        let is_over = !left.is_empty() && left.iter().all(|candidate| self.has_given_up(candidate));
        is_over.then(|| Broken::Refused(last.error.clone()))
    }

    /// Returns true if a record makes no event at all; then it is counted.
    fn leaves_out(&mut self, candidate: &Candidate, meanings: &[(Arc<Source>, Meaning)]) -> bool {
        let any = |wanted: fn(&Meaning) -> bool| meanings.iter().any(|(_, meaning)| wanted(meaning));
        if any(|meaning| matches!(meaning, Meaning::Event(_))) {
            return false;
        }
        if meanings.is_empty() {
            self.summary.elsewhere += 1;
        } else if any(|meaning| *meaning == Meaning::Uncovered) {
            *self.summary.uncovered.entry(candidate.entity.name).or_default() += 1;
        } else {
            self.summary.outside += 1;
        }
        true
    }

    async fn publish(
        &mut self,
        candidate: &Candidate,
        source: &Arc<Source>,
        action_index: usize,
        bytes: &Bytes,
    ) -> Result<(), Broken> {
        let action = source.actions.get(action_index).name();
        if let Some(replayer) = self.replayer {
            let failure = if self.refusals.has_given_up(action) {
                Some(format!("not published: its topic has refused {REFUSALS} events in a row"))
            } else if let Some(event) =
                replayer.route_fetched(&source.name, action_index, bytes.clone(), &self.id)
            {
                let result = replayer.publish(&event).await;
                self.refusals.count(action, &result);
                match result {
                    Ok(_) => None,
                    Err(Unconfirmed { cause: Cause::Timeout, detail }) => return Err(Broken::Kafka(detail)),
                    Err(Unconfirmed { detail, .. }) => Some(detail),
                }
            } else {
                Some("the record makes no event".to_owned())
            };
            if let Some(error) = failure {
                self.failed(candidate, Some(format!("{} {action}", source.name)), error);
                return Ok(());
            }
        }
        *self.published.entry((Arc::clone(&source.name), action.to_owned())).or_default() += 1;
        Ok(())
    }

    fn failed(&mut self, candidate: &Candidate, event: Option<String>, error: String) {
        let (entity, id) = (candidate.entity.name, candidate.id);
        self.summary.failed.push(Failed { entity, id, event, error });
    }
}
