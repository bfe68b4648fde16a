//! The credentials of a session: the header `Authorization` and its tokens.
//!
//! The first request fetches a token. It is kept in memory and renewed before it expires: with the refresh token if there is one, else
//! with the password. Another process with the same client id makes the refresh token invalid, which costs one more request.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use totp_rs::{Builder, Secret};
use url::{Url, form_urlencoded};

use crate::config::Credentials;
use crate::lenient;

/// The header with the id of the client to which a refresh token belongs.
const CLIENT_ID: HeaderName = HeaderName::from_static("client_id");

/// Time before its end at which a token is renewed; a token with less than ten times this lifetime is renewed at nine tenths.
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
    access: Option<Access>,
    refresh: Option<SecretString>,
    /// Time of the last one-time password that was used, in seconds since 1970.
    code_time: Option<u64>,
}

struct Access {
    header: HeaderValue,
    renew: Instant,
}

/// The step before the next request.
pub(super) enum Next {
    /// Send it with this header.
    Header(HeaderValue),
    /// Fetch a token with the refresh token.
    Refresh,
    /// Fetch a token with the password.
    Password,
}

/// The answer to a token request.
#[derive(Deserialize)]
pub(super) struct Given {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    /// Seconds, in any form.
    expires_in: Option<Value>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, access: None, refresh: None, code_time: None }
    }

    pub(super) fn next(&self) -> Next {
        let basic = |username: &str, password: &SecretString| {
            secret_header(&format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{username}:{}", password.expose_secret()))
            ))
        };
        match &self.credentials {
            Credentials::Token(token) => Next::Header(bearer(token)),
            Credentials::Basic { username, password } => Next::Header(basic(username, password)),
            Credentials::Password { .. } => match &self.access {
                Some(access) if Instant::now() < access.renew => Next::Header(access.header.clone()),
                _ if self.refresh.is_some() => Next::Refresh,
                _ => Next::Password,
            },
        }
    }

    /// Returns whether a refused token can be replaced by a new one.
    pub(super) fn renews(&self) -> bool {
        matches!(self.credentials, Credentials::Password { .. })
    }

    /// Drops a token that was refused.
    pub(super) fn forget_access(&mut self) {
        self.access = None;
    }

    /// Drops a refresh token that was refused.
    pub(super) fn forget_refresh(&mut self) {
        self.refresh = None;
    }

    /// Keeps the tokens of an answer and returns the header for the next request; `None` without a usable token.
    pub(super) fn given(&mut self, given: Given) -> Option<HeaderValue> {
        if !is_header_text(&given.access_token) {
            return None;
        }
        let lifetime = given.expires_in.as_ref().and_then(lenient::seconds).unwrap_or(ASSUMED_LIFETIME);
        let early = EARLY.min(lifetime / 10);
        let renew = Instant::now() + lifetime.min(Duration::from_secs(365 * 86_400)) - early;
        let header = bearer(&given.access_token);
        self.access = Some(Access { header: header.clone(), renew });
        self.refresh = given.refresh_token.filter(is_header_text);
        Some(header)
    }

    /// Returns the request for a token.
    pub(super) fn token_request(&self, url: Url, refresh: bool) -> Request {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Credentials::Password { username, password, totp_secret, client_id } = &self.credentials {
            match self.refresh.as_ref().filter(|_| refresh) {
                Some(token) => {
                    form.append_pair("grant_type", "refresh_token");
                    form.append_pair("refresh_token", token.expose_secret());
                }
                None => {
                    form.append_pair("grant_type", "password");
                    form.append_pair("username", username);
                    form.append_pair("password", password.expose_secret());
                    if let Some(secret) = totp_secret {
                        form.append_pair(
                            "totp",
                            &one_time_password(secret, self.code_time.unwrap_or_else(now)),
                        );
                    }
                }
            }
            headers.extend(HeaderValue::from_str(client_id).map(|value| (CLIENT_ID, value)));
        }
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(form.finish().into());
        request
    }

    /// Returns true if the password is sent with a one-time password.
    pub(super) fn has_codes(&self) -> bool {
        matches!(&self.credentials, Credentials::Password { totp_secret: Some(_), .. })
    }

    /// Returns the wait until a one-time password is unused and valid for long enough; zero if none is sent.
    pub(super) fn until_fresh(&self, refresh: bool) -> Duration {
        if refresh || !self.has_codes() { Duration::ZERO } else { until_fresh(now(), self.code_time) }
    }

    /// Uses the current one-time password for the next request.
    pub(super) fn take_code(&mut self, refresh: bool) {
        if !refresh {
            self.code_time = Some(now());
        }
    }

    /// Returns all secrets, as they are sent; they must not appear in a log or an error.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let (password, totp, token) = match &self.credentials {
            Credentials::Token(token) => (None, None, Some(token)),
            Credentials::Basic { password, .. } => (Some(password), None, None),
            Credentials::Password { password, totp_secret, .. } => {
                (Some(password), totp_secret.as_ref(), None)
            }
        };
        let access =
            self.access.as_ref().and_then(|access| access.header.to_str().ok()?.strip_prefix("Bearer "));
        let kept = [password, totp, token, self.refresh.as_ref()].into_iter().flatten();
        kept.map(|secret| secret.expose_secret()).chain(access)
    }
}

/// Returns the header that identifies the client.
pub(super) fn authorize(request: &mut Request, header: HeaderValue) {
    request.headers_mut().insert(AUTHORIZATION, header);
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
    fn a_one_time_password_is_not_used_twice_nor_when_it_is_nearly_over() {
        let seconds = |now| until_fresh(now, None).as_secs();
        assert_eq!([0, 15, 26, 27, 28, 29, 30].map(seconds), [0, 0, 0, 3, 2, 1, 0]);
        let seconds = |now| until_fresh(now, Some(35)).as_secs();
        assert_eq!([29, 30, 35, 50, 59, 60, 70].map(seconds), [1, 30, 25, 10, 1, 0, 0]);
    }
}
