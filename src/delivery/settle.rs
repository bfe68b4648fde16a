//! Publish and confirm: events into the producer, and the broker's word on each of them.
//!
//! A delivery is settled when every message of it has its delivery report; until then its permit is held. What the
//! broker refuses for good goes whole to the quarantine topic, so that one record that nobody can take does not switch
//! the webhook off. A [`Settlement`] is brought to its end also when nobody waits for it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::address::{Addressed, Origin};
use super::admission::Permit;
use super::route::Routed;
use super::verify::Verified;
use super::{Bridge, Confirmed, Receipt, Refusal};
use crate::event::Event;
use crate::kafka::confirm::{Pending, Position, Unconfirmed, Verdict};
use crate::outcome::{Outcome, QuarantineReason};

/// Counts what became of a delivery: its answer, or the end of its settlement if nobody waits for an answer.
pub(super) struct Tally {
    origin: Arc<Origin>,
    place: Option<usize>,
    /// When the delivery arrived.
    started: Instant,
    answered: bool,
}

impl Tally {
    pub(super) fn new(addressed: &Addressed) -> Self {
        let origin = Arc::clone(&addressed.origin);
        Self { origin, place: addressed.place(), started: addressed.started, answered: false }
    }

    /// Counts the answer; the first is the one that counts.
    pub(super) fn answered(&mut self, bridge: &Bridge, result: &Result<Receipt, Refusal>, now: Instant) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let outcome = match result {
            Ok(receipt) => receipt.outcome,
            Err(refusal) => {
                bridge.reporter.refused(self.origin.metrics.labels(self.place), refusal);
                refusal.outcome
            }
        };
        let took = now.saturating_duration_since(self.started);
        bridge.metrics.answered(&self.origin.metrics, self.place, outcome, took);
    }

    /// Counts the end of a settlement that began at `began`, and the answer if there was none.
    fn settled(&mut self, bridge: &Bridge, result: &Result<Receipt, Refusal>, began: Instant) {
        let now = Instant::now();
        if result.as_ref().is_ok_and(|receipt| receipt.outcome != Outcome::Empty) {
            bridge.metrics.confirmation_took(now.saturating_duration_since(began));
        }
        self.answered(bridge, result, now);
    }
}

/// A delivery whose events are with the Kafka client. Dropped before its end, it goes on in the bridge's runtime.
pub(super) struct Settlement<'a, F: Future<Output = Settled> + Send + 'static> {
    bridge: &'a Bridge,
    /// Both are there until the end, whoever waits for it.
    settling: Option<(Pin<Box<F>>, Tally)>,
    began: Instant,
}

/// The end of a settlement, with the bridge that it took along.
pub(super) struct Settled {
    bridge: Arc<Bridge>,
    result: Result<Receipt, Refusal>,
}

impl<'a, F: Future<Output = Settled> + Send + 'static> Settlement<'a, F> {
    pub(super) fn new(bridge: &'a Bridge, settling: F, tally: Tally, began: Instant) -> Self {
        Self { bridge, settling: Some((Box::pin(settling), tally)), began }
    }

    /// Answers without waiting any longer; the settlement goes on.
    pub(super) fn give_up(mut self, refusal: Refusal) -> Result<Receipt, Refusal> {
        let result = Err(refusal);
        if let Some((_, tally)) = &mut self.settling {
            tally.answered(self.bridge, &result, Instant::now());
        }
        result
    }
}

impl<F: Future<Output = Settled> + Send + 'static> Future for Settlement<'_, F> {
    type Output = Result<Receipt, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (settling, _) = self.settling.as_mut().expect("not polled after its end");
        let Settled { result, .. } = std::task::ready!(settling.as_mut().poll(context));
        if let Some((_, mut tally)) = self.settling.take() {
            tally.settled(self.bridge, &result, self.began);
        }
        Poll::Ready(result)
    }
}

impl<F: Future<Output = Settled> + Send + 'static> Drop for Settlement<'_, F> {
    fn drop(&mut self) {
        let Some((settling, mut tally)) = self.settling.take() else { return };
        let began = self.began;
        drop(self.bridge.runtime.spawn(async move {
            let Settled { bridge, result } = settling.await;
            tally.settled(&bridge, &result, began);
        }));
    }
}

/// Publishes what was routed, at once, and gives back the wait for its confirmation, however long the client takes to
/// give its word.
pub(super) fn settle(
    bridge: Arc<Bridge>,
    verified: Verified,
    routed: Routed,
    permit: Permit,
) -> impl Future<Output = Settled> + Send {
    let published = match routed {
        Routed::Events(events) => Published::Events(bridge.publish(events)),
        Routed::Quarantined(reason, event) => Published::Quarantine(reason, event),
        Routed::Nothing => Published::Nothing,
    };
    async move {
        // What is rare is boxed: every delivery's future has room for its largest part.
        let result = match published {
            Published::Events(batch) => bridge.confirm_all(&verified, batch).await,
            Published::Quarantine(reason, event) => {
                Box::pin(bridge.quarantine(&verified, reason, *event)).await
            }
            Published::Nothing => Ok(Receipt { outcome: Outcome::Empty, events: Vec::new() }),
        };
        drop(permit);
        Settled { bridge, result }
    }
}

/// What was routed, on its way.
enum Published {
    Events(Batch),
    Quarantine(QuarantineReason, Box<Event>),
    Nothing,
}

/// The events of a delivery, and what the Kafka client has taken of them.
struct Batch {
    events: Vec<Event>,
    /// In the same order; `None` was refused by the client itself for good.
    pending: Vec<Option<Pending>>,
    failure: Option<Unconfirmed>,
}

impl Bridge {
    fn publish(&self, events: Vec<Event>) -> Batch {
        let mut batch = Batch { pending: Vec::with_capacity(events.len()), events, failure: None };
        for event in &batch.events {
            match self.producer.publish(event) {
                Ok(pending) => batch.pending.push(Some(pending)),
                Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => batch.pending.push(None),
                Err(unconfirmed) => {
                    batch.failure = Some(unconfirmed);
                    break; // the delivery will come again whole
                }
            }
        }
        batch
    }

    async fn confirm_all(&self, verified: &Verified, batch: Batch) -> Result<Receipt, Refusal> {
        let Batch { events, pending, mut failure } = batch;
        let mut refused = false;
        let mut confirmed = Vec::with_capacity(pending.len());
        for (event, pending) in events.iter().zip(pending) {
            let Some(pending) = pending else {
                refused = true;
                continue;
            };
            match self.confirm(event, pending).await {
                Ok(position) => confirmed.push(receipt_of(event, position)),
                Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => refused = true,
                Err(unconfirmed) => failure = Some(unconfirmed),
            }
        }
        if !confirmed.is_empty() {
            self.metrics.confirmed(&verified.origin.metrics, verified.action.place(), confirmed.len());
        }
        if let Some(unconfirmed) = failure {
            return Err(self.refusal(unconfirmed));
        }
        if refused {
            let event = self.router.quarantine(verified, QuarantineReason::Refused);
            return Box::pin(self.quarantine(verified, QuarantineReason::Refused, event)).await;
        }
        Ok(Receipt { outcome: Outcome::Confirmed, events: confirmed })
    }

    /// Waits for the word on an event; one whose batch was refused gets a batch of its own.
    async fn confirm(&self, event: &Event, pending: Pending) -> Result<Position, Unconfirmed> {
        match pending.confirm().await {
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
        event: Event,
    ) -> Result<Receipt, Refusal> {
        let confirmed = match self.producer.publish(&event) {
            Ok(pending) => self.confirm(&event, pending).await,
            Err(unconfirmed) => Err(unconfirmed),
        };
        let source = &verified.origin.source.name;
        match confirmed {
            Ok(position) => {
                verified.origin.metrics.quarantined(reason);
                tracing::warn!(
                    %source, reason = reason.label(), partition = position.partition, offset = position.offset,
                    "a delivery was kept on the quarantine topic"
                );
                Ok(Receipt { outcome: Outcome::Quarantined, events: vec![receipt_of(&event, position)] })
            }
            Err(unconfirmed) => {
                if unconfirmed.verdict == Verdict::Refused {
                    tracing::error!(
                        %source, reason = reason.label(), error = ?unconfirmed.code,
                        "the quarantine topic refuses a delivery for good; check its max.message.bytes and cleanup.policy"
                    );
                }
                Err(self.refusal(unconfirmed))
            }
        }
    }

    /// What a message without confirmation means for its delivery.
    fn refusal(&self, unconfirmed: Unconfirmed) -> Refusal {
        let (outcome, what) = match unconfirmed.verdict {
            Verdict::QueueFull => (Outcome::QueueFull, "the producer's queue is full"),
            Verdict::Unknown if self.producer.status().connected() => {
                (Outcome::Timeout, "no broker confirmed in time; the events may still have been written")
            }
            Verdict::Unknown => (Outcome::Broker, "no Kafka broker is connected"),
            Verdict::Later | Verdict::Alone | Verdict::Refused => {
                (Outcome::Broker, "the broker refused for now")
            }
        };
        let mut detail = format!("{what}: {}", unconfirmed.code);
        if let Some(error) = self.producer.status().last_error() {
            detail.push_str(&format!("; the Kafka client's last error: {error}"));
        }
        Refusal::new(outcome, detail)
    }

    /// The answer when the deadline came before the client's own word.
    pub(super) fn late(&self) -> Refusal {
        self.refusal(Unconfirmed { verdict: Verdict::Unknown, code: crate::kafka::confirm::NO_WORD })
    }
}

fn receipt_of(event: &Event, position: Position) -> Confirmed {
    let Position { partition, offset } = position;
    Confirmed { id: event.attributes.id, stream: Arc::clone(&event.stream), partition, offset }
}
