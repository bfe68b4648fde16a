//! The topics and events that `tail` prints, and an event as JSON.

pub mod json;

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::action::{Action, Actions, QUARANTINE};
use crate::config::Topics;
use crate::event::{action_name, source_name};
use crate::kafka::consumer::Message;

/// Conditions on events.
#[derive(Debug, Default)]
pub struct Filter {
    /// The source is one of these; empty: any.
    pub sources: Vec<String>,
    /// The key is one of these; empty: any.
    pub keys: Vec<String>,
}

impl Filter {
    /// Returns true if an event meets both conditions.
    pub fn accepts(&self, message: &Message) -> bool {
        let source = message.header("ce_source").and_then(|source| std::str::from_utf8(source).ok());
        let source = source.and_then(source_name).map(str::as_bytes);
        let is_one_of = |names: &[String], value: Option<&[u8]>| {
            names.is_empty() || names.iter().any(|name| Some(name.as_bytes()) == value)
        };
        is_one_of(&self.sources, source) && is_one_of(&self.keys, message.key.as_deref())
    }
}

/// The topics and events that are chosen by names, numbers and globs.
pub struct Chosen {
    names: GlobSet,
    prefix: String,
    /// The topics of the layout, without the prefix.
    layout: BTreeSet<String>,
    /// The topics of the layout with a chosen action.
    with_action: BTreeSet<String>,
}

impl Chosen {
    /// Makes a choice by these patterns. Without patterns, everything is chosen. `lists` are the actions of the sources.
    ///
    /// # Errors
    /// The message about an invalid pattern.
    pub fn new(given: &[String], topics: &Topics, lists: &[&Actions]) -> Result<Self, String> {
        let names = patterns(given)?;
        let actions = || lists.iter().flat_map(|actions| actions.iter());
        let topic = |action: &Action| topics.layout.topic(action);
        Ok(Self {
            layout: actions().map(topic).collect(),
            with_action: actions().filter(|action| names.is_match(action.name())).map(topic).collect(),
            prefix: topics.prefix.clone(),
            names,
        })
    }

    /// Returns true if a topic can have chosen events.
    pub fn has_topic(&self, topic: &str) -> bool {
        without_prefix(topic, &self.prefix)
            .is_some_and(|name| self.names.is_match(name) || self.with_action.contains(name))
    }

    /// Returns true if an event is chosen by the name of its topic or by its action.
    pub fn has(&self, message: &Message) -> bool {
        let topic = without_prefix(&message.topic, &self.prefix);
        [topic, action_of(message)].into_iter().flatten().any(|name| self.names.is_match(name))
    }

    /// Returns a hint about a name that is neither an action nor a topic of the configuration. A topic of this name can still exist.
    pub fn hint(&self, name: &str, lists: &[&Actions]) -> Option<String> {
        let is_known = name.contains(['*', '?', '[', '{'])
            || name.eq_ignore_ascii_case(QUARANTINE)
            || lists.iter().any(|actions| actions.find(name).is_some())
            || self.layout.iter().any(|topic| topic.eq_ignore_ascii_case(name));
        if is_known {
            return None;
        }
        let nearest = lists.iter().find_map(|actions| actions.nearest(name));
        let question = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        Some(format!("{name:?} is not an action of the catalogue or the configuration{question}"))
    }
}

/// Returns the action of an event.
pub fn action_of(message: &Message) -> Option<&str> {
    action_name(std::str::from_utf8(message.header("ce_type")?).ok()?)
}

/// Returns the name of a topic without the prefix; `None` for topics without the prefix, and for internal topics of Kafka.
pub fn without_prefix<'a>(topic: &'a str, prefix: &str) -> Option<&'a str> {
    topic.strip_prefix(prefix).filter(|_| !topic.starts_with("__"))
}

/// Combines patterns. An empty list matches everything. A number stands for the action's name.
///
/// # Errors
/// The message about an invalid pattern.
pub fn patterns(given: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    let all = ["*".to_owned()];
    for pattern in if given.is_empty() { &all } else { given } {
        let pattern = Action::known(pattern).map_or(pattern.as_str(), |entry| entry.name);
        let glob = GlobBuilder::new(pattern).case_insensitive(true).build();
        set.add(glob.map_err(|error| format!("{pattern:?} is not a pattern: {}", error.kind()))?);
    }
    set.build().map_err(|error| error.to_string())
}
