//! Tokens for signing in to Kafka, fetched from a token server by client credentials (RFC 6749, section 4.4).
//!
//! A fetch is one request for one token, in bounded time and bytes, and follows no redirect. `kafka` decides when to fetch a
//! token and what to do with it. Invariant: neither the secret nor a token is in an error, a log line or `Debug`. So the server's
//! own text, which could repeat them, is not passed on.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::config::OAuth;
use crate::outgoing::BodyError;
use crate::{lenient, outgoing};

/// Time-out of one answer of the token server.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Assumed lifetime of a token whose answer has none.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(300);

/// Maximum size of an answer. Tokens with many groups have some kilobytes.
const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// A client of one token server.
pub struct TokenServer {
    http: Client,
    oauth: OAuth,
    /// True if the credentials go into the body, since the server refused them in the header.
    in_body: AtomicBool,
}

/// A token for Kafka brokers.
#[derive(Debug, Clone)]
pub struct Token {
    value: SecretString,
    /// The owner: the claim `sub` of a JWT, else the client's identifier.
    pub principal: String,
    /// The lifetime when the token was fetched.
    pub lifetime: Duration,
    /// The time at which the token expires.
    pub expires: SystemTime,
}

/// The reason why there is no token. It contains neither a host nor text of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No HTTP client can be made: in practice, the system has no certificate authorities to check https against.
    #[error("there is no HTTP client for the token server: {0}")]
    Client(String),
    /// No connection, or a broken one.
    #[error("the token server cannot be reached")]
    Unreachable {
        /// The message of the system, for the log: it can name hosts.
        detail: String,
    },
    /// No answer within [`TIMEOUT`].
    #[error("the token server does not answer")]
    Silent,
    /// The server answers with an error: a wrong secret, an unknown scope, or a fault of the server.
    #[error("the token server refuses with {status}{}", .code.map(|code| format!(" {code}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of the error if a standard defines it.
        code: Option<&'static str>,
    },
    /// The answer holds no usable token.
    #[error("the token server's answer is unusable: {0}")]
    Unusable(&'static str),
}

/// The errors of RFC 6749, section 5.2, and two of section 4.1.2.1 that some servers use.
const CODES: [&str; 8] = [
    "invalid_request",
    INVALID_CLIENT,
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
];
const INVALID_CLIENT: &str = "invalid_client";

impl TokenError {
    /// Details for the log only.
    pub fn detail(&self) -> &str {
        match self {
            Self::Unreachable { detail } => detail,
            _ => "",
        }
    }
}

impl TokenServer {
    /// Makes a client of the token server, which connects at the first request.
    ///
    /// # Errors
    /// [`TokenError::Client`].
    pub fn new(oauth: &OAuth) -> Result<Self, TokenError> {
        let http = outgoing::client(&oauth.token_endpoint)
            .pool_max_idle_per_host(0) // minutes pass between two tokens
            .timeout(TIMEOUT);
        let http = http.build().map_err(|error| TokenError::Client(outgoing::cause(error)))?;
        Ok(Self { http, oauth: oauth.clone(), in_body: AtomicBool::new(false) })
    }

    /// Fetches a token. The credentials go into the header (HTTP Basic, which every server must support), or into the body if the
    /// server refuses the header.
    ///
    /// # Errors
    /// [`TokenError`]; a later attempt may succeed.
    pub async fn fetch(&self) -> Result<Token, TokenError> {
        let in_body = self.in_body.load(Ordering::Relaxed);
        let first = self.ask(in_body).await;
        if in_body || !matches!(first, Err(TokenError::Refused { code: Some(INVALID_CLIENT), .. })) {
            return first;
        }
        // Some servers read the body only, or do not decode the header as the standard requires.
        let second = self.ask(true).await;
        self.in_body.store(second.is_ok(), Ordering::Relaxed);
        second.or(first)
    }

    async fn ask(&self, in_body: bool) -> Result<Token, TokenError> {
        let response = self.http.execute(self.request(in_body)).await.map_err(no_answer)?;
        let status = response.status();
        let body = read(response).await?;
        if status == StatusCode::OK { self.token(&body) } else { Err(refused(status, &body)) }
    }

    fn request(&self, in_body: bool) -> Request {
        let OAuth { token_endpoint, client_id, client_secret, scope, .. } = &self.oauth;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.extend_pairs(scope.iter().map(|scope| ("scope", scope)));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if in_body {
            form.append_pair("client_id", client_id);
            form.append_pair("client_secret", client_secret.expose_secret());
        } else {
            headers.insert(AUTHORIZATION, basic(client_id, client_secret));
        }
        let mut request = Request::new(Method::POST, token_endpoint.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(form.finish().into());
        request
    }

    /// Returns the token in an answer (RFC 6749, section 5.1).
    fn token(&self, body: &[u8]) -> Result<Token, TokenError> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: SecretString,
            token_type: Option<String>,
            expires_in: Option<Value>,
        }
        let Answer { access_token, token_type, expires_in } =
            serde_json::from_slice(body).map_err(|_| TokenError::Unusable("it holds no access_token"))?;
        if token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(TokenError::Unusable("its token_type is not Bearer"));
        }
        let value = access_token.expose_secret();
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unusable("its access_token has characters that no token has"));
        }
        let claims = Claims::of(value);
        let now = SystemTime::now();
        let lifetime = match expires_in.as_ref().and_then(lenient::seconds) {
            Some(lifetime) => lifetime,
            None => claims.exp.map_or(ASSUMED_LIFETIME, |exp| left_until(exp, now)),
        };
        if lifetime.is_zero() {
            return Err(TokenError::Unusable("its token has expired already"));
        }
        let expires =
            now.checked_add(lifetime).ok_or(TokenError::Unusable("its expires_in is out of bounds"))?;
        let principal = claims.sub.unwrap_or_else(|| self.oauth.client_id.clone());
        Ok(Token { value: access_token, principal, lifetime, expires })
    }
}

impl fmt::Debug for TokenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenServer").field("oauth", &self.oauth).finish_non_exhaustive()
    }
}

impl Token {
    /// Returns the token itself, for brokers only.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

/// The claims of a JWT. The broker verifies it, not the bridge.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: Option<String>,
    exp: Option<Value>,
}

impl Claims {
    /// Returns the claims of a JWT; `None` for any other token.
    fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1).unwrap_or_default().trim_end_matches('=');
        let json = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        let claims: Self = serde_json::from_slice(&json).unwrap_or_default();
        // librdkafka reads the name as a C string.
        Self { sub: claims.sub.filter(|sub| !sub.is_empty() && !sub.contains('\0')), ..claims }
    }
}

/// Returns the header for HTTP Basic. By RFC 6749, section 2.3.1, both parts are form-encoded first, so a colon in them is safe.
fn basic(client_id: &str, client_secret: &SecretString) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(client_secret.expose_secret()));
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

/// Returns the time until a moment in seconds since 1970.
fn left_until(exp: Value, now: SystemTime) -> Duration {
    let moment = lenient::seconds(&exp).and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    moment.map_or(ASSUMED_LIFETIME, |moment| moment.duration_since(now).unwrap_or_default())
}

async fn read(response: Response) -> Result<Bytes, TokenError> {
    let body = outgoing::body(response, MAX_ANSWER_BYTES).await.map_err(|error| match error {
        BodyError::TooLong => TokenError::Unusable("it is too long"),
        BodyError::Broken(error) => no_answer(error),
    })?;
    Ok(lenient::body(body))
}

fn refused(status: StatusCode, body: &[u8]) -> TokenError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        error: String,
    }
    let Problem { error } = serde_json::from_slice(body).unwrap_or_default();
    let code = CODES.into_iter().find(|code| *code == error);
    // A 401 without an error code has the same meaning.
    let code = code.or((status == StatusCode::UNAUTHORIZED).then_some(INVALID_CLIENT));
    TokenError::Refused { status: status.as_u16(), code }
}

fn no_answer(error: reqwest::Error) -> TokenError {
    if error.is_timeout() {
        TokenError::Silent
    } else {
        TokenError::Unreachable { detail: outgoing::cause(error) }
    }
}

#[cfg(test)]
mod tests;
