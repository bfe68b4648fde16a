//! Switches for behaviour that Nexudus's documentation leaves open, and faults that a test injects.
//!
//! A client must work with every value of each switch. The defaults are the most likely values.
//!
//! A [`Fault`] replaces or damages a response. Its [`Effect`] decides if and when the request takes effect.

use std::time::Duration;

use jiff::SignedDuration;

use crate::message::{Request, Response};

/// Behaviour of Nexudus that its documentation leaves open or contradicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Status of `invalid_grant`: 400 in the newer page, 401 in the older one.
    pub invalid_grant_status: u16,
    /// JSON text of `expires_in` in place of the lifetime, such as `"604799"`, `604799.0` or `-5`.
    pub expires_in: Option<String>,
    /// True if JSON begins with a byte order mark, as .NET's stream writers can emit it.
    pub byte_order_mark: bool,
    /// True if `from_…` works on lists of entities; false if it is ignored. It is documented for webhooks only.
    pub entity_ranges: bool,
    /// Zone of the time in `from_…`, as its distance from UTC.
    pub range_zone: SignedDuration,
    /// True if some fields are null in lists. `Description` of webhooks always is.
    pub partial_listings: bool,
    /// Maximum number of records on a page.
    pub largest_page: usize,
    /// Number of the last page of a list that can be read. Later ones are answered with 403 and HTML.
    pub last_page: usize,
    /// True if re-enabling a webhook sets its `ErrorCount` to 0.
    pub reenabling_resets_errors: bool,
    /// True if a delivery that succeeds after its webhook was disabled sets `ErrorCount` to 0.
    pub late_success_resets_errors: bool,
    /// Status for an unknown id: 404, or 500 as observed.
    pub missing_status: u16,
    /// True if the enum endpoint lists only the values up to 62, as in the legacy documentation, and `extra_actions`.
    pub legacy_enum: bool,
    /// Values of `eWebhookAction` that the catalogue lacks: numbers and names.
    pub extra_actions: Vec<(i64, String)>,
    /// True if the API returns `UpdatedOn` and `CreatedOn` in whole seconds. Deliveries have up to 7 fractional digits.
    pub times_to_the_second: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            invalid_grant_status: 400,
            expires_in: None,
            byte_order_mark: false,
            entity_ranges: true,
            range_zone: SignedDuration::ZERO,
            partial_listings: true,
            largest_page: 1000, // in the page of 2020
            last_page: usize::MAX,
            reenabling_resets_errors: false,
            late_success_resets_errors: true,
            missing_status: 404,
            legacy_enum: false,
            extra_actions: Vec::new(),
            times_to_the_second: false,
        }
    }
}

/// A fault of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and JSON body; no effect.
    Status(u16, String),
    /// This status (409 or 429), an empty body and `Retry-After`; no effect.
    Throttled(u16, RetryAfter),
    /// 200 with `WasSuccessful: false` and this message; no effect.
    Refused(String),
    /// A page of HTML with this status; no effect.
    Html(u16),
    /// The response is delayed by this time. Without [`Effect::Done`] the request takes effect after the delay, unless the client
    /// has closed the connection before.
    Late(Duration, Effect),
    /// A gateway's page of HTML with this status (502, 504).
    Gateway(u16, Effect),
    /// The connection is cut before the response.
    Cut(Effect),
    /// The request takes effect, and the connection is cut in the middle of the response's body.
    HalfBody,
}

/// When a request with a fault takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Before the fault.
    Done,
    /// Never.
    NotDone,
    /// After this time, even if the client has closed the connection.
    Later(Duration),
}

/// `Retry-After` of a throttled request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryAfter {
    /// No such header.
    Absent,
    /// A number of seconds.
    Seconds(u64),
    /// An HTTP date that is this number of seconds in the future.
    DateIn(u64),
    /// This text.
    Text(String),
}

impl Fault {
    /// Returns the response of a fault that needs neither a delay nor the connection.
    pub(super) fn response(&self) -> Option<Response> {
        match self {
            Self::Status(status, body) => Some(Response::json(*status, body.clone())),
            Self::Throttled(status, retry_after) => Some(Response::throttled(*status, retry_after.value())),
            Self::Refused(message) => Some(Response::refused(message)),
            Self::Html(status) => Some(Response::html(*status)),
            Self::Late(..) | Self::Gateway(..) | Self::Cut(_) | Self::HalfBody => None,
        }
    }
}

impl RetryAfter {
    fn value(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Seconds(seconds) => Some(seconds.to_string()),
            Self::DateIn(seconds) => {
                let at = jiff::Timestamp::now() + Duration::from_secs(*seconds);
                Some(at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            Self::Text(text) => Some(text.clone()),
        }
    }
}

/// Selects requests by method, path and content, and counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    method: Option<&'static str>,
    path: Option<String>,
    containing: Option<String>,
    skip: u32,
    times: u32,
}

impl Matching {
    /// Selects the next request.
    pub fn any() -> Self {
        Self { method: None, path: None, containing: None, skip: 0, times: 1 }
    }

    /// Selects the next GET of a path. A `*` at the path's end stands for any text.
    pub fn get(path: &str) -> Self {
        Self { method: Some("GET"), path: Some(path.to_owned()), ..Self::any() }
    }

    /// Selects the next POST to a path.
    pub fn post(path: &str) -> Self {
        Self { method: Some("POST"), ..Self::get(path) }
    }

    /// Selects the next PUT to a path.
    pub fn put(path: &str) -> Self {
        Self { method: Some("PUT"), ..Self::get(path) }
    }

    /// Selects only requests with a text in their body or decoded query.
    pub fn containing(self, text: &str) -> Self {
        Self { containing: Some(text.to_owned()), ..self }
    }

    /// Skips the first `skip` requests.
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Selects `times` requests.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Selects all requests.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    fn fits(&self, request: &Request) -> bool {
        let path = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => request.path.starts_with(start),
            None => request.path.trim_end_matches('/') == wanted.trim_end_matches('/'),
        };
        let contained = |text: &String| {
            let in_query = |(name, value): (String, String)| format!("{name}={value}").contains(text);
            request.body.contains(text) || request.parameters().any(in_query)
        };
        self.method.is_none_or(|method| method == request.method)
            && self.path.as_ref().is_none_or(path)
            && self.containing.as_ref().is_none_or(contained)
    }

    /// Returns true if the request is selected. Counts a request that fits.
    pub(super) fn take(&mut self, request: &Request) -> bool {
        if self.times == 0 || !self.fits(request) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times != u32::MAX {
            self.times -= 1;
        }
        true
    }

    /// Returns true if no further request will be selected.
    pub(super) fn is_over(&self) -> bool {
        self.times == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::request;

    #[test]
    fn a_matching_selects_its_number_of_requests() {
        let mut matching = Matching::get("/api/sys/webhooks/*").after(1).times(2);
        let mut takes = |method: &str, path: &str| matching.take(&request(method, path, ""));
        assert!(!takes("GET", "/api/sys/webhooks/1"), "the first is skipped");
        assert!(!takes("PUT", "/api/sys/webhooks/1"));
        assert!(!takes("GET", "/api/sys/webhooks"));
        assert!(takes("GET", "/api/sys/webhooks/1"));
        assert!(takes("GET", "/api/sys/webhooks/2"));
        assert!(!takes("GET", "/api/sys/webhooks/2"));
        assert!(matching.is_over());
    }

    #[test]
    fn a_matching_can_select_requests_by_a_text_of_their_query() {
        let mut matching = Matching::any().containing("page=2").always();
        let mut takes = |query| matching.take(&request("GET", "/", query));
        assert_eq!(["page=1", "size=1&page=2", "page%3D2=x"].map(&mut takes), [false, true, true]);
    }

    #[test]
    fn a_date_has_the_form_of_http() {
        let date = RetryAfter::DateIn(0).value().unwrap();
        let (_, rest) = date.split_once(", ").unwrap();
        assert!(jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S GMT", rest).is_ok(), "{date}");
    }
}
