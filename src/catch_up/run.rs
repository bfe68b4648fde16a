//! The run: reads each record in full and publishes an event for each of its changes in the time ranges.
//!
//! Records are published in the order of their first change in a range. A run that ends early is resumed with the same ranges,
//! which then begin at the first change of the first record that is left. Creation and update are judged independently, so a later
//! beginning never publishes a change under another action.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::fetch::{Fetched, Locations, fetch};
use super::ranges::{Judgement, TimeRanges, Times};
use super::survey::Candidate;
use crate::config::Source;
use crate::delivery::replay::{Cause, REFUSALS, Refusals, ReplayFailure, Replayer};
use crate::nexudus::ApiClient;

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunResult {
    /// The id of the run, as in the header `ce_nexuduscatchup`.
    pub run_id: String,
    /// True if nothing was published.
    pub dry_run: bool,
    /// Events that were published, or in a dry run would be, by source and action.
    pub published: Vec<Published>,
    /// Number of changed records without a wanted action, by kind.
    pub uncovered: BTreeMap<&'static str, usize>,
    /// Number of records with an unknown location, by kind.
    pub unplaced: BTreeMap<&'static str, usize>,
    /// Number of records of other locations.
    pub elsewhere: usize,
    /// Number of records that did not change in a range.
    pub outside: usize,
    /// Number of records that were deleted since they were listed.
    pub gone: usize,
    /// Records that Kafka refused, or that Nexudus did not return.
    pub failed: Vec<Failed>,
    /// Wanted actions whose events cannot be read back: deletions, signals, transitions, actions outside the catalogue.
    pub unreadable: Vec<String>,
    /// Wanted actions without a webhook, so that the beginning of their outage is unknown.
    pub unknown_since: Vec<String>,
    /// The reason why the run ended early.
    pub error: Option<String>,
    /// The values of `--since` that resume the run; none after a complete run. A dry run that ended early begins again from its
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

/// A record that Kafka refused, or that Nexudus did not return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its kind.
    pub entity: &'static str,
    /// Its `Id`.
    pub id: i64,
    /// The source and action of the event that Kafka refused.
    pub event: Option<String>,
    /// The reason.
    pub error: String,
}

/// Publishes the found records.
pub struct Run<'a> {
    client: &'a ApiClient,
    ranges: TimeRanges,
    /// `None` in a dry run.
    replayer: Option<&'a Replayer>,
    id: Arc<str>,
    locations: Locations,
    /// Counted by the name of the action, which identifies the topic.
    refusals: Refusals,
    published: BTreeMap<(Arc<str>, String), usize>,
    result: RunResult,
}

impl<'a> Run<'a> {
    /// Returns a run with a new id. Without a `replayer` it is a dry run.
    pub fn new(client: &'a ApiClient, ranges: TimeRanges, replayer: Option<&'a Replayer>) -> Self {
        let id = Uuid::now_v7().to_string();
        let result = RunResult {
            run_id: id.clone(),
            dry_run: replayer.is_none(),
            unreadable: ranges.unreadable.clone(),
            unknown_since: ranges.unknown.clone(),
            ..RunResult::default()
        };
        let (locations, refusals, published) = Default::default();
        Self { client, ranges, replayer, id: id.into(), locations, refusals, published, result }
    }

    /// Publishes all candidates in their order, until all are done or `stop` completes. Calls `done` after each. Returns the
    /// result.
    pub async fn all(
        mut self,
        candidates: &[Candidate],
        stop: impl Future<Output = ()>,
        done: impl Fn(),
    ) -> RunResult {
        let mut stop = pin!(stop);
        let mut first_left = None;
        for (at, candidate) in candidates.iter().enumerate() {
            let failed = self.result.failed.len();
            let mut result = tokio::select! {
                biased;
                () = &mut stop => Err(anyhow!("interrupted")),
                result = self.publish_record(candidate) => result,
            };
            let is_failed = result.is_err() || self.result.failed.len() > failed;
            if is_failed {
                first_left.get_or_insert(candidate.first_change);
                result = result.and_then(|()| self.check_refusals(&candidates[at + 1..]));
            }
            if let Err(error) = result {
                self.result.error = Some(error.to_string());
                break;
            }
            done();
        }
        let Self { ranges, published, mut result, .. } = self;
        if let Some(first_change) = first_left {
            let next = if result.dry_run { ranges } else { ranges.not_before(first_change) };
            result.go_on_since = next.beginnings().arguments();
        }
        result.published = published
            .into_iter()
            .map(|((source, action), events)| Published { source: source.to_string(), action, events })
            .collect();
        result
    }

    /// Publishes one record. An error ends the run.
    async fn publish_record(&mut self, candidate: &Candidate) -> anyhow::Result<()> {
        let Candidate { entity, id, times, business_id, .. } = *candidate;
        if self.has_given_up(candidate) {
            let error = format!("not read: its topic has refused {REFUSALS} events in a row");
            self.failed(candidate, None, error);
            return Ok(());
        }
        // If the fields in the list show that the record has no event, it is not read.
        if let (Times { created_on: Some(_), updated_on: Some(_) }, Some(business_id)) = (times, business_id)
            && self.events(candidate, business_id, times).is_empty()
        {
            return Ok(());
        }
        let (bytes, record) = match fetch(self.client, entity, id).await? {
            Fetched::Found(both) => both,
            Fetched::Absent => {
                self.result.gone += 1;
                return Ok(());
            }
            Fetched::Unreadable(error) => {
                self.failed(candidate, None, error.to_string());
                return Ok(());
            }
        };
        let business_id = match self.locations.of(self.client, entity, &record).await? {
            Fetched::Found(business_id) => business_id,
            Fetched::Absent => {
                *self.result.unplaced.entry(entity.name).or_default() += 1;
                return Ok(());
            }
            Fetched::Unreadable(error) => {
                self.failed(candidate, None, error.to_string());
                return Ok(());
            }
        };
        for (source, action_index) in self.events(candidate, business_id, Times::of(&record)) {
            self.publish_event(candidate, &source, action_index, &bytes).await?;
        }
        Ok(())
    }

    /// Returns whether every topic that a record can be published to has refused too many events.
    fn has_given_up(&self, candidate: &Candidate) -> bool {
        let Candidate { entity, times, business_id, .. } = *candidate;
        let mut actions = self.ranges.possible(entity, times, business_id).peekable();
        actions.peek().is_some() && actions.all(|(action, _)| self.refusals.has_given_up(action))
    }

    /// Fails if none of the records that are left can be published.
    fn check_refusals(&self, left: &[Candidate]) -> anyhow::Result<()> {
        if left.is_empty() || !left.iter().all(|candidate| self.has_given_up(candidate)) {
            return Ok(());
        }
        let reason = self.result.failed.last().map_or("none", |failed| &failed.error);
        bail!("every topic that is left has refused {REFUSALS} events in a row; the last reason: {reason}")
    }

    /// Returns the source and the index of the action of each event of a record. Counts a record without an event.
    fn events(&mut self, candidate: &Candidate, business_id: i64, times: Times) -> Vec<(Arc<Source>, usize)> {
        match self.ranges.judge(business_id, candidate.entity, times) {
            Judgement::Events(events) => return events,
            Judgement::Elsewhere => self.result.elsewhere += 1,
            Judgement::Uncovered => *self.result.uncovered.entry(candidate.entity.name).or_default() += 1,
            Judgement::Outside => self.result.outside += 1,
        }
        Vec::new()
    }

    async fn publish_event(
        &mut self,
        candidate: &Candidate,
        source: &Source,
        action_index: usize,
        bytes: &Bytes,
    ) -> anyhow::Result<()> {
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
                    Err(ReplayFailure { cause: Cause::Timeout, detail }) => bail!(detail),
                    Err(ReplayFailure { detail, .. }) => Some(detail),
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
        self.result.failed.push(Failed { entity, id, event, error });
    }
}
