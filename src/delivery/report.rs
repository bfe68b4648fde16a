//! What is worth a log line: refusals, but not each of a thousand.
//!
//! An outage or a scanner refuses deliveries by the thousand; the metrics count them all, the log gets one line for
//! each kind of refusal every few seconds, with the number of those left out. Holds no body, secret or signature.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Refusal;
use crate::outcome::Outcome;

/// How often the same kind of refusal may be in the log.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes refusals to the log.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    kinds: [Mutex<Kind>; Outcome::ALL.len()],
}

#[derive(Debug, Default)]
struct Kind {
    written: Option<Instant>,
    left_out: u64,
}

impl Reporter {
    /// Reports a refusal, or leaves it out if its kind was reported just now.
    pub(super) fn refused(&self, (source, action): (&str, &str), refusal: &Refusal) {
        let mut kind = self.kinds[refusal.outcome as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if kind.written.is_some_and(|written| written.elapsed() < INTERVAL) {
            kind.left_out += 1;
            return;
        }
        kind.written = Some(Instant::now());
        let left_out = std::mem::take(&mut kind.left_out);
        drop(kind);
        let (outcome, detail) = (refusal.outcome.label(), &refusal.detail);
        tracing::warn!(source, action, outcome, left_out, "a delivery was refused: {detail}");
    }
}
