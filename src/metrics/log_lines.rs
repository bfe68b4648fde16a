//! The metric of the log: lines that were dropped.
//!
//! The log starts before the metrics exist and ends after them. So the log has counters of its own, which each scrape reads.

use std::fmt;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Registry};

use super::vec;

/// Returns the numbers of dropped lines: because the queue was full, and because they could not be written.
type Dropped = Box<dyn Fn() -> [u64; 2] + Send + Sync>;

/// The metric of dropped lines, by reason.
pub(super) struct LogLines {
    counters: [IntCounter; 2],
    dropped: Mutex<Option<Dropped>>,
}

impl LogLines {
    pub(super) fn new(registry: &Registry) -> Self {
        let lines: IntCounterVec = vec(
            registry,
            IntCounterVec::new,
            "log_lines_dropped_total",
            "Log lines that were dropped, by reason (queue_full, write_failed).",
            &["reason"],
        );
        let counters = ["queue_full", "write_failed"].map(|reason| lines.with_label_values(&[reason]));
        Self { counters, dropped: Mutex::default() }
    }

    /// Sets the function that returns the numbers of dropped lines, in the order of the reasons.
    pub(super) fn count(&self, dropped: impl Fn() -> [u64; 2] + Send + Sync + 'static) {
        *self.dropped.lock() = Some(Box::new(dropped));
    }

    /// Sets the counters to the present numbers.
    pub(super) fn update(&self) {
        let dropped = self.dropped.lock();
        let Some(dropped) = &*dropped else { return };
        for (counter, total) in self.counters.iter().zip(dropped()) {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counters.fmt(f)
    }
}
