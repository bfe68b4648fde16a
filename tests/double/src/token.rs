//! Who may ask: accounts with roles, bearer tokens and their refresh tokens, Basic authentication.
//!
//! Nexudus keeps one refresh token for each client id (the header `client_id`, by default the e-mail address). A new
//! token request for a client id voids its older refresh token, and so does each refresh. Access tokens are opaque, and a
//! new one voids no other.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};

use crate::manners::Manners;
use crate::message::{Asked, Reply};

/// E-mail address of the demo's administrator.
pub const EMAIL: &str = "admin@example.com";

/// The administrator's password, known to everybody.
pub const PASSWORD: &str = "nexudus-double";

/// A user of the API.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The e-mail address: user name, and default client id.
    pub email: String,
    /// The password, for tokens and for Basic authentication.
    pub password: String,
    /// Base32; with one, a token request needs a one-time password (RFC 6238: SHA-1, 30 s, 6 digits). Basic
    /// authentication does not ask for it.
    pub totp_secret: Option<String>,
    /// What the user may do.
    pub roles: Roles,
    /// Access tokens that work as long as the account is there.
    pub fixed_tokens: Vec<String>,
}

/// What a user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// All, as a full unrestricted administrator.
    All,
    /// These, such as `WebHook-List`, `WebHook-Edit`, `Business-List`, `Booking-Read`.
    Only(Vec<String>),
}

impl Account {
    /// An unrestricted administrator without two-factor authentication.
    pub fn administrator(email: &str, password: &str) -> Self {
        Self {
            email: email.to_owned(),
            password: password.to_owned(),
            totp_secret: None,
            roles: Roles::All,
            fixed_tokens: Vec::new(),
        }
    }

    /// The same with these roles only.
    pub fn with_roles(mut self, roles: &[&str]) -> Self {
        self.roles = Roles::Only(roles.iter().map(|role| (*role).to_owned()).collect());
        self
    }

    /// The same with a secret for one-time passwords, base32.
    pub fn with_totp(mut self, secret: &str) -> Self {
        self.totp_secret = Some(secret.to_owned());
        self
    }

    /// The same with an access token that does not end.
    pub fn with_token(mut self, token: &str) -> Self {
        self.fixed_tokens.push(token.to_owned());
        self
    }

    pub(super) fn may(&self, role: &str) -> bool {
        match &self.roles {
            Roles::All => true,
            Roles::Only(roles) => roles.iter().any(|known| known == role),
        }
    }
}

/// Without password, secret and tokens.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("email", &self.email)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// The accounts and the tokens that were given to them.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) accounts: Vec<Account>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    /// The step of the last one-time password of each account.
    last_step: HashMap<String, u64>,
}

struct Access {
    email: String,
    ends: Timestamp,
}

struct Refresh {
    email: String,
    client_id: String,
    ends: Timestamp,
}

impl Tokens {
    /// Adds an account, or replaces the one of the same address.
    pub(super) fn put(&mut self, account: Account) {
        self.accounts.retain(|known| known.email != account.email);
        self.accounts.push(account);
    }

    /// Makes every access token that was given invalid.
    pub(super) fn end_access(&mut self) {
        self.access.clear();
    }

    /// Makes every refresh token that was given invalid.
    pub(super) fn void_refresh(&mut self) {
        self.refresh.clear();
    }

    /// Who asks, by bearer token or Basic authentication.
    pub(super) fn who(&self, asked: &Asked, now: Timestamp) -> Option<&Account> {
        let (scheme, value) = asked.header("authorization")?.split_once(' ')?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let given = self.access.get(value).filter(|access| now < access.ends);
            return self.accounts.iter().find(|account| match given {
                Some(access) => account.email == access.email,
                None => account.fixed_tokens.iter().any(|token| token == value),
            });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
        let (email, password) = pair.split_once(':')?;
        self.accounts.iter().find(|account| account.email == email && account.password == password)
    }

    /// `POST /api/token`.
    pub(super) fn answer(&mut self, asked: &Asked, manners: &Manners, now: Timestamp) -> Reply {
        if asked.method != "POST" {
            return Reply::empty(405);
        }
        let is_form = asked.header("content-type").is_some_and(|kind| {
            kind.split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
        });
        let form: HashMap<String, String> = if is_form {
            url::form_urlencoded::parse(&asked.body).into_owned().collect()
        } else {
            HashMap::new()
        };
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let client_id = asked.header("client_id");
        let granted = match field("grant_type") {
            "password" => self
                .by_password(field("username"), field("password"), field("totp"), manners)
                .map(|email| (client_id.unwrap_or(&email).to_owned(), email)),
            "refresh_token" => self.by_refresh(field("refresh_token"), client_id, now),
            _ => {
                return Reply::oauth_error(400, "unsupported_grant_type", "The grant type is not supported.");
            }
        };
        match granted {
            Some((client_id, email)) => self.give(email, client_id, manners, now),
            None => Reply::oauth_error(
                manners.invalid_grant_status,
                "invalid_grant",
                "The user name or password is incorrect.",
            ),
        }
    }

    fn by_password(&mut self, email: &str, password: &str, totp: &str, manners: &Manners) -> Option<String> {
        let account =
            self.accounts.iter().find(|account| account.email == email && account.password == password)?;
        if let Some(secret) = &account.totp_secret {
            // The machine's own time: a test that puts the double's clock forward leaves its client's where it is.
            let seconds = u64::try_from(Timestamp::now().as_second()).ok()?;
            let step = step_of(secret, totp, seconds)?;
            let last = self.last_step.insert(email.to_owned(), step);
            if manners.totp_once && last == Some(step) {
                return None;
            }
        }
        Some(account.email.clone())
    }

    fn by_refresh(
        &mut self,
        token: &str,
        client_id: Option<&str>,
        now: Timestamp,
    ) -> Option<(String, String)> {
        let known = self.refresh.get(token)?;
        let fits = client_id == Some(known.client_id.as_str()) && now < known.ends;
        fits.then(|| (known.client_id.clone(), known.email.clone()))
    }

    fn give(&mut self, email: String, client_id: String, manners: &Manners, now: Timestamp) -> Reply {
        let ends = |lifetime| now + SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let [access, refresh] = ["access", "refresh"].map(opaque);
        self.refresh.retain(|_, known| known.email != email || known.client_id != client_id);
        let body = format!(
            r#"{{"access_token":"{access}","token_type":"bearer","expires_in":{},"refresh_token":"{refresh}"}}"#,
            manners.expires_in.clone().unwrap_or_else(|| manners.token_lifetime.as_secs().to_string())
        );
        let (access_ends, refresh_ends) = (ends(manners.token_lifetime), ends(manners.refresh_lifetime));
        self.access.insert(access, Access { email: email.clone(), ends: access_ends });
        self.refresh.insert(refresh, Refresh { email, client_id, ends: refresh_ends });
        Reply::json(body)
    }
}

/// The step of time that a one-time password belongs to; none if it is wrong. One step of delay either way is forgiven.
fn step_of(secret: &str, password: &str, seconds: u64) -> Option<u64> {
    let secret = totp_rs::Secret::try_from_base32(secret).ok()?;
    totp_rs::Builder::new().with_secret(secret).build_noncompliant().check(password, seconds)
}

fn opaque(kind: &str) -> String {
    format!("{kind}-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_passwords_are_those_of_rfc_6238() {
        const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"; // appendix B's, in base32; its codes' last six digits
        for (seconds, password) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(step_of(SECRET, password, seconds), Some(seconds / 30));
            assert_eq!(step_of(SECRET, password, seconds + 30), Some(seconds / 30));
            assert_eq!(step_of(SECRET, password, seconds + 90), None);
        }
        assert_eq!(step_of(SECRET, "", 59), None);
        assert_eq!(step_of("not base32!", "287082", 59), None);
    }

    #[test]
    fn the_debug_output_of_an_account_holds_no_secret() {
        let account = Account::administrator("a@example.com", "s3cret").with_token("t0ken").with_totp("T0TP");
        let said = format!("{account:?}");
        assert!(said.contains("a@example.com") && !said.contains("s3cret"), "{said}");
        assert!(!said.contains("t0ken") && !said.contains("T0TP"), "{said}");
    }
}
