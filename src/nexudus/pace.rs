//! The rate limits: a maximum of requests and writes per window of time, a minimum distance, and the holds of `Retry-After`.
//!
//! A request counts from its answer or time-out, not from its start. Nexudus receives it before that time, so the limits also hold by
//! Nexudus's clock. A cancelled request counts from its start.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Pace;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Maximum wait for a `Retry-After`: the longest window of the limits that Nexudus publishes and that this client can reach.
pub const LONGEST_HOLD: Duration = HOUR;

/// The rate limits of one client, and its last requests.
#[derive(Debug)]
pub struct Pacer {
    limits: [Limit; 4],
    /// End of the hold by `Retry-After`.
    not_before: Option<Instant>,
}

/// A maximum number of requests in any window of time.
#[derive(Debug)]
struct Limit {
    /// The reason of a wait, which continues "waiting for".
    reason: String,
    most: usize,
    window: Duration,
    /// True if only writes count.
    writes: bool,
    /// Ends of the latest requests that count, the oldest first; at most `most`.
    ends: VecDeque<Instant>,
}

impl Pacer {
    /// Returns the pacer of a client that has sent no request yet.
    pub fn new(pace: Pace) -> Self {
        let limit = |most: usize, window: Duration, unit: &str, writes| {
            let what = if writes { "writes" } else { "requests" };
            let reason = format!("Nexudus's limit of {most} {what} in any {unit}");
            Limit { reason, most, window, writes, ends: VecDeque::new() }
        };
        let mut spacing = limit(1, pace.request_spacing, "", false);
        "the distance between two requests (nexudus.request_spacing)".clone_into(&mut spacing.reason);
        let limits = [
            spacing,
            limit(pace.writes_per_minute, MINUTE, "minute", true),
            limit(pace.requests_per_minute, MINUTE, "minute", false),
            limit(pace.requests_per_hour, HOUR, "hour", false),
        ];
        Self { limits, not_before: None }
    }

    /// Returns the time at which the next request may be sent, and the reason, which continues "waiting for". The time can be in
    /// the past. `None` before the first request.
    pub fn next(&self, write: bool) -> Option<(Instant, &str)> {
        let held = self.not_before.map(|at| (at, "the end of Nexudus's throttling (Retry-After)"));
        let limits = self.limits.iter().filter(|limit| limit.counts(write)).filter_map(Limit::next);
        limits.chain(held).max_by_key(|(at, _)| *at)
    }

    /// Counts a request that is sent now.
    pub fn begun(&mut self, write: bool, now: Instant) {
        for limit in self.limits.iter_mut().filter(|limit| limit.counts(write)) {
            limit.ends.push_back(now);
            if limit.ends.len() > limit.most {
                limit.ends.pop_front();
            }
        }
    }

    /// Sets the end of the last request.
    pub fn ended(&mut self, write: bool, now: Instant) {
        let counting = self.limits.iter_mut().filter(|limit| limit.counts(write));
        for end in counting.filter_map(|limit| limit.ends.back_mut()) {
            *end = now;
        }
    }

    /// Holds all requests for `wait`, at most [`LONGEST_HOLD`].
    pub fn hold(&mut self, wait: Duration, now: Instant) {
        self.not_before = Some(now + wait.min(LONGEST_HOLD)).max(self.not_before);
    }

    /// Ends the hold by `Retry-After`.
    pub fn release(&mut self) {
        self.not_before = None;
    }

    /// Returns the remaining time of the hold by `Retry-After`.
    pub fn held(&self, now: Instant) -> Option<Duration> {
        self.not_before.and_then(|end| end.checked_duration_since(now))
    }
}

impl Limit {
    fn counts(&self, write: bool) -> bool {
        write || !self.writes
    }

    /// Returns the time at which the oldest request leaves a full window.
    fn next(&self) -> Option<(Instant, &str)> {
        let oldest = self.ends.len().checked_sub(self.most)?;
        Some((self.ends[oldest] + self.window, &self.reason))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Limits of writes and requests in a minute and of requests in an hour.
    fn pace(
        [writes_per_minute, requests_per_minute, requests_per_hour]: [usize; 3],
        spacing_ms: u64,
    ) -> Pace {
        Pace {
            request_timeout: Duration::from_secs(15),
            requests_per_minute,
            writes_per_minute,
            requests_per_hour,
            request_spacing: Duration::from_millis(spacing_ms),
        }
    }

    /// Sends requests one after the other, each with its duration. Returns the times at which they began.
    fn run(mut pacer: Pacer, mut now: Instant, requests: &[(bool, u64)]) -> Vec<(bool, Instant)> {
        let mut begun = Vec::new();
        for &(write, takes_ms) in requests {
            now = now.max(pacer.next(write).map_or(now, |(at, _)| at));
            begun.push((write, now));
            pacer.begun(write, now);
            now += Duration::from_millis(takes_ms);
            if takes_ms % 5 > 0 {
                pacer.ended(write, now); // otherwise the request was cancelled
            }
        }
        begun
    }

    fn most_in(window: Duration, moments: &[Instant]) -> usize {
        let within = |(first, at): (usize, &Instant)| {
            moments[first..].iter().take_while(|later| **later - *at < window).count()
        };
        moments.iter().enumerate().map(within).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_window_exceeds_its_limit_and_the_spacing_is_kept(
            limits in (1_usize..20, 1_usize..20, 1_usize..40),
            spacing in 0_u64..2000,
            requests in proptest::collection::vec((any::<bool>(), 0_u64..3000), 1..80),
        ) {
            let [writes_most, most, hourly] = <[usize; 3]>::from(limits);
            let begun = run(Pacer::new(pace([writes_most, most, hourly], spacing)), Instant::now(), &requests);
            let all: Vec<Instant> = begun.iter().map(|(_, at)| *at).collect();
            let writes: Vec<Instant> = begun.iter().filter(|(write, _)| *write).map(|(_, at)| *at).collect();
            prop_assert!(most_in(MINUTE, &all) <= most);
            prop_assert!(most_in(MINUTE, &writes) <= writes_most);
            prop_assert!(most_in(HOUR, &all) <= hourly);
            for pair in all.windows(2) {
                prop_assert!(pair[1] - pair[0] >= Duration::from_millis(spacing));
            }
        }
    }

    #[test]
    fn a_request_is_sent_as_soon_as_every_limit_allows_it() {
        let now = Instant::now();
        let begun = run(Pacer::new(pace([60, 120, 5000], 100)), now, &[(true, 0); 61]);
        assert_eq!(begun[59].1 - now, Duration::from_millis(59 * 100));
        assert_eq!(begun[60].1 - now, MINUTE);
        let mut pacer = Pacer::new(pace([60, 120, 5000], 0));
        assert_eq!(pacer.next(true), None);
        pacer.hold(Duration::from_secs(7), now);
        pacer.hold(Duration::from_secs(3), now);
        assert_eq!(pacer.next(false).map(|(at, _)| at), Some(now + Duration::from_secs(7)));
        pacer.release();
        assert_eq!((pacer.next(false), pacer.held(now)), (None, None));
    }

    /// With 120 requests a minute, the 5,000 of an hour are sent within 42 minutes; the client waits for the rest of the hour.
    #[test]
    fn a_long_run_keeps_the_limit_of_an_hour() {
        let now = Instant::now();
        let pacer = Pacer::new(pace([60, 120, 5000], 100));
        assert_eq!(pacer.limits[3].reason, "Nexudus's limit of 5000 requests in any hour");
        let begun = run(pacer, now, &[(false, 1); 10_001]);
        let all: Vec<Instant> = begun.iter().map(|(_, at)| *at).collect();
        assert_eq!(most_in(HOUR, &all), 5000);
        assert!(all[4999] - now < HOUR && all[5000] - now >= HOUR && all[5000] - now < HOUR + MINUTE);
        assert!(all[10_000] - now >= 2 * HOUR);
    }

    #[test]
    fn no_retry_after_holds_longer_than_an_hour() {
        let now = Instant::now();
        for seconds in [31_536_000, u64::MAX] {
            let mut pacer = Pacer::new(pace([60, 120, 5000], 0));
            pacer.hold(Duration::from_secs(seconds), now);
            assert_eq!(pacer.held(now), Some(LONGEST_HOLD));
        }
    }
}
