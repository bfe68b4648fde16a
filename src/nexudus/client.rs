//! The client: one request at a time, within the rate limits of Nexudus, retried if that is safe.
//!
//! Requests are sent one after the other, so that Nexudus counts the same rates.
//!
//! - A read without an answer, or with an unreadable answer, is retried with exponential back-off.
//! - A write is not retried, since it may have taken effect; the caller has to check ([`ApiError::is_unclear`]).
//! - A throttled request (409, or the standard 429) had no effect. It is sent again after `Retry-After`.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::error::{ApiError, ErrorKind};
pub use super::session::ATTEMPTS;
use super::session::{BACK_OFF, Session};
use super::wait::{ShowWait, Waits};
use crate::config::NexudusSettings;
use crate::lenient;
use crate::metrics::Metrics;

/// A request to the API, without credentials.
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

    fn request(&self, mut url: Url, header: HeaderValue) -> Request {
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query);
        }
        let mut request = Request::new(self.method.clone(), url);
        request.headers_mut().insert(AUTHORIZATION, header);
        if let Some(body) = &self.body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }
}

/// A client of Nexudus's API for one user. Several tasks can share it.
pub struct ApiClient {
    /// The settings of the client.
    pub config: NexudusSettings,
    session: Mutex<Session>,
    waits: Waits,
}

impl ApiClient {
    /// Makes a client, which connects at the first request.
    ///
    /// # Errors
    /// The address, and the reason why no HTTP client can be made: in practice, the system has no certificate authorities for https.
    pub fn new(config: &NexudusSettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let failed = |reason| format!("Nexudus at {}: {reason}", config.base_url.authority());
        let session = Mutex::new(Session::new(config, metrics).map_err(failed)?);
        Ok(Self { config: config.clone(), session, waits: Waits::default() })
    }

    /// Calls `show` with each wait from now on.
    pub fn show_waits(&mut self, show: ShowWait) {
        self.waits = Waits(Some(show));
        self.session.get_mut().waits = self.waits.clone();
    }

    /// Allows requests again after refused credentials, and before the end of a `Retry-After`.
    pub fn try_again(&mut self) {
        let session = self.session.get_mut();
        session.refused = None;
        session.pacer.release();
    }

    /// Waits after an attempt that failed, before the next one: exponential back-off with jitter.
    pub async fn back_off(&self, attempt: u32, error: &ApiError) {
        self.waits.sleep(BACK_OFF.jittered(attempt), &format!("another attempt: {error}")).await;
    }

    /// Waits after a write without an answer, at least for the time-out of a request: a later read then shows the effect of the write.
    pub async fn let_settle(&self, attempt: u32, error: &ApiError) {
        let wait = self.config.pace.request_timeout.max(BACK_OFF.jittered(attempt));
        self.waits.sleep(wait, &format!("the effect of a write without an answer: {error}")).await;
    }

    /// Returns an error of this API.
    pub fn error(&self, kind: ErrorKind) -> ApiError {
        ApiError::new(&self.config.base_url, kind)
    }

    /// Returns the error for an answer that cannot be read.
    fn unreadable(&self) -> ApiError {
        self.error(ErrorKind::Unavailable("its answer is not the expected JSON".to_owned()))
    }

    /// Sends a read. Retries it if there is no answer, or if the answer cannot be read.
    pub async fn get<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        self.get_text(call, |body| serde_json::from_slice(body).ok()).await
    }

    /// Sends a read whose answer `read` converts.
    pub async fn get_text<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<T, ApiError> {
        let mut attempt = 1;
        loop {
            match self.send(call, |body| read(body).ok_or_else(|| self.unreadable())).await {
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
        let read = |body: &Bytes| match serde_json::from_slice::<Value>(body) {
            Ok(answer) if answer["WasSuccessful"] == true => Ok(lenient::integer(&answer["Value"]["Id"])),
            _ => Err(self.unreadable()),
        };
        self.send(call, read).await
    }

    /// Waits until the rate limits allow a write. During a long `Retry-After` it returns at once, and the write fails.
    pub async fn wait_for_write(&self) {
        self.session.lock().await.wait_for_limits(true).await.ok();
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
            let request = call.request(session.url(call.path), header);
            let write = call.body.is_some();
            let answer = session.exchange(call.operation, write, request, &mut throttled).await?;
            let Some((status, body)) = answer else { continue };
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                session.count(call.operation, "unauthorized");
                // Only a token that was fetched can be replaced.
                if renewed || session.auth.access.take().is_none() {
                    let (status, role) = (status.as_u16(), call.role.clone());
                    let detail = session.clean(&excerpt(&body));
                    return Err(self.error(ErrorKind::Unauthorized { status, role, detail }));
                }
                renewed = true;
                continue;
            }
            let result = match is_success(status, &body) {
                true => read(&body),
                false => Err(session.refusal(status, &body)),
            };
            session.count(
                call.operation,
                match &result {
                    Ok(_) => "ok",
                    Err(error) if error.is_unclear() => "unavailable",
                    Err(_) => "refused",
                },
            );
            return result;
        }
    }
}

/// Returns whether an answer is a success. An answer with status 200 can be a failure with `WasSuccessful: false`; lists and
/// records have no such field.
fn is_success(status: StatusCode, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Verdict {
        was_successful: bool,
    }
    status.is_success() && !matches!(serde_json::from_slice(body), Ok(Verdict { was_successful: false }))
}

/// Maximum number of characters that an error shows of an answer that is not the API's JSON.
const EXCERPT: usize = 200;

/// Returns the beginning of an answer's text, without the tags of HTML, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let (first, rest) = text.split_once('<').unwrap_or((&text, ""));
    // After a `<`, text continues after the `>`.
    let rest = rest.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    let words: Vec<&str> = std::iter::once(first).chain(rest).flat_map(str::split_whitespace).collect();
    words.join(" ").chars().take(EXCERPT).collect()
}

#[cfg(test)]
pub(super) mod tests;
