//! Actions: the events that a webhook reports, and the list of each source.
//!
//! An [`Action`] is a value of Nexudus's `eWebhookAction`: one of the [`catalogue`], or one of `extra_actions` that the catalogue does
//! not have yet. [`Actions`] is the list of a source. A look-up is by name without regard to case, or by the enum's number, and
//! allocates nothing. Labels of the help centre and of Nexudus's older documentation are not accepted, but [`Actions::nearest`]
//! returns the right name for them.

pub mod catalogue;
pub mod schema;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use strum::IntoStaticStr;

use self::catalogue::{ENTRIES, Entry};

/// The kind of an action: byte-equal records of a change are copies of one event, those of a signal are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// The record is the state of an entity: byte-equal records are copies, so the id follows from the bytes.
    Change,
    /// The record describes an occurrence: two real events can have the same record, so each event gets an id of its own.
    Signal,
}

/// One action that a source takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// In the catalogue.
    Known(&'static Entry),
    /// In `extra_actions`.
    Extra(Arc<str>),
}

/// The mistake in an entry of `extra_actions`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAction {
    /// The name cannot be a part of a topic name, of a URL and of a label.
    #[error(
        "{0:?} is not an action name, expected 1 to {MAX_NAME_BYTES} letters, digits, '_', '-' or '.', not all of them digits or dots"
    )]
    Name(String),
    /// The catalogue has the action already.
    #[error("{0:?} is in the catalogue already (as {1}), take it out of extra_actions")]
    Known(String, &'static str),
    /// The topic of this action would be the quarantine topic, `{prefix}quarantine`.
    #[error("{0:?} is reserved: its topic would be the quarantine topic")]
    Reserved(String),
}

/// Maximum length of an action name in a look-up; the longest in the catalogue has 36 bytes.
pub const MAX_NAME_BYTES: usize = 100;

/// The name of the quarantine topic without `{prefix}`.
pub const QUARANTINE: &str = "quarantine";

impl Action {
    /// The API's name, byte for byte; part of the topic's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(entry) => entry.name,
            Self::Extra(name) => name,
        }
    }

    /// Returns Nexudus's number if the catalogue has the action.
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Known(entry) => Some(entry.id),
            Self::Extra(_) => None,
        }
    }

    /// Returns the kind. An action outside the catalogue may be a signal, so it counts as one.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Known(entry) => entry.kind,
            Self::Extra(_) => Kind::Signal,
        }
    }

    /// Returns the kind of record that a delivery of this action carries, if the catalogue has the action.
    pub fn entity(&self) -> Option<&'static str> {
        match self {
            Self::Known(entry) => Some(entry.entity),
            Self::Extra(_) => None,
        }
    }

    /// Finds an action of the catalogue by name, without regard to case, or by number.
    pub fn known(text: &str) -> Option<&'static Entry> {
        match number(text) {
            Some(id) => ENTRIES.binary_search_by_key(&id, |entry| entry.id).ok().map(|index| &ENTRIES[index]),
            None => ENTRIES.iter().find(|entry| entry.name.eq_ignore_ascii_case(text)),
        }
    }
}

/// The actions that a source takes: the catalogue and its extras. The index of an action stays the same while the process runs, so
/// that other tables (metrics, topics) are indexed and not searched.
#[derive(Debug, Clone)]
pub struct Actions {
    list: Vec<Action>,
    indexes: HashMap<Box<[u8]>, usize>,
}

impl Actions {
    /// Makes the list of the catalogue, followed by `extras`.
    ///
    /// # Errors
    /// [`InvalidAction`] for the first extra that cannot be an action.
    pub fn with_extras<S: AsRef<str>>(extras: impl IntoIterator<Item = S>) -> Result<Self, InvalidAction> {
        let mut list: Vec<Action> = ENTRIES.iter().map(Action::Known).collect();
        for extra in extras {
            list.push(Action::Extra(checked_extra(extra.as_ref())?));
        }
        let mut indexes = HashMap::with_capacity(list.len());
        for (action_index, action) in list.iter().enumerate() {
            indexes
                .entry(action.name().to_ascii_lowercase().into_bytes().into_boxed_slice())
                .or_insert(action_index);
        }
        Ok(Self { list, indexes })
    }

    /// Finds the index of an action by name, without regard to case, or by the enum's number.
    pub fn find(&self, text: &str) -> Option<usize> {
        if let Some(id) = number(text) {
            return ENTRIES.binary_search_by_key(&id, |entry| entry.id).ok(); // the catalogue comes first in the list
        }
        let mut lower = [0; MAX_NAME_BYTES];
        let lower = lower.get_mut(..text.len())?;
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        self.indexes.get(&*lower).copied()
    }

    /// Returns the action at an index that [`Actions::find`] gave.
    pub fn get(&self, action_index: usize) -> &Action {
        &self.list[action_index]
    }

    /// Returns all actions in the order of their indexes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Action> {
        self.list.iter()
    }

    /// Returns the nearest name to `text`: by a label of Nexudus's documentation, or by spelling.
    pub fn nearest(&self, text: &str) -> Option<&str> {
        const ALIKE: f64 = 0.6; // below this, suggestions look random
        if text.len() > MAX_NAME_BYTES {
            return None;
        }
        let wanted = letters_of(text);
        if wanted.is_empty() {
            return None;
        }
        let likeness = |action: &Action| {
            let labels = match action {
                Action::Known(entry) => [entry.name, entry.display, entry.legacy],
                Action::Extra(name) => [name, "", ""],
            };
            let alike = |label: &str| strsim::normalized_damerau_levenshtein(&letters_of(label), &wanted);
            labels.into_iter().filter(|label| !label.is_empty()).map(alike).fold(0.0, f64::max)
        };
        let scored = self.list.iter().map(|action| (likeness(action), action));
        let (likeness, best) = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        (likeness >= ALIKE).then(|| best.name())
    }

    /// Returns ` (did you mean NAME?)` with the nearest name to `text`; an empty string if no name is near.
    pub fn question(&self, text: &str) -> String {
        self.nearest(text).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::with_extras([""; 0]).expect("no extra action, none invalid")
    }
}

/// Reads a number of the enum in its canonical form: digits without a sign or a leading zero.
fn number(text: &str) -> Option<u16> {
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok()).flatten()
}

fn checked_extra(name: &str) -> Result<Arc<str>, InvalidAction> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    // Otherwise the name could be a number, or "." or ".." in a path.
    let is_required = |byte: u8| !byte.is_ascii_digit() && byte != b'.';
    if name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) || !name.bytes().any(is_required) {
        return Err(InvalidAction::Name(name.chars().take(MAX_NAME_BYTES).collect()));
    }
    if let Some(entry) = Action::known(name) {
        return Err(InvalidAction::Known(name.to_owned(), entry.name));
    }
    if name.eq_ignore_ascii_case(QUARANTINE) {
        return Err(InvalidAction::Reserved(name.to_owned()));
    }
    Ok(name.into())
}

fn letters_of(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_by_id_and_every_name_is_its_own() {
        assert!(ENTRIES.is_sorted_by_key(|entry| entry.id));
        assert_eq!(Actions::default().indexes.len(), 89);
        assert_eq!((ENTRIES[0].id, ENTRIES[88].id), (2, 90));
    }

    #[test]
    fn actions_are_found_by_name_in_any_case_and_by_number() {
        let actions = Actions::with_extras(["SomethingNew"]).unwrap();
        for (text, name) in [
            ("BookingCreate", "BookingCreate"),
            ("bookingCREATE", "BookingCreate"),
            ("6", "BookingCreate"),
            ("90", "CoworkerPaymentMethodUpdate"),
            ("HELDESKMESSAGECREATED", "HelDeskMessageCreated"),
            ("somethingnew", "SomethingNew"),
        ] {
            assert_eq!(
                actions.find(text).map(|action_index| actions.get(action_index).name()),
                Some(name),
                "{text}"
            );
        }
        for text in [
            "",
            "None",
            "1",
            "0",
            "91",
            "65537",
            "-6",
            "+6",
            "06",
            "6.",
            "٦",
            "Booking Create",
            "quarantine",
            &"x".repeat(500),
        ] {
            assert_eq!(actions.find(text), None, "{text}");
        }
    }

    #[test]
    fn labels_and_slips_lead_to_the_nearest_name() {
        let actions = Actions::with_extras(["SomethingNew"]).unwrap();
        for (text, name) in [
            ("Customer CREATED", "CoworkerCreate"),
            ("Invoice FULLY PAID", "CoworkerInvoicePaid"),
            ("HelpDeskMessageCreated", "HelDeskMessageCreated"),
            ("TeamCreate", "TeamCreated"),
            ("bookngcreate", "BookingCreate"),
            ("SomethingNeu", "SomethingNew"),
        ] {
            assert_eq!(actions.nearest(text), Some(name), "{text}");
        }
        for text in ["", "???", "zzzzzzzz", &"Booking".repeat(50)] {
            assert_eq!(actions.nearest(text), None, "{text}");
        }
    }

    #[test]
    fn extras_that_cannot_be_actions_are_refused_with_the_reason() {
        let refusal = |name: &str| Actions::with_extras([name]).unwrap_err().to_string();
        assert!(refusal("12").contains("not an action name"));
        assert!(refusal("..").contains("not an action name"));
        assert!(refusal("a/b").contains("not an action name"));
        assert!(refusal("").contains("not an action name"));
        assert!(refusal("bookingcreate").contains("as BookingCreate"));
        assert!(refusal("Quarantine").contains("reserved"));
    }

    #[test]
    fn signals_are_those_whose_record_can_be_the_same_in_two_real_events() {
        let signals = ENTRIES.iter().filter(|entry| entry.kind == Kind::Signal).count();
        assert_eq!(signals, 12);
        assert_eq!(Action::Extra("X".into()).kind(), Kind::Signal);
        assert_eq!(Action::known("AccessControlUpdate").unwrap().kind, Kind::Signal);
        assert_eq!(Action::known("BookingUpdate").unwrap().kind, Kind::Change);
    }
}
