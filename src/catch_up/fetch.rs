//! Reads one record in full, as the bytes that Nexudus sent, and finds its location: its own, or that of the record that it is a
//! part of.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entities::Entity;
use crate::nexudus::client::Call;
use crate::nexudus::record::RawRecord;
use crate::nexudus::{ApiClient, ApiError, ErrorKind};

/// The result of reading one record, or its location.
#[derive(Debug, Clone)]
pub enum Fetched<T> {
    /// It was read.
    Found(T),
    /// The record was deleted, or it has no location.
    Absent,
    /// Nexudus does not return the record, although it exists or may exist. Other records can be read.
    Unreadable(ApiError),
}

/// Reads a record and its bytes.
///
/// # Errors
/// [`ApiError`] if Nexudus does not answer: then other records cannot be read either.
pub async fn fetch(
    client: &ApiClient,
    entity: &Entity,
    id: i64,
) -> Result<Fetched<(Bytes, RawRecord)>, ApiError> {
    let (path, role) = (format!("{}/{id}", entity.path()), format!("{}-Read", entity.name));
    let call = Call::read("read", &path, &[], role.clone());
    let both = |body: &Bytes| {
        let record: RawRecord = serde_json::from_slice(body).ok()?;
        (record.id() == Some(id)).then(|| (body.clone(), record))
    };
    let error = match client.get_text(&call, both).await {
        Ok(both) => return Ok(Fetched::Found(both)),
        Err(error) if matches!(error.kind, ErrorKind::Refused(..) | ErrorKind::Unavailable(_)) => error,
        Err(error) => return Err(error),
    };
    // For a deleted record the API answers 404 or 500. A second request, with a filter, distinguishes this 500 from a failure.
    let path = format!("{}/", entity.path());
    let query = [("id", format!("[{id}]"))];
    match client.get::<Vec<RawRecord>>(&Call::read("read", &path, &query, role)).await {
        Ok(records) if records.iter().all(|record| record.id() != Some(id)) => Ok(Fetched::Absent),
        Ok(_) | Err(ApiError { kind: ErrorKind::Refused(..), .. }) => Ok(Fetched::Unreadable(error)),
        Err(error) => Err(error),
    }
}

/// The locations of parent records, each read once.
#[derive(Debug, Default)]
pub struct Locations {
    parents: BTreeMap<(&'static str, i64), Fetched<i64>>,
}

impl Locations {
    /// Returns the location of a record. A record whose parent was deleted has none.
    ///
    /// # Errors
    /// [`ApiError`] if Nexudus does not answer.
    pub async fn of(
        &mut self,
        client: &ApiClient,
        entity: &Entity,
        record: &RawRecord,
    ) -> Result<Fetched<i64>, ApiError> {
        if let Some(location) = entity.own_location(record) {
            return Ok(Fetched::Found(location));
        }
        let parent = entity.parent().and_then(|(field, parent)| Some((parent, record.integer(field)?)));
        let Some((parent, id)) = parent else { return Ok(Fetched::Absent) };
        if let Some(known) = self.parents.get(&(parent.name, id)) {
            return Ok(known.clone());
        }
        let location = match fetch(client, parent, id).await? {
            Fetched::Found((_, record)) => Box::pin(self.of(client, parent, &record)).await?,
            Fetched::Absent => Fetched::Absent,
            Fetched::Unreadable(error) => Fetched::Unreadable(error),
        };
        self.parents.insert((parent.name, id), location.clone());
        Ok(location)
    }
}
