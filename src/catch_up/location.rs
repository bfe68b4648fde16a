//! The location of a record: its own field, or that of the record to which it belongs.

use std::collections::BTreeMap;

use super::entities::{Entity, LocationField};
use super::fetch::{Fetched, fetch};
use crate::nexudus::record::Record;
use crate::nexudus::{ApiError, Client};

/// The locations of parents, each read once.
#[derive(Debug, Default)]
pub struct Locations {
    parents: BTreeMap<(&'static str, i64), Placed>,
}

/// The location of a record, as far as it is known.
#[derive(Debug, Clone)]
pub enum Placed {
    /// Its number.
    At(i64),
    /// Unknown.
    Nowhere,
    /// Nexudus does not give the record that has it.
    Unreadable(ApiError),
}

impl Locations {
    /// The location of a record. A parent that is gone is no error.
    ///
    /// # Errors
    /// [`ApiError`] when Nexudus does not answer.
    pub async fn of(
        &mut self,
        client: &Client,
        entity: &Entity,
        record: &Record,
    ) -> Result<Placed, ApiError> {
        if let Some(location) = own(entity, record) {
            return Ok(Placed::At(location));
        }
        let Some((field, parent)) = entity.parent() else { return Ok(Placed::Nowhere) };
        let Some(id) = record.integer(field) else { return Ok(Placed::Nowhere) };
        if let Some(known) = self.parents.get(&(parent.name, id)) {
            return Ok(known.clone());
        }
        let location = match fetch(client, parent, id).await? {
            Fetched::Whole(_, record) => Box::pin(self.of(client, parent, &record)).await?,
            Fetched::Gone => Placed::Nowhere,
            Fetched::Unreadable(error) => Placed::Unreadable(error),
        };
        self.parents.insert((parent.name, id), location.clone());
        Ok(location)
    }
}

/// The location that a record itself names.
pub fn own(entity: &Entity, record: &Record) -> Option<i64> {
    match entity.location {
        LocationField::Itself => record.id(),
        LocationField::Field(field) | LocationField::FieldOrOf(field, ..) => record.integer(field),
        LocationField::FieldOrOnly(field, list) => record.integer(field).or_else(|| {
            let only = record.integers(list)?;
            if let [only] = only[..] { Some(only) } else { None }
        }),
        LocationField::Of(..) => None,
    }
}
