//! The time range of each source and action. Only changes inside the range are read back.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use super::since::{Beginnings, Since, Subset};
use crate::action::Action;
use crate::action::catalogue::Entry;
use crate::config::{Config, Source};
use crate::nexudus::record::RawRecord;
use crate::outage::earlier;
use crate::webhooks::plan::Comparison;

/// The time ranges of all sources and actions that can be read back.
#[derive(Debug, Clone)]
pub struct TimeRanges {
    /// The chosen sources with a location; several may share one.
    sources: Vec<Arc<Source>>,
    ranges: Vec<TimeRange>,
    /// The end of all ranges; `None` if they have no end.
    until: Option<Timestamp>,
    /// True if every wanted action that can be read back has a range.
    complete: bool,
    /// Wanted actions for created or updated records whose beginning is unknown, as `SOURCE/ACTION`.
    pub unknown: Vec<String>,
    /// Names of wanted actions whose events cannot be read back: deletions, signals, transitions, and actions outside the
    /// catalogue.
    pub unreadable: Vec<String>,
}

/// The time range of one action of one source.
#[derive(Debug, Clone)]
struct TimeRange {
    source: Arc<Source>,
    action_index: usize,
    entry: &'static Entry,
    begin: Timestamp,
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
    pub fn of(record: &RawRecord) -> Self {
        Self { created_on: record.time("CreatedOn"), updated_on: record.time("UpdatedOn") }
    }

    /// Returns the time of the creation or, with `is_update`, of the last update after it; `None` without such an update. Returns
    /// `missing` if the record lacks the time. A record without `CreatedOn` counts as updated.
    fn at(&self, is_update: bool, missing: Option<Timestamp>) -> Option<Timestamp> {
        if !is_update {
            return self.created_on.or(missing);
        }
        let Some(updated) = self.updated_on else { return missing };
        let is_later = self.created_on.is_none_or(|created| updated.duration_since(created) > SAVE);
        is_later.then_some(updated)
    }
}

/// The events of a record, or the reason why it has none.
#[derive(Debug, Clone)]
pub enum Judgement {
    /// The source and the index of the action of each event.
    Events(Vec<(Arc<Source>, usize)>),
    /// No source has the location of the record.
    Elsewhere,
    /// The record changed, but no source receives the action for that change.
    Uncovered,
    /// The record did not change in any range.
    Outside,
}

impl TimeRange {
    fn is_for(&self, entity: &Entity) -> bool {
        self.entry.entity == entity.name
    }

    fn is_for_updates(&self) -> bool {
        self.entry.verb == "updated"
    }
}

impl TimeRanges {
    /// Returns the ranges of a subset. With [`Since::LastTrigger`], `comparison` has the webhooks in Nexudus. Each range begins with a
    /// whole second, since a record can lack the fraction of its time.
    pub fn new(
        config: &Config,
        subset: &Subset,
        since: &Beginnings,
        until: Option<Timestamp>,
        comparison: Option<&Comparison>,
    ) -> Self {
        let is_chosen =
            |source: &&Arc<Source>| subset.has_source(&source.name) && source.business_id.is_some();
        let sources: Vec<Arc<Source>> = config.sources.values().filter(is_chosen).cloned().collect();
        let (mut ranges, mut unknown, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        let mut complete = true;
        for source in &sources {
            for &action_index in &source.wanted {
                let action = source.actions.get(action_index).name();
                let entry = Action::known(action);
                if !subset.has_entity(entry.and_then(|entry| entities::named(entry.entity))) {
                    continue;
                }
                let Some(entry) = entry.filter(|entry| entry.is_readable()) else {
                    unreadable.push(action.to_owned());
                    continue;
                };
                let named = since.named.get(&(source.name.to_string(), action.to_owned()));
                let begin = named.copied().or_else(|| match since.all? {
                    Since::At(time) => Some(time),
                    Since::LastTrigger(overlap) => {
                        let found = comparison?.pair(&source.name, action)?.found.as_ref()?;
                        Some(earlier(found.last_success()?, overlap))
                    }
                });
                if let Some(begin) = begin.map(|begin| earlier(begin, Duration::ZERO)) {
                    ranges.push(TimeRange { source: Arc::clone(source), action_index, entry, begin });
                    continue;
                }
                complete = false;
                if since.all.is_some() {
                    unknown.push(format!("{}/{action}", source.name));
                }
            }
        }
        unreadable.sort_unstable();
        unreadable.dedup();
        Self { sources, ranges, until, complete, unknown, unreadable }
    }

    /// Returns the same ranges, but with no beginning before the second of this time.
    pub fn not_before(mut self, time: Timestamp) -> Self {
        for range in &mut self.ranges {
            range.begin = range.begin.max(earlier(time, Duration::ZERO));
        }
        self
    }

    /// Returns beginnings that give the same ranges again, even if the webhooks in Nexudus change.
    pub fn beginnings(&self) -> Beginnings {
        // A common beginning would give a range to actions that have none.
        let all = self.earliest().filter(|_| self.complete);
        let own = self.ranges.iter().filter(|range| all != Some(range.begin));
        let named = own.map(|TimeRange { source, entry, begin, .. }| {
            ((source.name.to_string(), entry.name.to_owned()), *begin)
        });
        Beginnings { all: all.map(Since::At), named: named.collect(), before_outages: None }
    }

    /// Returns the earliest beginning of all ranges; `None` if nothing can be read back.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.ranges.iter().map(|range| range.begin).min()
    }

    /// Returns the beginning of the range of this action of this source.
    pub fn since(&self, source: &str, action: &str) -> Option<Timestamp> {
        let is_named = |range: &&TimeRange| *range.source.name == *source && range.entry.name == action;
        self.ranges.iter().find(is_named).map(|range| range.begin)
    }

    /// Returns the earliest beginning of a range for this kind of record; `None` if no source has an action of this kind.
    pub fn begin(&self, entity: &Entity) -> Option<Timestamp> {
        self.ranges.iter().filter(|range| range.is_for(entity)).map(|range| range.begin).min()
    }

    /// Checks that the arguments leave something to read.
    ///
    /// # Errors
    /// The text of the mistake.
    pub fn check(&self, since: &Beginnings, subset: &Subset) -> Result<(), String> {
        for (source, action) in since.named.keys() {
            if self.since(source, action).is_none() {
                return Err(format!(
                    "--since {source}/{action}: no chosen source of this name receives this action, or the action is not about \
                     created or updated records of a chosen kind"
                ));
            }
        }
        for entity in &subset.entities {
            let actions: Vec<&str> = entity.actions().map(|entry| entry.name).collect();
            let is_wanted = |source: &Arc<Source>| {
                source.wanted.iter().any(|&index| actions.contains(&source.actions.get(index).name()))
            };
            if !self.sources.iter().any(is_wanted) {
                let (name, actions) = (entity.name, actions.join(" or "));
                return Err(format!("no chosen source receives {actions}, the actions of {name} records"));
            }
        }
        match (self.earliest(), self.until) {
            (Some(begin), Some(until)) if begin > until => {
                Err(format!("--until {until} is before the beginning, {begin}"))
            }
            (None, _) if !self.unknown.is_empty() => Err(format!(
                "no webhook shows when its events began to be missing; expected --since with a time for {}",
                self.unknown.join(", ")
            )),
            _ => Ok(()),
        }
    }

    /// Returns true if a range with this beginning contains this time.
    pub fn holds(&self, time: Timestamp, begin: Timestamp) -> bool {
        time >= begin && self.until.is_none_or(|until| time <= until)
    }

    /// Judges a record for each source of its location. Returns one event for each action whose range holds the change. Creation and
    /// update are judged by the ranges of their own actions, so both can be events.
    pub fn judge(&self, business_id: i64, entity: &Entity, times: Times) -> Judgement {
        let events: Vec<(Arc<Source>, usize)> = self
            .changes(entity, times, Some(business_id), |_| None)
            .map(|(range, _)| (Arc::clone(&range.source), range.action_index))
            .collect();
        let is_here = |source: &&Arc<Source>| source.business_id == Some(business_id);
        let mut here = self.sources.iter().filter(is_here);
        if !events.is_empty() {
            Judgement::Events(events)
        } else if here.clone().next().is_none() {
            Judgement::Elsewhere
        } else if here.any(|source| self.is_uncovered(source, entity, times)) {
            Judgement::Uncovered
        } else {
            Judgement::Outside
        }
    }

    /// Returns true if a record changed in a range for its kind, and the source has no range for that change.
    fn is_uncovered(&self, source: &Source, entity: &Entity, times: Times) -> bool {
        let has_range = |is_update| {
            let mut own = self.ranges.iter().filter(|range| range.source.name == source.name);
            own.any(|range| range.is_for(entity) && range.is_for_updates() == is_update)
        };
        let holds = |time| self.begin(entity).is_some_and(|begin| self.holds(time, begin));
        [false, true]
            .iter()
            .any(|&is_update| !has_range(is_update) && times.at(is_update, None).is_some_and(holds))
    }

    /// Returns the events that a record can have, as names of actions and times of the changes. A missing time counts as the
    /// beginning of the range. A missing location counts as the location of every source.
    pub fn possible(
        &self,
        entity: &Entity,
        times: Times,
        business_id: Option<i64>,
    ) -> impl Iterator<Item = (&'static str, Timestamp)> {
        let changes = self.changes(entity, times, business_id, |range| Some(range.begin));
        changes.map(|(range, time)| (range.entry.name, time))
    }

    /// Returns the ranges that hold a change of a record, and the times of the changes. `missing` is used for a missing time.
    fn changes(
        &self,
        entity: &Entity,
        times: Times,
        business_id: Option<i64>,
        missing: fn(&TimeRange) -> Option<Timestamp>,
    ) -> impl Iterator<Item = (&TimeRange, Timestamp)> {
        let is_here =
            move |range: &&TimeRange| business_id.is_none() || range.source.business_id == business_id;
        self.ranges.iter().filter(is_here).filter(|range| range.is_for(entity)).filter_map(move |range| {
            let time = times.at(range.is_for_updates(), missing(range))?;
            self.holds(time, range.begin).then_some((range, time))
        })
    }
}

#[cfg(test)]
mod tests;
