//! `demo`: the main job, seen to work. One delivery of every action through the real ingress on an embedded broker,
//! consumed back and compared byte for byte.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::dev::{ANY_PORT, configuration, leave_nexudus_alone};
use super::output::{self, Output};
use crate::action::catalogue::{ENTRIES, Entry};
use crate::app::embedded::embed;
use crate::app::{App, Ended};
use crate::config::{Config, Source};
use crate::kafka::consumer::{Message, Reader, Selection, Start, Stop};
use crate::sender::delivery::{Delivery, Target};
use crate::sender::payloads::{payload, wire_body};
use crate::sender::post::{Confirmed, Poster, Retry};

/// One action's way through the bridge.
struct Row {
    entry: &'static Entry,
    body: Bytes,
    latency: Duration,
    /// Where the bridge says that the event lies, or why it is nowhere.
    confirmed: Result<Confirmed, String>,
    /// What is wrong with what lies there.
    difference: Option<String>,
}

/// Exit code 0 when every delivery was confirmed and came back byte for byte.
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut config = configuration(file)?;
    leave_nexudus_alone(&mut config);
    config.ingress.listen = ANY_PORT.into();
    config.admin.listen = ANY_PORT.into();
    let broker = embed(&mut config, None)?;
    let app = App::build(config.clone())?;
    let base = format!("http://{}", app.ingress_address());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let mut rows = post_all(&config, &base).await?;
    compare(&config, &mut rows).await?;
    drop(stop);
    let ended = running.await.context("the bridge broke off")?;
    drop(broker);
    let mut out = Output::stdout();
    let differing = print(&mut out, &rows, started.elapsed(), &config);
    if ended != Ended::Drained {
        bail!("the bridge did not stop in order: {ended:?}");
    }
    out.end(if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn post_all(config: &Config, base: &str) -> anyhow::Result<Vec<Row>> {
    let source = config.sources.get(Source::DEFAULT).or_else(|| config.sources.values().next());
    let source = source.context("no source is configured")?;
    let token = source.url_tokens.first().map(|token| secrecy::ExposeSecret::expose_secret(token).to_owned());
    let poster = Poster::new(Target::parse(base, token)?, Retry::NEVER, 1)?;
    let mut rows = Vec::with_capacity(ENTRIES.len());
    for entry in &ENTRIES {
        let fixture =
            payload(entry.name).with_context(|| format!("there is no payload for {}", entry.name))?;
        let body = Bytes::from(wire_body(fixture));
        let delivery =
            Delivery::new(Arc::clone(&source.name), entry.name.into(), body.clone(), source.keys.first());
        let answer = poster.post(&delivery).await;
        let confirmed = match answer.result {
            Ok(mut receipt) if receipt.status == "confirmed" && receipt.events.len() == 1 => {
                Ok(receipt.events.remove(0))
            }
            Ok(receipt) => Err(format!("answered {} with {} events", receipt.status, receipt.events.len())),
            Err(refusal) => Err(refusal.to_string()),
        };
        rows.push(Row { entry, body, latency: answer.latency, confirmed, difference: None });
    }
    Ok(rows)
}

/// Reads all topics from beginning to end and holds each row against the message at its place.
async fn compare(config: &Config, rows: &mut [Row]) -> anyhow::Result<()> {
    let topics = config.topics.list(&config.sources).into_iter().map(|topic| topic.name).collect();
    let mut reader =
        Reader::open(&config.kafka, Selection::Named(topics), Start::Beginning, Stop::End).await?;
    let mut found = HashMap::new();
    while let Some(message) = reader.next().await? {
        if message.value.is_some() {
            found.insert((message.topic.clone(), message.partition, message.offset), message);
        }
    }
    for row in &mut *rows {
        let Ok(confirmed) = &row.confirmed else { continue };
        let place = (confirmed.topic.clone(), confirmed.partition, confirmed.offset);
        row.difference = match found.remove(&place) {
            Some(message) => difference(&row.body, confirmed, &message),
            None => Some("nothing lies where the answer says".to_owned()),
        };
    }
    if let Some(stranger) = found.into_values().next() {
        bail!("{} holds a message that nobody sent", stranger.topic);
    }
    Ok(())
}

fn difference(body: &Bytes, confirmed: &Confirmed, message: &Message) -> Option<String> {
    let record = &body[1..body.len() - 1]; // the array's brackets around the one record
    if message.value.as_deref() != Some(record) {
        return Some("the record's bytes differ".to_owned());
    }
    if message.header("ce_id") != Some(confirmed.id.as_bytes()) {
        return Some("the answer's id is not the message's".to_owned());
    }
    let fields: serde_json::Value = serde_json::from_slice(record).ok()?;
    let id = fields.get("Id").map(ToString::to_string);
    (message.key.as_deref() != id.as_ref().map(String::as_bytes))
        .then(|| "the key is not the record's Id".to_owned())
}

/// Prints the table and the summary; gives back how many rows are not as they should be.
fn print(out: &mut Output, rows: &[Row], took: Duration, config: &Config) -> usize {
    let mut table =
        output::Table::new(["ACTION", "TOPIC", "PARTITION", "OFFSET", "BYTES", "LATENCY", "RESULT"]);
    for number in [2, 3, 4, 5] {
        table.align_right(number);
    }
    for row in rows {
        let (topic, partition, offset) = match &row.confirmed {
            Ok(confirmed) => {
                (confirmed.topic.clone(), confirmed.partition.to_string(), confirmed.offset.to_string())
            }
            Err(_) => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        let result = match (&row.confirmed, &row.difference) {
            (Ok(_), None) => "identical".to_owned(),
            (Ok(_), Some(difference)) => difference.clone(),
            (Err(refusal), _) => refusal.clone(),
        };
        let bytes = (row.body.len() - 2).to_string();
        table.row([
            row.entry.name.to_owned(),
            topic,
            partition,
            offset,
            bytes,
            output::duration(row.latency),
            result,
        ]);
    }
    let good = rows.iter().filter(|row| row.confirmed.is_ok() && row.difference.is_none()).count();
    let non_ascii = rows.iter().filter(|row| !row.body.is_ascii()).count();
    let mut latencies: Vec<Duration> = rows.iter().map(|row| row.latency).collect();
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    out.block(table);
    out.block(format_args!(
        "\n{good} of {} deliveries signed as .NET signs ({non_ascii} with non-ASCII text), posted over HTTP, verified, published,\n\
         confirmed, consumed back and found identical byte for byte.",
        rows.len(),
    ));
    out.line(format_args!(
        "Median latency {}, {} in all, topics {}*.",
        output::duration(median),
        output::duration(took),
        config.topics.prefix
    ));
    rows.len() - good
}
