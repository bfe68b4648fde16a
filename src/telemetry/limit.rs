//! A bound on a line of the log that may come over and over: for each delivery, connection or attempt to connect.
//!
//! One such line is written in [`INTERVAL`] and says how many were left out since the one before (`left_out`); metrics
//! count what has to be counted. Each kind of line has a [`Limit`] of its own, so that none hides another.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the same kind of line may be in the log.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// The bound on one kind of line.
#[derive(Debug, Default)]
pub struct Limit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written: Option<Instant>,
    left_out: u64,
}

impl Limit {
    /// How many lines were left out since the last one, if it is time for another; else this one is left out.
    pub fn left_out(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.written.is_some_and(|written| written.elapsed() < INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.written = Some(Instant::now());
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_let_through_and_then_counted_until_the_interval_is_over() {
        let limit = Limit::default();
        assert_eq!((limit.left_out(), limit.left_out(), limit.left_out()), (Some(0), None, None));
        let a_while_ago = Instant::now().checked_sub(INTERVAL).expect("the machine runs for longer");
        limit.state.lock().written = Some(a_while_ago);
        assert_eq!((limit.left_out(), limit.left_out()), (Some(2), None));
        limit.state.lock().written = Some(a_while_ago);
        assert_eq!(limit.left_out(), Some(1));
    }
}
