//! The check of `demo`: posts one delivery of every action, reads the events back and compares them byte for byte.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use secrecy::ExposeSecret as _;

use crate::action::catalogue::{ENTRIES, Entry};
use crate::config::{Config, Source};
use crate::kafka::consumer::{Message, Reader, Selection, Start, Stop};
use crate::sender::delivery::{Delivery, Target};
use crate::sender::payloads::{payload, wire_body};
use crate::sender::post::{ConfirmedEvent, Poster, Retry};

/// The delivery of one action, and its event.
pub struct Row {
    /// The action.
    pub entry: &'static Entry,
    /// The posted body.
    pub body: Bytes,
    /// Time until the answer.
    pub latency: Duration,
    /// The event, if the bridge confirmed exactly one.
    pub confirmed: Option<ConfirmedEvent>,
    /// The reason why there is no event, or its difference from the record; `None` if it is identical.
    pub mistake: Option<String>,
}

/// Posts one delivery of every action to the ingress at `base`, and compares the events on the topics.
///
/// # Errors
/// Deliveries cannot be posted, topics cannot be read, or hold an event without a delivery.
pub async fn run(config: &Config, base: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = post_all(config, base).await?;
    compare(config, &mut rows).await?;
    Ok(rows)
}

async fn post_all(config: &Config, base: &str) -> anyhow::Result<Vec<Row>> {
    let source = config.sources.get(Source::DEFAULT).or_else(|| config.sources.values().next());
    let source = source.context("no source is configured")?;
    let token = source.url_tokens.first().map(|token| token.expose_secret().to_owned());
    let poster = Poster::new(Target::parse(base, token)?, Retry::NEVER, 1)?;
    let mut rows = Vec::with_capacity(ENTRIES.len());
    for entry in &ENTRIES {
        let fixture =
            payload(entry.name).with_context(|| format!("there is no payload for {}", entry.name))?;
        let body = Bytes::from(wire_body(fixture));
        let delivery =
            Delivery::new(Arc::clone(&source.name), entry.name.into(), body.clone(), source.keys.first());
        let answer = poster.post(&delivery).await;
        let (confirmed, mistake) = match answer.result {
            Ok(mut receipt) if receipt.status == "confirmed" && receipt.events.len() == 1 => {
                (receipt.events.pop(), None)
            }
            Ok(receipt) => {
                let count = receipt.events.len();
                (None, Some(format!("answered {} with {count} events", receipt.status)))
            }
            Err(refusal) => (None, Some(refusal.to_string())),
        };
        rows.push(Row { entry, body, latency: answer.latency, confirmed, mistake });
    }
    Ok(rows)
}

/// Reads all topics and compares each row with the message of its id.
async fn compare(config: &Config, rows: &mut [Row]) -> anyhow::Result<()> {
    let topics = config.topics.list(&config.sources).into_iter().map(|topic| topic.name).collect();
    let mut reader =
        Reader::open(&config.kafka, Selection::Named(topics), Start::Beginning, Stop::End).await?;
    let mut found = HashMap::new();
    while let Some(message) = reader.next().await? {
        if message.value.is_some() {
            let id = message.header("ce_id").unwrap_or_default().to_vec();
            if let Some(earlier) = found.insert((message.topic.clone(), id), message) {
                bail!("{} has two events with one id", earlier.topic);
            }
        }
    }
    for row in &mut *rows {
        let Some(confirmed) = &row.confirmed else { continue };
        row.mistake = match found.remove(&(confirmed.topic.clone(), confirmed.id.clone().into_bytes())) {
            Some(message) => difference(&row.body, confirmed, &message),
            None => Some("there is no event with the id of the answer".to_owned()),
        };
    }
    if let Some(extra) = found.into_values().next() {
        bail!("{} has an event without a delivery", extra.topic);
    }
    Ok(())
}

fn difference(body: &Bytes, confirmed: &ConfirmedEvent, message: &Message) -> Option<String> {
    let record = &body[1..body.len() - 1]; // the array's brackets around the one record
    if message.value.as_deref() != Some(record) {
        return Some("the record's bytes differ".to_owned());
    }
    let has_offset = confirmed.offset.is_none_or(|offset| offset == message.offset);
    if confirmed.partition != message.partition || !has_offset {
        return Some("the answer's position is not the message's".to_owned());
    }
    let fields: serde_json::Value = serde_json::from_slice(record).ok()?;
    let id = fields.get("Id").map(ToString::to_string);
    (message.key.as_deref() != id.as_ref().map(String::as_bytes))
        .then(|| "the key is not the record's Id".to_owned())
}
