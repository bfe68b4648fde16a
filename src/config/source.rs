//! A source: a named origin of deliveries with its own shared secrets, one Nexudus location or one app.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::action::Actions;
use crate::signature::{Form, Signature, SigningKey};

/// One `[sources.NAME]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name, as in the URL.
    pub name: Arc<str>,
    /// The consequence of a missing or wrong signature.
    pub policy: SignaturePolicy,
    /// The shared secrets, ready for signing; several during a rotation.
    pub keys: Vec<SigningKey>,
    /// Tokens of the URL (`?token=…`); if empty, none is required.
    pub url_tokens: Vec<SecretString>,
    /// The actions that it takes.
    pub actions: Actions,
    /// The indexes of the actions for which Nexudus is to have a webhook.
    pub wanted: Vec<usize>,
    /// The number of its location in Nexudus, if its webhooks are managed.
    pub business_id: Option<i64>,
    /// The files that secrets and tokens were read from.
    pub files: Vec<PathBuf>,
}

/// `signature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// Refuse.
    Enforce,
    /// Accepted, marked and counted.
    Warn,
    /// Do not look; for sources without a secret.
    Off,
}

impl Source {
    /// The name of the source in `/webhooks/{action}`.
    pub const DEFAULT: &'static str = "default";

    /// Whether `token` is one of the tokens, compared in constant time. True if the source has none.
    pub fn accepts_token(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return self.url_tokens.is_empty() };
        let matches =
            |known: &SecretString| bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes()));
        self.url_tokens.is_empty() || self.url_tokens.iter().any(matches)
    }

    /// Returns the form of `body` for which `signature` is right under any secret.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Option<Form> {
        self.keys.iter().find_map(|key| key.verify(body, signature))
    }
}
