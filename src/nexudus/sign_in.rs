//! Tokens for a session: fetched with the password, renewed with the refresh token.
//!
//! Only an error of OAuth (RFC 6749, section 5.2) refuses the credentials. After one, the session does not send them again, since
//! that could lock the account. Every other failure (a firewall's page, a gateway) is retried with exponential back-off.

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::error::{ApiError, ErrorKind};
use super::session::{ATTEMPTS, BACK_OFF, Session};

impl Session {
    /// Returns the header for the next request, with a new token if the last one has ended.
    ///
    /// A refresh token that yields no token is dropped, and the next attempt uses the password.
    pub(super) async fn header(&mut self) -> Result<HeaderValue, ApiError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let (mut throttled, mut code_refused, mut attempt) = (0, false, 1);
        loop {
            if let Some(header) = self.auth.header() {
                return Ok(header);
            }
            // First the rate limits, so that the one-time password does not expire during that wait.
            self.wait_for_limits(true).await?;
            self.waits.sleep(self.auth.until_fresh(), "the next one-time password").await;
            let request = self.auth.token_request(self.url("/api/token"));
            let answer = self.exchange("token", true, request, &mut throttled).await;
            let Some((status, body)) = answer.inspect_err(|_| self.auth.refresh = None)? else { continue };
            let tokens = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
            if let Some(header) = tokens.and_then(|tokens| self.auth.keep(tokens)) {
                self.count("token", "ok");
                return Ok(header);
            }
            self.count("token", "refused");
            if self.auth.refresh.take().is_some() {
                continue;
            }
            let error = self.token_refusal(status, &body);
            let is_refused = matches!(error.kind, ErrorKind::Credentials(..));
            // A one-time password can be used once, and another process of this user may have used it.
            if is_refused && self.auth.has_codes() && !code_refused {
                code_refused = true;
                continue;
            }
            self.refused = is_refused.then(|| error.clone());
            if is_refused || attempt == ATTEMPTS {
                return Err(error);
            }
            self.waits.sleep(BACK_OFF.jittered(attempt), &format!("another attempt: {error}")).await;
            attempt += 1;
        }
    }

    /// Returns the error for an answer without a token (RFC 6749, section 5.2).
    fn token_refusal(&self, status: StatusCode, body: &[u8]) -> ApiError {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        let (error, description) = (text("error"), text("error_description"));
        let separator = if error.is_empty() || description.is_empty() { "" } else { ": " };
        let detail = self.clean(&format!("{error}{separator}{description}"));
        let status = status.as_u16();
        let is_about_credentials = error.starts_with("invalid_")
            || matches!(error, "unauthorized_client" | "unsupported_grant_type");
        self.error(match is_about_credentials {
            true => ErrorKind::Credentials(status, detail),
            false => ErrorKind::NoToken(status, detail),
        })
    }
}

#[cfg(test)]
mod tests;
