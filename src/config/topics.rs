//! `[topics]`: names, keys, layout and settings of the topics.

use std::collections::{BTreeMap, BTreeSet};

use ::config::Value;

use super::layout::{Layout, Pattern, Rule, is_glob};
use super::reader::values::{boolean, non_empty_text, number, text};
use super::reader::{Section, nearest};
use super::sources::Sources;
use crate::action::catalogue::ENTRIES;
use crate::action::{Action, Kind, QUARANTINE};

const MAX_NAME_BYTES: usize = 249;

/// `[topics]`.
#[derive(Debug, Clone)]
pub struct Topics {
    /// The prefix of every topic name.
    pub prefix: String,
    /// The field of a record that becomes the message key; `UniqueId` if a record does not have it.
    pub key: String,
    /// True if the bridge creates missing topics at start.
    pub create: bool,
    /// True if all topics exist with their settings for certain. Not a setting: the embedded broker creates every topic, and
    /// answers no request about topic settings.
    pub are_known: bool,
    /// Settings of topics without an override.
    pub general: TopicSettings,
    /// Kafka's settings of the quarantine topic, which take precedence over `general`.
    pub quarantine_config: BTreeMap<String, String>,
    /// The topic of each action.
    pub layout: Layout,
    /// True if a delete event is followed by a tombstone, on topics that also have the creates or updates of its entity.
    tombstones: bool,
    /// The overrides, the least specific first.
    overrides: Vec<Override>,
}

/// The settings that a topic is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Number of partitions; -1 for the cluster's default.
    pub partitions: i32,
    /// Number of replicas; -1 for the cluster's default.
    pub replication_factor: i32,
    /// Kafka's own settings of the topic.
    pub config: BTreeMap<String, String>,
}

/// `[topics.overrides."GLOB"]`.
#[derive(Debug, Clone)]
struct Override {
    pattern: Pattern,
    partitions: Option<i32>,
    replication_factor: Option<i32>,
    config: BTreeMap<String, String>,
}

/// A topic that the bridge publishes events to.
#[derive(Debug, Clone)]
pub struct Topic<'a> {
    /// The full name.
    pub name: String,
    /// The actions whose events are on the topic, by name.
    pub actions: Vec<&'a Action>,
    /// The settings that the topic is created with.
    pub settings: TopicSettings,
}

impl Topics {
    /// Returns the full name of the topic of an action.
    pub fn topic_of(&self, action: &Action) -> String {
        format!("{}{}", self.prefix, self.layout.topic(action))
    }

    /// Returns the full name of the quarantine topic.
    pub fn quarantine(&self) -> String {
        format!("{}{QUARANTINE}", self.prefix)
    }

    /// Returns the topics of all actions of these sources, by name, without the quarantine topic.
    pub fn list<'a>(&self, sources: &'a Sources) -> Vec<Topic<'a>> {
        let mut topics: BTreeMap<String, Vec<&Action>> = BTreeMap::new();
        for action in actions(sources).into_values() {
            topics.entry(self.layout.topic(action)).or_default().push(action);
        }
        let topic = |(name, actions): (String, Vec<&'a Action>)| Topic {
            name: format!("{}{name}", self.prefix),
            actions,
            settings: self.settings_of(&name),
        };
        topics.into_iter().map(topic).collect()
    }

    /// Returns whether the events of an action are followed by tombstones: it deletes records whose creates or updates are on the
    /// same topic. On another topic a tombstone would remove only the delete event.
    pub fn has_tombstones(&self, action: &Action) -> bool {
        let Action::Known(deleted) = action else { return false };
        if !self.tombstones || deleted.verb != "deleted" {
            return false;
        }
        let topic = self.layout.topic(action);
        let mut writes = ENTRIES.iter().filter(|entry| entry.entity == deleted.entity && entry.is_readable());
        writes.any(|entry| self.layout.topic(&Action::Known(entry)) == topic)
    }

    /// Returns the settings of a topic, whose name is without the prefix.
    pub fn settings_of(&self, name: &str) -> TopicSettings {
        let mut settings = self.general.clone();
        for one in self.overrides.iter().filter(|one| one.applies_to(name)) {
            settings.partitions = one.partitions.unwrap_or(settings.partitions);
            settings.replication_factor = one.replication_factor.unwrap_or(settings.replication_factor);
            settings.config.extend(one.config.clone());
        }
        settings
    }
}

impl Override {
    /// Returns whether the override applies to a topic, whose name is without the prefix. A glob never applies to the quarantine
    /// topic.
    fn applies_to(&self, name: &str) -> bool {
        self.pattern.is_match(name) && (name != QUARANTINE || !is_glob(&self.pattern.text))
    }
}

/// Returns the actions of all sources by name.
fn actions(sources: &Sources) -> BTreeMap<&str, &Action> {
    let actions = sources.values().flat_map(|source| source.actions.iter());
    actions.map(|action| (action.name(), action)).collect()
}

pub(super) fn topics(mut section: Section<'_>) -> Topics {
    let prefix = section.get("prefix", "nexudus.", prefix);
    Topics {
        key: section.get("key", "Id", non_empty_text),
        create: section.get("create", "true", boolean),
        are_known: false,
        general: TopicSettings {
            partitions: section.get("partitions", "3", count(MAX_PARTITIONS)),
            replication_factor: section.get("replication_factor", "-1", count(MAX_REPLICAS)),
            config: kafka_settings(&mut section, "config"),
        },
        quarantine_config: kafka_settings(&mut section, "quarantine_config"),
        tombstones: section.get("tombstones", "false", boolean),
        layout: Layout::new(section.rules("layout", |key, value| Rule::new(key, value, &prefix))),
        overrides: overrides(&mut section),
        prefix,
    }
}

/// Reads Kafka's own settings of topics.
fn kafka_settings(section: &mut Section<'_>, key: &str) -> BTreeMap<String, String> {
    section.map(key, |_| false, |_, value| Ok(value.to_owned()))
}

const MAX_PARTITIONS: i32 = 10_000;
const MAX_REPLICAS: i32 = 100;

fn overrides(section: &mut Section<'_>) -> Vec<Override> {
    let mut overrides: Vec<Override> = section.each_below("overrides", |glob, mut section| {
        let pattern = Pattern::new(glob).map_err(|wrong| section.mistake(format_args!(" {wrong}"))).ok();
        let one = Override {
            partitions: section.optional("partitions", count(MAX_PARTITIONS)),
            replication_factor: section.optional("replication_factor", count(MAX_REPLICAS)),
            config: kafka_settings(&mut section, "config"),
            pattern: pattern?,
        };
        if glob.eq_ignore_ascii_case(QUARANTINE) && !one.config.is_empty() {
            section.mistake(
                ".config cannot be set for the quarantine topic, expected [topics.quarantine_config]",
            );
        }
        Some(one)
    });
    overrides.sort_by_key(|one| one.pattern.specificity());
    overrides
}

/// Returns the mistakes that depend on the actions of all sources.
pub(super) fn mistakes(topics: &Topics, sources: &Sources) -> Vec<String> {
    if sources.is_empty() {
        return Vec::new(); // reported by `sources`
    }
    let actions = actions(sources);
    let list = topics.list(sources);
    let mut mistakes = topics.layout.mistakes(&actions);
    mistakes.extend(list.iter().filter_map(wrong_name));
    mistakes.extend(list.iter().filter_map(|topic| topics.collision_with_extra(topic)));
    mistakes.extend(colliding(&list, &topics.quarantine()));
    mistakes.extend(list.iter().filter_map(|topic| topics.mixed_entities(topic)));
    if topics.tombstones && !actions.values().any(|action| topics.has_tombstones(action)) {
        mistakes.push(".tombstones = true has no effect: no topic has the deletes of an entity and its creates or updates, expected [topics.layout] with \"*\" = \"{entity}\"".to_owned());
    }
    let names: Vec<&str> = list.iter().map(|topic| &topic.name[topics.prefix.len()..]).collect();
    mistakes.extend(wrong_overrides(&topics.overrides, &names));
    mistakes
}

impl Topics {
    /// Returns the mistake of a layout that gives an action of `extra_actions` without a rule a topic of other actions.
    fn collision_with_extra(&self, topic: &Topic<'_>) -> Option<String> {
        let is_alone = |action: &&&Action| action.entity().is_none() && !self.layout.has_rule(action);
        let name = topic.actions.iter().find(is_alone)?.name();
        let other = topic.actions.iter().find(|action| action.name() != name)?.name();
        Some(format!(
            ".layout gives {other} the topic {:?}, which {name} of extra_actions has already, expected a rule for {name}",
            topic.name
        ))
    }

    /// Returns the mistake of a compacted topic with several entities. Compaction keeps the last message of each key, and records
    /// of different entities can have equal keys.
    fn mixed_entities(&self, topic: &Topic<'_>) -> Option<String> {
        let entity = |action: &&Action| action.entity().unwrap_or(action.name()).to_owned();
        let entities: BTreeSet<String> = topic.actions.iter().map(entity).collect();
        let mut entities = entities.into_iter();
        let (first, second) = (entities.next()?, entities.next()?);
        let what = if topic.is_compacted() {
            "has cleanup.policy = compact"
        } else if topic.actions.iter().any(|action| self.has_tombstones(action)) {
            "gets tombstones"
        } else {
            return None;
        };
        Some(format!(
            ": topic {:?} {what} and has records of several entities ({first}, {second}) with possibly equal keys, so compaction would lose events; expected a topic for each entity",
            topic.name
        ))
    }
}

fn wrong_name(Topic { name, actions, .. }: &Topic<'_>) -> Option<String> {
    let wrong = match name.as_str() {
        "." | ".." => "which Kafka refuses".to_owned(),
        _ if name.starts_with("__") => "which begins like the names of Kafka's internal topics".to_owned(),
        _ if name.len() > MAX_NAME_BYTES => format!("which has more than {MAX_NAME_BYTES} characters"),
        _ => return None,
    };
    Some(format!(".layout gives {} the topic {name:?}, {wrong}, expected another name", actions[0].name()))
}

/// Returns the mistakes of names that collide in Kafka, whose metrics write `_` for `.`.
fn colliding(list: &[Topic<'_>], quarantine: &str) -> Vec<String> {
    let plain = |name: &str| name.replace('.', "_");
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for Topic { name, actions, .. } in list {
        let action = actions[0].name();
        if plain(name).eq_ignore_ascii_case(&plain(quarantine)) {
            mistakes.push(format!(
                ".layout gives {action} the topic {name:?}, which is the quarantine topic or collides with it, expected another name"
            ));
        } else if let Some(other) = taken.insert(plain(name), name) {
            mistakes.push(format!(
                ".layout gives {action} the topic {name:?}, which collides with {other:?}: Kafka treats '.' and '_' as equal, expected another name"
            ));
        }
    }
    mistakes
}

/// Returns warnings about settings that are valid but probably unintended.
pub(super) fn warnings(topics: &Topics, sources: &Sources) -> Vec<String> {
    let list = topics.list(sources);
    let mut warnings = Vec::new();
    let signal = |topic: &Topic<'_>| {
        let signal = topic.actions.iter().find(|action| action.kind() == Kind::Signal)?;
        topic.is_compacted().then(|| format!("{} on {}", signal.name(), topic.name))
    };
    if let Some(signal) = list.iter().find_map(signal) {
        warnings.push(format!(
            "topics: compaction removes a signal once a later message has its key (such as {signal}); to keep signals, give them topics without compaction"
        ));
    }
    let has_tombstones =
        |topic: &&Topic<'_>| topic.actions.iter().any(|action| topics.has_tombstones(action));
    if topics.tombstones && topics.create && !list.iter().filter(has_tombstones).any(Topic::is_compacted) {
        warnings.push(
            "topics.tombstones: no topic with tombstones has cleanup.policy = compact, so they remove nothing; set it in [topics.overrides]".to_owned(),
        );
    }
    warnings
}

/// Returns the mistakes of overrides that apply to no topic, or contradict each other.
fn wrong_overrides(overrides: &[Override], names: &[&str]) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (index, one) in overrides.iter().enumerate() {
        let glob = &one.pattern.text;
        let applies = |name: &&&str| one.applies_to(name);
        if !names.iter().chain([&QUARANTINE]).any(|name| one.applies_to(name)) {
            let nearest = nearest(glob, names.iter().copied()).filter(|_| !is_glob(glob));
            let meant = nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default();
            mistakes
                .push(format!(".overrides.{glob:?} matches no topic{meant} (names are without the prefix)"));
        }
        let rank = one.pattern.specificity();
        for other in overrides[index + 1..].iter().filter(|other| other.pattern.specificity() == rank) {
            if let Some(name) = names.iter().filter(applies).find(|name| other.applies_to(name)) {
                mistakes.push(format!(
                    ".overrides: {glob:?} and {:?} both match {name} and neither is more specific, expected one for {name} alone",
                    other.pattern.text
                ));
            }
        }
    }
    mistakes
}

impl Topic<'_> {
    /// Returns whether Kafka keeps only the last message of each key.
    fn is_compacted(&self) -> bool {
        let policy = self.settings.config.get("cleanup.policy");
        policy.is_some_and(|policy| policy.split(',').any(|part| part.trim() == "compact"))
    }
}

fn prefix(value: &Value) -> Result<String, String> {
    const MOST: usize = MAX_NAME_BYTES - crate::action::MAX_NAME_BYTES;
    let text = text(value)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.bytes().all(allowed) && text.len() <= MOST {
        return Ok(text);
    }
    Err(format!("cannot begin a topic's name, expected up to {MOST} letters, digits, '.', '_' or '-'"))
}

/// Reads a number of partitions or replicas: positive, or -1 for the cluster's default.
fn count(most: i32) -> impl Fn(&Value) -> Result<i32, String> {
    move |value| match number(-1, most)(value)? {
        0 => Err("makes no topic, expected a positive number, or -1 for the cluster's default".into()),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests;
