//! Exponential back-off: the waits between failed attempts.

use std::time::Duration;

/// A back-off from `first` up to `longest`.
#[derive(Debug, Clone, Copy)]
pub struct BackOff {
    /// The wait after the first failure.
    pub first: Duration,
    /// Upper bound of each wait.
    pub longest: Duration,
}

impl BackOff {
    /// Returns the wait after this number of failures in a row: `first`, then twice as long each time, up to `longest`.
    pub fn wait(self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Returns the same wait with jitter, which subtracts up to half: clients that failed at the same time retry at different times.
    pub fn jittered(self, failures: u32) -> Duration {
        self.wait(failures).mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let seconds = |failures| BACK_OFF.wait(failures).as_secs();
        assert_eq!([0, 1, 2, 3, 5, 6, 40, u32::MAX].map(seconds), [1, 1, 2, 4, 16, 30, 30, 30]);
    }

    #[test]
    fn jitter_subtracts_up_to_half_of_a_wait() {
        for failures in [1, 2, 6, 40] {
            let longest = BACK_OFF.wait(failures);
            let waits: Vec<Duration> = (0..50).map(|_| BACK_OFF.jittered(failures)).collect();
            assert!(waits.iter().all(|wait| (longest / 2..=longest).contains(wait)), "{failures}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{failures}: {waits:?}");
        }
    }
}
