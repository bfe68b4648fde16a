//! The credentials of a session: the header `Authorization` and its tokens.
//!
//! The first request fetches a token. It is kept in memory and renewed before it expires: with the refresh token if there is one, else
//! with the password. Another process with the same client id makes the refresh token invalid, which costs one more request.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use totp_rs::{Builder, Secret};
use url::{Url, form_urlencoded};

use crate::config::Credentials;
use crate::lenient;

/// Time before its expiry at which a token is renewed. If the lifetime is less than ten times as long, a token is renewed after
/// nine tenths of it.
const EARLY: Duration = Duration::from_secs(60);

/// Assumed lifetime of a token whose answer has none.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(600);

/// Lifetime of a one-time password in seconds (RFC 6238, section 5.2). It can be used once.
const CODE_LIFETIME: u64 = 30;

/// Seconds at the end of its lifetime in which a one-time password is not used, since it could expire before it arrives.
const LAST_SECONDS: u64 = 3;

/// The credentials and the tokens of a session.
pub(super) struct Auth {
    credentials: Credentials,
    /// The access token and the time at which it is renewed.
    pub(super) access: Option<(SecretString, Instant)>,
    pub(super) refresh: Option<SecretString>,
    /// Time of the last one-time password that was used, in seconds since 1970.
    code_time: Option<u64>,
}

/// The answer to a token request.
#[derive(Deserialize)]
pub(super) struct Tokens {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    /// Seconds, in any form.
    expires_in: Option<Value>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, access: None, refresh: None, code_time: None }
    }

    /// Returns the header for the next request; `None` if a token has to be fetched first.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match &self.credentials {
            Credentials::Token(token) => Some(bearer(token)),
            Credentials::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose_secret());
                Some(secret_header(&format!("Basic {}", BASE64_STANDARD.encode(pair))))
            }
            Credentials::Password { .. } => {
                let (token, renew) = self.access.as_ref()?;
                (Instant::now() < *renew).then(|| bearer(token))
            }
        }
    }

    /// Keeps the tokens of an answer and returns the header for the next request; `None` without a usable token.
    pub(super) fn keep(&mut self, tokens: Tokens) -> Option<HeaderValue> {
        let Tokens { access_token, refresh_token, expires_in } = tokens;
        if !is_header_text(&access_token) {
            return None;
        }
        let lifetime = expires_in.as_ref().and_then(lenient::seconds).unwrap_or(ASSUMED_LIFETIME);
        let early = EARLY.min(lifetime / 10);
        let renew = Instant::now() + lifetime.min(Duration::from_secs(365 * 86_400)) - early;
        let header = bearer(&access_token);
        self.access = Some((access_token, renew));
        self.refresh = refresh_token.filter(is_header_text);
        Some(header)
    }

    /// Returns the request for a token, with the refresh token if there is one, else with the password.
    pub(super) fn token_request(&mut self, url: Url) -> Request {
        let mut request = Request::new(Method::POST, url);
        let mut form = form_urlencoded::Serializer::new(String::new());
        if let Credentials::Password { username, password, totp_secret, client_id } = &self.credentials {
            if let Some(token) = &self.refresh {
                let token = token.expose_secret();
                form.extend_pairs([("grant_type", "refresh_token"), ("refresh_token", token)]);
            } else {
                let (username, password) = (username.as_str(), password.expose_secret());
                form.extend_pairs([
                    ("grant_type", "password"),
                    ("username", username),
                    ("password", password),
                ]);
                if let Some(secret) = totp_secret {
                    let now = now();
                    self.code_time = Some(now);
                    form.append_pair("totp", &one_time_password(secret, now));
                }
            }
            // Nexudus keeps one refresh token for each client id.
            let client_id = HeaderValue::from_str(client_id).expect("the configuration has checked it");
            request.headers_mut().insert("client_id", client_id);
        }
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form_type);
        *request.body_mut() = Some(form.finish().into());
        request
    }

    /// Returns true if the password is sent with a one-time password.
    pub(super) fn has_codes(&self) -> bool {
        matches!(&self.credentials, Credentials::Password { totp_secret: Some(_), .. })
    }

    /// Returns the wait until a one-time password is unused and valid for long enough; zero if none is sent.
    pub(super) fn until_fresh(&self) -> Duration {
        let sends_code = self.has_codes() && self.refresh.is_none();
        if sends_code { until_fresh(now(), self.code_time) } else { Duration::ZERO }
    }

    /// Returns all secrets, as they are sent; they must not appear in a log or an error.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        let configured = match &self.credentials {
            Credentials::Token(secret) | Credentials::Basic { password: secret, .. } => [Some(secret), None],
            Credentials::Password { password, totp_secret, .. } => [Some(password), totp_secret.as_ref()],
        };
        let access = self.access.as_ref().map(|(token, _)| token);
        configured.into_iter().chain([access, self.refresh.as_ref()]).flatten()
    }
}

fn bearer(token: &SecretString) -> HeaderValue {
    secret_header(&format!("Bearer {}", token.expose_secret()))
}

fn secret_header(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).expect("tokens are checked and base64 is ASCII");
    value.set_sensitive(true);
    value
}

fn is_header_text(token: &SecretString) -> bool {
    let token = token.expose_secret();
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the one-time password by RFC 6238 with the usual parameters: six digits, 30 seconds, SHA-1.
fn one_time_password(secret: &SecretString, now: u64) -> String {
    let secret = Secret::try_from_base32(secret.expose_secret()).expect("the configuration has checked it");
    Builder::new().with_secret(secret).build_noncompliant().generate(now).to_string()
}

fn until_fresh(now: u64, taken: Option<u64>) -> Duration {
    let left = CODE_LIFETIME - now % CODE_LIFETIME;
    let is_taken = taken.is_some_and(|taken| taken / CODE_LIFETIME == now / CODE_LIFETIME);
    Duration::from_secs(if is_taken || left <= LAST_SECONDS { left } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_passwords_are_those_of_rfc_6238() {
        // Appendix B, whose eight digits end in these six; the secret is "12345678901234567890".
        let secret = SecretString::from("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for (time, password) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(one_time_password(&secret, time), password);
        }
    }

    #[test]
    fn a_one_time_password_is_not_used_twice_nor_just_before_it_expires() {
        let seconds = |now| until_fresh(now, None).as_secs();
        assert_eq!([0, 15, 26, 27, 28, 29, 30].map(seconds), [0, 0, 0, 3, 2, 1, 0]);
        let seconds = |now| until_fresh(now, Some(35)).as_secs();
        assert_eq!([29, 30, 35, 50, 59, 60, 70].map(seconds), [1, 30, 25, 10, 1, 0, 0]);
    }
}
