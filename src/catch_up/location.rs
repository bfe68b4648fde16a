//! To which location a record belongs: it says so, or the record that it belongs to does.

use std::collections::BTreeMap;

use super::entities::{self, Entity, Location};
use crate::nexudus::client::Call;
use crate::nexudus::record::Record;
use crate::nexudus::{ApiError, Client};

/// The locations of parents, each read once.
#[derive(Debug, Default)]
pub struct Locations {
    parents: BTreeMap<(&'static str, i64), Option<i64>>,
}

impl Locations {
    /// The number of a record's location; none where nobody knows it.
    ///
    /// # Errors
    /// [`ApiError`] when Nexudus does not say. A parent that is gone is no error.
    pub async fn of(
        &mut self,
        client: &Client,
        entity: &Entity,
        record: &Record,
    ) -> Result<Option<i64>, ApiError> {
        let Location::Of(field, parent) = entity.location else { return Ok(own(entity, record)) };
        let (Some(id), Some(parent)) = (record.get::<i64>(field), entities::named(parent)) else {
            return Ok(None);
        };
        if let Some(known) = self.parents.get(&(parent.name, id)) {
            return Ok(*known);
        }
        let path = format!("{}/{id}", parent.path);
        let call = Call::read("read", &path, &[], format!("{}-Read", parent.name));
        let location = match client.get::<Record>(&call).await {
            Ok(record) => own(parent, &record),
            Err(ApiError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        self.parents.insert((parent.name, id), location);
        Ok(location)
    }
}

fn own(entity: &Entity, record: &Record) -> Option<i64> {
    match entity.location {
        Location::Itself => record.id(),
        Location::Field(field) => record.get(field),
        Location::FieldOrOnly(field, list) => record.get(field).or_else(|| {
            let only: Vec<i64> = record.get(list)?;
            if let [only] = only[..] { Some(only) } else { None }
        }),
        Location::Of(..) => None,
    }
}
