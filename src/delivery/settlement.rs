//! A delivery from its publication to its answer, and to its last delivery report.
//!
//! A [`Settlement`] is a future in the task of the request. If the client disconnects or the deadline passes, its drop moves
//! the rest to the runtime. So a confirmation is never cancelled, the permit is held until the last delivery report, and a
//! retry finds the first attempt ([`super::redelivery`]). A [`Tally`] counts each delivery once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::address::{Addressed, Origin};
use super::redelivery::{First, Identity};
use super::verify::Verified;
use super::{Bridge, Receipt, Refusal};
use crate::action::Kind;
use crate::outcome::Outcome;
use crate::telemetry::trace::DeliverySpan;

/// Counts a delivery once: at its answer, or at the end of its settlement if the client has disconnected.
pub(super) struct Tally {
    origin: Arc<Origin>,
    action_index: Option<usize>,
    span: DeliverySpan,
    /// Time at which the delivery arrived.
    started: Instant,
    /// The body of a delivery of a change action, which identifies its retry.
    change: Option<Bytes>,
    answered: bool,
}

impl Tally {
    pub(super) fn new(addressed: &Addressed) -> Self {
        let (origin, span) = (Arc::clone(&addressed.origin), addressed.span.clone());
        let (action_index, started) = (addressed.action_index(), addressed.started);
        Self { origin, action_index, span, started, change: None, answered: false }
    }

    /// Keeps the body if the action is a change, since only then byte-equal deliveries are copies.
    pub(super) fn recognise(&mut self, verified: &Verified) {
        let kind = self.action_index.map(|action_index| self.origin.source.actions.get(action_index).kind());
        self.change = (kind == Some(Kind::Change)).then(|| verified.body.clone());
    }

    /// Returns the unanswered attempt that this delivery repeats, if there is one.
    pub(super) fn first_attempt(&self, bridge: &Bridge, now: Instant) -> Option<First> {
        let body = self.change.as_ref()?;
        bridge.memory.recall(now, || self.identity(body))
    }

    fn identity(&self, body: &Bytes) -> Identity {
        let (source, action) = self.origin.metrics.labels(self.action_index);
        Identity::of(source, action, body)
    }

    /// Counts the answer, unless one was counted before.
    pub(super) fn answered(&mut self, bridge: &Bridge, result: &Result<Receipt, Refusal>, now: Instant) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let labels = self.origin.metrics.labels(self.action_index);
        let (outcome, detail) = match result {
            Ok(receipt) => (receipt.outcome, ""),
            Err(refusal) => {
                bridge.report(labels, refusal);
                (refusal.outcome, &*refusal.detail)
            }
        };
        self.span.answered(labels, outcome, detail);
        let took = now.saturating_duration_since(self.started);
        bridge.metrics.answered(&self.origin.metrics, self.action_index, outcome, took);
    }

    /// Counts the end of a settlement that began at `began`, and the answer if there was none.
    fn settled(&mut self, settled: &Settled, began: Instant) {
        let Settled { bridge, result, recalled } = settled;
        let now = Instant::now();
        if *recalled {
            bridge.metrics.redelivery_suppressed(&self.origin.metrics, self.action_index);
        } else if result.as_ref().is_ok_and(|receipt| receipt.outcome != Outcome::Empty) {
            bridge.metrics.confirmation_took(now.saturating_duration_since(began));
        }
        self.answered(bridge, result, now);
    }
}

/// A delivery whose events are in the producer. If dropped before its end, it continues in the bridge's runtime.
pub(super) struct Settlement<'a, F: Future<Output = Settled> + Send + 'static> {
    bridge: &'a Bridge,
    /// Both are present until the end.
    settling: Option<(Pin<Box<F>>, Tally)>,
    began: Instant,
}

/// The rest of a settlement, with the bridge that it needs.
pub(super) struct Settled {
    pub(super) bridge: Arc<Bridge>,
    pub(super) result: Result<Receipt, Refusal>,
    /// True if the result is that of an earlier attempt.
    pub(super) recalled: bool,
}

impl<'a, F: Future<Output = Settled> + Send + 'static> Settlement<'a, F> {
    pub(super) fn new(bridge: &'a Bridge, settling: F, tally: Tally, began: Instant) -> Self {
        Self { bridge, settling: Some((Box::pin(settling), tally)), began }
    }

    /// Answers now; the settlement continues.
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
        let settled = std::task::ready!(settling.as_mut().poll(context));
        if let Some((_, mut tally)) = self.settling.take() {
            tally.settled(&settled, self.began);
        }
        Poll::Ready(settled.result)
    }
}

impl<F: Future<Output = Settled> + Send + 'static> Drop for Settlement<'_, F> {
    fn drop(&mut self) {
        let Some((settling, mut tally)) = self.settling.take() else { return };
        let (memory, began) = (&self.bridge.memory, self.began);
        let promise = match &tally.change {
            Some(body) => memory.promise(Instant::now(), tally.identity(body)),
            None => None,
        };
        drop(self.bridge.runtime.spawn(async move {
            let settled = settling.await;
            if let (Some(promise), Ok(receipt)) = (promise, &settled.result) {
                promise.keep(Instant::now(), receipt);
            }
            tally.settled(&settled, began);
        }));
    }
}
