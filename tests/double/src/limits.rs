//! Throttling: how many requests and writes are taken in any window of time, and how far apart they must be.
//!
//! Nexudus publishes one request a 100 ms, 120 a minute, 60 writes a minute, 5,000 an hour and 200,000 a day; the last
//! is left out here, since that of an hour keeps it. Refused requests do not count. What is one client is not documented, so it is a switch.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The limits, and how a request over them is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How far apart two requests must be at least.
    pub spacing: Duration,
    /// The window in which the following two count.
    pub window: Duration,
    /// Requests in any window.
    pub requests: usize,
    /// POST, PUT and DELETE in any window.
    pub writes: usize,
    /// A longer window, and the requests in it.
    pub long_window: Duration,
    /// Requests in any long window.
    pub long_requests: usize,
    /// The status over a limit: 409 as documented, or 429.
    pub status: u16,
    /// Whose requests count together.
    pub client: Client,
}

/// What counts as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// All there are, as if by address.
    Anybody,
    /// Each `Authorization`.
    Authorization,
}

impl Limits {
    /// As published.
    pub const DOCUMENTED: Self = Self {
        spacing: Duration::from_millis(100),
        window: Duration::from_secs(60),
        requests: 120,
        writes: 60,
        long_window: Duration::from_secs(3600),
        long_requests: 5000,
        status: 409,
        client: Client::Anybody,
    };

    /// None at all.
    pub const NONE: Self = Self {
        spacing: Duration::ZERO,
        requests: usize::MAX,
        writes: usize::MAX,
        long_requests: usize::MAX,
        ..Self::DOCUMENTED
    };
}

/// What was taken lately, for each client.
#[derive(Debug, Default)]
pub(super) struct Taken {
    by_client: HashMap<String, VecDeque<(Instant, bool)>>,
}

impl Taken {
    /// Takes a request, or says how long its client must wait.
    pub(super) fn admit(
        &mut self,
        limits: &Limits,
        client: &str,
        is_write: bool,
        now: Instant,
    ) -> Result<(), Duration> {
        if *limits == (Limits { status: limits.status, client: limits.client, ..Limits::NONE }) {
            return Ok(());
        }
        let taken = self.by_client.entry(client.to_owned()).or_default();
        let longest = limits.window.max(limits.long_window);
        while taken.front().is_some_and(|(at, _)| now.duration_since(*at) >= longest) {
            taken.pop_front();
        }
        let left = |at: Instant, span: Duration| span.saturating_sub(now.duration_since(at));
        // The wait until the oldest of the last `limit` leaves the window.
        let full = |limit: usize, window: Duration, counts: fn(&(Instant, bool)) -> bool| {
            let nth = limit.checked_sub(1)?;
            let (at, _) = taken.iter().rev().filter(|entry| counts(entry)).nth(nth)?;
            Some(left(*at, window))
        };
        let close = taken.back().map(|(at, _)| left(*at, limits.spacing));
        let many = full(limits.requests, limits.window, |_| true);
        let long = full(limits.long_requests, limits.long_window, |_| true);
        let writes = if is_write { full(limits.writes, limits.window, |(_, write)| *write) } else { None };
        let wait = [close, many, long, writes].into_iter().flatten().max().unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(wait);
        }
        taken.push_back((now, is_write));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Limits = Limits {
        spacing: Duration::from_millis(100),
        window: Duration::from_secs(10),
        requests: 4,
        writes: 2,
        ..Limits::DOCUMENTED
    };

    #[test]
    fn spacing_requests_and_writes_are_each_limited_in_any_window() {
        let mut taken = Taken::default();
        let begun = Instant::now();
        let mut ask = |millis: u64, write: bool| {
            let wait = taken.admit(&QUICK, "", write, begun + Duration::from_millis(millis));
            wait.err().map(|wait| wait.as_millis())
        };
        assert_eq!(ask(0, true), None);
        assert_eq!(ask(40, false), Some(60), "too close");
        assert_eq!(ask(1000, true), None);
        assert_eq!(ask(2000, true), Some(8000), "a third write");
        assert_eq!(ask(2000, false), None);
        assert_eq!(ask(3000, false), None);
        assert_eq!(ask(4000, false), Some(6000), "a fifth request");
        assert_eq!(ask(10_000, true), None, "the first has left the window");
        assert_eq!(ask(10_500, true), Some(500));
        assert_eq!(ask(11_000, true), None);
    }

    #[test]
    fn the_long_window_has_a_limit_of_its_own() {
        let limits = Limits {
            long_window: Duration::from_secs(60),
            long_requests: 3,
            spacing: Duration::ZERO,
            ..QUICK
        };
        let mut taken = Taken::default();
        let begun = Instant::now();
        let mut ask = |second: u64| {
            let wait = taken.admit(&limits, "", false, begun + Duration::from_secs(second));
            wait.err().map(|wait| wait.as_secs())
        };
        assert_eq!([0, 15, 30].map(&mut ask), [None; 3]);
        assert_eq!([45, 59, 60].map(&mut ask), [Some(15), Some(1), None]);
        assert_eq!(ask(61), Some(14));
    }

    #[test]
    fn clients_do_not_count_for_each_other_and_none_is_no_limit() {
        let mut taken = Taken::default();
        let now = Instant::now();
        assert!(taken.admit(&QUICK, "a", true, now).is_ok());
        assert!(taken.admit(&QUICK, "b", true, now).is_ok());
        assert!(taken.admit(&QUICK, "a", true, now).is_err());
        assert!((0..1000).all(|_| taken.admit(&Limits::NONE, "a", true, now).is_ok()));
    }
}
