//! Publishes the events of kept messages in order, and stops trying topics that confirm nothing.

use std::collections::BTreeSet;

use crate::delivery::Confirmed;
use crate::delivery::replay::{Cause, REFUSALS, Refusals, Replayer};
use crate::event::Event;

/// Number of time-outs of topics without a confirmation in between, at which the cluster counts as silent.
const SILENT_TOPICS: usize = 3;

/// A replayer that skips the topics that confirm nothing.
pub struct Publisher {
    /// Makes events from messages, and publishes them.
    pub(super) replayer: Replayer,
    /// Topics that timed out. They are not tried again.
    silent: BTreeSet<String>,
    /// Number of topics that timed out since the last confirmation.
    silent_in_a_row: usize,
    refusals: Refusals,
}

impl Publisher {
    /// Makes a publisher that has published nothing yet.
    pub fn new(replayer: Replayer) -> Self {
        Self { replayer, silent: BTreeSet::new(), silent_in_a_row: 0, refusals: Refusals::default() }
    }

    /// Returns true if the last topics that were tried have all timed out.
    pub fn is_cluster_silent(&self) -> bool {
        self.silent_in_a_row >= SILENT_TOPICS
    }

    /// Publishes the events of a message, each after the confirmation of the one before.
    ///
    /// # Errors
    /// The text of the first failure; later events are not published.
    pub async fn publish(&mut self, events: &[Event]) -> Result<Vec<Confirmed>, String> {
        let mut confirmed = Vec::with_capacity(events.len());
        for event in events {
            let topic = &event.stream.topic;
            if self.silent.contains(topic) {
                return Err(format!("not tried: {topic} has not confirmed before"));
            }
            if self.refusals.has_given_up(topic) {
                return Err(format!("not tried: {topic} has refused {REFUSALS} events in a row"));
            }
            let result = self.replayer.publish(event).await;
            self.refusals.count(topic, &result);
            match result {
                Ok(one) => {
                    self.silent_in_a_row = 0;
                    confirmed.push(one);
                }
                Err(refusal) => {
                    if refusal.cause == Cause::Timeout {
                        self.silent.insert(topic.clone());
                        self.silent_in_a_row += 1;
                    }
                    let part = match confirmed.len() {
                        0 => String::new(),
                        some => format!(" (after {some} of its {} events)", events.len()),
                    };
                    return Err(format!("{topic}: {}{part}", refusal.detail));
                }
            }
        }
        Ok(confirmed)
    }
}
