//! Log lines about refusals and quarantines, with a rate limit for each kind.
//!
//! An outage or a scanner can cause thousands of refusals, which the metrics count. No line holds a body, a secret or a
//! signature.

use super::{Confirmed, Refusal};
use crate::kafka::confirm::Unconfirmed;
use crate::outcome::{Outcome, QuarantineReason};
use crate::telemetry::limit::LogLimit;

/// The rate limits, by kind of line.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    refused: [LogLimit; Outcome::ALL.len()],
    quarantined: [LogLimit; QuarantineReason::ALL.len()],
    not_quarantined: [LogLimit; QuarantineReason::ALL.len()],
}

impl Reporter {
    /// Reports a refusal.
    pub(super) fn refused(&self, (source, action): (&str, &str), refusal: &Refusal) {
        let Some(left_out) = self.refused[refusal.outcome as usize].allow() else { return };
        let (outcome, detail) = (refusal.outcome.label(), &refusal.detail);
        tracing::warn!(source, action, outcome, %detail, left_out, "a delivery was refused");
    }

    /// Reports a delivery that was kept whole on the quarantine topic.
    pub(super) fn quarantined(
        &self,
        (source, action): (&str, &str),
        reason: QuarantineReason,
        Confirmed { stream, partition, offset, .. }: &Confirmed,
    ) {
        let Some(left_out) = self.quarantined[reason as usize].allow() else { return };
        let (reason, topic) = (reason.label(), &stream.topic);
        tracing::warn!(
            source,
            action,
            reason,
            topic,
            partition,
            offset,
            left_out,
            "a delivery was kept on the quarantine topic"
        );
    }

    /// Reports that the quarantine topic refuses a delivery, too.
    pub(super) fn not_quarantined(
        &self,
        (source, action): (&str, &str),
        reason: QuarantineReason,
        topic: &str,
        unconfirmed: Unconfirmed,
    ) {
        let Some(left_out) = self.not_quarantined[reason as usize].allow() else { return };
        let (reason, error) = (reason.label(), unconfirmed.code);
        tracing::error!(
            source,
            action,
            reason,
            topic,
            ?error,
            left_out,
            "the quarantine topic refuses a delivery for good; check its max.message.bytes and cleanup.policy"
        );
    }
}
