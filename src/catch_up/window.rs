//! From when on, and until when, what changed is of interest: for each source and action.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use super::since::{Beginnings, Since};
use crate::action::Action;
use crate::action::catalogue::Entry;
use crate::config::{Config, Source};
use crate::nexudus::time;
use crate::webhooks::plan::Comparison;

/// The window of every source and action that can be read back.
#[derive(Debug, Clone)]
pub struct Window {
    /// The sources by the number of their location; several may share one.
    places: Vec<Arc<Source>>,
    /// By source and the place of the action: the first moment of interest.
    since: BTreeMap<(Arc<str>, usize), Timestamp>,
    /// The last moment of interest, if there is one.
    until: Option<Timestamp>,
    /// Whether every wanted action that can be read back has a window.
    complete: bool,
    /// Wanted actions that tell of created or updated records, but whose beginning nobody knows. As `SOURCE/ACTION`.
    pub unknown: Vec<String>,
    /// Wanted actions that leave nothing to be read: deletions, signals, mere transitions, and what the catalogue does
    /// not know. By name, each once.
    pub unreadable: Vec<String>,
}

/// What a record that changed means to one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An event of the source's action at this place.
    Event(usize),
    /// It changed in the window, but no action that is wanted tells of it.
    Uncovered,
    /// It did not change in the window.
    Outside,
}

impl Window {
    /// The windows of these sources (none: all) and kinds of records (none: all). With [`Since::LastTrigger`],
    /// `comparison` is what there is in Nexudus. Each begins with a whole second: records that are read can have lost the
    /// fraction of theirs.
    pub fn new(
        config: &Config,
        (sources, kinds): (&[String], &[&'static Entity]),
        since: &Beginnings,
        until: Option<Timestamp>,
        comparison: Option<&Comparison>,
    ) -> Self {
        let named =
            |source: &&Arc<Source>| sources.is_empty() || sources.iter().any(|name| **name == *source.name);
        let places: Vec<Arc<Source>> = config
            .sources
            .values()
            .filter(named)
            .filter(|source| source.business_id.is_some())
            .cloned()
            .collect();
        let (unknown, unreadable) = Default::default();
        let mut window = Self { places, since: BTreeMap::new(), until, complete: true, unknown, unreadable };
        for source in &window.places {
            for &place in &source.wanted {
                let action = source.actions.get(place);
                let entry = Action::known(action.name());
                let entity = entry.and_then(|entry| entities::named(entry.entity));
                if !kinds.is_empty() && !entity.is_some_and(|entity| kinds.contains(&entity)) {
                    continue;
                }
                let tells = entity.zip(entry).is_some_and(|(entity, entry)| entity.told_by(entry));
                if !tells {
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
                    window.since.insert((Arc::clone(&source.name), place), begin);
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

    /// The same windows, but none begins before this moment.
    pub fn not_before(mut self, moment: Timestamp) -> Self {
        for begin in self.since.values_mut() {
            *begin = (*begin).max(moment);
        }
        self
    }

    /// What gives the same windows again, whatever webhooks tell by then.
    pub fn beginnings(&self) -> Beginnings {
        let mut shared: BTreeMap<Timestamp, usize> = BTreeMap::new();
        for begin in self.since.values() {
            *shared.entry(*begin).or_default() += 1;
        }
        // What most have in common is said once, unless that would give a window to actions that have none.
        let most = shared.into_iter().max_by_key(|(_, actions)| *actions).map(|(begin, _)| begin);
        let all = most.filter(|_| self.complete);
        let own = self.since.iter().filter(|(_, begin)| all != Some(**begin));
        let named = own.filter_map(|((name, place), begin)| {
            let source = self.places.iter().find(|source| source.name == *name)?;
            Some(((name.to_string(), source.actions.get(*place).name().to_owned()), *begin))
        });
        Beginnings { all: all.map(Since::At), named: named.collect() }
    }

    /// Whether this action of this source has a window.
    pub fn has(&self, source: &str, action: &str) -> bool {
        let source = self.places.iter().find(|place| *place.name == *source);
        source.is_some_and(|source| self.since_of(source, Action::known(action)).is_some())
    }

    /// The first moment at which a change of such a record is of interest; none where no source wants any.
    pub fn begin(&self, entity: &Entity) -> Option<Timestamp> {
        let entries = [entity.created(), entity.updated()];
        let begins = self.places.iter().flat_map(|source| {
            entries.into_iter().filter_map(|entry| self.since_of(source, entry)).map(|(_, begin)| begin)
        });
        begins.min()
    }

    /// Whether any source wants an action that tells of a new or changed record of this kind.
    pub fn asks_for(&self, entity: &Entity) -> bool {
        let wants = |source: &Arc<Source>| {
            let mut names = source.wanted.iter().map(|&place| source.actions.get(place).name());
            names.any(|name| Action::known(name).is_some_and(|entry| entity.told_by(entry)))
        };
        self.places.iter().any(wants)
    }

    /// The first moment of all; none where there is nothing to be read back.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.since.values().copied().min()
    }

    /// Whether a window that begins so holds this moment.
    pub fn holds(&self, time: Timestamp, begin: Timestamp) -> bool {
        time >= begin && self.until.is_none_or(|until| time <= until)
    }

    /// What a record means to each source of its location; empty if no source has it.
    pub fn meanings(
        &self,
        business_id: i64,
        entity: &Entity,
        created_on: Option<Timestamp>,
        updated_on: Timestamp,
    ) -> Vec<(Arc<Source>, Meaning)> {
        let sources = self.places.iter().filter(|source| source.business_id == Some(business_id));
        let meaning =
            |source: &Arc<Source>| (Arc::clone(source), self.meaning(source, entity, created_on, updated_on));
        sources.map(meaning).collect()
    }

    /// What a record means to a source of its location: its created action if it was created in the window, else its
    /// updated one. New ones count though they changed again after the window's end: nothing else tells that they are new.
    fn meaning(
        &self,
        source: &Source,
        entity: &Entity,
        created_on: Option<Timestamp>,
        updated_on: Timestamp,
    ) -> Meaning {
        let (created, updated) =
            (self.since_of(source, entity.created()), self.since_of(source, entity.updated()));
        let begins = [created, updated].into_iter().flatten().map(|(_, begin)| begin);
        let Some(first) = begins.min().or_else(|| self.begin(entity)) else { return Meaning::Outside };
        // Whether it is new is judged even where nobody wants to hear of new ones: "updated" would be wrong.
        let new_since = created.map_or(first, |(_, begin)| begin);
        let is_new = entity.created().is_some() && created_on.is_some_and(|time| self.holds(time, new_since));
        match if is_new { created } else { updated } {
            Some((place, begin)) if is_new || self.holds(updated_on, begin) => Meaning::Event(place),
            None if is_new || self.holds(updated_on, first) => Meaning::Uncovered,
            _ => Meaning::Outside,
        }
    }

    /// The place of a source's action, and since when it is of interest.
    fn since_of(&self, source: &Source, entry: Option<&Entry>) -> Option<(usize, Timestamp)> {
        let place = source.actions.find(entry?.name)?;
        Some((place, *self.since.get(&(Arc::clone(&source.name), place))?))
    }
}

/// The second that a moment lies in; none before all time.
pub(super) fn whole_second(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second() - i64::from(time.subsec_nanosecond() < 0)).ok()
}

fn last_trigger(comparison: &Comparison, source: &str, action: &str) -> Option<Timestamp> {
    let found = comparison.pair(source, action)?.found.as_ref()?;
    time::read(found.last_trigger.as_deref().or(found.created_on.as_deref())?)
}

#[cfg(test)]
mod tests;
