//! Posts a delivery, and retries as Nexudus does until the answer is 2xx.
//!
//! Nexudus documents only "different delayed intervals up to 10 times". The waits of [`Retry::NEXUDUS`] double from half a second to
//! half a minute, about two and a half minutes in all. A longer `Retry-After` extends a wait to a minute at most. Redirects are not
//! followed, since they are not 2xx. No error holds a URL, since a URL can hold a token.

use std::time::{Duration, Instant, SystemTime};

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, ClientBuilder, Request};
use serde::{Deserialize, Serialize};

use super::delivery::{Delivery, Target};
use crate::back_off::BackOff;
use crate::outgoing::BodyError;
use crate::{outgoing, signature};

/// Maximum time of an attempt. The bridge answers within its `confirm_timeout`, 10 s by default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum size of an answer; those of the bridge have some hundred bytes for each event.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Longest wait that a `Retry-After` can cause.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The retries of a delivery that was not answered 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Maximum number of attempts after the first.
    pub limit: u32,
    /// The wait before the first retry. Each wait is twice the previous one.
    pub shortest: Duration,
    /// Maximum wait.
    pub longest: Duration,
}

/// Posts deliveries to one bridge over keep-alive connections, which clones share.
#[derive(Debug, Clone)]
pub struct Poster {
    client: Client,
    target: Target,
    retry: Retry,
}

/// The result of a delivery.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The bridge's confirmation, or the reason why there is none.
    pub result: Result<Receipt, PostFailure>,
    /// Time of the last attempt, from the first byte sent to the last one read.
    pub latency: Duration,
    /// Number of attempts, the first included.
    pub attempts: u32,
}

/// A 2xx answer of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// `confirmed`, `quarantined` or `empty`.
    pub status: String,
    /// The position of each event.
    #[serde(default)]
    pub events: Vec<ConfirmedEvent>,
}

/// A confirmed event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedEvent {
    /// Its `ce_id`.
    pub id: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset; `None` if the broker did not name it.
    pub offset: Option<i64>,
}

/// The [`PostFailure::kind`] of deliveries for which there was no connection.
pub const NO_CONNECTION: &str = "no connection";

/// The reason why a delivery is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostFailure {
    /// The bridge refuses the delivery. The cause of a 503 distinguishes "not published" from "unknown".
    #[error("{status} {title}{}", .detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Problem {
        /// The HTTP status.
        status: u16,
        /// The problem's title, or the status's own where the answer is no problem document.
        title: String,
        /// The problem's detail.
        detail: Option<String>,
        /// A 503's cause.
        cause: Option<String>,
    },
    /// A 2xx answer that does not come from a bridge. Nexudus would count it as a success.
    #[error("{status}, but the answer is not a bridge's: {reason}")]
    Foreign {
        /// The HTTP status.
        status: u16,
        /// The mistake in the body.
        reason: String,
    },
    /// Nothing was sent.
    #[error("cannot connect to {address}: {reason}")]
    NoConnection {
        /// The bridge's scheme, host and port.
        address: String,
        /// The system's reason.
        reason: String,
    },
    /// There is no answer, so the result is unknown.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// An HTTP client cannot be made: in practice, the system has no certificate authorities to check https against.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client: {0}")]
pub struct ClientError(String);

/// Makes a client for single requests over plain http, such as to the admin listener. It uses no proxy and no certificate
/// authorities, so it works in an empty container.
///
/// # Errors
/// [`ClientError`], in practice never.
pub fn client(timeout: Duration) -> Result<Client, ClientError> {
    build(bounded(outgoing::direct(), timeout))
}

fn bounded(client: ClientBuilder, timeout: Duration) -> ClientBuilder {
    client.http1_only().timeout(timeout).connect_timeout(CONNECT_TIMEOUT)
}

fn build(client: ClientBuilder) -> Result<Client, ClientError> {
    client.build().map_err(|error| ClientError(outgoing::cause(error)))
}

impl PostFailure {
    /// Returns the key by which refusals are counted: the status with the cause, else with the title.
    pub fn kind(&self) -> String {
        match self {
            Self::Problem { status, title, cause, .. } => {
                format!("{status} {}", cause.as_ref().unwrap_or(title))
            }
            Self::Foreign { status, .. } => format!("{status} not a bridge's answer"),
            Self::NoConnection { .. } => NO_CONNECTION.to_owned(),
            Self::NoAnswer(_) => "no answer".to_owned(),
        }
    }
}

impl Retry {
    /// As Nexudus does: up to 10 more attempts, half a second to half a minute apart.
    pub const NEXUDUS: Self =
        Self { limit: 10, shortest: Duration::from_millis(500), longest: Duration::from_secs(30) };

    /// One attempt and no more.
    pub const NEVER: Self = Self { limit: 0, ..Self::NEXUDUS };

    /// Returns the wait after attempt number `attempt`, counted from 1; `None` after the last attempt.
    pub fn wait(self, attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if attempt > self.limit {
            return None;
        }
        let wait = BackOff { first: self.shortest, longest: self.longest }.wait(attempt);
        Some(wait.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)))
    }
}

impl Poster {
    /// Makes a poster that keeps up to `connections` idle connections open.
    ///
    /// # Errors
    /// [`ClientError`] if TLS cannot be set up.
    pub fn new(target: Target, retry: Retry, connections: usize) -> Result<Self, ClientError> {
        let client = bounded(outgoing::client(&target.base), ATTEMPT_TIMEOUT);
        Ok(Self { client: build(client.pool_max_idle_per_host(connections))?, target, retry })
    }

    /// Posts a delivery until it is answered 2xx, at most as often as [`Retry`] allows.
    pub async fn post(&self, delivery: &Delivery) -> Answer {
        let request = match self.request(delivery) {
            Ok(request) => request,
            Err(refusal) => return Answer { result: Err(refusal), latency: Duration::ZERO, attempts: 0 },
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let begun = Instant::now();
            let (result, retry_after) = self.attempt(&request).await;
            let latency = begun.elapsed();
            let wait = self.retry.wait(attempts, retry_after).filter(|_| result.is_err());
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Answer { result, latency, attempts },
            }
        }
    }

    /// Makes the request for every attempt. As with Nexudus, a retry equals the first attempt.
    fn request(&self, delivery: &Delivery) -> Result<Request, PostFailure> {
        let url = self.target.url(&delivery.source, &delivery.action);
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        let request = match &delivery.signature {
            Some(signature) => request.header(signature::HEADER, signature),
            None => request,
        };
        let request = request.body(delivery.body.clone()).build();
        request.map_err(|error| PostFailure::NoAnswer(outgoing::cause(error)))
    }

    /// Returns the result of one attempt, and the time of `Retry-After`.
    async fn attempt(&self, request: &Request) -> (Result<Receipt, PostFailure>, Option<Duration>) {
        let mut retry_after = None;
        let result = async {
            let request = request.try_clone().expect("bytes can be sent again");
            let response = self.client.execute(request).await.map_err(|error| match error.is_connect() {
                true => PostFailure::NoConnection { address: self.target.address(), reason: why(error) },
                false => PostFailure::NoAnswer(why(error)),
            })?;
            retry_after = outgoing::retry_after(response.headers(), SystemTime::now());
            let status = response.status();
            let body = outgoing::body(response, MAX_ANSWER_BYTES).await.map_err(|error| {
                PostFailure::NoAnswer(match error {
                    BodyError::TooLong => format!("it has more than {MAX_ANSWER_BYTES} bytes"),
                    BodyError::Broken(error) => why(error),
                })
            })?;
            if !status.is_success() {
                return Err(problem(status, &body));
            }
            serde_json::from_slice(&body)
                .map_err(|error| PostFailure::Foreign { status: status.as_u16(), reason: error.to_string() })
        };
        (result.await, retry_after)
    }
}

/// Reads a problem document (RFC 9457), else the status alone.
fn problem(status: reqwest::StatusCode, body: &[u8]) -> PostFailure {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Document {
        title: Option<String>,
        detail: Option<String>,
        cause: Option<String>,
    }
    let Document { title, detail, cause } = serde_json::from_slice(body).unwrap_or_default();
    let title = title.unwrap_or_else(|| status.canonical_reason().unwrap_or("not confirmed").to_owned());
    PostFailure::Problem { status: status.as_u16(), title, detail, cause }
}

/// Returns the reason why there is no answer.
fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT_TIMEOUT } else { ATTEMPT_TIMEOUT };
        return format!("nothing came within {} s", limit.as_secs());
    }
    outgoing::cause(error)
}

#[cfg(test)]
mod tests;
