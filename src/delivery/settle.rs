//! Publish and confirm: hands events to the producer and waits for their delivery reports.
//!
//! A delivery is settled when every message has its delivery report; until then its permit is held. If the broker refuses a
//! message for good, the whole body goes to the quarantine topic. Otherwise Nexudus would disable the webhook because of one such
//! record.

use std::sync::Arc;

use super::admission::Permit;
use super::redelivery::First;
use super::route::Routed;
use super::settlement::Settled;
use super::verify::Verified;
use super::{Bridge, Confirmed, Receipt, Refusal};
use crate::event::Event;
use crate::kafka::confirm::{Pending, Position, Unconfirmed, Verdict};
use crate::outcome::{Outcome, QuarantineReason};
use crate::telemetry::trace::{DeliverySpan, Sending};

/// Publishes events at once, unless the delivery repeats a `first` attempt. Returns the future of their confirmation, which
/// has no time-out of its own.
pub(super) fn settle(
    bridge: Arc<Bridge>,
    verified: Verified,
    routed: Routed,
    permit: Permit,
    first: Option<First>,
) -> impl Future<Output = Settled> + Send {
    let begun = match first {
        Some(first) => Err(Box::new((first, routed))),
        None => Ok(bridge.begin(&verified.span, routed)),
    };
    async move {
        let (result, recalled) = match begun {
            Ok(published) => (bridge.end(&verified, published).await, false),
            // Rare branches are boxed: the future of every delivery is as large as its largest branch.
            Err(repeated) => Box::pin(bridge.repeat(&verified, *repeated)).await,
        };
        drop(permit);
        Settled { bridge, result, recalled }
    }
}

/// A routed delivery that is being published.
enum Published {
    Events(Batch),
    Quarantine(QuarantineReason, Box<Event>),
    Nothing,
}

/// The events of a delivery, and their results from the producer.
struct Batch {
    events: Vec<Event>,
    /// In the order of the events; an error is a refusal for good by librdkafka itself.
    pending: Vec<Result<Pending, Unconfirmed>>,
    failure: Option<Unconfirmed>,
    sending: Sending,
}

impl Bridge {
    fn begin(&self, span: &DeliverySpan, routed: Routed) -> Published {
        match routed {
            Routed::Events(events) => Published::Events(self.publish(span, events)),
            Routed::Quarantined(reason, event) => Published::Quarantine(reason, event),
            Routed::Nothing => Published::Nothing,
        }
    }

    /// Waits for the result of the first attempt, and publishes only if the first attempt was not confirmed. Returns the result,
    /// and `true` if it is the first attempt's.
    async fn repeat(
        &self,
        verified: &Verified,
        (first, routed): (First, Routed),
    ) -> (Result<Receipt, Refusal>, bool) {
        match first.receipt().await {
            Some(receipt) => (Ok(receipt), true),
            None => (self.end(verified, self.begin(&verified.span, routed)).await, false),
        }
    }

    async fn end(&self, verified: &Verified, published: Published) -> Result<Receipt, Refusal> {
        match published {
            Published::Events(batch) => self.confirm_all(verified, batch).await,
            Published::Quarantine(reason, event) => Box::pin(self.quarantine(verified, reason, *event)).await,
            Published::Nothing => Ok(Receipt { outcome: Outcome::Empty, events: Vec::new() }),
        }
    }

    fn publish(&self, span: &DeliverySpan, mut events: Vec<Event>) -> Batch {
        let sending = span.sending(&mut events);
        let mut batch = Batch { pending: Vec::with_capacity(events.len()), events, failure: None, sending };
        for event in &batch.events {
            match self.producer.publish(event) {
                Err(unconfirmed) if unconfirmed.verdict != Verdict::Refused => {
                    self.note_unknown_topic(event, unconfirmed);
                    batch.failure = Some(unconfirmed);
                    break; // Nexudus will send the whole delivery again
                }
                pending => batch.pending.push(pending),
            }
        }
        batch
    }

    async fn confirm_all(&self, verified: &Verified, batch: Batch) -> Result<Receipt, Refusal> {
        let Batch { events, pending, mut failure, sending } = batch;
        let mut refused = None;
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
        if !confirmed.is_empty() {
            self.metrics.confirmed(&verified.origin.metrics, verified.action.action_index(), confirmed.len());
        }
        if failure.or(refused).is_none() {
            let tombstones: Vec<Event> = events.iter().filter_map(Event::tombstone).collect();
            if !tombstones.is_empty() {
                match Box::pin(self.confirm_tombstones(&verified.span, tombstones)).await {
                    Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => {
                        refused = Some(unconfirmed)
                    }
                    result => failure = result.err(),
                }
            }
        }
        match failure.or(refused) {
            Some(unconfirmed) => sending.failed(unconfirmed.code),
            None => sending.confirmed(the_only_place(&confirmed)),
        }
        if let Some(unconfirmed) = failure {
            return Err(self.refusal(unconfirmed));
        }
        if refused.is_some() {
            let event = self.router.quarantine(verified, QuarantineReason::Refused);
            return Box::pin(self.quarantine(verified, QuarantineReason::Refused, event)).await;
        }
        Ok(Receipt { outcome: Outcome::Confirmed, events: confirmed })
    }

    /// Publishes the tombstones of confirmed delete events. They are sent after the delivery reports of their events, so that
    /// no retry writes an event behind its tombstone.
    async fn confirm_tombstones(
        &self,
        span: &DeliverySpan,
        tombstones: Vec<Event>,
    ) -> Result<(), Unconfirmed> {
        let Batch { events, pending, failure, sending } = self.publish(span, tombstones);
        let mut result = failure.map_or(Ok(()), Err);
        for (tombstone, pending) in events.iter().zip(pending) {
            if let Err(unconfirmed) = self.confirm(tombstone, pending).await {
                self.note_unknown_topic(tombstone, unconfirmed);
                result = result.and(Err(unconfirmed));
            }
        }
        match result {
            Ok(()) => sending.confirmed(None),
            Err(unconfirmed) => sending.failed(unconfirmed.code),
        }
        result
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
        let mut sending = verified.span.sending(std::slice::from_mut(&mut event));
        sending.because(reason);
        match self.confirm(&event, self.producer.publish(&event)).await {
            Ok(position) => {
                let receipt = Confirmed::new(&event, position);
                sending.confirmed(the_only_place(std::slice::from_ref(&receipt)));
                verified.origin.metrics.quarantined(reason);
                self.reporter.quarantined(verified.labels(), reason, &receipt);
                self.show(verified, &event, position);
                if let Some(recent) = &self.recent {
                    recent.quarantined(verified.labels(), reason);
                }
                Ok(Receipt { outcome: Outcome::Quarantined, events: vec![receipt] })
            }
            Err(unconfirmed) => {
                self.note_unknown_topic(&event, unconfirmed);
                sending.failed(unconfirmed.code);
                if unconfirmed.verdict == Verdict::Refused {
                    let topic = &event.stream.topic;
                    self.reporter.not_quarantined(verified.labels(), reason, topic, unconfirmed);
                }
                Err(self.refusal(unconfirmed))
            }
        }
    }

    /// Sends a confirmed event to the viewers of the console.
    fn show(&self, verified: &Verified, event: &Event, position: Position) {
        if let Some(recent) = &self.recent {
            let Position { partition, offset } = position;
            recent.confirmed(verified.labels(), event, verified.received_at, (partition, offset));
        }
    }

    /// Requests a check of the topics if a broker does not have this topic, since it was deleted.
    fn note_unknown_topic(&self, event: &Event, unconfirmed: Unconfirmed) {
        if unconfirmed.is_unknown_topic() {
            self.producer.status().topics().unknown(&event.stream.topic);
        }
    }

    /// Returns the refusal of a delivery with an unconfirmed message.
    fn refusal(&self, unconfirmed: Unconfirmed) -> Refusal {
        let status = self.producer.status();
        let (outcome, what) = match unconfirmed.verdict {
            Verdict::QueueFull => (Outcome::QueueFull, "the producer's queue is full"),
            Verdict::Unknown if status.connected() => {
                (Outcome::Timeout, "no broker confirmed in time; the events may still have been written")
            }
            Verdict::Unknown => (Outcome::Broker, "no Kafka broker is connected"),
            Verdict::Later | Verdict::Alone | Verdict::Refused if unconfirmed.is_unknown_topic() => {
                (Outcome::Broker, "Kafka does not have the topic")
            }
            Verdict::Later | Verdict::Alone | Verdict::Refused => {
                (Outcome::Broker, "the broker refused for now")
            }
        };
        let mut detail = format!("{what}: {}", unconfirmed.code);
        if let Some(explanation) = status.explanation() {
            detail.push_str(&format!("; {explanation}"));
        }
        Refusal::new(outcome, detail)
    }

    /// Returns the answer at the deadline, if the producer has not reported by then.
    pub(super) fn late(&self) -> Refusal {
        self.refusal(Unconfirmed { verdict: Verdict::Unknown, code: crate::kafka::confirm::NO_REPORT })
    }
}

fn the_only_place(confirmed: &[Confirmed]) -> Option<(i32, Option<i64>)> {
    match confirmed {
        [Confirmed { partition, offset, .. }] => Some((*partition, *offset)),
        _ => None,
    }
}
