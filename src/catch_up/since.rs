//! The arguments of a catch-up: since when, and which sources and kinds of records.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::entities::{self, Entity};
use crate::action::Action;
use crate::outage::{OVERLAP, Outage, earlier};

/// One value of `--since`.
#[derive(Debug, Clone)]
pub enum Beginning {
    /// The same time for all actions.
    At(Timestamp),
    /// The last success of each webhook.
    LastTrigger,
    /// The outages of the running bridge.
    LastOutage,
    /// A time for one action of a source: source, name of the action, time.
    Of(String, String, Timestamp),
}

/// The beginning of the time range of every action that is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The same for all.
    At(Timestamp),
    /// For each webhook its last success, less an overlap: an earlier event may have failed until then.
    LastTrigger(Duration),
}

/// The beginnings of all time ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beginnings {
    /// The beginning of every action that is not named; `None` if they are not read.
    pub all: Option<Since>,
    /// The beginnings of single actions, by source and action.
    pub named: BTreeMap<(String, String), Timestamp>,
    /// Time before each outage of the running bridge at which to begin; `None` if its outages are not added.
    pub before_outages: Option<Duration>,
}

impl Beginnings {
    /// The value for the outages of a running bridge.
    pub const LAST_OUTAGE: &str = "last-outage";

    /// The value for [`Since::LastTrigger`].
    pub const LAST_TRIGGER: &str = "last-trigger";

    /// Combines the values of `--since` and `--overlap`.
    ///
    /// # Errors
    /// The text of the mistake.
    pub fn new(values: &[Beginning], overlap: Option<Duration>) -> Result<Self, String> {
        let mut new = Self::default();
        let overlap_or_default = overlap.unwrap_or(OVERLAP);
        for value in values {
            let is_repeated = match value {
                Beginning::At(time) => new.all.replace(Since::At(*time)).is_some(),
                Beginning::LastTrigger => new.all.replace(Since::LastTrigger(overlap_or_default)).is_some(),
                Beginning::LastOutage => {
                    new.before_outages = Some(overlap_or_default);
                    false
                }
                Beginning::Of(source, action, time) => {
                    new.named.insert((source.clone(), action.clone()), *time).is_some()
                }
            };
            if is_repeated {
                return Err("--since has two values for the same actions; expected at most one T for all, and one for each \
                            SOURCE/ACTION"
                    .to_owned());
            }
        }
        let all = new.all.and_then(|since| if let Since::At(time) = since { Some(time) } else { None });
        let now = Timestamp::now();
        if let Some(future) = all.iter().chain(new.named.values()).find(|time| **time > now) {
            return Err(format!("--since {future} is in the future; it is now {now:.0}"));
        }
        let uses_overlap = new.before_outages.is_some() || matches!(new.all, Some(Since::LastTrigger(_)));
        if overlap.is_some() && !uses_overlap {
            return Err("--overlap requires --since last-outage or last-trigger".to_owned());
        }
        Ok(new)
    }

    /// Adds the beginnings of the outages in the subset whose events can be read. A time that was given for an action stays.
    pub fn add(&mut self, outages: &[Outage], subset: &Subset) {
        let Some(overlap) = self.before_outages else { return };
        for outage in outages.iter().filter(|outage| outage.readable && subset.has(outage)) {
            let name = (outage.source.clone(), outage.action.clone());
            self.named.entry(name).or_insert_with(|| earlier(outage.since, overlap));
        }
    }

    /// Returns the values of `--since` that give the same beginnings; first the common one.
    pub fn arguments(&self) -> Vec<String> {
        let all = self.all.map(|since| match since {
            Since::At(time) => time.to_string(),
            Since::LastTrigger(_) => Self::LAST_TRIGGER.to_owned(),
        });
        let named = self.named.iter().map(|((source, action), time)| format!("{source}/{action}={time}"));
        let mut arguments: Vec<String> = all.into_iter().chain(named).collect();
        if arguments.is_empty() {
            arguments.push(Self::LAST_OUTAGE.to_owned());
        }
        arguments
    }
}

/// The sources and kinds of records that a run reads.
#[derive(Debug, Clone, Default)]
pub struct Subset {
    /// Names of sources; empty: all.
    pub sources: Vec<String>,
    /// Kinds of records; empty: all.
    pub entities: Vec<&'static Entity>,
}

impl Subset {
    /// Returns true if a source is in the subset.
    pub fn has_source(&self, name: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|source| source == name)
    }

    /// Returns true if a kind of record is in the subset. `None`, an unknown kind, is only in a subset of all kinds.
    pub fn has_entity(&self, entity: Option<&'static Entity>) -> bool {
        self.entities.is_empty() || entity.is_some_and(|entity| self.entities.contains(&entity))
    }

    /// Returns true if an outage is in the subset.
    pub fn has(&self, outage: &Outage) -> bool {
        let entity = Action::known(&outage.action).and_then(|entry| entities::named(entry.entity));
        self.has_source(&outage.source) && self.has_entity(entity)
    }
}
