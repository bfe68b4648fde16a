//! The disabled webhooks: by whom, since when, and which of them the guardian re-enables now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::observed::{DISABLED_AT, Observed};
use super::super::plan::{Comparison, Pair};
use super::back_off;
use crate::action::Action;
use crate::metrics::Metrics;
use crate::nexudus::time;
use crate::outage::{self, Outage, Outages};

/// Maximum length of Nexudus's last error in the log, in characters.
const MAX_ERROR: usize = 200;

/// The state of disabled webhooks, by the ids of their records.
pub(super) struct Disabled {
    metrics: Arc<Metrics>,
    outages: Arc<Outages>,
    /// Webhooks that Nexudus disabled, and active ones that the next failure disables.
    failing: BTreeSet<i64>,
    /// Webhooks that a person disabled, and that were logged.
    by_person: BTreeSet<i64>,
    /// Webhooks that were re-enabled without a success since.
    tries: BTreeMap<i64, Tries>,
    /// Webhooks that were written and not looked at since: their failures and last error before.
    written: BTreeMap<i64, (i64, Option<String>)>,
}

/// Number of times that a webhook was re-enabled since its last success.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tries {
    count: u32,
    last: Instant,
    /// The last success when it was re-enabled, as Nexudus writes it.
    last_trigger: Option<String>,
}

impl Disabled {
    pub(super) fn new(metrics: Arc<Metrics>, outages: Arc<Outages>) -> Self {
        Self {
            metrics,
            outages,
            failing: BTreeSet::new(),
            by_person: BTreeSet::new(),
            tries: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// Takes in a new look: outages begin and end, and a written webhook counts as re-enabled if it is active now.
    pub(super) fn looked(&mut self, comparison: &Comparison) {
        let mut failing = BTreeSet::new();
        let mut written = std::mem::take(&mut self.written);
        for (pair, found) in found(comparison) {
            let written = written.remove(&found.id);
            if found.active {
                if found.error_count >= DISABLED_AT - 1 {
                    failing.insert(found.id);
                }
                self.by_person.remove(&found.id);
                self.is_active(pair, found, written);
            } else if found.is_disabled_by_nexudus() || self.failing.contains(&found.id) {
                failing.insert(found.id);
                self.by_person.remove(&found.id);
                self.is_disabled(pair, found, written.is_some());
            } else if self.by_person.insert(found.id) {
                tracing::warn!(
                    source = &*pair.wanted.source.name,
                    action = pair.wanted.action(),
                    webhook_id = found.id,
                    failures = found.error_count,
                    "a webhook was disabled in Nexudus by a person, since it has failed less than ten times in a row; the guardian \
                     leaves it alone, `nexudus-bridge webhooks enable` re-enables it"
                );
            }
        }
        self.failing = failing;
        self.outages.retain(|source, action| comparison.pair(source, action).is_some());
    }

    /// The webhooks to re-enable now.
    pub(super) fn due<'a>(
        &mut self,
        comparison: &'a Comparison,
        interval: Duration,
    ) -> Vec<(&'a Pair, &'a Observed)> {
        let off = found(comparison).filter(|(_, found)| !found.active && self.failing.contains(&found.id));
        let off: Vec<(&Pair, &Observed)> = off.collect();
        off.into_iter().filter(|(_, found)| self.is_due(found, interval)).collect()
    }

    fn is_due(&mut self, found: &Observed, interval: Duration) -> bool {
        let succeeded = |tries: &Tries| tries.last_trigger != found.last_trigger;
        if self.tries.get(&found.id).is_some_and(succeeded) {
            self.tries.remove(&found.id);
        }
        let waited = |tries: &Tries| tries.last.elapsed() >= back_off(interval).wait(tries.count);
        self.tries.get(&found.id).is_none_or(waited)
    }

    /// Notes an attempt to re-enable a webhook, and whether it was written.
    pub(super) fn tried(&mut self, found: &Observed, written: bool) {
        let count = self.tries.get(&found.id).map_or(0, |tries| tries.count) + 1;
        let tries = Tries { count, last: Instant::now(), last_trigger: found.last_trigger.clone() };
        self.tries.insert(found.id, tries);
        if written {
            self.written.insert(found.id, (found.error_count, found.last_error.clone()));
        }
    }

    fn is_disabled(&self, pair: &Pair, found: &Observed, written: bool) {
        let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
        let last_success = found.last_trigger.as_deref().or(found.created_on.as_deref());
        if let Some(since) = last_success.and_then(time::read) {
            self.outages.disabled(Outage {
                source: source.to_owned(),
                action: action.to_owned(),
                webhook_id: found.id,
                since,
                until: None,
                readable: Action::known(action).is_some_and(|entry| entry.is_readable()),
            });
        }
        if written {
            tracing::warn!(
                source,
                action,
                webhook_id = found.id,
                failures = found.error_count,
                "Nexudus reported that it re-enabled a webhook, but the webhook is still disabled"
            );
        }
    }

    fn is_active(&self, pair: &Pair, found: &Observed, written: Option<(i64, Option<String>)>) {
        let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
        let outage = self.outages.active(source, action, Timestamp::now());
        let Some((failures, last_error)) = written else { return };
        self.metrics.control.reenabled(source, action);
        let last_error: String = last_error.as_deref().unwrap_or("none").chars().take(MAX_ERROR).collect();
        let last_trigger = outage.as_ref().map(|outage| tracing::field::display(outage.since));
        let command = outage.and_then(|outage| outage::command(&[outage]));
        let advice = match &command {
            Some(_) => "this command reads what was missed",
            None => "what was missed cannot be read back",
        };
        tracing::warn!(
            source,
            action,
            webhook_id = found.id,
            failures,
            last_error,
            last_trigger,
            command = command.as_deref().map(tracing::field::display),
            "a webhook that Nexudus had switched off is on again; {advice}"
        );
    }
}

/// The wanted webhooks that are there.
fn found(comparison: &Comparison) -> impl Iterator<Item = (&Pair, &Observed)> {
    comparison.pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)))
}
