//! The pace: so many requests and writes in any 60 s, none too soon after the last, and no sooner than Nexudus says.
//!
//! A request counts from the moment that its answer came (or was given up): it reached Nexudus before that, and the
//! next one will reach it later, so the bounds hold as Nexudus counts too, however long the way takes. One that is
//! broken off counts from its beginning.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Pace;

/// The length of time over which requests are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Keeps one client's pace.
#[derive(Debug)]
pub struct Pacer {
    pace: Pace,
    /// When the latest requests ended, the oldest first; as many as may be in a window.
    requests: VecDeque<Instant>,
    /// The same of those that write.
    writes: VecDeque<Instant>,
    not_before: Option<Instant>,
}

impl Pacer {
    /// One that has seen no request yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, requests: VecDeque::new(), writes: VecDeque::new(), not_before: None }
    }

    /// When the next request may go out; it can lie in the past.
    pub fn next(&self, write: bool) -> Option<Instant> {
        let spaced = self.requests.back().map(|last| *last + self.pace.request_spacing);
        let room = |ends: &VecDeque<Instant>, bound: usize| {
            let oldest = ends.len().checked_sub(bound)?;
            Some(ends[oldest] + WINDOW)
        };
        let requests = room(&self.requests, self.pace.requests_per_minute);
        let writes = write.then(|| room(&self.writes, self.pace.writes_per_minute)).flatten();
        [spaced, requests, writes, self.not_before].into_iter().flatten().max()
    }

    /// Notes that a request goes out.
    pub fn begun(&mut self, write: bool, now: Instant) {
        note(&mut self.requests, now, self.pace.requests_per_minute);
        if write {
            note(&mut self.writes, now, self.pace.writes_per_minute);
        }
    }

    /// Notes that the request which went out last has ended.
    pub fn ended(&mut self, write: bool, now: Instant) {
        let counted = [Some(&mut self.requests), write.then_some(&mut self.writes)];
        for last in counted.into_iter().flatten().filter_map(VecDeque::back_mut) {
            *last = now;
        }
    }

    /// Lets nothing out for so long.
    pub fn hold(&mut self, wait: Duration, now: Instant) {
        self.not_before = now.checked_add(wait).max(self.not_before);
    }

    /// How long nothing is let out since Nexudus has asked for it.
    pub fn held(&self, now: Instant) -> Option<Duration> {
        self.not_before.and_then(|end| end.checked_duration_since(now))
    }
}

fn note(ends: &mut VecDeque<Instant>, now: Instant, bound: usize) {
    ends.push_back(now);
    while ends.len() > bound {
        ends.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(requests_per_minute: usize, writes_per_minute: usize, spacing_ms: u64) -> Pace {
        Pace {
            request_timeout: Duration::from_secs(15),
            requests_per_minute,
            writes_per_minute,
            request_spacing: Duration::from_millis(spacing_ms),
        }
    }

    /// Lets requests out one after the other, each taking so long; gives the moments at which they began.
    fn run(mut pacer: Pacer, mut now: Instant, requests: &[(bool, u64)]) -> Vec<(bool, Instant)> {
        let mut begun = Vec::new();
        for &(write, takes_ms) in requests {
            now = now.max(pacer.next(write).unwrap_or(now));
            begun.push((write, now));
            pacer.begun(write, now);
            now += Duration::from_millis(takes_ms);
            if takes_ms % 5 > 0 {
                pacer.ended(write, now); // else it was broken off
            }
        }
        begun
    }

    fn most_in_a_window(moments: &[Instant]) -> usize {
        let within =
            |first: &Instant| moments.iter().filter(|at| *at >= first && **at - *first < WINDOW).count();
        moments.iter().map(within).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_60_s_hold_more_requests_or_writes_than_allowed_and_none_comes_too_soon(
            (bound, writes_bound, spacing) in (1_usize..20, 1_usize..20, 0_u64..2000),
            requests in proptest::collection::vec((any::<bool>(), 0_u64..3000), 1..80),
        ) {
            let begun = run(Pacer::new(pace(bound, writes_bound, spacing)), Instant::now(), &requests);
            let all: Vec<Instant> = begun.iter().map(|(_, at)| *at).collect();
            let writes: Vec<Instant> = begun.iter().filter(|(write, _)| *write).map(|(_, at)| *at).collect();
            prop_assert!(most_in_a_window(&all) <= bound);
            prop_assert!(most_in_a_window(&writes) <= writes_bound);
            for pair in all.windows(2) {
                prop_assert!(pair[1] - pair[0] >= Duration::from_millis(spacing));
            }
        }
    }

    #[test]
    fn what_may_go_out_goes_out_at_once_and_what_may_not_as_soon_as_it_may() {
        let now = Instant::now();
        let begun = run(Pacer::new(pace(120, 60, 100)), now, &[(true, 0); 61]);
        assert_eq!(begun[59].1 - now, Duration::from_millis(59 * 100));
        assert_eq!(begun[60].1 - now, WINDOW);
        let mut pacer = Pacer::new(pace(120, 60, 0));
        assert_eq!(pacer.next(true), None);
        pacer.hold(Duration::from_secs(7), now);
        pacer.hold(Duration::from_secs(3), now);
        assert_eq!(pacer.next(false), Some(now + Duration::from_secs(7)));
    }
}
