//! The work itself: from an event to a row. Replace this file with your own.

use rdkafka::message::{BorrowedMessage, Headers, Message};
use rusqlite::{Connection, TransactionBehavior::Immediate, params};

pub const SCHEMA: &str = include_str!("../schema.sql");
const UPSERT: &str = "
    INSERT INTO records (entity, id, updated_on, json) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
    WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on)";

pub struct Change<'a> {
    ce_id: &'a str,
    entity: &'a str,
    id: i64,
    newest: Option<(String, &'a str)>, // `updated_on` and `json`; `None` for a delete
}

fn header<'a>(message: &'a BorrowedMessage, name: &str) -> Option<&'a str> {
    let header = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok().filter(|value| !value.is_empty())
}

pub fn parse<'a>(message: &'a BorrowedMessage) -> Result<Change<'a>, &'static str> {
    const EVENT: &str = "invalid_event: not a CloudEvent of a create, an update or a delete";
    const RECORD: &str = "invalid_record: the value is not a JSON object with an integer Id";
    let attribute = |name| header(message, name).ok_or(EVENT);
    let (version, ce_id) = (attribute("ce_specversion")?, attribute("ce_id")?);
    let action = attribute("ce_type")?.strip_prefix("com.nexudus.").ok_or(EVENT)?;
    let action = action.strip_suffix('d').unwrap_or(action);
    let at = action.len().checked_sub("Create".len()).filter(|at| *at > 0).ok_or(EVENT)?;
    let (entity, verb) = action.split_at_checked(at).ok_or(EVENT)?;
    let time = attribute("ce_time")?.strip_suffix('Z').ok_or(EVENT)?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    if version != "1.0" || !["Create", "Update", "Delete"].contains(&verb) || seconds.len() != 19 {
        return Err(EVENT);
    }
    let json = std::str::from_utf8(message.payload().unwrap_or_default()).map_err(|_| RECORD)?;
    let record: serde_json::Value = serde_json::from_str(json).map_err(|_| RECORD)?;
    let id = record["Id"].as_i64().ok_or(RECORD)?;
    // Nine digits behind the second: text order is time order.
    let newest = (verb != "Delete").then(|| (format!("{seconds}.{fraction:0<9}Z"), json));
    Ok(Change { ce_id, entity, id, newest })
}

/// Applies a change in one transaction. Returns `false` for a duplicate.
pub fn apply(db: &mut Connection, change: &Change) -> rusqlite::Result<bool> {
    let transaction = db.transaction_with_behavior(Immediate)?;
    if transaction.execute("INSERT OR IGNORE INTO events (ce_id) VALUES (?1)", [change.ce_id])? == 0 {
        return Ok(false);
    }
    let (updated_on, json) = change.newest.as_ref().map(|(updated_on, json)| (updated_on, json)).unzip();
    transaction.execute(UPSERT, params![change.entity, change.id, updated_on, json])?;
    transaction.commit().map(|()| true)
}
