//! `[nexudus]`: address, credentials and rate limits of Nexudus's API, and the public URL of the bridge.

use std::time::Duration;

use ::config::Value;
use secrecy::{ExposeSecret as _, SecretString};
use strum::{EnumString, VariantNames};
use url::Url;

use super::reader::values::{boolean, duration, http_url, non_empty_text, number, variant};
use super::reader::{Read, Section};

/// `[nexudus]`: the connection to the API of Nexudus.
#[derive(Debug, Clone, PartialEq)]
pub struct NexudusSettings {
    /// The origin of Nexudus's API, without the `/api` of its paths.
    pub base_url: Url,
    /// The credentials of the bridge.
    pub credentials: Credentials,
    /// Public URL of the ingress, without a slash at the end of its path.
    pub public_url: Url,
    /// The rate limits of requests.
    pub pace: Pace,
    /// The check of the webhooks while the bridge serves.
    pub guardian: GuardianSettings,
}

/// The credentials for Nexudus's API.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// User and password, with which the client fetches a token.
    Password {
        /// The user's e-mail address.
        username: String,
        /// Its password.
        password: SecretString,
        /// The shared secret of one-time passwords (RFC 6238) in base32, if the user has them.
        totp_secret: Option<SecretString>,
        /// The client id of the refresh token. Nexudus keeps one refresh token for each client id.
        client_id: String,
    },
    /// User and password in every request (RFC 7617).
    Basic {
        /// The user's e-mail address.
        username: String,
        /// Its password.
        password: SecretString,
    },
    /// A fixed token, which the client never renews.
    Token(SecretString),
}

/// The rate limits and the time-out of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time-out of one answer.
    pub request_timeout: Duration,
    /// Maximum number of requests in any 60 s.
    pub requests_per_minute: usize,
    /// Maximum number of writes in any 60 s. Writes count as requests, too.
    pub writes_per_minute: usize,
    /// Maximum number of requests in any hour.
    pub requests_per_hour: usize,
    /// Minimum time between two requests.
    pub request_spacing: Duration,
}

/// `nexudus.guardian`: the settings of the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardianSettings {
    /// Interval of the checks; zero disables the guardian.
    pub interval: Duration,
    /// True if the guardian re-enables webhooks that Nexudus disabled.
    pub reenable: bool,
}

impl Credentials {
    /// Returns the user, the password or token, the shared secret and the client id.
    fn parts(&self) -> [Option<&str>; 4] {
        match self {
            Self::Password { username, password, totp_secret, client_id } => {
                let totp_secret = totp_secret.as_ref().map(|secret| secret.expose_secret());
                [Some(username), Some(password.expose_secret()), totp_secret, Some(client_id)]
            }
            Self::Basic { username, password } => {
                [Some(username), Some(password.expose_secret()), None, None]
            }
            Self::Token(token) => [None, Some(token.expose_secret()), None, None],
        }
    }
}

/// Credentials are equal if Nexudus cannot distinguish their clients.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl NexudusSettings {
    /// Sets a client id of its own for a command that runs beside a bridge. Otherwise the command would make the refresh token of
    /// `serve` invalid.
    pub fn as_command(&mut self) {
        if let Credentials::Password { client_id, .. } = &mut self.credentials {
            client_id.push_str("/command");
        }
    }
}

const NEXUDUS: &str = "https://spaces.nexudus.com";

/// Reads the section; `None` if a required value is absent or wrong.
pub(super) fn nexudus(mut section: Section<'_>) -> Option<NexudusSettings> {
    let mistakes_before = section.mistakes();
    let mut base_url = section.get("base_url", NEXUDUS, origin(NEXUDUS));
    let credentials = credentials(&mut section);
    let public_url = section.optional("public_url", origin("https://hooks.example.com"));
    let pace = Pace {
        request_timeout: section.get("request_timeout", "15s", duration("100ms", "5m")),
        requests_per_minute: section.get("requests_per_minute", "120", number(1, 100_000)),
        writes_per_minute: section.get("writes_per_minute", "60", number(1, 100_000)),
        requests_per_hour: section.get("requests_per_hour", "5000", number(1, 1_000_000)),
        request_spacing: section.get("request_spacing", "100ms", duration("0s", "1m")),
    };
    let guardian = guardian(section.inner("guardian"));
    if section.mistakes() == mistakes_before && public_url.is_none() {
        section.mistake(
            " is not complete, expected public_url = \"https://…\" too: where Nexudus reaches the bridge",
        );
    }
    section.warn_if_unencrypted("base_url", &base_url, "the credentials travel");
    if let Some(url) = &public_url {
        section.warn_if_unencrypted("public_url", url, "events and tokens would travel");
    }
    if let Some(path) = base_url.path().strip_suffix("/api").map(str::to_owned) {
        base_url.set_path(&path);
    }
    Some(NexudusSettings { base_url, credentials: credentials?, public_url: public_url?, pace, guardian })
}

fn guardian(mut section: Section<'_>) -> GuardianSettings {
    GuardianSettings {
        interval: section.get("interval", "60s", interval),
        reenable: section.get("reenable", "true", boolean),
    }
}

/// `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Auth {
    Bearer,
    Basic,
}

fn credentials(section: &mut Section<'_>) -> Option<Credentials> {
    let mistakes_before = section.mistakes();
    let username = section.optional("username", non_empty_text);
    let password = section.secret("password", Ok);
    let auth = section.optional("auth", variant);
    let totp_secret = section.secret("totp_secret", base32);
    let client_id = section.optional("client_id", |value| header_text(non_empty_text(value)?));
    let token = section.secret("token", header_text);
    if section.mistakes() > mistakes_before {
        return None;
    }
    if let Some(token) = token {
        let has_texts = username.is_some() || client_id.is_some();
        if has_texts || password.is_some() || auth.is_some() || totp_secret.is_some() {
            section.mistake(
                " has a token and other credentials, expected either token or token_file alone, or username and password",
            );
            return None;
        }
        return Some(Credentials::Token(token));
    }
    let (Some(username), Some(password)) = (username, password) else {
        section.mistake(
            " is not complete, expected username and password_file or password, or token_file or token",
        );
        return None;
    };
    if auth == Some(Auth::Basic) {
        if totp_secret.is_some() || client_id.is_some() {
            section.mistake(".auth is \"basic\", which uses neither totp_secret nor client_id, expected auth = \"bearer\", or without them");
            return None;
        }
        return Some(Credentials::Basic { username, password });
    }
    let client_id = client_id.unwrap_or_else(default_client_id);
    Some(Credentials::Password { username, password, totp_secret, client_id })
}

/// Checks a text that is sent in a header.
fn header_text(text: String) -> Read<String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err("has characters that no header can hold, expected ASCII without spaces".into())
    }
}

/// Reads base32 as authenticator apps show it: in either case, with or without spaces and padding.
fn base32(text: String) -> Read<String> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '=')).collect();
    let bare = bare.to_ascii_uppercase();
    // 80 bits, the usual minimum of services.
    if bare.len() >= 16 && bare.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')) {
        Ok(bare)
    } else {
        Err("is not the secret of one-time passwords, expected at least 16 characters of base32 (A to Z, 2 to 7)".into())
    }
}

/// Returns a client id that differs between hosts: a token request makes the older refresh tokens of its client id invalid.
fn default_client_id() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    format!("nexudus-bridge@{}", host.chars().filter(allowed).collect::<String>())
}

/// Reads an http address, without a slash at its end.
fn origin(example: &str) -> impl Fn(&Value) -> Read<Url> + use<> {
    let wrong = format!("is not an http address, expected one such as {example}");
    let misplaced = format!("may hold neither user, query nor fragment, expected one such as {example}");
    let read = http_url(false, wrong, misplaced);
    move |value| {
        let mut url = read(value)?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(url)
    }
}

/// Reads the interval of the guardian; zero disables the guardian.
fn interval(value: &Value) -> Read<Duration> {
    let read = duration("0s", "1d")(value)?;
    if read.is_zero() || read >= Duration::from_millis(100) {
        Ok(read)
    } else {
        Err("is out of bounds, expected 100ms to 1d, or 0s for never".into())
    }
}

#[cfg(test)]
mod tests;
