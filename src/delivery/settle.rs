//! Publish and confirm: events into the producer, and the broker's word on each of them.
//!
//! A delivery is settled when every message of it has its delivery report; until then its permit is held. What the
//! broker refuses for good goes whole to the quarantine topic, so that one record that nobody can take does not switch
//! the webhook off. [`Outlive`] brings a settlement to its end when nobody waits for it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::Handle;

use super::address::{Addressed, Origin};
use super::admission::Permit;
use super::route::Routed;
use super::verify::Verified;
use super::{Bridge, Confirmed, Receipt, Refusal};
use crate::event::Event;
use crate::kafka::confirm::{Pending, Position, Unconfirmed, Verdict};
use crate::outcome::{Outcome, QuarantineReason};

/// Counts what became of a delivery, once: its answer, or the end of its settlement if nobody waits for an answer.
pub(super) struct Tally {
    bridge: Arc<Bridge>,
    origin: Arc<Origin>,
    place: Option<usize>,
    started: Instant,
    counted: AtomicBool,
}

impl Tally {
    pub(super) fn new(bridge: &Arc<Bridge>, addressed: &Addressed) -> Self {
        Self {
            bridge: Arc::clone(bridge),
            origin: Arc::clone(&addressed.origin),
            place: addressed.place(),
            started: addressed.started,
            counted: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self, result: &Result<Receipt, Refusal>) {
        if self.counted.swap(true, Ordering::AcqRel) {
            return;
        }
        let outcome = match result {
            Ok(receipt) => receipt.outcome,
            Err(refusal) => {
                self.bridge.reporter.refused(self.origin.metrics.labels(self.place), refusal);
                refusal.outcome
            }
        };
        self.bridge.metrics.answered(&self.origin.metrics, self.place, outcome, self.started.elapsed());
    }
}

/// Publishes what was routed and waits for its confirmation, however long the client takes to give its word.
pub(super) async fn settle(
    bridge: Arc<Bridge>,
    verified: Verified,
    routed: Routed,
    permit: Permit,
    tally: Arc<Tally>,
) -> Result<Receipt, Refusal> {
    let started = Instant::now();
    let result = match routed {
        Routed::Nothing => Ok(Receipt { outcome: Outcome::Empty, events: Vec::new() }),
        Routed::Quarantined(reason, event) => bridge.quarantine(&verified, reason, *event).await,
        Routed::Events(events) => bridge.publish(&verified, events).await,
    };
    if result.as_ref().is_ok_and(|receipt| receipt.outcome != Outcome::Empty) {
        bridge.metrics.confirmation_took(started.elapsed());
    }
    drop(permit);
    tally.count(&result);
    result
}

impl Bridge {
    async fn publish(&self, verified: &Verified, events: Vec<Event>) -> Result<Receipt, Refusal> {
        let mut failure = None;
        let mut refused = false;
        let mut sent = Vec::with_capacity(events.len());
        for event in events {
            match self.producer.publish(&event) {
                Ok(pending) => sent.push((event, pending)),
                Err(unconfirmed) if unconfirmed.verdict == Verdict::Refused => refused = true,
                Err(unconfirmed) => {
                    failure = Some(unconfirmed);
                    break; // the delivery will come again whole
                }
            }
        }
        let mut confirmed = Vec::with_capacity(sent.len());
        for (event, pending) in sent {
            match self.confirm(&event, pending).await {
                Ok(position) => confirmed.push(receipt_of(&event, position)),
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
            return self.quarantine(verified, QuarantineReason::Refused, event).await;
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
    Confirmed { id: event.attributes.id, topic: Arc::clone(&event.topic), partition, offset }
}

/// A future that goes on in the runtime when it is dropped before its end.
pub(super) struct Outlive<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    runtime: Handle,
}

impl<F: Future<Output: Send> + Send + 'static> Outlive<F> {
    pub(super) fn new(future: F, runtime: Handle) -> Self {
        Self { future: Some(Box::pin(future)), runtime }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Outlive<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.future.as_mut().expect("not polled after its end");
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Outlive<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            drop(self.runtime.spawn(future));
        }
    }
}
