//! `[sources.NAME]`: a named origin of deliveries with shared secrets of its own; one Nexudus location or one app.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use strum::{EnumString, VariantNames};
use subtle::ConstantTimeEq;

use super::NO_SOURCE;
use super::layout::{Pattern, is_glob};
use super::reader::values::{number, variant};
use super::reader::{Read, Section};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum SignaturePolicy {
    /// Refuse the delivery.
    Enforce,
    /// Accept, mark and count the delivery.
    Warn,
    /// Do not check the signature; for sources without a secret.
    Off,
}

impl Source {
    /// The source of a URL without a source: `/webhooks/{action}`.
    pub const DEFAULT: &'static str = "default";

    /// Returns whether `token` is one of the tokens, compared in constant time. True if the source has none.
    pub fn accepts_token(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return self.url_tokens.is_empty() };
        let matches =
            |known: &SecretString| bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes()));
        self.url_tokens.is_empty() || self.url_tokens.iter().any(matches)
    }

    /// Returns the form of `body` that one of the secrets signs with `signature`; `None` if the signature is wrong.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Option<Form> {
        self.keys.iter().find_map(|key| key.verify(body, signature))
    }
}

/// All sources, by name.
pub type Sources = BTreeMap<Arc<str>, Arc<Source>>;

pub(super) fn sources(root: &mut Section<'_>) -> Sources {
    let sources = root.each_below("sources", |name, section| Some(source(name, section)));
    if sources.is_empty() {
        root.notes.mistakes.push(NO_SOURCE.into());
    }
    sources.into_iter().map(|source| (Arc::clone(&source.name), Arc::new(source))).collect()
}

fn source(name: &str, mut section: Section<'_>) -> Source {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        section.mistake(" is not a source's name, expected up to 64 lower-case letters, digits, '_' or '-'");
    }
    let mistakes_before = section.mistakes();
    let secrets = section.secrets("secrets", "secret_files");
    let all_read = section.mistakes() == mistakes_before;
    let policy = section.get("signature", "enforce", variant);
    let url_tokens = section.secrets("url_tokens", "url_token_files");
    let extras = section.list("extra_actions", |name| {
        let added = Actions::with_extras([name]).map(|_| name.to_owned());
        added.map_err(|error| format!("cannot be added: {error}"))
    });
    let actions = Actions::with_extras(&extras).unwrap_or_default();
    let business_id = section.optional("business_id", number(1, i64::MAX));
    let chooses = section.has("actions");
    let choices = section.list("actions", |pattern| choice(pattern, &actions));
    let wanted = if chooses { chosen(&choices, &actions) } else { (0..actions.iter().count()).collect() };
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
            "source {name}: a secret has non-ASCII characters; Nexudus replaces each with '?', which weakens the secret"
        ));
    }
    Source {
        name: name.into(),
        policy,
        keys: secrets.iter().filter_map(|secret| SigningKey::new(secret.expose_secret()).ok()).collect(),
        url_tokens,
        wanted,
        business_id,
        actions,
    }
}

/// The indexes of the actions that a pattern matches, and whether it chooses or excludes them.
type Choice = (bool, Vec<usize>);

/// Reads a pattern of `actions`: a glob, a name or a number; `!` before it excludes. The error suggests the most similar name.
fn choice(pattern: &str, actions: &Actions) -> Read<Choice> {
    let bare = pattern.strip_prefix('!').unwrap_or(pattern);
    let matching: Vec<usize> = if is_glob(bare) {
        let glob = Pattern::new(bare)?;
        let indexes = actions.iter().enumerate().filter(|(_, action)| glob.is_match(action.name()));
        indexes.map(|(index, _)| index).collect()
    } else {
        actions.find(bare).into_iter().collect()
    };
    if !matching.is_empty() {
        return Ok((bare == pattern, matching));
    }
    Err(match actions.nearest(bare) {
        _ if is_glob(bare) => format!("{pattern:?} matches no action; `nexudus-bridge actions` lists them"),
        Some(nearest) => format!("{pattern:?} is not an action, did you mean {nearest}?"),
        None => {
            format!(
                "{pattern:?} is not an action; `nexudus-bridge actions` lists them, extra_actions adds one"
            )
        }
    })
}

/// Returns the indexes of the chosen actions that are not excluded. If all choices exclude, they exclude from all actions.
fn chosen(choices: &[Choice], actions: &Actions) -> Vec<usize> {
    let any = |kind: bool, index: usize| {
        choices.iter().any(|(chooses, indexes)| *chooses == kind && indexes.contains(&index))
    };
    let excludes_only = !choices.is_empty() && choices.iter().all(|(chooses, _)| !chooses);
    let is_chosen = |&index: &usize| (excludes_only || any(true, index)) && !any(false, index);
    (0..actions.iter().count()).filter(is_chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Vec<String> {
        let actions = Actions::with_extras(["BookingMoved"]).unwrap();
        let choices: Vec<Choice> =
            patterns.iter().map(|pattern| choice(pattern, &actions).unwrap()).collect();
        chosen(&choices, &actions)
            .into_iter()
            .map(|action_index| actions.get(action_index).name().to_owned())
            .collect()
    }

    #[test]
    fn globs_names_and_numbers_choose_and_an_exclamation_mark_excludes() {
        assert_eq!(names(&["*"]).len(), 90);
        assert_eq!(
            names(&["Booking*", "!BookingDelete", "61"]),
            ["BookingCreate", "BookingUpdate", "AccessControlUpdate", "BookingMoved"]
        );
        assert_eq!(
            names(&["!BookingDelete", "booking*", "!bookingMOVED"]),
            ["BookingCreate", "BookingUpdate"]
        );
        assert_eq!(names(&["!*Delete*"]).len(), 90 - 19);
        assert_eq!(names(&["{Team,Visitor}*ed"]).len(), 5);
        assert!(names(&["61", "!61"]).is_empty() && names(&[]).is_empty());
    }

    #[test]
    fn an_unknown_action_is_reported_with_the_nearest_name() {
        let actions = Actions::default();
        assert!(choice("BookngCreate", &actions).unwrap_err().ends_with("did you mean BookingCreate?"));
        assert!(choice("!TeamCreate", &actions).unwrap_err().ends_with("did you mean TeamCreated?"));
        assert!(choice("Dinner*", &actions).unwrap_err().contains("matches no action"));
        assert!(choice("[", &actions).unwrap_err().contains("is not a pattern"));
        assert!(
            choice("1", &actions).is_err() && choice("", &actions).is_err() && choice("!", &actions).is_err()
        );
    }
}
