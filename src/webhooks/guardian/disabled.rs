//! The disabled webhooks: who disabled each, the beginning of its outage, and whether the guardian re-enables it now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::observed::{DISABLED_AT, Observed};
use super::super::plan::{Comparison, Pair};
use super::back_off;
use crate::action::Action;
use crate::metrics::Metrics;
use crate::outage::{self, Outage, Outages};

/// Maximum length of Nexudus's last error in the log, in characters.
const MAX_ERROR: usize = 200;

/// The disabled webhooks and their outages.
pub(super) struct Disabled {
    metrics: Arc<Metrics>,
    outages: Arc<Outages>,
    /// By the ids of the webhooks' records.
    histories: BTreeMap<i64, History>,
}

/// The state of one webhook that the guardian keeps between two looks.
#[derive(Default)]
struct History {
    /// True if Nexudus disabled it, or if it is active and the next failure disables it.
    is_failing: bool,
    /// True if a person disabled it, and a log line reports this.
    is_by_person: bool,
    /// The attempts to re-enable it since its last success.
    tries: Option<Tries>,
    /// After a write and before the next look: the failures and the last error before the write.
    written: Option<(i64, Option<String>)>,
}

struct Tries {
    count: u32,
    last: Instant,
    /// The last success at the last attempt, as Nexudus writes it.
    last_trigger: Option<String>,
}

impl Disabled {
    pub(super) fn new(metrics: Arc<Metrics>, outages: Arc<Outages>) -> Self {
        Self { metrics, outages, histories: BTreeMap::new() }
    }

    /// Takes over the result of a look: outages begin and end, and a written webhook counts as re-enabled if it is active now.
    pub(super) fn looked(&mut self, comparison: &Comparison) {
        let mut before = std::mem::take(&mut self.histories);
        for (pair, found) in comparison.found() {
            let mut history = before.remove(&found.id).unwrap_or_default();
            let written = history.written.take();
            let was_by_person = std::mem::take(&mut history.is_by_person);
            if found.active {
                history.is_failing = found.error_count >= DISABLED_AT - 1;
                self.end_outage(pair, found, written);
            } else if found.is_disabled_by_nexudus() || history.is_failing {
                history.is_failing = true;
                self.begin_outage(pair, found, written.is_some());
            } else {
                history.is_by_person = true;
                if !was_by_person {
                    tracing::warn!(
                        source = &*pair.wanted.source.name,
                        action = pair.wanted.action(),
                        webhook_id = found.id,
                        failures = found.error_count,
                        "a webhook was disabled in Nexudus by a person, since it has failed less than ten times in a row; the \
                         guardian does not re-enable it, `nexudus-bridge webhooks enable` does"
                    );
                }
            }
            self.histories.insert(found.id, history);
        }
        self.outages.retain(|source, action| comparison.pair(source, action).is_some());
    }

    /// Returns the webhooks to re-enable now.
    pub(super) fn due<'a>(
        &self,
        comparison: &'a Comparison,
        interval: Duration,
    ) -> Vec<(&'a Pair, &'a Observed)> {
        let is_due = |(_, found): &(&Pair, &Observed)| {
            let Some(history) = self.histories.get(&found.id) else { return false };
            let waits = |tries: &Tries| {
                tries.last_trigger == found.last_trigger
                    && tries.last.elapsed() < back_off(interval).wait(tries.count)
            };
            !found.active && history.is_failing && !history.tries.as_ref().is_some_and(waits)
        };
        comparison.found().filter(is_due).collect()
    }

    /// Counts an attempt to re-enable a webhook.
    pub(super) fn tried(&mut self, found: &Observed, is_written: bool) {
        let history = self.histories.entry(found.id).or_default();
        let before = history.tries.take().filter(|tries| tries.last_trigger == found.last_trigger);
        let count = before.map_or(0, |tries| tries.count) + 1;
        history.tries = Some(Tries { count, last: Instant::now(), last_trigger: found.last_trigger.clone() });
        if is_written {
            history.written = Some((found.error_count, found.last_error.clone()));
        }
    }

    fn begin_outage(&self, pair: &Pair, found: &Observed, written: bool) {
        let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
        if let Some(since) = found.last_success() {
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

    fn end_outage(&self, pair: &Pair, found: &Observed, written: Option<(i64, Option<String>)>) {
        let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
        let outage = self.outages.active(source, action, Timestamp::now());
        let Some((failures, last_error)) = written else { return };
        self.metrics.control.reenabled(source, action);
        let last_error: String = last_error.as_deref().unwrap_or("none").chars().take(MAX_ERROR).collect();
        let last_trigger = outage.as_ref().map(|outage| tracing::field::display(outage.since));
        let command = outage.and_then(|outage| outage::command(&[outage]));
        let advice = match &command {
            Some(_) => "this command reads the missed events back",
            None => "the missed events cannot be read back",
        };
        tracing::warn!(
            source,
            action,
            webhook_id = found.id,
            failures,
            last_error,
            last_trigger,
            command = command.as_deref().map(tracing::field::display),
            "a webhook that Nexudus had disabled is enabled again; {advice}"
        );
    }
}
