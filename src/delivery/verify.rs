//! Verify: whether Nexudus sent a body, by the policy of its source.
//!
//! A [`Verified`] is made here and nowhere else, so nothing unsigned reaches a topic unless the source's policy lets it
//! through, and then it is marked. What lies on the quarantine topic was verified before it was kept there, mark and all.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::Refusal;
use super::address::{Addressed, Claim, Origin, Target};
use crate::config::SignaturePolicy;
use crate::event::Trace;
use crate::outcome::SignatureWarning;
use crate::telemetry::trace::DeliverySpan;

/// A delivery that its source accepts: signed, or let through by `warn` or `off`.
#[derive(Debug)]
pub struct Verified {
    pub(super) origin: Arc<Origin>,
    pub(super) action: Target,
    pub(super) body: Bytes,
    pub(super) warning: Option<SignatureWarning>,
    pub(super) trace: Trace,
    pub(super) span: DeliverySpan,
    pub(super) received_at: Timestamp,
}

/// A delivery as the quarantine topic has it.
#[derive(Debug)]
pub struct Kept {
    pub(super) source: String,
    pub(super) action: String,
    pub(super) body: Bytes,
    pub(super) warning: Option<SignatureWarning>,
    pub(super) trace: Trace,
    pub(super) received_at: Timestamp,
}

impl Verified {
    /// A delivery as it was kept on the quarantine topic, perhaps under a corrected action. The bridge keeps nothing that
    /// its source did not accept, so the topic stands for the signature, which is not kept itself; whoever may write there
    /// is trusted with that. Also a record that `catch-up` has read from Nexudus itself, which needs no signature.
    pub(super) fn when_kept(origin: Arc<Origin>, action: Target, kept: Kept) -> Self {
        let Kept { body, warning, trace, received_at, .. } = kept;
        Self { origin, action, body, warning, trace, span: DeliverySpan::default(), received_at }
    }

    /// Its source and action, as the log and the metrics name them.
    pub(super) fn labels(&self) -> (&str, &str) {
        self.origin.metrics.labels(self.action.action_index())
    }
}

/// Judges the signature of a body.
///
/// # Errors
/// The refusal of an unsigned delivery, where the source enforces signatures.
pub(super) fn verify(addressed: Addressed, body: Bytes) -> Result<Verified, Refusal> {
    let warning = match (addressed.policy(), addressed.claim) {
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
    let Addressed { origin, action, trace, span, received_at, .. } = addressed;
    Ok(Verified { origin, action, body, warning, trace, span, received_at })
}
