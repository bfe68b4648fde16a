//! One record in full, its bytes as they are.

use bytes::Bytes;

use super::entities::Entity;
use crate::nexudus::client::Call;
use crate::nexudus::record::Record;
use crate::nexudus::{ApiError, Client, ErrorKind};

/// The result of reading one record.
#[derive(Debug)]
pub enum Fetched {
    /// The record and its bytes.
    Whole(Bytes, Record),
    /// It was deleted.
    Gone,
    /// Nexudus does not return it, although it exists or may exist. Other records can be read.
    Unreadable(ApiError),
}

/// Reads a record.
///
/// # Errors
/// [`ApiError`] when Nexudus does not answer, so that others cannot be read either.
pub async fn fetch(client: &Client, entity: &Entity, id: i64) -> Result<Fetched, ApiError> {
    let (path, role) = (format!("{}/{id}", entity.path()), format!("{}-Read", entity.name));
    let call = Call::read("read", &path, &[], role.clone());
    let both = |body: &Bytes| {
        let record: Record = serde_json::from_slice(body).ok()?;
        (record.id() == Some(id)).then(|| (body.clone(), record))
    };
    let error = match client.get_text(&call, both).await {
        Ok((bytes, record)) => return Ok(Fetched::Whole(bytes, record)),
        Err(error) if matches!(error.kind, ErrorKind::Refused { .. } | ErrorKind::Unavailable(_)) => error,
        Err(error) => return Err(error),
    };
    // For a deleted record the API answers 404 or 500; only a second request distinguishes the 500 from an error.
    let path = format!("{}/", entity.path());
    let query = [("id", format!("[{id}]"))];
    match client.get::<Vec<Record>>(&Call::read("read", &path, &query, role)).await {
        Ok(records) if records.iter().any(|record| record.id() == Some(id)) => Ok(Fetched::Unreadable(error)),
        Ok(_) => Ok(Fetched::Gone),
        Err(ApiError { kind: ErrorKind::Refused { .. }, .. }) => Ok(Fetched::Unreadable(error)),
        Err(error) => Err(error),
    }
}
