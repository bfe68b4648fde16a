//! The client: one request at a time, at the pace that Nexudus allows, tried again where that is safe.
//!
//! Requests go out one after the other, so that the pace holds as Nexudus counts it. Reading is repeated when there was no
//! answer or one that makes no sense, a bounded number of times and at growing distances. A write is not: it may have
//! been done, and the caller has to look ([`ApiError::is_unclear`]). What Nexudus throttles (409, by the standard 429) was not
//! done and is sent again after the time that it names.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Method, Request, Response, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::auth::{Auth, Given, Next, authorize};
use super::error::ApiError;
use super::pace::Pacer;
use super::record::Record;
use crate::config::Nexudus;
use crate::metrics::Metrics;

/// How often a request is sent that gets no answer.
pub const ATTEMPTS: u32 = 5;

/// How often a request is sent again that was throttled.
const THROTTLED: u32 = 20;

/// The longest wait that Nexudus may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The waits between attempts: from the first, doubled, up to the second; chance takes up to half of each away.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The most that is read of an answer: a page of a thousand long records.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The most that is passed on of the API's own words.
const MAX_WORDS: usize = 300;

/// What is asked of the API.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What it is called in metrics.
    operation: &'static str,
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    body: Option<Bytes>,
    /// The role that the user needs for it.
    role: String,
}

impl<'a> Call<'a> {
    /// A request that changes nothing.
    pub fn read(
        operation: &'static str,
        path: &'a str,
        query: &'a [(&'a str, String)],
        role: impl Into<String>,
    ) -> Self {
        Self { operation, method: Method::GET, path, query, body: None, role: role.into() }
    }

    /// A new record.
    pub fn create(path: &'a str, body: Bytes, role: impl Into<String>) -> Self {
        let body = Some(body);
        Self { operation: "create", method: Method::POST, path, query: &[], body, role: role.into() }
    }

    /// A whole record in place of the one with its `Id`: to the path of the collection.
    pub fn update(path: &'a str, body: Bytes, role: impl Into<String>) -> Self {
        let body = Some(body);
        Self { operation: "update", method: Method::PUT, path, query: &[], body, role: role.into() }
    }

    fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

/// Nexudus's API, as one user of it. Clones nothing: share it.
pub struct Client {
    http: reqwest::Client,
    config: Nexudus,
    metrics: Arc<Metrics>,
    session: Mutex<Session>,
}

/// What requests have to wait for one another for.
struct Session {
    pacer: Pacer,
    auth: Auth,
    /// Why the credentials were refused; then nothing is sent any more.
    refused: Option<ApiError>,
}

/// An HTTP client cannot be made: in practice, the system has no certificate authorities to check https against.
#[derive(Debug, thiserror::Error)]
#[error("there is no HTTP client for Nexudus: {0}")]
pub struct ClientError(String);

impl Client {
    /// A client that connects when it is first asked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(config: &Nexudus, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        // An error says that one is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut http = reqwest::Client::builder()
            .redirect(redirect::Policy::none()) // the credentials are for nobody else
            .timeout(config.pace.request_timeout);
        if config.base_url.scheme() == "http" {
            http = http.tls_certs_only([]); // nothing to check
        }
        let http = http.build().map_err(|error| ClientError(innermost(&error)))?;
        let auth = Auth::new(config.credentials.clone());
        let session = Session { pacer: Pacer::new(config.pace), auth, refused: None };
        Ok(Self { http, config: config.clone(), metrics, session: Mutex::new(session) })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &Nexudus {
        &self.config
    }

    /// Asks for something, again where there is no answer or one that is not what was asked for.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        self.get_text(call, |body| serde_json::from_slice(body).ok()).await
    }

    /// The same for an answer that `read` makes something of.
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
            let result = self.send(call, |body| read(body).ok_or_else(unreadable)).await;
            match result {
                Err(error) if error.is_unclear() && attempt < ATTEMPTS => back_off(attempt).await,
                result => return result,
            }
            attempt += 1;
        }
    }

    /// Writes once. Gives the `Id` that the answer names, if it names one.
    ///
    /// # Errors
    /// [`ApiError`]; with [`ApiError::is_unclear`] it may have been done.
    pub async fn write(&self, call: &Call<'_>) -> Result<Option<i64>, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            was_successful: bool,
            value: Option<Record>,
        }
        let read = |body: &Bytes| match serde_json::from_slice(body) {
            Ok(Answer { was_successful: true, value }) => Ok(value.and_then(|record| record.id())),
            _ => Err(unreadable()),
        };
        self.send(call, read).await
    }

    /// Sends until it is answered by something else than a word to wait, with a new token if need be.
    async fn send<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Bytes) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let (mut throttled, mut renewed) = (0, false);
        loop {
            let mut session = self.session.lock().await;
            let header = session.header(self).await?;
            let answer = session
                .exchange(self, call.operation, call.writes(), |_| self.request(call, header.clone()))
                .await;
            match answer {
                Err(Failed::Throttled(wait)) => session.throttled(wait, &mut throttled)?,
                Err(Failed::Unavailable(words)) => {
                    let words = session.clean(&words);
                    return Err(ApiError::Unavailable(words));
                }
                Ok((status, body)) => match status {
                    StatusCode::OK => match judged(&body, &session).and_then(|()| read(&body)) {
                        Ok(read) => {
                            self.count(call.operation, "ok");
                            return Ok(read);
                        }
                        Err(error) => {
                            self.count(
                                call.operation,
                                if error.is_unclear() { "unavailable" } else { "refused" },
                            );
                            return Err(error);
                        }
                    },
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        self.count(call.operation, "unauthorized");
                        if !session.auth.renews() || renewed {
                            return Err(ApiError::Unauthorized {
                                status: status.as_u16(),
                                role: call.role.clone(),
                            });
                        }
                        session.auth.forget_access();
                        renewed = true;
                    }
                    status => {
                        self.count(call.operation, "refused");
                        return Err(session.refusal(status, &body));
                    }
                },
            }
        }
    }

    fn request(&self, call: &Call<'_>, header: HeaderValue) -> Request {
        let mut url = self.config.base_url.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut()
                .extend_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        let mut request = Request::new(call.method.clone(), url);
        authorize(&mut request, header);
        if let Some(body) = &call.body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }

    fn count(&self, operation: &str, outcome: &str) {
        self.metrics.control.request(operation, outcome);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why there is no answer that could be judged.
enum Failed {
    Throttled(Option<Duration>),
    Unavailable(String),
}

impl Session {
    /// The header for the next request, with a new token if the last one is over.
    async fn header(&mut self, client: &Client) -> Result<HeaderValue, ApiError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let (mut throttled, mut attempt) = (0, 1);
        loop {
            let refresh = match self.auth.next() {
                Next::Header(header) => return Ok(header),
                Next::Refresh => true,
                Next::Password => false,
            };
            if !refresh {
                tokio::time::sleep(self.auth.until_fresh()).await;
            }
            let base = client.config.base_url.clone();
            let answer =
                self.exchange(client, "token", true, |auth| auth.token_request(base.clone(), refresh)).await;
            match answer {
                Err(Failed::Throttled(wait)) => self.throttled(wait, &mut throttled)?,
                Err(Failed::Unavailable(words)) if attempt >= ATTEMPTS => {
                    return Err(ApiError::Unavailable(self.clean(&words)));
                }
                Err(Failed::Unavailable(_)) => {
                    back_off(attempt).await;
                    attempt += 1;
                }
                Ok((StatusCode::OK, body)) => {
                    let given: Option<Given> = serde_json::from_slice(&body).ok();
                    if !given.is_some_and(|given| self.auth.given(given)) {
                        client.count("token", "unavailable");
                        return Err(ApiError::Unavailable(
                            "its answer to a token request holds no token".to_owned(),
                        ));
                    }
                    client.count("token", "ok");
                }
                Ok((StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _))
                    if refresh =>
                {
                    client.count("token", "refused");
                    self.auth.forget_refresh();
                }
                Ok((status, body)) => {
                    client.count("token", "refused");
                    let error = self.token_refusal(status, &body);
                    self.refused = matches!(error, ApiError::Credentials(_)).then(|| error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// One request and its answer, when the pace allows it.
    async fn exchange(
        &mut self,
        client: &Client,
        operation: &str,
        write: bool,
        request: impl Fn(&Auth) -> Request,
    ) -> Result<(StatusCode, Bytes), Failed> {
        if let Some(at) = self.pacer.next(write) {
            tokio::time::sleep_until(at).await;
        }
        let mut request = request(&self.auth);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("nexudus-bridge/", env!("CARGO_PKG_VERSION"))),
        );
        let answer = answer(&client.http, request).await;
        self.pacer.ended(write, Instant::now());
        let outcome = match &answer {
            Err(Failed::Throttled(_)) => "throttled",
            Err(Failed::Unavailable(_)) => "unavailable",
            Ok(_) => return answer,
        };
        client.count(operation, outcome);
        answer
    }

    /// Notes a wait that Nexudus asks for, unless it is too long or comes too often.
    fn throttled(&mut self, wait: Option<Duration>, times: &mut u32) -> Result<(), ApiError> {
        *times += 1;
        let most = if wait.is_some() { THROTTLED } else { ATTEMPTS };
        if *times > most || wait.is_some_and(|wait| wait > LONGEST_WAIT) {
            return Err(ApiError::Throttled(wait));
        }
        self.pacer.hold(wait.unwrap_or_else(|| wait_after(*times)), Instant::now());
        Ok(())
    }

    fn token_refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Problem {
            error: String,
            error_description: String,
        }
        let Problem { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
        let credentials =
            error == "invalid_grant" || (error.is_empty() && status == StatusCode::UNAUTHORIZED);
        let words: Vec<String> =
            [error, error_description].into_iter().filter(|words| !words.is_empty()).collect();
        let words = self.clean(&words.join(": "));
        if credentials {
            ApiError::Credentials(words)
        } else {
            let words = format!("no token from /api/token; {words}");
            ApiError::Refused { status: status.as_u16(), words: words.trim_end_matches("; ").to_owned() }
        }
    }

    /// What the API says about a refusal: its message, and those of single fields.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Problem {
            message: Option<String>,
            errors: Option<Vec<FieldProblem>>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct FieldProblem {
            message: Option<String>,
            property_name: Option<String>,
        }
        let Problem { message, errors } = serde_json::from_slice(body).unwrap_or_default();
        let mut words = message.unwrap_or_default();
        for FieldProblem { message, property_name } in errors.unwrap_or_default() {
            let (Some(message), Some(name)) = (message, property_name) else { continue };
            let problem = format!("{name}: {message}");
            if !words.contains(&problem) {
                words = if words.is_empty() { problem } else { format!("{words}; {problem}") };
            }
        }
        if words.is_empty() && status.is_redirection() {
            "a redirect; is nexudus.base_url right?".clone_into(&mut words);
        }
        ApiError::Refused { status: status.as_u16(), words: self.clean(&words) }
    }

    /// Words from elsewhere on one line, of bounded length, without a secret that they may repeat.
    fn clean(&self, words: &str) -> String {
        let mut words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for secret in self.auth.secrets() {
            words = words.replace(secret, "***");
        }
        words.chars().take(MAX_WORDS).collect()
    }
}

/// Looks whether an answer with status 200 is a success.
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

async fn answer(http: &reqwest::Client, request: Request) -> Result<(StatusCode, Bytes), Failed> {
    let no_answer = |error: reqwest::Error| {
        Failed::Unavailable(if error.is_timeout() {
            "it does not answer in time".to_owned()
        } else {
            innermost(&error.without_url())
        })
    };
    let mut response = http.execute(request).await.map_err(no_answer)?;
    let status = response.status();
    if matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS) {
        return Err(Failed::Throttled(retry_after(&response, SystemTime::now())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failed::Unavailable(format!("an answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Err(Failed::Unavailable(format!("it answers {}", status.as_u16())));
    }
    Ok((status, body.into()))
}

/// `Retry-After` in both of its forms (RFC 9110, section 10.2.3).
fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = || value.parse().ok().map(Duration::from_secs);
    let moment =
        || httpdate::parse_http_date(value).ok().map(|at| at.duration_since(now).unwrap_or_default());
    seconds().or_else(moment)
}

fn unreadable() -> ApiError {
    ApiError::Unavailable("its answer cannot be understood".to_owned())
}

/// Waits before the attempt after this one.
pub async fn back_off(attempt: u32) {
    tokio::time::sleep(wait_after(attempt)).await;
}

fn wait_after(attempt: u32) -> Duration {
    let doubled = BACK_OFF.0.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(BACK_OFF.1).mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// What was wrong, without the layers that say only that something was.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
