//! Rate limits of the log, for lines that can repeat with each delivery, connection or attempt.
//!
//! A written line has the number of suppressed lines of its kind in the field `left_out`; metrics count everything that has to be
//! counted. Each kind of line has a limit of its own, so that no kind suppresses another.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum time between two lines of the same kind.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Allows one line of a kind per [`INTERVAL`].
#[derive(Debug, Default)]
pub struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// Returns the number of lines suppressed since the last one if the limit allows a line now, else `None`.
    pub fn allow(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.written.is_some_and(|written| written.elapsed() < INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.written = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

/// One [`LogLimit`] for each of a few kinds of lines that are known at run time only.
#[derive(Debug)]
pub struct LogLimits<K>(Mutex<HashMap<K, LogLimit>>);

impl<K: Hash + Eq> LogLimits<K> {
    /// Applies [`LogLimit::allow`] to lines of the kind `kind`.
    pub fn allow(&self, kind: K) -> Option<u64> {
        self.0.lock().entry(kind).or_default().allow()
    }
}

impl<K> Default for LogLimits<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Allows a line about a lasting failure if the failure differs from the last one, or after an interval.
#[derive(Debug)]
pub struct LogOnChange<T> {
    interval: Duration,
    last: Option<T>,
    written: Option<Instant>,
}

impl<T: PartialEq> LogOnChange<T> {
    /// Allows the line of an unchanged failure once per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, written: None }
    }

    /// Returns whether a line about `failure` may be written now.
    pub fn allow(&mut self, failure: T) -> bool {
        let is_recent = self.written.is_some_and(|written| written.elapsed() < self.interval);
        if is_recent && self.last.as_ref() == Some(&failure) {
            return false;
        }
        (self.last, self.written) = (Some(failure), Some(Instant::now()));
        true
    }

    /// Allows the next line even if the failure is unchanged.
    pub fn allow_next(&mut self) {
        self.written = None;
    }

    /// Ends the failure. Returns whether there was one.
    pub fn end(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_time_ago() -> Instant {
        Instant::now().checked_sub(INTERVAL).expect("the machine runs for longer")
    }

    #[test]
    fn a_line_is_allowed_and_then_suppressed_until_the_interval_is_over() {
        let limit = LogLimit::default();
        assert_eq!((limit.allow(), limit.allow(), limit.allow()), (Some(0), None, None));
        limit.state.lock().written = Some(some_time_ago());
        assert_eq!((limit.allow(), limit.allow()), (Some(2), None));
        limit.state.lock().written = Some(some_time_ago());
        assert_eq!(limit.allow(), Some(1));
    }

    #[test]
    fn each_kind_of_line_has_a_limit_of_its_own() {
        let limits = LogLimits::default();
        let allowed = ["REQTMOUT", "REQTMOUT", "CONNECT", "REQTMOUT"].map(|kind| limits.allow(kind));
        assert_eq!(allowed, [Some(0), None, Some(0), None]);
    }

    #[test]
    fn an_unchanged_failure_is_suppressed_until_the_interval_or_the_failure_is_over() {
        let mut failure = LogOnChange::new(INTERVAL);
        assert_eq!(["a", "a", "b", "a"].map(|text| failure.allow(text)), [true, false, true, true]);
        failure.written = Some(some_time_ago());
        assert_eq!(["a", "a"].map(|text| failure.allow(text)), [true, false]);
        failure.allow_next();
        assert_eq!(["a", "a"].map(|text| failure.allow(text)), [true, false]);
        assert!(failure.end() && !failure.end() && failure.allow("a"));
    }
}
