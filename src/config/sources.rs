//! `[sources.NAME]`: a named origin of deliveries with shared secrets of its own; one Nexudus location or one app.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::NO_SOURCE;
use super::choice;
use super::reader::Section;
use super::reader::values::{integer, word};
use crate::action::Actions;
use crate::signature::{Form, Signature, SigningKey};

/// One `[sources.NAME]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in the URL.
    pub name: Arc<str>,
    /// The consequence of a missing or wrong signature.
    pub policy: SignaturePolicy,
    /// The shared secrets, ready for signing; several during a rotation.
    pub keys: Vec<SigningKey>,
    /// Tokens of the URL (`?token=…`); if empty, none is required.
    pub url_tokens: Vec<SecretString>,
    /// The actions that the source accepts.
    pub actions: Actions,
    /// The indexes of the actions for which the bridge keeps a webhook in Nexudus.
    pub wanted: Vec<usize>,
    /// The number of the location in Nexudus, if the bridge manages the source's webhooks.
    pub business_id: Option<i64>,
}

/// `signature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// Refuse the delivery.
    Enforce,
    /// Accept, mark and count the delivery.
    Warn,
    /// Do not check the signature; for sources without a secret.
    Off,
}

impl Source {
    /// The name of the source in `/webhooks/{action}`.
    pub const DEFAULT: &'static str = "default";

    /// Returns whether `token` is one of the tokens, compared in constant time. True if the source has none.
    pub fn accepts_token(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return self.url_tokens.is_empty() };
        let matches =
            |known: &SecretString| bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes()));
        self.url_tokens.is_empty() || self.url_tokens.iter().any(matches)
    }

    /// Returns the form of `body` for which `signature` is right with any of the secrets.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Option<Form> {
        self.keys.iter().find_map(|key| key.verify(body, signature))
    }
}

/// All sources, by name.
pub type Sources = BTreeMap<Arc<str>, Arc<Source>>;

/// Reads the sections of all sources.
pub(super) fn sources(root: &mut Section<'_>) -> Sources {
    let sources = root.each_below("sources", |name, section| Some(source(name, section)));
    if sources.is_empty() {
        root.notes.mistakes.push(NO_SOURCE.into());
    }
    sources.into_iter().map(|source| (Arc::clone(&source.name), Arc::new(source))).collect()
}

fn source(name: &str, mut section: Section<'_>) -> Source {
    const POLICIES: &[(&str, SignaturePolicy)] = &[
        ("enforce", SignaturePolicy::Enforce),
        ("warn", SignaturePolicy::Warn),
        ("off", SignaturePolicy::Off),
    ];
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        section.mistake(" is not a source's name, expected up to 64 lower-case letters, digits, '_' or '-'");
    }
    let mistakes_before = section.mistakes();
    let secrets = section.secrets("secrets", "secret_files");
    let all_read = section.mistakes() == mistakes_before;
    let policy = section.get("signature", "enforce", word(POLICIES));
    let url_tokens = section.secrets("url_tokens", "url_token_files");
    let extras = section.list("extra_actions", |name| {
        let added = Actions::with_extras([name]).map(|_| name.to_owned());
        added.map_err(|error| format!("cannot be added: {error}"))
    });
    let actions = Actions::with_extras(&extras).unwrap_or_default();
    let business_id = section.optional("business_id", integer(1, i64::MAX));
    let has_patterns = section.has("actions");
    let patterns =
        section.list("actions", |pattern| choice::check(pattern, &actions).map(|()| pattern.to_owned()));
    let patterns = if has_patterns { patterns } else { vec!["*".to_owned()] };
    if secrets.is_empty() && all_read && policy == SignaturePolicy::Enforce {
        section.mistake(" enforces signatures but has no secret, expected secrets = [\"…\"] or secret_files, or signature = \"warn\" or \"off\"");
    }
    if policy == SignaturePolicy::Off {
        section.warn(format!(
            "source {name}: signatures are not checked, anybody who knows the URL can publish"
        ));
    }
    if secrets.iter().any(|secret| !secret.expose_secret().is_ascii()) {
        section.warn(format!(
            "source {name}: a secret has non-ASCII characters; Nexudus replaces each with '?', so it is weaker than it looks"
        ));
    }
    section.close();
    Source {
        name: name.into(),
        policy,
        keys: secrets.iter().filter_map(|secret| SigningKey::new(secret.expose_secret()).ok()).collect(),
        url_tokens,
        wanted: choice::chosen(&patterns, &actions),
        business_id,
        actions,
    }
}
