//! The survey: which records have changed since, before any of them is read in full.

use jiff::{SignedDuration, Timestamp};

use super::entities::{self, Entity};
use super::location;
use super::since::Subset;
use super::window::{Times, Window};
use crate::nexudus::listing::Collection;
use crate::nexudus::record::Record;
use crate::nexudus::{ApiError, Client, ErrorKind};

/// Time before the window from which on the API is asked, since the time zone of its filter is not documented.
const ZONES: SignedDuration = SignedDuration::from_hours(24);

/// A record that may be of interest.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its kind.
    pub entity: &'static Entity,
    /// Its `Id`.
    pub id: i64,
    /// Its times, as the list gives them.
    pub times: Times,
    /// Its location, if the list has it.
    pub business_id: Option<i64>,
    /// Time of its first change in the window. A run whose windows begin then, or earlier, publishes all of its events.
    pub first_change: Timestamp,
}

/// Why the records cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// There are more records than allowed.
    #[error(
        "{entity} has {total} records that may have changed since then, which makes more than --max-records {most} in all; raise it, choose a later --since, or read some with --entity"
    )]
    TooMany {
        /// The kind of records.
        entity: &'static str,
        /// Their number.
        total: usize,
        /// The bound on all kinds together.
        most: usize,
    },
    /// The list cannot be read.
    #[error("{entity}: {error}{}", advice(.error))]
    Api {
        /// The kind of records.
        entity: &'static str,
        /// Why not.
        error: ApiError,
    },
}

/// Returns what the operator can do about an error of a list.
fn advice(error: &ApiError) -> &'static str {
    match error.kind {
        ErrorKind::DeepPage { .. } => "; choose a later --since, or read one kind at a time with --entity",
        _ => "",
    }
}

/// Finds the records of the subset that have changed in the window, ordered by the time of their first change in it. Calls
/// `listing` with each kind before it is listed.
///
/// # Errors
/// [`SurveyError`]: nothing was published yet.
pub async fn survey(
    client: &Client,
    subset: &Subset,
    window: &Window,
    most: usize,
    listing: impl Fn(&'static str),
) -> Result<Vec<Candidate>, SurveyError> {
    let mut found = Vec::new();
    let mut left = most;
    for entity in entities::all().filter(|entity| subset.has_entity(Some(entity))) {
        let Some(begin) = window.begin(entity) else { continue };
        let api = |error| SurveyError::Api { entity: entity.name, error };
        let filter = format!("from_{}_UpdatedOn", entity.name);
        let asked = [(filter.as_str(), minute(begin.checked_sub(ZONES).unwrap_or(Timestamp::MIN)))];
        let collection = Collection { entity: entity.name, path: entity.path() };
        listing(entity.name);
        let total = client.total(collection, &asked).await.map_err(api)?;
        left = left.checked_sub(total).ok_or(SurveyError::TooMany { entity: entity.name, total, most })?;
        if total == 0 {
            continue;
        }
        let keep = |record: Record| candidate(entity, &record, window);
        let records = client.list_of(collection, &asked, keep).await.map_err(api)?;
        found.extend(records.into_values().flatten());
    }
    found.sort_by_key(|candidate| (candidate.first_change, candidate.entity.name, candidate.id));
    Ok(found)
}

/// Reads a record of a list. `None` if it did not change in the window.
fn candidate(entity: &'static Entity, record: &Record, window: &Window) -> Option<Candidate> {
    let times = Times::of(record);
    let Times { created_on, updated_on } = times;
    let begin = window.begin(entity)?;
    let within = |time: Timestamp| window.holds(time, begin);
    // A list can leave fields out. Such a record has to be read in full.
    let may_count = updated_on.is_none_or(within)
        || created_on.map_or(updated_on.is_some_and(|updated| updated >= begin), within);
    let business_id = location::own(entity, record);
    let first_change = window.first_change(entity, times, business_id).or(updated_on).unwrap_or(begin);
    may_count.then_some(Candidate { entity, id: record.id()?, times, business_id, first_change })
}

/// As the API's filters take a time.
fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M").to_string()
}
