//! Accounts with roles, bearer tokens and refresh tokens, Basic authentication, rate limits.
//!
//! Nexudus keeps one refresh token for each client id (the header `client_id`, by default the e-mail address). A new token
//! request for a client id invalidates its older refresh token, and so does each refresh. Access tokens stay valid.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};

use crate::behaviour::Behaviour;
use crate::message::{Request, Response};

/// E-mail address of the demo's administrator.
pub const EMAIL: &str = "admin@example.com";

/// Public password of the demo's administrator.
pub const PASSWORD: &str = "nexudus-double";

/// `expires_in`, and the lifetime of an access token, in seconds.
const TOKEN_LIFETIME: i64 = 604_799;

/// Lifetime of a refresh token.
const REFRESH_LIFETIME: SignedDuration = SignedDuration::from_hours(15 * 24);

/// Returns the demo's administrator.
pub fn administrator() -> Account {
    Account::administrator(EMAIL, PASSWORD)
}

/// A user of the API.
#[derive(Clone)]
pub struct Account {
    /// User name, and default client id.
    pub(super) email: String,
    password: String,
    /// Base32. A token request needs a one-time password then (RFC 6238: SHA-1, 30 s, 6 digits).
    totp_secret: Option<String>,
    /// Roles such as `WebHook-List` and `Booking-Read`; `None` for all roles.
    roles: Option<Vec<String>>,
    /// An access token that does not expire.
    token: Option<String>,
}

impl Account {
    /// Returns an account with all roles, without two-factor authentication.
    pub fn administrator(email: &str, password: &str) -> Self {
        let (email, password) = (email.to_owned(), password.to_owned());
        Self { email, password, totp_secret: None, roles: None, token: None }
    }

    /// Restricts the account to these roles.
    pub fn with_roles(self, roles: &[&str]) -> Self {
        Self { roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()), ..self }
    }

    /// Adds a secret for one-time passwords, in base32.
    pub fn with_totp(self, secret: &str) -> Self {
        Self { totp_secret: Some(secret.to_owned()), ..self }
    }

    /// Adds an access token that does not expire.
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    pub(super) fn has_role(&self, role: &str) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.iter().any(|known| known == role))
    }
}

/// The accounts and their tokens.
#[derive(Default)]
pub(super) struct Accounts {
    accounts: Vec<Account>,
    access: HashMap<String, AccessToken>,
    refresh: HashMap<String, RefreshToken>,
}

struct AccessToken {
    email: String,
    expires: Timestamp,
}

struct RefreshToken {
    email: String,
    client_id: String,
    expires: Timestamp,
}

impl Accounts {
    /// Adds an account, or replaces the one with the same e-mail address.
    pub(super) fn set(&mut self, account: Account) {
        self.accounts.retain(|known| known.email != account.email);
        self.accounts.push(account);
    }

    /// Invalidates all access tokens.
    pub(super) fn invalidate_access_tokens(&mut self) {
        self.access.clear();
    }

    /// Returns the account of a request, by its bearer token or Basic authentication.
    pub(super) fn authenticate(&self, request: &Request, now: Timestamp) -> Option<&Account> {
        let (scheme, value) = request.header("authorization")?.split_once(' ')?;
        let value = value.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => {
                let token = self.access.get(value).filter(|token| now < token.expires);
                self.accounts.iter().find(|account| match token {
                    Some(token) => account.email == token.email,
                    None => account.token.as_deref() == Some(value),
                })
            }
            "basic" => {
                let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
                let (email, password) = pair.split_once(':')?;
                self.with_password(email, password)
            }
            _ => None,
        }
    }

    fn with_password(&self, email: &str, password: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.email == email && account.password == password)
    }

    /// Answers `POST /api/token`.
    pub(super) fn answer(&mut self, request: &Request, behaviour: &Behaviour, now: Timestamp) -> Response {
        if request.method != "POST" {
            return Response::empty(405);
        }
        let kind = request.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let is_form = kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
        let form = if is_form { request.body.as_bytes() } else { &[] };
        let form: HashMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let client_id = request.header("client_id");
        let granted = match field("grant_type") {
            "password" => self
                .by_password(field("username"), field("password"), field("totp"))
                .map(|email| (client_id.unwrap_or(&email).to_owned(), email)),
            "refresh_token" => self.by_refresh_token(field("refresh_token"), client_id, now),
            _ => {
                return Response::oauth_error(
                    400,
                    "unsupported_grant_type",
                    "The grant type is not supported.",
                );
            }
        };
        match granted {
            Some((client_id, email)) => self.issue(email, client_id, behaviour, now),
            None => Response::oauth_error(
                behaviour.invalid_grant_status,
                "invalid_grant",
                "The user name or password is incorrect.",
            ),
        }
    }

    /// Returns the e-mail address if password and one-time password are right.
    fn by_password(&self, email: &str, password: &str, totp: &str) -> Option<String> {
        let account = self.with_password(email, password)?;
        // By the machine's clock: a test that shifts the double's clock does not shift its client's.
        let seconds = u64::try_from(Timestamp::now().as_second()).ok()?;
        let is_right = account.totp_secret.as_ref().is_none_or(|secret| is_totp(secret, totp, seconds));
        is_right.then(|| account.email.clone())
    }

    /// Returns client id and e-mail address if the refresh token is one of the client's.
    fn by_refresh_token(
        &self,
        token: &str,
        client_id: Option<&str>,
        now: Timestamp,
    ) -> Option<(String, String)> {
        let known = self.refresh.get(token)?;
        let is_valid = client_id == Some(known.client_id.as_str()) && now < known.expires;
        is_valid.then(|| (known.client_id.clone(), known.email.clone()))
    }

    fn issue(&mut self, email: String, client_id: String, behaviour: &Behaviour, now: Timestamp) -> Response {
        let opaque = |kind| format!("{kind}-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let [access, refresh] = ["access", "refresh"].map(opaque);
        self.refresh.retain(|_, known| known.email != email || known.client_id != client_id);
        let body = format!(
            r#"{{"access_token":"{access}","token_type":"bearer","expires_in":{},"refresh_token":"{refresh}"}}"#,
            behaviour.expires_in.clone().unwrap_or_else(|| TOKEN_LIFETIME.to_string())
        );
        let expires = now + SignedDuration::from_secs(TOKEN_LIFETIME);
        self.access.insert(access, AccessToken { email: email.clone(), expires });
        self.refresh.insert(refresh, RefreshToken { email, client_id, expires: now + REFRESH_LIFETIME });
        Response::json(200, body)
    }
}

/// Returns true if a one-time password is right at a Unix time, or 30 seconds before or after it.
fn is_totp(secret: &str, password: &str, seconds: u64) -> bool {
    totp_rs::Secret::try_from_base32(secret).is_ok_and(|secret| {
        let totp = totp_rs::Builder::new().with_secret(secret).build_noncompliant();
        totp.check(password, seconds).is_some()
    })
}

/// Rate limits of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Minimum time between two requests.
    pub spacing: Duration,
    /// The window of the next two limits.
    pub window: Duration,
    /// Maximum number of requests in any window.
    pub requests: usize,
    /// Maximum number of POST, PUT and DELETE requests in any window.
    pub writes: usize,
}

impl Limits {
    /// As published, without the 5,000 requests an hour.
    pub const DOCUMENTED: Self = Self {
        spacing: Duration::from_millis(100),
        window: Duration::from_secs(60),
        requests: 120,
        writes: 60,
    };

    /// No limits.
    pub const NONE: Self =
        Self { spacing: Duration::ZERO, requests: usize::MAX, writes: usize::MAX, ..Self::DOCUMENTED };
}

/// The admitted requests of the current window: time, and whether it is a write.
#[derive(Debug, Default)]
pub(super) struct Admitted(VecDeque<(Instant, bool)>);

impl Admitted {
    /// Admits a request, or returns the time until it would be admitted.
    pub(super) fn admit(&mut self, limits: &Limits, is_write: bool, now: Instant) -> Result<(), Duration> {
        let age = |at: Instant| now.duration_since(at);
        while self.0.front().is_some_and(|(at, _)| age(*at) >= limits.window.max(limits.spacing)) {
            self.0.pop_front();
        }
        // Time until the oldest of the last `limit` requests leaves the window.
        let full = |limit: usize, counts: fn(&(Instant, bool)) -> bool| {
            let (at, _) = self.0.iter().rev().filter(|request| counts(request)).nth(limit.checked_sub(1)?)?;
            Some(limits.window.saturating_sub(age(*at)))
        };
        let wait = [
            self.0.back().map(|(at, _)| limits.spacing.saturating_sub(age(*at))),
            full(limits.requests, |_| true),
            full(limits.writes, |(_, write)| *write).filter(|_| is_write),
        ];
        let wait = wait.into_iter().flatten().max().unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.0.push_back((now, is_write));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_passwords_are_those_of_rfc_6238() {
        const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"; // appendix B's, in base32; its codes' last six digits
        for (seconds, password) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert!(is_totp(SECRET, password, seconds) && is_totp(SECRET, password, seconds + 30));
            assert!(!is_totp(SECRET, password, seconds + 90));
        }
        assert!(!is_totp(SECRET, "", 59) && !is_totp("not base32!", "287082", 59));
    }

    #[test]
    fn spacing_requests_and_writes_are_each_limited_in_any_window() {
        let limits = Limits {
            spacing: Duration::from_millis(100),
            window: Duration::from_secs(10),
            requests: 4,
            writes: 2,
        };
        let mut admitted = Admitted::default();
        let begun = Instant::now();
        let mut wait = |millis: u64, write: bool| {
            let wait = admitted.admit(&limits, write, begun + Duration::from_millis(millis));
            wait.err().map(|wait| wait.as_millis())
        };
        assert_eq!(wait(0, true), None);
        assert_eq!(wait(40, false), Some(60), "too close");
        assert_eq!(wait(1000, true), None);
        assert_eq!(wait(2000, true), Some(8000), "a third write");
        assert_eq!(wait(2000, false), None);
        assert_eq!(wait(3000, false), None);
        assert_eq!(wait(4000, false), Some(6000), "a fifth request");
        assert_eq!(wait(10_000, true), None, "the first has left the window");
        assert_eq!(wait(10_500, true), Some(500));
        assert_eq!(wait(11_000, true), None);
        assert!((0..1000).all(|_| admitted.admit(&Limits::NONE, true, begun).is_ok()));
    }
}
