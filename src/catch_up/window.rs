//! From when on, and until when, what changed is of interest: for each source and action.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use crate::action::catalogue::Entry;
use crate::config::{Config, Source};
use crate::nexudus::time;
use crate::webhooks::plan::Comparison;

/// How the beginning is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The same for all.
    At(Timestamp),
    /// For each webhook its last success less an overlap: an event may still be failing while a later one succeeds.
    LastTrigger(Duration),
}

/// The window of every source and action that can be read back.
#[derive(Debug, Clone)]
pub struct Window {
    /// The sources by the number of their location; several may share one.
    places: Vec<Arc<Source>>,
    /// By source and the place of the action: the first moment of interest.
    since: BTreeMap<(Arc<str>, usize), Timestamp>,
    /// The last moment of interest, if there is one.
    until: Option<Timestamp>,
    /// Wanted actions that tell of created or updated records, but whose beginning nobody knows.
    pub unknown: Vec<String>,
    /// Wanted actions that leave nothing to be read: deletions, signals, mere transitions. By name, each once.
    pub unreadable: Vec<&'static str>,
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
    /// `comparison` is what there is in Nexudus.
    pub fn new(
        config: &Config,
        (sources, kinds): (&[String], &[&'static Entity]),
        since: Since,
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
        let mut window =
            Self { places, since: BTreeMap::new(), until, unknown: Vec::new(), unreadable: Vec::new() };
        for source in &window.places {
            for &place in &source.wanted {
                let action = source.actions.get(place);
                let Some(entry) = crate::action::Action::known(action.name()) else { continue };
                let Some(entity) = entities::named(entry.entity) else { continue };
                if !kinds.is_empty() && !kinds.contains(&entity) {
                    continue;
                }
                if entity.created() != Some(entry) && entity.updated() != Some(entry) {
                    window.unreadable.push(entry.name);
                    continue;
                }
                let begin = match since {
                    Since::At(time) => Some(time),
                    Since::LastTrigger(overlap) => comparison
                        .and_then(|comparison| last_trigger(comparison, source, place))
                        .and_then(|time| time.checked_sub(SignedDuration::try_from(overlap).ok()?).ok()),
                };
                match begin {
                    Some(begin) => drop(window.since.insert((Arc::clone(&source.name), place), begin)),
                    None => window.unknown.push(format!("{} {}", source.name, entry.name)),
                }
            }
        }
        window.unreadable.sort_unstable();
        window.unreadable.dedup();
        window
    }

    /// The first moment at which a change of such a record is of interest; none where no source wants any.
    pub fn begin(&self, entity: &Entity) -> Option<Timestamp> {
        let entries = [entity.created(), entity.updated()];
        let begins = self.places.iter().flat_map(|source| {
            entries.into_iter().flatten().filter_map(|entry| self.since_of(source, entry))
        });
        begins.min()
    }

    /// The first moment of all.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.since.values().copied().min()
    }

    /// The last moment.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The sources of a location.
    pub fn sources_of(&self, business_id: i64) -> impl Iterator<Item = &Arc<Source>> {
        self.places.iter().filter(move |source| source.business_id == Some(business_id))
    }

    /// What a record means to a source of its location: its created action if it was created in the window, else its
    /// updated one.
    pub fn meaning(
        &self,
        source: &Arc<Source>,
        entity: &Entity,
        created_on: Option<Timestamp>,
        updated_on: Timestamp,
    ) -> Meaning {
        let begin = |entry: Option<&'static Entry>| entry.and_then(|entry| self.since_of(source, entry));
        let (created, updated) = (begin(entity.created()), begin(entity.updated()));
        let within =
            |time: Timestamp, begin: Timestamp| time >= begin && self.until.is_none_or(|until| time <= until);
        // Whether it is new is judged even where nobody wants to hear of new ones: "updated" would be wrong.
        let is_new = entity.created().is_some()
            && created_on.is_some_and(|time| created.or(updated).is_some_and(|begin| within(time, begin)));
        let (entry, begin) = if is_new { (entity.created(), created) } else { (entity.updated(), updated) };
        let changed =
            [created, updated].into_iter().flatten().min().is_some_and(|begin| within(updated_on, begin));
        match (entry, begin) {
            _ if !changed => Meaning::Outside,
            (Some(entry), Some(begin)) if is_new || within(updated_on, begin) => {
                match source.actions.find(entry.name) {
                    Some(place) => Meaning::Event(place),
                    None => Meaning::Uncovered,
                }
            }
            (Some(_), Some(_)) => Meaning::Outside,
            _ => Meaning::Uncovered,
        }
    }

    fn since_of(&self, source: &Source, entry: &Entry) -> Option<Timestamp> {
        let place = source.actions.find(entry.name)?;
        self.since.get(&(Arc::clone(&source.name), place)).copied()
    }
}

fn last_trigger(comparison: &Comparison, source: &Source, place: usize) -> Option<Timestamp> {
    let same = |pair: &&crate::webhooks::plan::Pair| {
        pair.wanted.source.name == source.name && pair.wanted.place == place
    };
    let found = comparison.pairs.iter().find(same)?.found.as_ref()?;
    time::read(found.last_trigger.as_deref().or(found.created_on.as_deref())?)
}
