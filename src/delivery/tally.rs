//! Counts each delivery exactly once, in the metrics, the log, the console and its span.
//!
//! A delivery is counted at its answer, or at the end of its settlement if the client has disconnected. If its body never arrives,
//! the drop of the [`Tally`] counts it. actix-web drops a request if its connection is reset or idle for too long, and at a shutdown
//! that is not graceful.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::address::Origin;
use super::redelivery::Identity;
use super::verify::Verified;
use super::{Bridge, Receipt, Refusal};
use crate::action::Kind;
use crate::metrics::SourceMetrics;
use crate::outcome::Outcome;
use crate::telemetry::trace::DeliverySpan;

/// A delivery that has to be counted.
pub(super) struct Tally {
    pub(super) bridge: Arc<Bridge>,
    /// `None` for a source that is not configured.
    pub(super) origin: Option<Arc<Origin>>,
    /// `None` for an action that the source does not have.
    pub(super) action_index: Option<usize>,
    pub(super) span: DeliverySpan,
    /// Time at which the delivery arrived.
    started: Instant,
    /// The body of a delivery of a change action, which identifies its retry. Two byte-equal signals are no copies.
    change: Option<Bytes>,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    Receiving,
    Settling,
    Counted,
}

impl Tally {
    /// Makes the tally of a delivery to the action and the source of a URL. In the short form of the URL, `source` is `None` and means
    /// the default source.
    pub(super) fn new(bridge: &Arc<Bridge>, source: Option<&str>, action: &str) -> Self {
        let started = Instant::now();
        let origin = bridge.origin(source);
        Self {
            bridge: Arc::clone(bridge),
            action_index: origin.as_ref().and_then(|origin| origin.source.actions.find(action)),
            origin,
            span: DeliverySpan::default(),
            started,
            change: None,
            stage: Stage::Receiving,
        }
    }

    /// Records that the body has arrived and is verified. From now on a drop counts nothing.
    pub(super) fn has_body(&mut self, verified: &Verified) {
        let kind = self.action_index.map(|index| verified.origin.source.actions.get(index).kind());
        self.change = (kind == Some(Kind::Change)).then(|| verified.body.clone());
        self.stage = Stage::Settling;
    }

    /// Returns the identity of a delivery of a change action.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (source, action) = self.metrics().labels(self.action_index);
        self.change.as_ref().map(|body| Identity::of(source, action, body))
    }

    /// Counts a refusal, and returns it.
    pub(super) fn refuse(mut self, refusal: Refusal) -> Refusal {
        self.answered(Err(&refusal));
        refusal
    }

    /// Counts the answer, unless one was counted before.
    pub(super) fn answered(&mut self, result: Result<&Receipt, &Refusal>) {
        if std::mem::replace(&mut self.stage, Stage::Counted) == Stage::Counted {
            return;
        }
        let (bridge, source) = (&self.bridge, self.metrics());
        let labels = source.labels(self.action_index);
        let (outcome, detail) = match result {
            Ok(receipt) => (receipt.outcome, ""),
            Err(Refusal { outcome, detail }) => (*outcome, &**detail),
        };
        if let Err(refusal) = result {
            bridge.reporter.refused(labels, refusal);
            if let Some(recent) = &bridge.recent {
                recent.add_setback(labels, outcome, detail);
            }
        }
        bridge.metrics.answered(source, self.action_index, outcome, self.started.elapsed());
        self.span.answered(labels, outcome, detail);
    }

    fn metrics(&self) -> &SourceMetrics {
        self.origin.as_ref().map_or(&self.bridge.unknown_source, |origin| &origin.metrics)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.stage == Stage::Receiving {
            self.answered(Err(&Refusal::new(
                Outcome::Incomplete,
                "the connection ended before the body did",
            )));
        }
    }
}
