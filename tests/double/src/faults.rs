//! What goes wrong on purpose: with the next requests, or with those that match.
//!
//! A [`Fault`] replaces or spoils an answer. Whether the request took effect all the same is part of it: a create whose
//! answer is lost has happened. What others do meanwhile (a record that goes between two pages, or changes between a GET
//! and its PUT) is no fault but an [interlude](super::World::meanwhile).

use std::time::Duration;

use crate::message::{Asked, Reply};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and body, and has no effect.
    Status(u16, String),
    /// It is answered with this status (409 or 429), an empty body and `Retry-After`, and has no effect.
    Throttled(u16, RetryAfter),
    /// It is answered 200 with `WasSuccessful: false` and this message, and has no effect.
    Refused(String),
    /// It is answered with a page of HTML and this status, and has no effect.
    Html(u16),
    /// It is answered late by so much; the effect comes at once ([`Effect::Done`]), at a time of its own
    /// ([`Effect::Later`]), or after the wait, if the client has not gone by then.
    Late(Duration, Effect),
    /// A gateway answers with a page of HTML and this status (502, 504).
    Gateway(u16, Effect),
    /// Its connection is cut without an answer.
    Cut(Effect),
    /// It takes effect, and the connection is cut in the middle of the answer's body.
    HalfBody,
}

/// Whether a request takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It has happened.
    Done,
    /// It has not.
    NotDone,
    /// It happens so much later, whether the client waits for it or not.
    Later(Duration),
}

/// `Retry-After` of a throttled request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryAfter {
    /// No such header.
    Absent,
    /// As seconds.
    Seconds(u64),
    /// As an HTTP date, so many seconds from now.
    DateIn(u64),
    /// This text.
    Text(String),
}

/// Which requests something is for. By default the next one of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    method: Option<String>,
    path: Option<String>,
    containing: Option<String>,
    skip: u32,
    times: u32,
}

impl Matching {
    /// The next request.
    pub fn any() -> Self {
        Self { method: None, path: None, containing: None, skip: 0, times: 1 }
    }

    /// The next request with this method to this path; a `*` at the path's end stands for anything.
    pub fn request(method: &str, path: &str) -> Self {
        Self { method: Some(method.to_owned()), ..Self::any().path(path) }
    }

    /// The next GET of this path.
    pub fn get(path: &str) -> Self {
        Self::request("GET", path)
    }

    /// The next POST to this path.
    pub fn post(path: &str) -> Self {
        Self::request("POST", path)
    }

    /// The next PUT to this path.
    pub fn put(path: &str) -> Self {
        Self::request("PUT", path)
    }

    /// Only requests to this path, with any method; a `*` at its end stands for anything.
    pub fn path(self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    /// Only requests with this text in their query (decoded) or body.
    pub fn containing(self, text: &str) -> Self {
        Self { containing: Some(text.to_owned()), ..self }
    }

    /// Not the first `skip` of them.
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// So many of them, not only one.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// All of them.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    fn fits(&self, asked: &Asked) -> bool {
        let path = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => asked.path.starts_with(start),
            None => asked.path.trim_end_matches('/') == wanted.trim_end_matches('/'),
        };
        let contained = |text: &String| {
            let in_query = |(name, value): &(String, String)| format!("{name}={value}").contains(text);
            String::from_utf8_lossy(&asked.body).contains(text) || asked.query_pairs().iter().any(in_query)
        };
        self.method.as_ref().is_none_or(|method| *method == asked.method)
            && self.path.as_ref().is_none_or(path)
            && self.containing.as_ref().is_none_or(contained)
    }

    /// Whether this request is one of them; counts it if it fits.
    pub(super) fn take(&mut self, asked: &Asked) -> bool {
        if self.times == 0 || !self.fits(asked) {
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

    pub(super) fn is_over(&self) -> bool {
        self.times == 0
    }
}

/// The faults that are to come, each with what it is for; of those that fit, the oldest is taken.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Matching, Fault)>);

impl Faults {
    pub(super) fn add(&mut self, matching: Matching, fault: Fault) {
        self.0.push((matching, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn take(&mut self, asked: &Asked) -> Option<Fault> {
        let fault =
            self.0.iter_mut().find_map(|(matching, fault)| matching.take(asked).then(|| fault.clone()));
        self.0.retain(|(matching, _)| !matching.is_over());
        fault
    }
}

impl Fault {
    /// The answer of those that have one of their own.
    pub(super) fn reply(&self) -> Option<Reply> {
        match self {
            Self::Status(status, body) => Some(Reply::json(body.clone()).with_status(*status)),
            Self::Throttled(status, retry_after) => Some(Reply::throttled(*status, retry_after.value())),
            Self::Refused(message) => Some(Reply::refused(message)),
            Self::Html(status) | Self::Gateway(status, _) => Some(Reply::html(*status)),
            Self::Late(..) | Self::Cut(_) | Self::HalfBody => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, query: &str) -> Asked {
        let [method, path, query] = [method, path, query].map(str::to_owned);
        Asked { method, path, query, headers: Vec::new(), body: b"{}".to_vec() }
    }

    #[test]
    fn a_fault_is_for_the_requests_that_match_and_for_no_more_of_them_than_asked() {
        let mut faults = Faults::default();
        faults.add(Matching::get("/api/sys/webhooks/*").after(1).times(2), Fault::Html(503));
        let mut hit = |method: &str, path: &str| faults.take(&asked(method, path, "")).is_some();
        assert!(!hit("GET", "/api/sys/webhooks/1"), "the first is left out");
        assert!(!hit("PUT", "/api/sys/webhooks/1"));
        assert!(!hit("GET", "/api/sys/webhooks"));
        assert!(hit("GET", "/api/sys/webhooks/1"));
        assert!(hit("GET", "/api/sys/webhooks/2"));
        assert!(!hit("GET", "/api/sys/webhooks/2"));
        assert!(faults.0.is_empty());
    }

    #[test]
    fn a_fault_can_be_for_requests_that_hold_a_text() {
        let mut faults = Faults::default();
        faults.add(Matching::any().containing("page=2").always(), Fault::HalfBody);
        assert_eq!(faults.take(&asked("GET", "/", "page=1")), None);
        assert_eq!(faults.take(&asked("GET", "/", "size=1&page=2")), Some(Fault::HalfBody));
        assert_eq!(faults.take(&asked("GET", "/", "page%3D2=x")), Some(Fault::HalfBody));
    }

    #[test]
    fn a_date_is_written_as_http_writes_it() {
        let date = RetryAfter::DateIn(0).value().unwrap();
        let (_, rest) = date.split_once(", ").unwrap();
        assert!(jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S GMT", rest).is_ok(), "{date}");
    }
}
