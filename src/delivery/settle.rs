//! Publish and confirm: hands events to the producer and waits for their delivery reports.
//!
//! A delivery is settled when every message has its delivery report; until then its permit is held. If the broker refuses a
//! message for good, the whole body is kept on the quarantine topic. If the bridge refused it instead, Nexudus would disable the
//! webhook because of one such record.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use super::admission::Permit;
use super::redelivery::Attempt;
use super::route::{Routed, quarantined};
use super::verify::Verified;
use super::{Bridge, Confirmed, Receipt, Refusal};
use crate::event::Event;
use crate::kafka::confirm::{self, Pending, Position, Unconfirmed, Verdict};
use crate::kafka::status::Status;
use crate::outcome::{Outcome, QuarantineReason};

impl Bridge {
    /// Publishes a delivery and waits for its delivery reports, without a time-out. If the delivery repeats a `first` attempt, waits
    /// for the receipt of that attempt, and publishes only if it was not confirmed.
    pub(super) async fn settle(
        self: Arc<Self>,
        verified: Verified,
        routed: Routed,
        _permit: Permit,
        first: Option<Attempt>,
    ) -> Result<Receipt, Refusal> {
        // Rare branches are boxed: the future of every delivery is as large as its largest branch.
        if let Some(first) = first
            && let Some(receipt) = Box::pin(first.receipt()).await
        {
            self.metrics.redelivery_suppressed(&verified.origin.metrics, verified.action.action_index());
            return Ok(receipt);
        }
        let began = Instant::now();
        let receipt = match routed {
            Routed::Events(events) => self.publish_records(&verified, events).await?,
            Routed::Quarantined(reason, event) => {
                Box::pin(self.quarantine(&verified, reason, *event)).await?
            }
            Routed::Nothing => return Ok(Receipt { outcome: Outcome::Empty, events: Vec::new() }),
        };
        self.metrics.confirmation_took(began.elapsed());
        Ok(receipt)
    }

    async fn publish_records(&self, verified: &Verified, mut events: Vec<Event>) -> Result<Receipt, Refusal> {
        let (confirmed, mut result) = self.publish(verified, &mut events).await;
        if !confirmed.is_empty() {
            self.metrics.confirmed(&verified.origin.metrics, verified.action.action_index(), confirmed.len());
        }
        // Tombstones wait for the delivery reports of their events. Otherwise a retry could write an event behind its tombstone.
        let mut tombstones: Vec<Event> = events.iter().filter_map(Event::tombstone).collect();
        if result.is_ok() && !tombstones.is_empty() {
            (_, result) = Box::pin(self.publish(verified, &mut tombstones)).await;
        }
        match result {
            Ok(()) => Ok(Receipt { outcome: Outcome::Confirmed, events: confirmed }),
            Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => {
                let event = quarantined(&self.topics, verified, QuarantineReason::Refused);
                Box::pin(self.quarantine(verified, QuarantineReason::Refused, event)).await
            }
            Err(unconfirmed) => Err(self.refusal(unconfirmed)),
        }
    }

    /// Publishes events and waits for their delivery reports. Returns the confirmed events, and an error unless all are confirmed.
    /// Among several errors, a temporary one takes precedence over a refusal for good.
    async fn publish(
        &self,
        verified: &Verified,
        events: &mut [Event],
    ) -> (Vec<Confirmed>, Result<(), Unconfirmed>) {
        let sending = verified.span.sending(events);
        let mut pending = Vec::with_capacity(events.len());
        let (mut failure, mut refused) = (None, None);
        for event in &*events {
            match self.producer.publish(event) {
                Err(unconfirmed) if unconfirmed.verdict != Verdict::Refused => {
                    self.note_unknown_topic(event, unconfirmed);
                    failure = Some(unconfirmed);
                    break; // Nexudus will send the whole delivery again
                }
                result => pending.push(result), // an error is a refusal for good by librdkafka itself
            }
        }
        let mut confirmed = Vec::with_capacity(pending.len());
        for (event, pending) in events.iter().zip(pending) {
            match self.confirm(event, pending).await {
                Ok(position) => {
                    self.show(verified, event, position);
                    confirmed.push(Confirmed::new(event, position));
                }
                Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => refused = Some(unconfirmed),
                Err(unconfirmed) => {
                    self.note_unknown_topic(event, unconfirmed);
                    failure = Some(unconfirmed);
                }
            }
        }
        if let Some(unconfirmed) = failure.or(refused) {
            sending.failed(unconfirmed.code);
            return (confirmed, Err(unconfirmed));
        }
        sending.confirmed(match &confirmed[..] {
            [Confirmed { partition, offset, .. }] => Some((*partition, *offset)),
            _ => None,
        });
        (confirmed, Ok(()))
    }

    /// Waits for the delivery report of a published event. If its batch was refused, sends it again as a batch of its own.
    async fn confirm(
        &self,
        event: &Event,
        pending: Result<Pending, Unconfirmed>,
    ) -> Result<Position, Unconfirmed> {
        match pending?.confirm().await {
            Err(unconfirmed) if unconfirmed.verdict == Verdict::Alone => {
                self.producer.publish_alone(event)?.confirm().await
            }
            result => result,
        }
    }

    async fn quarantine(
        &self,
        verified: &Verified,
        reason: QuarantineReason,
        mut event: Event,
    ) -> Result<Receipt, Refusal> {
        let (events, result) = self.publish(verified, slice::from_mut(&mut event)).await;
        let labels = verified.labels();
        if let Err(unconfirmed) = result {
            if unconfirmed.verdict == Verdict::Refused {
                self.reporter.not_quarantined(labels, reason, &event.stream.topic, unconfirmed);
            }
            return Err(self.refusal(unconfirmed));
        }
        verified.origin.metrics.quarantined(reason);
        events.iter().for_each(|event| self.reporter.quarantined(labels, reason, event));
        if let Some(recent) = &self.recent {
            recent.add_setback(labels, Outcome::Quarantined, reason.explanation());
        }
        Ok(Receipt { outcome: Outcome::Quarantined, events })
    }

    /// Sends a confirmed event to the viewers of the console, unless it is a tombstone.
    fn show(&self, verified: &Verified, event: &Event, position: Position) {
        if let Some(recent) = &self.recent
            && event.value.is_some()
        {
            let Position { partition, offset } = position;
            recent.confirmed(verified.labels(), event, verified.received_at, (partition, offset));
        }
    }

    /// Requests a look at the topics if the cluster does not have this topic: it may have been deleted.
    fn note_unknown_topic(&self, event: &Event, unconfirmed: Unconfirmed) {
        if unconfirmed.is_unknown_topic() {
            self.producer.status.topics.unknown(&event.stream.topic);
        }
    }

    /// Returns the refusal of a delivery with an unconfirmed message.
    fn refusal(&self, unconfirmed: Unconfirmed) -> Refusal {
        let status = &self.producer.status;
        let (outcome, what) = match unconfirmed.verdict {
            Verdict::QueueFull => (Outcome::QueueFull, "the producer's queue is full"),
            Verdict::Unknown if status.connected() => {
                (Outcome::Timeout, "no broker confirmed in time; the events may still have been written")
            }
            Verdict::Unknown => (Outcome::Broker, "no Kafka broker is connected"),
            // A delivery that is refused for good goes to the quarantine topic, so that topic is the one that refuses it.
            Verdict::Refused => (Outcome::Broker, "the quarantine topic refuses the delivery for good"),
            Verdict::Later | Verdict::Alone if unconfirmed.is_unknown_topic() => {
                (Outcome::Broker, "Kafka does not have the topic or its partition")
            }
            Verdict::Later | Verdict::Alone => (Outcome::Broker, "the broker refused for now"),
        };
        Refusal::new(outcome, explained(what, unconfirmed, status))
    }

    /// Returns the refusal of a delivery without a delivery report at the deadline.
    pub(super) fn late(&self) -> Refusal {
        self.refusal(Unconfirmed { verdict: Verdict::Unknown, code: confirm::NO_REPORT })
    }
}

/// Returns an error as text, with the explanation that the state of the cluster gives.
pub(super) fn explained(what: &str, Unconfirmed { code, .. }: Unconfirmed, status: &Status) -> String {
    match status.explanation() {
        Some(explanation) => format!("{what}: {code}; {explanation}"),
        None => format!("{what}: {code}"),
    }
}
