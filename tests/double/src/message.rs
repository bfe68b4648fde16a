//! A request to the API, a response in one of the documented shapes, and the journal of requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Path of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/api/token";

/// A request to the API.
#[derive(Debug, Clone)]
pub struct Request {
    /// Time of arrival.
    pub instant: Instant,
    /// The method.
    pub method: String,
    /// The path, as received.
    pub path: String,
    /// The query, as received.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// The status of the response; `None` before it is sent, and if the connection was cut instead.
    pub status: Option<u16>,
}

impl Request {
    /// Returns the value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns method, path and query, such as `GET /api/sys/webhooks?page=2`.
    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }

    /// Returns the decoded value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        url::form_urlencoded::parse(self.query.as_bytes()).into_owned()
    }

    /// Returns true if Nexudus counts the request as a write.
    pub(super) fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "DELETE")
    }

    /// Returns true for a request for a token.
    pub(super) fn is_token_request(&self) -> bool {
        self.path.eq_ignore_ascii_case(TOKEN_PATH)
    }
}

/// A response.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, retry_after: None, content_type: "", body: Vec::new() }
    }

    pub(super) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: "application/json; charset=utf-8", body: body.into(), ..Self::empty(status) }
    }

    pub(super) fn text(status: u16, body: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", body: body.into_bytes(), ..Self::empty(status) }
    }

    pub(super) fn server_error() -> Self {
        Self::json(500, r#"{"Message":"An error has occurred."}"#)
    }

    pub(super) fn html(status: u16) -> Self {
        let body = b"<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>".to_vec();
        Self { content_type: "text/html", body, ..Self::empty(status) }
    }

    /// Returns the response to a request above a rate limit.
    pub(super) fn throttled(status: u16, retry_after: Option<String>) -> Self {
        Self { retry_after, ..Self::empty(status) }
    }

    /// Returns 400 for wrong fields, given by name and message.
    pub(super) fn invalid(mistakes: &[(&str, &str)]) -> Self {
        let message: Vec<String> =
            mistakes.iter().map(|(field, message)| format!("{field}: {message}")).collect();
        let error = |(field, message): &(&str, &str)| json!({"AttemptedValue": null, "Message": message, "PropertyName": field});
        let errors: Vec<Value> = mistakes.iter().map(error).collect();
        let body = json!({
            "Message": message.join(", "), "Value": null, "Errors": errors, "WasSuccessful": false,
        });
        Self::json(400, body.to_string())
    }

    /// Returns 200 for a refused change.
    pub(super) fn refused(message: &str) -> Self {
        let body = json!({
            "Status": 500, "Message": message, "Value": null, "Errors": [], "WasSuccessful": false,
        });
        Self::json(200, body.to_string())
    }

    /// Returns 200 for a create, update or delete of a webhook. `id` is `None` for a delete.
    pub(super) fn done(verb: &str, id: Option<i64>, updated_on: &str, updated_by: &str) -> Self {
        let body = json!({
            "Status": 200, "Message": format!("WebHook was successfully {verb}"), "Value": id.map(|id| json!({"Id": id})),
            "OpenInDialog": false, "OpenInWindow": false, "RedirectURL": null, "JavaScript": null,
            "UpdatedOn": updated_on, "UpdatedBy": updated_by, "Errors": null, "WasSuccessful": true,
        });
        Self::json(200, body.to_string())
    }

    /// Returns an error of the token endpoint (RFC 6749, section 5.2).
    pub(super) fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        Self::json(status, json!({"error": error, "error_description": description}).to_string())
    }
}

/// Maximum number of requests in the journal, which drops the oldest.
const CAPACITY: usize = 20_000;

/// The requests that the API received, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    requests: VecDeque<Request>,
    /// Number of requests that were dropped from the front of the queue.
    dropped: usize,
}

impl Journal {
    /// Returns all requests, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Request> {
        self.requests.iter()
    }

    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Returns true if the journal has no request.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the requests with a method and path.
    pub fn of(&self, method: &str, path: &str) -> Vec<&Request> {
        self.filtered(|request| request.method == method && request.path == path)
    }

    /// Returns the POST, PUT and DELETE requests, without token requests.
    pub fn writes(&self) -> Vec<&Request> {
        self.filtered(|request| request.is_write() && !request.is_token_request())
    }

    /// Returns the token requests.
    pub fn token_requests(&self) -> Vec<&Request> {
        self.filtered(Request::is_token_request)
    }

    /// Returns the requests with a status.
    pub fn answered(&self, status: u16) -> Vec<&Request> {
        self.filtered(|request| request.status == Some(status))
    }

    fn filtered(&self, wanted: impl Fn(&Request) -> bool) -> Vec<&Request> {
        self.entries().filter(|request| wanted(request)).collect()
    }

    /// Returns the largest number of requests in any time shorter than `window`.
    pub fn most_in(&self, window: Duration) -> usize {
        most(self.entries(), window)
    }

    /// Returns the largest number of writes, token requests included, in any time shorter than `window`.
    pub fn most_writes_in(&self, window: Duration) -> usize {
        most(self.entries().filter(|request| request.is_write()), window)
    }

    /// Returns the shortest time between two consecutive requests.
    pub fn shortest_gap(&self) -> Option<Duration> {
        let pairs = self.entries().zip(self.entries().skip(1));
        pairs.map(|(first, second)| second.instant.duration_since(first.instant)).min()
    }

    /// Adds a request and returns its number.
    pub(super) fn add(&mut self, request: Request) -> usize {
        if self.requests.len() == CAPACITY {
            self.requests.pop_front();
            self.dropped += 1;
        }
        self.requests.push_back(request);
        self.dropped + self.requests.len()
    }

    pub(super) fn set_status(&mut self, number: usize, status: u16) {
        let index = number.checked_sub(self.dropped + 1);
        if let Some(request) = index.and_then(|index| self.requests.get_mut(index)) {
            request.status = Some(status);
        }
    }

    pub(super) fn clear(&mut self) {
        self.dropped += self.requests.len();
        self.requests.clear();
    }
}

fn most<'a>(requests: impl Iterator<Item = &'a Request>, window: Duration) -> usize {
    let mut inside = VecDeque::new();
    let mut most = 0;
    for Request { instant, .. } in requests {
        inside.push_back(*instant);
        while inside.front().is_some_and(|first| instant.duration_since(*first) >= window) {
            inside.pop_front();
        }
        most = most.max(inside.len());
    }
    most
}

#[cfg(test)]
pub(super) fn request(method: &str, path: &str, query: &str) -> Request {
    let [method, path, query] = [method, path, query].map(str::to_owned);
    let (instant, headers, body) = (Instant::now(), Vec::new(), "{}".to_owned());
    Request { instant, method, path, query, headers, body, status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_in_any_window() {
        let mut journal = Journal::default();
        let begun = Instant::now();
        for (millis, method) in [(0, "GET"), (400, "PUT"), (900, "DELETE"), (1000, "GET"), (1300, "GET")] {
            let instant = begun + Duration::from_millis(millis);
            let number = journal.add(Request { instant, ..request(method, "/x", "") });
            journal.set_status(number, 200);
        }
        assert_eq!(journal.most_in(Duration::from_secs(1)), 4, "from 400 to 1300; 0 to 1000 is not shorter");
        assert_eq!(journal.most_writes_in(Duration::from_secs(1)), 2);
        assert_eq!(journal.shortest_gap(), Some(Duration::from_millis(100)));
        assert_eq!((journal.writes().len(), journal.answered(200).len()), (2, 5));
    }

    #[test]
    fn a_status_belongs_to_its_request_even_after_the_journal_was_cleared() {
        let mut journal = Journal::default();
        let before = journal.add(request("GET", "/a", ""));
        journal.clear();
        let after = journal.add(request("GET", "/b", ""));
        journal.set_status(before, 500);
        assert_eq!(journal.entries().next().unwrap().status, None);
        journal.set_status(after, 200);
        assert_eq!(journal.entries().next().unwrap().status, Some(200));
    }
}
