//! The survey: lists the records that have changed, before any of them is read in full.

use anyhow::{anyhow, bail};
use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use super::ranges::{TimeRanges, Times};
use super::since::Subset;
use crate::nexudus::listing::Collection;
use crate::nexudus::record::RawRecord;
use crate::nexudus::{ApiClient, ApiError, ErrorKind};

/// Time before a range at which the filter of a list begins, since Nexudus does not document the time zone of its filters.
const ZONES: SignedDuration = SignedDuration::from_hours(24);

/// A record that may have changed in a range.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its kind.
    pub entity: &'static Entity,
    /// Its `Id`.
    pub id: i64,
    /// Its times in the list.
    pub times: Times,
    /// Its location in the list, if any.
    pub business_id: Option<i64>,
    /// Time of its first change in a range. A run whose ranges do not begin later publishes all of its events.
    pub first_change: Timestamp,
}

/// Finds the records of the subset that have changed in a range, ordered by the time of their first change in it. Calls
/// `listing` with each kind before it is listed.
///
/// # Errors
/// The lists have more than `most` records, or a list cannot be read. Nothing is published then.
pub async fn survey(
    client: &ApiClient,
    subset: &Subset,
    ranges: &TimeRanges,
    most: usize,
    listing: impl Fn(&'static str),
) -> anyhow::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut left = most;
    for entity in entities::all().filter(|entity| subset.has_entity(Some(entity))) {
        let Some(begin) = ranges.begin(entity) else { continue };
        let name = entity.name;
        let failed = |error: ApiError| {
            let advice = match error.kind {
                ErrorKind::DeepPage { .. } => {
                    "; choose a later --since, or read one kind at a time with --entity"
                }
                _ => "",
            };
            anyhow!("{name}: {error}{advice}")
        };
        let filter = format!("from_{name}_UpdatedOn");
        let from = begin.checked_sub(ZONES).unwrap_or(Timestamp::MIN);
        let filters = [(filter.as_str(), from.strftime("%Y-%m-%dT%H:%M").to_string())];
        let collection = Collection { entity: name, path: entity.path() };
        listing(name);
        let total = client.total(collection, &filters).await.map_err(failed)?;
        let Some(rest) = left.checked_sub(total) else {
            bail!(
                "{name} has {total} records that may have changed since then, which makes more than --max-records {most} in all; \
                 raise it, choose a later --since, or read some with --entity"
            );
        };
        left = rest;
        if total == 0 {
            continue;
        }
        let keep = |record: RawRecord| candidate(entity, &record, ranges, begin);
        let records = client.list(collection, &filters, keep).await.map_err(failed)?;
        found.extend(records.into_values().flatten());
    }
    found.sort_by_key(|candidate| (candidate.first_change, candidate.entity.name, candidate.id));
    Ok(found)
}

/// Reads a record of a list. `None` if it did not change since `begin`, the earliest beginning for its kind.
fn candidate(
    entity: &'static Entity,
    record: &RawRecord,
    ranges: &TimeRanges,
    begin: Timestamp,
) -> Option<Candidate> {
    let times = Times::of(record);
    let Times { created_on, updated_on } = times;
    let within = |time: Timestamp| ranges.holds(time, begin);
    // A list can leave fields out. Such a record has to be read in full.
    let may_count = updated_on.is_none_or(within)
        || created_on.map_or(updated_on.is_some_and(|updated| updated >= begin), within);
    let business_id = entity.own_location(record);
    let first_change = ranges.possible(entity, times, business_id).map(|(_, time)| time).min();
    let first_change = first_change.or(updated_on).unwrap_or(begin);
    may_count.then_some(Candidate { entity, id: record.id()?, times, business_id, first_change })
}
