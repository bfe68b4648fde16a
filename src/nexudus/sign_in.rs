//! Tokens for a session: fetched with the password, renewed with the refresh token.
//!
//! Only an error of OAuth (RFC 6749, section 5.2) is about the credentials. The session then sends them no more, since
//! that could lock the account. Every other failure (a firewall's page, a gateway) is retried with exponential back-off.

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::auth::{Given, Next};
use super::error::{ApiError, ErrorKind};
use super::session::{ATTEMPTS, BACK_OFF, Failed, Session};

/// The error answer to a request for a token (RFC 6749, section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    error: String,
    error_description: String,
}

impl Problem {
    /// Returns whether the credentials, or the way in which they are used, are at fault.
    fn is_about_credentials(&self) -> bool {
        let error = self.error.as_str();
        error.starts_with("invalid_") || matches!(error, "unauthorized_client" | "unsupported_grant_type")
    }
}

impl Session {
    /// Returns the header for the next request, with a new token if the last one has ended.
    ///
    /// A refresh token that brings no token is dropped, so the next request uses the password.
    pub(super) async fn header(&mut self) -> Result<HeaderValue, ApiError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let (mut throttled, mut code_refused, mut attempt) = (0, false, 1);
        loop {
            let refresh = match self.auth.next() {
                Next::Header(header) => return Ok(header),
                Next::Refresh => true,
                Next::Password => false,
            };
            let (status, body) = match self.token(refresh).await {
                Err(Failed::Throttled(wait)) => {
                    self.throttled(wait, &mut throttled)?;
                    continue;
                }
                Err(failed) => {
                    self.auth.forget_refresh();
                    return Err(self.failure(failed));
                }
                Ok(answer) => answer,
            };
            if status.is_success() {
                let given: Option<Given> = serde_json::from_slice(&body).ok();
                if let Some(header) = given.and_then(|given| self.auth.given(given)) {
                    self.count("token", "ok");
                    return Ok(header);
                }
            }
            self.count("token", "refused");
            if refresh {
                self.auth.forget_refresh();
                continue;
            }
            let error = self.token_refusal(status, &body);
            if matches!(error.kind, ErrorKind::Credentials { .. }) {
                // A one-time password can be used once, and another process of this user may have used it.
                if self.auth.has_codes() && !code_refused {
                    code_refused = true;
                    continue;
                }
                self.refused = Some(error.clone());
                return Err(error);
            }
            if attempt == ATTEMPTS {
                return Err(error);
            }
            self.waits.sleep(BACK_OFF.jittered(attempt), format!("another attempt: {error}")).await;
            attempt += 1;
        }
    }

    async fn token(&mut self, refresh: bool) -> Result<(StatusCode, Bytes), Failed> {
        self.room(true).await?;
        self.waits.sleep(self.auth.until_fresh(refresh), "the next one-time password".to_owned()).await;
        self.auth.take_code(refresh);
        let url = self.url("/api/token");
        self.exchange("token", true, |auth| auth.token_request(url.clone(), refresh)).await
    }

    fn token_refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let is_about_credentials = problem.is_about_credentials();
        let words: Vec<String> = [problem.error, problem.error_description]
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect();
        let (status, words) = (status.as_u16(), self.clean(&words.join(": ")));
        self.error(if is_about_credentials {
            ErrorKind::Credentials { status, words }
        } else {
            ErrorKind::NoToken { status, words }
        })
    }
}

#[cfg(test)]
mod tests;
