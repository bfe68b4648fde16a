//! The session of one user, with its rate limits and tokens. It sends a request and reads the answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, HeaderValue, USER_AGENT};
use reqwest::{Request, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::auth::Auth;
use super::error::{ApiError, ErrorKind};
use super::pace::{LONGEST_HOLD, Pacer};
use super::wait::Waits;
use crate::back_off::BackOff;
use crate::config::NexudusSettings;
use crate::metrics::Metrics;
use crate::outgoing::BodyError;
use crate::{lenient, outgoing};

/// Maximum number of attempts of a request without an answer.
pub const ATTEMPTS: u32 = 5;

/// Maximum number of retries of a throttled request.
const THROTTLED: u32 = 20;

/// Maximum wait of a request for `Retry-After`. A request with a longer one fails at once.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Back-off between attempts.
pub(super) const BACK_OFF: BackOff =
    BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// Maximum size of an answer: a page of a thousand long records.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Maximum length of a text of the API in an error.
const MAX_DETAIL: usize = 300;

/// The requests of one user, one at a time.
pub(super) struct Session {
    http: reqwest::Client,
    base_url: Url,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pacer: Pacer,
    pub(super) auth: Auth,
    /// The refusal of the credentials. While it is set, nothing is sent.
    pub(super) refused: Option<ApiError>,
    pub(super) waits: Waits,
}

impl Session {
    /// Makes a session, which connects at the first request. Fails if no HTTP client can be made.
    pub(super) fn new(config: &NexudusSettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let http = outgoing::client(&config.base_url).timeout(config.pace.request_timeout);
        Ok(Self {
            http: http.build().map_err(outgoing::cause)?,
            base_url: config.base_url.clone(),
            metrics,
            pacer: Pacer::new(config.pace),
            auth: Auth::new(config.credentials.clone()),
            refused: None,
            waits: Waits::default(),
        })
    }

    /// Returns the URL of a path of the API.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        url
    }

    /// Counts a request.
    pub(super) fn count(&self, operation: &str, outcome: &str) {
        self.metrics.control.request(operation, outcome);
    }

    /// Waits until the rate limits allow a request. Fails at once during a long hold by `Retry-After`.
    pub(super) async fn wait_for_limits(&self, write: bool) -> Result<(), ApiError> {
        let now = Instant::now();
        if let Some(wait) = self.pacer.held(now).filter(|wait| *wait > LONGEST_WAIT) {
            let wait = Duration::from_secs(wait.as_secs() + 1);
            return Err(self.error(ErrorKind::Throttled(Some(wait))));
        }
        if let Some((at, reason)) = self.pacer.next(write) {
            self.waits.sleep(at.saturating_duration_since(now), reason).await;
        }
        Ok(())
    }

    /// Sends a request when the rate limits allow it, and returns the status and the body of the answer. Returns `None` if the request
    /// was throttled and may be sent again; `throttled` counts how often.
    pub(super) async fn exchange(
        &mut self,
        operation: &str,
        write: bool,
        mut request: Request,
        throttled: &mut u32,
    ) -> Result<Option<(StatusCode, Bytes)>, ApiError> {
        const AGENT: &str = concat!("nexudus-bridge/", env!("CARGO_PKG_VERSION"));
        self.wait_for_limits(write).await?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        self.pacer.begun(write, Instant::now()); // a cancelled request counts, too
        let answer = answer(&self.http, request).await;
        self.pacer.ended(write, Instant::now());
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(ErrorKind::Throttled(wait)) => {
                self.count(operation, "throttled");
                self.throttled(wait, throttled).map(|()| None)
            }
            Err(kind) => {
                self.count(operation, "unavailable");
                Err(self.error(kind))
            }
        }
    }

    /// Holds requests for the time of `Retry-After`. Fails if that time is too long, or if the request was throttled too often.
    fn throttled(&mut self, wait: Option<Duration>, times: &mut u32) -> Result<(), ApiError> {
        *times += 1;
        let most = if wait.is_some() { THROTTLED } else { ATTEMPTS };
        self.pacer.hold(wait.unwrap_or_else(|| BACK_OFF.jittered(*times)), Instant::now());
        if *times > most || wait.is_some_and(|wait| wait > LONGEST_WAIT) {
            return Err(self.error(ErrorKind::Throttled(wait)));
        }
        Ok(())
    }

    /// Returns the API's message about a refusal, with its messages about fields.
    pub(super) fn refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = answer["Message"].as_str().filter(|message| !message.is_empty());
        let mut parts: Vec<String> = message.map(str::to_owned).into_iter().collect();
        for error in answer["Errors"].as_array().into_iter().flatten() {
            if let (Some(name), Some(message)) = (error["PropertyName"].as_str(), error["Message"].as_str()) {
                let problem = format!("{name}: {message}");
                let is_known = parts.iter().any(|part| part.contains(&problem));
                parts.extend((!is_known).then_some(problem));
            }
        }
        let mut detail = parts.join("; ");
        if detail.is_empty() && status.is_redirection() {
            "a redirect; is nexudus.base_url right?".clone_into(&mut detail);
        }
        self.error(ErrorKind::Refused(status.as_u16(), self.clean(&detail)))
    }

    /// Returns an error that names the host of the API.
    pub(super) fn error(&self, kind: ErrorKind) -> ApiError {
        ApiError::new(&self.base_url, kind)
    }

    /// Returns remote text on one line, shortened, without secrets that it may repeat.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = lenient::one_line(text);
        for secret in self.auth.secrets() {
            text = text.replace(secret.expose_secret(), "***");
        }
        text.chars().take(MAX_DETAIL).collect()
    }
}

/// Sends a request. Fails with [`ErrorKind::Throttled`] or [`ErrorKind::Unavailable`].
async fn answer(http: &reqwest::Client, request: Request) -> Result<(StatusCode, Bytes), ErrorKind> {
    let no_answer = |error: reqwest::Error| {
        ErrorKind::Unavailable(if error.is_timeout() {
            "it does not answer in time".to_owned()
        } else {
            outgoing::cause(error)
        })
    };
    let response = http.execute(request).await.map_err(no_answer)?;
    let status = response.status();
    if matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS) {
        let wait = outgoing::retry_after(response.headers(), SystemTime::now());
        return Err(ErrorKind::Throttled(wait.map(|wait| wait.min(LONGEST_HOLD))));
    }
    let body = outgoing::body(response, MAX_ANSWER_BYTES).await.map_err(|error| match error {
        BodyError::TooLong => {
            ErrorKind::Unavailable(format!("an answer has more than {MAX_ANSWER_BYTES} bytes"))
        }
        BodyError::Broken(error) => no_answer(error),
    })?;
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Err(ErrorKind::Unavailable(format!("it answers {}", status.as_u16())));
    }
    Ok((status, lenient::body(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Credentials, GuardianSettings, Pace};

    fn session() -> Session {
        let pace = Pace {
            request_timeout: Duration::from_secs(5),
            requests_per_minute: 1000,
            writes_per_minute: 1000,
            requests_per_hour: 1000,
            request_spacing: Duration::ZERO,
        };
        let config = NexudusSettings {
            base_url: "http://127.0.0.1:9".parse().unwrap(),
            credentials: Credentials::Token("fixed".into()),
            public_url: "https://hooks.example.com".parse().unwrap(),
            pace,
            guardian: GuardianSettings { interval: Duration::ZERO, reenable: false },
        };
        Session::new(&config, Arc::new(Metrics::new(""))).unwrap()
    }

    #[test]
    fn retry_after_is_obeyed_up_to_five_minutes_and_twenty_times() {
        for (wait, accepted) in [(1, true), (299, true), (300, true), (301, false)] {
            let (mut session, mut times) = (session(), 0);
            let wait = Duration::from_secs(wait);
            let begun = Instant::now();
            assert_eq!(session.throttled(Some(wait), &mut times).is_ok(), accepted, "{wait:?}");
            assert!(session.pacer.next(false).unwrap().0 >= begun + wait, "{wait:?}");
        }
        let (mut session, mut times) = (session(), 0);
        let wait = Some(Duration::from_secs(2));
        assert!((0..20).all(|_| session.throttled(wait, &mut times).is_ok()));
        let begun = Instant::now();
        assert_eq!(session.throttled(wait, &mut times).unwrap_err().kind, ErrorKind::Throttled(wait));
        assert!(
            session.pacer.next(false).unwrap().0 >= begun + Duration::from_secs(2),
            "the hold applies after the failure too"
        );
    }
}
