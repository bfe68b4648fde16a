//! A request as the API receives it, an answer in one of the documented shapes, and the journal of both.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::record::quoted;

/// Path of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/api/token";

/// A request, taken off its connection.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) reason: Option<&'static str>,
    pub(super) retry_after: Option<String>,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

/// A field that a create or update refuses, and why.
pub(super) struct Mistake {
    pub(super) field: &'static str,
    pub(super) message: &'static str,
}

const JSON: &str = "application/json; charset=utf-8";

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.query.as_bytes()).into_owned().collect()
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "DELETE")
    }
}

impl Reply {
    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: JSON, body: body.into(), ..Self::empty(200) }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, reason: None, retry_after: None, content_type: "", body: Vec::new() }
    }

    pub(super) fn text(status: u16, body: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", body: body.into_bytes(), ..Self::empty(status) }
    }

    /// The same with a byte order mark before a body of JSON.
    pub(super) fn with_mark(mut self) -> Self {
        if self.content_type == JSON {
            self.body.splice(..0, *b"\xEF\xBB\xBF");
        }
        self
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Also for a missing role.
    pub(super) fn unauthorized() -> Self {
        Self::empty(401)
    }

    pub(super) fn not_found() -> Self {
        Self { content_type: "text/plain", body: b"Not found".to_vec(), ..Self::empty(404) }
    }

    pub(super) fn server_error() -> Self {
        Self::json(r#"{"Message":"An error has occurred."}"#).with_status(500)
    }

    pub(super) fn html(status: u16) -> Self {
        let body = b"<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>".to_vec();
        Self { content_type: "text/html", body, ..Self::empty(status) }
    }

    /// Too fast: the status that this Nexudus has for it, and no body.
    pub(super) fn throttled(status: u16, retry_after: Option<String>) -> Self {
        Self {
            reason: Some("You must wait before accessing this url again."),
            retry_after,
            ..Self::empty(status)
        }
    }

    /// 400 for fields that are missing or wrong.
    pub(super) fn invalid(mistakes: &[Mistake]) -> Self {
        let said: Vec<String> =
            mistakes.iter().map(|mistake| format!("{}: {}", mistake.field, mistake.message)).collect();
        let errors: Vec<String> = mistakes
            .iter()
            .map(|Mistake { field, message }| {
                let (field, message) = (quoted(field), quoted(message));
                format!(r#"{{"AttemptedValue":null,"Message":{message},"PropertyName":{field}}}"#)
            })
            .collect();
        let message = quoted(&said.join(", "));
        let errors = errors.join(",");
        let body =
            format!(r#"{{"Message":{message},"Value":null,"Errors":[{errors}],"WasSuccessful":false}}"#);
        Self::json(body).with_status(400)
    }

    /// 200, and yet refused.
    pub(super) fn refused(message: &str) -> Self {
        let message = quoted(message);
        Self::json(format!(
            r#"{{"Status":500,"Message":{message},"Value":null,"Errors":[],"WasSuccessful":false}}"#
        ))
    }

    /// 200 for a create, update or delete that was done. `value` is JSON.
    pub(super) fn done(message: &str, value: &str, updated_on: &str, updated_by: &str) -> Self {
        let (message, updated_on, updated_by) = (quoted(message), quoted(updated_on), quoted(updated_by));
        Self::json(format!(
            r#"{{"Status":200,"Message":{message},"Value":{value},"OpenInDialog":false,"OpenInWindow":false,"RedirectURL":null,"JavaScript":null,"UpdatedOn":{updated_on},"UpdatedBy":{updated_by},"Errors":null,"WasSuccessful":true}}"#
        ))
    }

    /// An error of the token endpoint (RFC 6749, section 5.2).
    pub(super) fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        let (error, description) = (quoted(error), quoted(description));
        Self::json(format!(r#"{{"error":{error},"error_description":{description}}}"#)).with_status(status)
    }
}

/// How many requests are remembered; older ones are forgotten.
const KEPT: usize = 20_000;

/// Request headers that are remembered.
const HEADERS: [&str; 5] = ["accept", "authorization", "client_id", "content-type", "user-agent"];

/// Fields of a token request that are secret.
const SECRET_FIELDS: [&str; 3] = ["password", "totp", "refresh_token"];

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// When it came, by the double's clock.
    pub at: Timestamp,
    /// When it came, for distances.
    pub instant: Instant,
    /// The method.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// The query, as it came.
    pub query: String,
    /// Some of its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// The status that it was answered with; none as long as it is not, and for ever if the connection was cut.
    pub status: Option<u16>,
}

/// The requests in their order.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Entry {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether this is a POST, PUT or DELETE, apart from token requests.
    pub fn is_write(&self) -> bool {
        !self.is_token_request() && matches!(self.method.as_str(), "POST" | "PUT" | "DELETE")
    }

    /// Whether this is a request for a token.
    pub fn is_token_request(&self) -> bool {
        self.path.eq_ignore_ascii_case(TOKEN_PATH)
    }

    /// Method, path and query, such as `GET /api/sys/webhooks?page=2`.
    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }
}

impl Journal {
    /// All requests, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody has asked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those with this method and path.
    pub fn of(&self, method: &str, path: &str) -> Vec<&Entry> {
        self.entries().filter(|entry| entry.method == method && entry.path == path).collect()
    }

    /// POST, PUT and DELETE, apart from token requests, whatever they were answered.
    pub fn writes(&self) -> Vec<&Entry> {
        self.entries().filter(|entry| entry.is_write()).collect()
    }

    /// DELETE, whatever they were answered.
    pub fn deletes(&self) -> Vec<&Entry> {
        self.entries().filter(|entry| entry.method == "DELETE").collect()
    }

    /// Token requests.
    pub fn token_requests(&self) -> Vec<&Entry> {
        self.entries().filter(|entry| entry.is_token_request()).collect()
    }

    /// Those that were answered with this status.
    pub fn answered(&self, status: u16) -> Vec<&Entry> {
        self.entries().filter(|entry| entry.status == Some(status)).collect()
    }

    /// The most requests in any stretch of time shorter than `window`.
    pub fn most_in(&self, window: Duration) -> usize {
        most(self.entries().map(|entry| entry.instant), window)
    }

    /// The most writes in any stretch of time shorter than `window`, token requests included, as Nexudus counts.
    pub fn most_writes_in(&self, window: Duration) -> usize {
        let writes = self.entries().filter(|entry| entry.is_write() || entry.is_token_request());
        most(writes.map(|entry| entry.instant), window)
    }

    /// The shortest time between two requests that follow each other.
    pub fn shortest_gap(&self) -> Option<Duration> {
        let instants: Vec<Instant> = self.entries().map(|entry| entry.instant).collect();
        instants.windows(2).map(|pair| pair[1].duration_since(pair[0])).min()
    }

    /// Notes a request and returns its number.
    pub(super) fn note(&mut self, asked: &Asked, at: Timestamp, redact: bool) -> u64 {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.last += 1;
        let mut headers: Vec<(String, String)> =
            asked.headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str())).cloned().collect();
        let mut body = String::from_utf8_lossy(&asked.body).into_owned();
        if redact {
            for (_, value) in headers.iter_mut().filter(|(name, _)| name == "authorization") {
                let scheme = value.split(' ').next().unwrap_or_default();
                *value = format!("{scheme} ***");
            }
            if asked.path.eq_ignore_ascii_case(TOKEN_PATH) {
                body = redacted(&asked.body);
            }
        }
        self.entries.push_back(Entry {
            number: self.last,
            at,
            instant: Instant::now(),
            method: asked.method.clone(),
            path: asked.path.clone(),
            query: asked.query.clone(),
            headers,
            body,
            status: None,
        });
        self.last
    }

    pub(super) fn answer(&mut self, number: u64, status: u16) {
        if let Ok(place) = self.entries.binary_search_by_key(&number, |entry| entry.number) {
            self.entries[place].status = Some(status);
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

fn most(instants: impl Iterator<Item = Instant>, window: Duration) -> usize {
    let mut inside = VecDeque::new();
    let mut most = 0;
    for instant in instants {
        inside.push_back(instant);
        while inside.front().is_some_and(|first| instant.duration_since(*first) >= window) {
            inside.pop_front();
        }
        most = most.max(inside.len());
    }
    most
}

/// A form whose secret fields are `***`; what is no form (JSON by mistake) is left out whole.
fn redacted(form: &[u8]) -> String {
    if form.first() == Some(&b'{') {
        return "***".to_owned();
    }
    let fields = url::form_urlencoded::parse(form);
    let mut out = Vec::new();
    for (name, value) in fields {
        let value = if SECRET_FIELDS.contains(&&*name) { "***" } else { &*value };
        out.push(format!("{name}={value}"));
    }
    out.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, body: &str) -> Asked {
        Asked {
            method: method.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            headers: vec![("authorization".to_owned(), "Bearer abc".to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn secrets_are_redacted_unless_a_test_wants_them() {
        let request = asked("POST", "/api/token", "grant_type=password&username=a%40b&password=x&totp=1");
        let mut journal = Journal::default();
        for redact in [true, false] {
            journal.note(&request, Timestamp::UNIX_EPOCH, redact);
        }
        let said: Vec<_> =
            journal.entries().map(|e| (e.body.as_str(), e.header("authorization").unwrap())).collect();
        assert_eq!(
            said,
            [
                ("grant_type=password&username=a@b&password=***&totp=***", "Bearer ***"),
                ("grant_type=password&username=a%40b&password=x&totp=1", "Bearer abc"),
            ]
        );
    }

    #[test]
    fn requests_are_counted_in_any_window() {
        let mut journal = Journal::default();
        let begun = Instant::now();
        for (millis, method) in [(0, "GET"), (400, "PUT"), (900, "DELETE"), (1000, "GET"), (1300, "GET")] {
            let number = journal.note(&asked(method, "/x", ""), Timestamp::UNIX_EPOCH, true);
            journal.entries.back_mut().unwrap().instant = begun + Duration::from_millis(millis);
            journal.answer(number, 200);
        }
        assert_eq!(journal.most_in(Duration::from_secs(1)), 4, "from 400 to 1300; 0 to 1000 is not shorter");
        assert_eq!(journal.most_writes_in(Duration::from_secs(1)), 2);
        assert_eq!(journal.shortest_gap(), Some(Duration::from_millis(100)));
        assert_eq!((journal.writes().len(), journal.deletes().len(), journal.answered(200).len()), (2, 1, 5));
    }
}
