//! The client: one request at a time, within the rate limits of Nexudus, retried where that is safe.
//!
//! Requests are sent one after the other, so that Nexudus counts the same rates. A read without an answer, or with an answer that cannot
//! be read, is retried some times with exponential back-off. A write is not retried, since it may have taken effect; the caller has to
//! check ([`ApiError::is_unclear`]). A throttled request (409, by the standard 429) had no effect and is sent again after the time that
//! Nexudus names.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use url::Url;

use super::auth::authorize;
use super::error::{ApiError, ErrorKind, host};
use super::record::Record;
pub use super::session::ATTEMPTS;
use super::session::{BACK_OFF, Failed, Session};
use super::wait::{Waits, Watcher};
use crate::config::NexudusSettings;
use crate::metrics::Metrics;

/// A request to the API, without credentials.
#[derive(Clone)]
pub struct Call<'a> {
    /// Its label in metrics.
    operation: &'static str,
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    body: Option<Bytes>,
    /// Role that the user needs.
    role: String,
}

impl<'a> Call<'a> {
    /// Returns a read.
    pub fn read(
        operation: &'static str,
        path: &'a str,
        query: &'a [(&'a str, String)],
        role: impl Into<String>,
    ) -> Self {
        Self { operation, method: Method::GET, path, query, body: None, role: role.into() }
    }

    /// Returns a write that creates a record.
    pub fn create(path: &'a str, body: Bytes, role: impl Into<String>) -> Self {
        let body = Some(body);
        Self { operation: "create", method: Method::POST, path, query: &[], body, role: role.into() }
    }

    /// Returns a write that replaces the record with the same `Id`. It goes to the path of the collection.
    pub fn update(path: &'a str, body: Bytes, role: impl Into<String>) -> Self {
        let body = Some(body);
        Self { operation: "update", method: Method::PUT, path, query: &[], body, role: role.into() }
    }

    fn writes(&self) -> bool {
        self.method != Method::GET
    }

    fn request(&self, mut url: Url, header: HeaderValue) -> Request {
        if !self.query.is_empty() {
            let pairs = self.query.iter().map(|(name, value)| (*name, value.as_str()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        let mut request = Request::new(self.method.clone(), url);
        authorize(&mut request, header);
        if let Some(body) = &self.body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }
}

/// Prints a call without the values of the query and the body: records hold tokens and personal data.
impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query: Vec<&str> = self.query.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("query", &query)
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// A client of Nexudus's API for one user. Several tasks can share it.
pub struct Client {
    config: NexudusSettings,
    host: Arc<str>,
    session: Mutex<Session>,
    waits: Waits,
}

/// An HTTP client cannot be made: in practice, the system has no certificate authorities to check https against.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client for Nexudus at {host}: {reason}")]
pub struct ClientError {
    host: Arc<str>,
    reason: String,
}

impl Client {
    /// Makes a client, which connects at the first request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(config: &NexudusSettings, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        let host = host(&config.base_url);
        let session = Session::new(config, metrics)
            .map_err(|reason| ClientError { host: Arc::clone(&host), reason })?;
        Ok(Self { config: config.clone(), host, session: Mutex::new(session), waits: Waits::default() })
    }

    /// Returns the settings of the client.
    pub fn config(&self) -> &NexudusSettings {
        &self.config
    }

    /// Reports each wait to `watcher` from now on.
    pub fn watch_waits(&mut self, watcher: Watcher) {
        self.waits.watcher = Some(watcher);
        self.session.get_mut().waits = self.waits.clone();
    }

    /// Ends holds: refused credentials, and requests that wait for a `Retry-After`.
    pub fn try_again(&mut self) {
        self.session.get_mut().try_again();
    }

    /// Waits after an attempt that failed, before the next one: exponential back-off with jitter.
    pub async fn back_off(&self, attempt: u32, error: &ApiError) {
        self.waits.sleep(BACK_OFF.jittered(attempt), format!("another attempt: {error}")).await;
    }

    /// Waits after a write with an unknown result for the time-out of a request, so that a read afterwards shows its effect.
    pub async fn let_settle(&self, attempt: u32, error: &ApiError) {
        let wait = self.config.pace.request_timeout.max(BACK_OFF.jittered(attempt));
        self.waits.sleep(wait, format!("a look at what was done: {error}")).await;
    }

    /// Returns an error of this API.
    pub fn error(&self, kind: ErrorKind) -> ApiError {
        ApiError { host: Arc::clone(&self.host), kind }
    }

    /// Returns the error for an answer that cannot be read.
    fn unreadable(&self) -> ApiError {
        self.error(ErrorKind::Unavailable("its answer cannot be understood".to_owned()))
    }

    /// Sends a read. Retries it if there is no answer, or if the answer cannot be read.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        self.get_text(call, |body| serde_json::from_slice(body).ok()).await
    }

    /// Sends a read whose answer `read` converts.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get_text<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<T, ApiError> {
        let mut attempt = 1;
        loop {
            let result = self.send(call, |body| read(body).ok_or_else(|| self.unreadable())).await;
            match result {
                Err(error) if error.is_unclear() && attempt < ATTEMPTS => {
                    self.back_off(attempt, &error).await
                }
                result => return result,
            }
            attempt += 1;
        }
    }

    /// Sends a write once. Returns the `Id` in the answer, if there is one.
    ///
    /// # Errors
    /// [`ApiError`]; with [`ApiError::is_unclear`] the write may have taken effect.
    pub async fn write(&self, call: &Call<'_>) -> Result<Option<i64>, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            was_successful: bool,
            value: Option<Record>,
        }
        let read = |body: &Bytes| match serde_json::from_slice(body) {
            Ok(Answer { was_successful: true, value }) => Ok(value.and_then(|record| record.id())),
            _ => Err(self.unreadable()),
        };
        self.send(call, read).await
    }

    /// Waits until the rate limits allow a write. Returns at once during a long `Retry-After`: then the write fails with that reason.
    pub async fn room_to_write(&self) {
        self.session.lock().await.room(true).await.ok();
    }

    /// Sends a request until it is not throttled, with a new token if necessary.
    async fn send<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Bytes) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let (mut throttled, mut renewed) = (0, false);
        loop {
            let mut session = self.session.lock().await;
            let header = session.header().await?;
            let url = session.url(call.path);
            let request = |_: &_| call.request(url.clone(), header.clone());
            let answer = session.exchange(call.operation, call.writes(), request).await;
            match answer {
                Err(Failed::Throttled(wait)) => session.throttled(wait, &mut throttled)?,
                Err(failed) => return Err(session.failure(failed)),
                Ok((status, body)) => match status {
                    _ if status.is_success() => match judged(&body, &session).and_then(|()| read(&body)) {
                        Ok(read) => {
                            session.count(call.operation, "ok");
                            return Ok(read);
                        }
                        Err(error) => {
                            session.count(
                                call.operation,
                                if error.is_unclear() { "unavailable" } else { "refused" },
                            );
                            return Err(error);
                        }
                    },
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        session.count(call.operation, "unauthorized");
                        if !session.auth.renews() || renewed {
                            let (status, role) = (status.as_u16(), call.role.clone());
                            let words = session.clean(&excerpt(&body));
                            return Err(self.error(ErrorKind::Unauthorized { status, role, words }));
                        }
                        session.auth.forget_access();
                        renewed = true;
                    }
                    status => {
                        session.count(call.operation, "refused");
                        return Err(session.refusal(status, &body));
                    }
                },
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Checks whether an answer with status 200 is a success.
fn judged(body: &[u8], session: &Session) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Verdict {
        was_successful: bool,
    }
    // Lists and records have no such field.
    match serde_json::from_slice(body) {
        Ok(Verdict { was_successful: false }) => Err(session.refusal(StatusCode::OK, body)),
        _ => Ok(()),
    }
}

/// Maximum number of characters that an error shows of an answer that is not the API's JSON.
const EXCERPT: usize = 200;

/// Returns the beginning of an answer's text, without the tags of HTML, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut words = String::new();
    for (position, part) in text.split('<').enumerate() {
        // After a `<`, text continues after the `>`.
        let part = if position == 0 { part } else { part.split_once('>').map_or(part, |(_, text)| text) };
        words.push_str(part);
        words.push(' ');
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT).collect()
}

#[cfg(test)]
pub(super) mod tests;
