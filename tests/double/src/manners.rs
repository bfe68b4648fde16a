//! The manners of Nexudus that its documentation leaves open, or on which its pages disagree, as switches.
//!
//! A client is right only if it is right under every one of them. The defaults are the likeliest reading.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

/// How this Nexudus behaves where the documentation does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// The status of `invalid_grant`: 400 in the newer page, 401 in the older one.
    pub invalid_grant_status: u16,
    /// `expires_in`, and how long an access token works.
    pub token_lifetime: Duration,
    /// `expires_in` as text of JSON, in place of the token's lifetime: other servers write `"604799"`, `604799.0` or `-5`.
    pub expires_in: Option<String>,
    /// Whether a byte order mark comes before JSON, as .NET's stream writers can emit it.
    pub byte_order_mark: bool,
    /// How long a refresh token works.
    pub refresh_lifetime: Duration,
    /// Whether a one-time password works only once, as RFC 6238 asks.
    pub totp_once: bool,
    /// How `Entity_Field=text` is compared.
    pub text_filters: TextFilters,
    /// Whether `from_…` and `to_…` work on the lists of entities; documented for webhooks only. Else they are ignored.
    pub entity_ranges: bool,
    /// The zone of the times in `from_…` and `to_…`, as its distance from UTC; their `Z` is not looked at.
    pub range_zone: SignedDuration,
    /// Whether `dir=1` means descending, as in the pages that know 0 and 1; in those that know 1 and -1 it does not.
    pub dir_one_is_descending: bool,
    /// Whether listings leave fields null. `Description` of webhooks always is.
    pub partial_listings: bool,
    /// Maximum number of records on a page: 1,000 in the 2020 page.
    pub largest_page: usize,
    /// Number of the last page of a list that is given; later ones are answered 403 with a page of HTML.
    pub last_page: usize,
    /// What `Value` is in the answer to a create.
    pub created_value: CreatedValue,
    /// What `Active` is in a create that leaves it out.
    pub active_by_default: bool,
    /// Whether a webhook that is switched on again begins with `ErrorCount` 0.
    pub reenabling_resets_errors: bool,
    /// Whether a delivery that was on its way when its webhook was switched off, and arrives, sets `ErrorCount` to 0 then.
    pub late_success_resets_errors: bool,
    /// The answer for an id that is not there.
    pub missing: Missing,
    /// Which values of `eWebhookAction` the enum endpoint lists.
    pub enum_values: EnumValues,
    /// Values of `eWebhookAction` behind the 90: new ones, as numbers and names.
    pub extra_actions: Vec<(i64, String)>,
    /// Whether the enum endpoint wants a token.
    pub enums_need_token: bool,
    /// Whether records that are read over the API have `UpdatedOn` and `CreatedOn` to the second, as a database would,
    /// while deliveries have them with 7 digits.
    pub times_to_the_second: bool,
    /// How a delivery's text is written on the wire; its signature is the same in all of them.
    pub wire: Wire,
}

/// How text filters compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFilters {
    /// The whole text, without regard to case.
    Exact,
    /// A part of it, without regard to case.
    Contains,
}

/// `Value` of a create's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreatedValue {
    /// `{"Id":…}`, as documented.
    Id,
    /// The whole new record, as seen.
    Record,
}

/// The answer for an id that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// 404 with the text `Not found`.
    NotFound,
    /// 500 with a message, as seen.
    Error,
}

/// What the enum endpoint lists, apart from the extras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnumValues {
    /// All 90, `None` included.
    All,
    /// Those up to 62, as in the legacy documentation.
    First62,
}

/// How a delivery's text is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As UTF-8.
    Utf8,
    /// As UTF-8 behind a byte order mark.
    Utf8WithMark,
    /// Folded to ASCII: `?` for all else.
    Folded,
}

impl Default for Manners {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            invalid_grant_status: 400,
            token_lifetime: Duration::from_secs(604_799),
            expires_in: None,
            byte_order_mark: false,
            refresh_lifetime: DAY * 15,
            totp_once: false,
            text_filters: TextFilters::Contains,
            entity_ranges: true,
            range_zone: SignedDuration::ZERO,
            dir_one_is_descending: false,
            partial_listings: true,
            largest_page: 1000,
            last_page: usize::MAX,
            created_value: CreatedValue::Id,
            active_by_default: false,
            reenabling_resets_errors: false,
            late_success_resets_errors: true,
            missing: Missing::NotFound,
            enum_values: EnumValues::All,
            extra_actions: Vec::new(),
            enums_need_token: true,
            times_to_the_second: false,
            wire: Wire::Utf8,
        }
    }
}

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
