//! Verify: checks the signature of a body by the policy of its source.
//!
//! Only this file makes a [`Verified`]. So an unsigned body reaches a topic only if the policy of its source allows it; the policy
//! `warn` marks its events. A message of the quarantine topic was accepted by its source, and keeps its mark.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::Refusal;
use super::address::{Addressed, Claim, Origin, RequestedAction};
use crate::config::SignaturePolicy;
use crate::event::Trace;
use crate::outcome::SignatureWarning;
use crate::telemetry::trace::DeliverySpan;

/// A delivery that its source accepts: signed, or let through by `warn` or `off`.
#[derive(Debug)]
pub struct Verified {
    pub(super) origin: Arc<Origin>,
    pub(super) action: RequestedAction,
    pub(super) body: Bytes,
    pub(super) warning: Option<SignatureWarning>,
    pub(super) trace: Trace,
    pub(super) span: DeliverySpan,
    pub(super) received_at: Timestamp,
}

impl Verified {
    /// Makes a delivery from a message of the quarantine topic, or from a record that `catch-up` has read from Nexudus. The bridge keeps
    /// only deliveries that their source accepted, so the signature is not kept. Every client with the right to write to the quarantine
    /// topic is trusted.
    pub(super) fn when_kept(
        origin: Arc<Origin>,
        action_index: usize,
        body: Bytes,
        warning: Option<SignatureWarning>,
        trace: Trace,
        received_at: Timestamp,
    ) -> Self {
        let (action, span) = (RequestedAction::Known(action_index), DeliverySpan::default());
        Self { origin, action, body, warning, trace, span, received_at }
    }

    /// Returns the labels of the source and the action for log and metrics.
    pub(super) fn labels(&self) -> (&str, &str) {
        self.origin.metrics.labels(self.action.action_index())
    }
}

/// Checks the signature of a body.
///
/// # Errors
/// The refusal of an unsigned delivery, where the source enforces signatures.
pub(super) fn verify(addressed: Addressed, body: Bytes, span: DeliverySpan) -> Result<Verified, Refusal> {
    let warning = match (addressed.origin.source.policy, addressed.claim) {
        (SignaturePolicy::Off, _) => None,
        (policy, Claim::Given(signature)) => match addressed.origin.source.verify(&body, &signature) {
            Some(form) => {
                addressed.origin.metrics.matched(form);
                tracing::debug!(source = %addressed.origin.source.name, form = form.label(), "signature right");
                None
            }
            None if policy == SignaturePolicy::Warn => Some(SignatureWarning::Invalid),
            None => return Err(addressed.unsigned()),
        },
        (SignaturePolicy::Warn, Claim::Missing) => Some(SignatureWarning::Missing),
        (SignaturePolicy::Warn, Claim::Malformed(_)) => Some(SignatureWarning::Invalid),
        (SignaturePolicy::Enforce, Claim::Missing | Claim::Malformed(_)) => return Err(addressed.unsigned()),
    };
    if let Some(warning) = warning {
        addressed.origin.metrics.warned(warning);
    }
    let Addressed { origin, action, trace, received_at, .. } = addressed;
    Ok(Verified { origin, action, body, warning, trace, span, received_at })
}
