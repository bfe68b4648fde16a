//! The window of time for each source and action: only changes inside are read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use super::since::{Beginnings, Since, Subset};
use crate::action::Action;
use crate::action::catalogue::Entry;
use crate::config::{Config, Source};
use crate::nexudus::record::Record;
use crate::nexudus::time;
use crate::webhooks::plan::Comparison;

/// The window of every source and action that can be read back.
#[derive(Debug, Clone)]
pub struct Window {
    /// The sources by the number of their location; several may share one.
    sources: Vec<Arc<Source>>,
    /// By source and action index: the first moment of interest.
    since: BTreeMap<(Arc<str>, usize), Timestamp>,
    /// The last moment of interest, if there is one.
    until: Option<Timestamp>,
    /// True if every wanted action that can be read back has a window.
    complete: bool,
    /// Wanted actions for created or updated records whose beginning is unknown, as `SOURCE/ACTION`.
    pub unknown: Vec<String>,
    /// Names of wanted actions whose events cannot be read back: deletions, signals, transitions, and actions outside the
    /// catalogue.
    pub unreadable: Vec<String>,
}

/// Upper bound of the time between `CreatedOn` and `UpdatedOn` of a record that was only created: one save writes both.
const SAVE: SignedDuration = SignedDuration::from_secs(2);

/// Times of creation and last update of a record, if Nexudus has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// `CreatedOn`.
    pub created_on: Option<Timestamp>,
    /// `UpdatedOn`.
    pub updated_on: Option<Timestamp>,
}

impl Times {
    /// Reads the times of a record.
    pub fn of(record: &Record) -> Self {
        let read = |name: &str| record.get::<String>(name).as_deref().and_then(time::read);
        Self { created_on: read("CreatedOn"), updated_on: read("UpdatedOn") }
    }

    /// Returns the time of the last update after the creation, if there was one. A record without `CreatedOn` counts as
    /// updated.
    fn update(&self) -> Option<Timestamp> {
        let later = |updated: &Timestamp| {
            self.created_on.is_none_or(|created| updated.duration_since(created) > SAVE)
        };
        self.updated_on.filter(later)
    }
}

/// The result of judging one change of a record for one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An event of the source's action with this index.
    Event(usize),
    /// The record changed in the window, but the source wants no action for that change.
    Uncovered,
    /// The record did not change in the window.
    Outside,
}

impl Window {
    /// Returns the windows of a subset. With [`Since::LastTrigger`], `comparison` has the webhooks in Nexudus. Each
    /// begins with a whole second: a record that is read can lack the fraction of its time.
    pub fn new(
        config: &Config,
        subset: &Subset,
        since: &Beginnings,
        until: Option<Timestamp>,
        comparison: Option<&Comparison>,
    ) -> Self {
        let sources: Vec<Arc<Source>> = config
            .sources
            .values()
            .filter(|source| subset.has_source(&source.name) && source.business_id.is_some())
            .cloned()
            .collect();
        let (unknown, unreadable) = Default::default();
        let mut window = Self { sources, since: BTreeMap::new(), until, complete: true, unknown, unreadable };
        for source in &window.sources {
            for &action_index in &source.wanted {
                let action = source.actions.get(action_index);
                let entry = Action::known(action.name());
                let entity = entry.and_then(|entry| entities::named(entry.entity));
                if !subset.has_entity(entity) {
                    continue;
                }
                let is_change = entity.zip(entry).is_some_and(|(entity, entry)| entity.is_changed_by(entry));
                if !is_change {
                    window.unreadable.push(action.name().to_owned());
                    continue;
                }
                let named = since.named.get(&(source.name.to_string(), action.name().to_owned()));
                let begin = named.copied().or_else(|| match since.all? {
                    Since::At(time) => Some(time),
                    Since::LastTrigger(overlap) => {
                        let time = last_trigger(comparison?, &source.name, action.name())?;
                        time.checked_sub(SignedDuration::try_from(overlap).ok()?).ok()
                    }
                });
                if let Some(begin) = begin.and_then(whole_second) {
                    window.since.insert((Arc::clone(&source.name), action_index), begin);
                    continue;
                }
                window.complete = false;
                if since.all.is_some() {
                    window.unknown.push(format!("{}/{}", source.name, action.name()));
                }
            }
        }
        window.unreadable.sort_unstable();
        window.unreadable.dedup();
        window
    }

    /// Returns the same windows, but none begins before the second of this time.
    pub fn not_before(mut self, time: Timestamp) -> Self {
        for begin in self.since.values_mut() {
            *begin = (*begin).max(whole_second(time).unwrap_or(*begin));
        }
        self
    }

    /// Returns beginnings that give the same windows again, whatever the webhooks in Nexudus are by then.
    pub fn beginnings(&self) -> Beginnings {
        let mut shared: BTreeMap<Timestamp, usize> = BTreeMap::new();
        for begin in self.since.values() {
            *shared.entry(*begin).or_default() += 1;
        }
        // The most frequent beginning becomes that of all, unless that would give a window to actions that have none.
        let most = shared.into_iter().max_by_key(|(_, actions)| *actions).map(|(begin, _)| begin);
        let all = most.filter(|_| self.complete);
        let own = self.since.iter().filter(|(_, begin)| all != Some(**begin));
        let named = own.filter_map(|((name, action_index), begin)| {
            let source = self.sources.iter().find(|source| source.name == *name)?;
            Some(((name.to_string(), source.actions.get(*action_index).name().to_owned()), *begin))
        });
        Beginnings { all: all.map(Since::At), named: named.collect(), before_outages: None }
    }

    /// Returns true if this action of this source has a window.
    pub fn has(&self, source: &str, action: &str) -> bool {
        self.since(source, action).is_some()
    }

    /// Returns the beginning of the window of this action of this source.
    pub fn since(&self, source: &str, action: &str) -> Option<Timestamp> {
        let source = self.sources.iter().find(|known| *known.name == *source)?;
        self.since_of(source, Action::known(action)).map(|(_, begin)| begin)
    }

    /// The earliest begin of a window for this kind of record; `None` if no source wants it.
    pub fn begin(&self, entity: &Entity) -> Option<Timestamp> {
        let entries = [entity.created(), entity.updated()];
        let begins = self.sources.iter().flat_map(|source| {
            entries.into_iter().filter_map(|entry| self.since_of(source, entry)).map(|(_, begin)| begin)
        });
        begins.min()
    }

    /// Returns true if any source wants an action of a new or changed record of this kind.
    pub fn asks_for(&self, entity: &Entity) -> bool {
        let wants = |source: &Arc<Source>| {
            let mut names = source.wanted.iter().map(|&action_index| source.actions.get(action_index).name());
            names.any(|name| Action::known(name).is_some_and(|entry| entity.is_changed_by(entry)))
        };
        self.sources.iter().any(wants)
    }

    /// The earliest begin of all windows; `None` if nothing can be read back.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.since.values().copied().min()
    }

    /// Checks that the arguments leave something to read.
    ///
    /// # Errors
    /// The text of the mistake.
    pub fn check(&self, since: &Beginnings, subset: &Subset) -> Result<(), String> {
        for (source, action) in since.named.keys() {
            if !self.has(source, action) {
                return Err(format!(
                    "--since {source}/{action}: no chosen source of this name wants this action, or it is not about created or \
                     updated records of a chosen kind"
                ));
            }
        }
        for entity in &subset.entities {
            if !self.asks_for(entity) {
                let actions = [entity.created(), entity.updated()].into_iter().flatten();
                let actions: Vec<&str> = actions.map(|entry| entry.name).collect();
                let (name, actions) = (entity.name, actions.join(" or "));
                return Err(format!("no chosen source wants {actions}, the actions of {name} records"));
            }
        }
        match (self.earliest(), self.until) {
            (Some(begin), Some(until)) if begin > until => {
                Err(format!("--until {until} lies before the beginning, {begin}"))
            }
            (None, _) if !self.unknown.is_empty() => Err(format!(
                "no webhook shows since when events are missing; expected --since with a time for {}",
                self.unknown.join(", ")
            )),
            _ => Ok(()),
        }
    }

    /// Returns true if a window with this begin contains this time.
    pub fn holds(&self, time: Timestamp, begin: Timestamp) -> bool {
        time >= begin && self.until.is_none_or(|until| time <= until)
    }

    /// Judges a record for each source of its location: one event for each action whose window holds the change, else one
    /// entry without an event. Empty if no source has that location.
    pub fn meanings(&self, business_id: i64, entity: &Entity, times: Times) -> Vec<(Arc<Source>, Meaning)> {
        let sources = self.sources.iter().filter(|source| source.business_id == Some(business_id));
        let judged = |source: &Arc<Source>| {
            let meanings = self.judge(source, entity, times).into_iter();
            meanings.map(|meaning| (Arc::clone(source), meaning)).collect::<Vec<_>>()
        };
        sources.flat_map(judged).collect()
    }

    /// Judges the creation and the update of a record, each by the window of its own action. Both can be events.
    fn judge(&self, source: &Source, entity: &Entity, times: Times) -> Vec<Meaning> {
        let changes = [(entity.created(), times.created_on), (entity.updated(), times.update())]
            .map(|(entry, time)| (self.since_of(source, entry), time));
        let holds = |time: Option<Timestamp>, begin| time.is_some_and(|time| self.holds(time, begin));
        let event = |(window, time): &(Option<(usize, Timestamp)>, Option<Timestamp>)| {
            let (action_index, begin) = (*window)?;
            holds(*time, begin).then_some(Meaning::Event(action_index))
        };
        let events: Vec<Meaning> = changes.iter().filter_map(event).collect();
        if !events.is_empty() {
            return events;
        }
        let begins = changes.iter().filter_map(|(window, _)| window.map(|(_, begin)| begin));
        let first = begins.min().or_else(|| self.begin(entity));
        let is_uncovered =
            |begin| changes.iter().any(|(window, time)| window.is_none() && holds(*time, begin));
        vec![if first.is_some_and(is_uncovered) { Meaning::Uncovered } else { Meaning::Outside }]
    }

    /// Returns the events that a record can give, as actions and times of the changes. A missing time counts as the
    /// beginning of the window, and a missing location as that of every source.
    fn possible(&self, entity: &Entity, times: Times, business_id: Option<i64>) -> Vec<(&str, Timestamp)> {
        let changes = [
            (entity.created(), times.created_on, times.created_on.is_none()),
            (entity.updated(), times.update(), times.updated_on.is_none()),
        ];
        let is_here = |source: &&Arc<Source>| business_id.is_none() || source.business_id == business_id;
        let events = self.sources.iter().filter(is_here).flat_map(|source| {
            changes.into_iter().filter_map(|(entry, time, is_missing)| {
                let (action_index, begin) = self.since_of(source, entry)?;
                let time =
                    if is_missing { Some(begin) } else { time.filter(|time| self.holds(*time, begin)) };
                Some((source.actions.get(action_index).name(), time?))
            })
        });
        events.collect()
    }

    /// Returns the time of a record's first change that can give an event.
    pub fn first_change(&self, entity: &Entity, times: Times, business_id: Option<i64>) -> Option<Timestamp> {
        self.possible(entity, times, business_id).into_iter().map(|(_, time)| time).min()
    }

    /// Returns the names of the actions under which a record can be published.
    pub fn actions(&self, entity: &Entity, times: Times, business_id: Option<i64>) -> BTreeSet<&str> {
        self.possible(entity, times, business_id).into_iter().map(|(action, _)| action).collect()
    }

    /// Returns the index of a source's action, and the begin of its window.
    fn since_of(&self, source: &Source, entry: Option<&Entry>) -> Option<(usize, Timestamp)> {
        let action_index = source.actions.find(entry?.name)?;
        Some((action_index, *self.since.get(&(Arc::clone(&source.name), action_index))?))
    }
}

/// Rounds a time down to the second. `None` if that is out of range.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second() - i64::from(time.subsec_nanosecond() < 0)).ok()
}

fn last_trigger(comparison: &Comparison, source: &str, action: &str) -> Option<Timestamp> {
    let found = comparison.pair(source, action)?.found.as_ref()?;
    time::read(found.last_trigger.as_deref().or(found.created_on.as_deref())?)
}

#[cfg(test)]
mod tests;
