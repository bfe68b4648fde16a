//! Keeps the newest state of Nexudus records in SQLite. `../README.md` describes the behaviour; start with `apply` for your own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::{env, error::Error, str::from_utf8, time::Duration};

use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, ClientContext, Statistics, error::KafkaResult};
use rusqlite::{Connection, ErrorCode, params};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

/// Entity and kind of each action, by `ce_type`.
type Actions = HashMap<String, HashMap<String, String>>;

/// The name of the count, or the reason for a dead letter. The outer error ends the program: the database is out of order.
type Outcome = rusqlite::Result<Result<&'static str, String>>;

/// Receives the consumer lag from librdkafka's statistics.
#[derive(Default)]
struct Group(AtomicI64);

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        self.0.store(partitions.map(|partition| partition.consumer_lag.max(0)).sum(), Relaxed);
    }
}

impl ConsumerContext for Group {}

/// Applies an event in one transaction. Skips signals, unknown actions and tombstones.
fn apply(db: &Connection, actions: &Actions, message: &BorrowedMessage<'_>) -> Outcome {
    let attribute = |name| {
        let header = message.headers()?.iter().find(|header| header.key == name)?;
        from_utf8(header.value?).ok().filter(|value| !value.is_empty())
    };
    let Some(value) = message.payload() else { return Ok(Ok("skipped")) };
    let required = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"].map(attribute);
    let [Some("1.0"), Some(ce_id), Some(_), Some(ce_type), Some(ce_time)] = required else {
        return Ok(
            Err("invalid_event: a required attribute of CloudEvents is missing or invalid".to_owned()),
        );
    };
    let Some(action) = actions.get(ce_type).filter(|action| action["kind"] != "signal") else {
        return Ok(Ok("skipped"));
    };
    let json = from_utf8(value).unwrap_or_default();
    let Some(id) = serde_json::from_str(json).ok().and_then(|record: Value| record["Id"].as_i64()) else {
        return Ok(Err("invalid_record: the value is not a JSON object with an integer Id".to_owned()));
    };
    let (ce_time, json) = (action["kind"] != "delete").then_some((ce_time, json)).unzip();
    let insert = "INSERT INTO changes (ce_id, entity, id, ce_time, json) VALUES (?1, ?2, ?3, ?4, ?5)";
    let rows = db.execute(insert, params![ce_id, action["entity"], id, ce_time, json])?;
    Ok(Ok(if rows > 0 { "applied" } else { "duplicates" }))
}

async fn retry(db: &Connection, actions: &Actions, message: &BorrowedMessage<'_>) -> Outcome {
    for pause in [100, 200, 400, 800] {
        match apply(db, actions, message) {
            Err(_) => sleep(Duration::from_millis(pause)).await,
            outcome => return outcome,
        }
    }
    match apply(db, actions, message) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Err(format!("refused_by_database: {error}")))
        }
        outcome => outcome,
    }
}

/// Publishes a copy with its headers, the reason and the position, and waits for the delivery report.
async fn dead_letter(
    producer: &FutureProducer,
    message: &BorrowedMessage<'_>,
    reason: &str,
) -> KafkaResult<()> {
    let topic = setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters");
    let position = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    eprintln!("dead letter: {position}: {reason}");
    let (cause, detail) = reason.split_once(": ").unwrap_or((reason, ""));
    let mut headers = message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach());
    for (name, value) in [("cause", cause), ("detail", detail), ("position", &position)] {
        headers = headers.insert(Header { key: &format!("dead-letter-{name}"), value: Some(value) });
    }
    let mut letter = FutureRecord::to(&topic).headers(headers);
    (letter.key, letter.payload) = (message.key(), message.payload());
    producer.send(letter, Duration::from_secs(60)).await.map(drop).map_err(|(error, _)| error)
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let topics = setting("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete");
    let actions: Actions = serde_json::from_str(include_str!("../actions.json"))?;
    let db = Connection::open(setting("DATABASE", "records.db"))?;
    db.execute_batch(include_str!("../schema.sql"))?;

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"));
    let producer: FutureProducer = config.clone().set("enable.idempotence", "true").create()?;
    config.set("group.id", setting("KAFKA_GROUP", "nexudus-records"));
    config.set("auto.offset.reset", "earliest").set("session.timeout.ms", "10000");
    // Commits in the background, at a rebalance and at the end, but only offsets that were stored after the work.
    config.set("enable.auto.offset.store", "false").set("auto.commit.interval.ms", "1000");
    config.set("statistics.interval.ms", "1000");
    let consumer: StreamConsumer<Group> = config.create_with_context(Group::default())?;
    consumer.subscribe(&topics.split(',').collect::<Vec<_>>())?;

    let mut counts = [("applied", 0), ("duplicates", 0), ("skipped", 0), ("dead_letters", 0)];
    let text = |counts: [(&str, u64); 4]| counts.map(|(name, count)| format!("{name}={count}")).join(" ");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut log = interval(Duration::from_secs(setting("LOG_SECONDS", "10").parse()?));
    loop {
        let message = tokio::select! {
            _ = terminate.recv() => break,
            _ = log.tick() => {
                eprintln!("progress {} lag={}", text(counts), consumer.context().0.load(Relaxed));
                continue;
            }
            message = consumer.recv() => message,
        };
        let Ok(message) = message.inspect_err(|error| eprintln!("kafka: {error}")) else { continue };
        let name = match retry(&db, &actions, &message).await? {
            Ok(name) => name,
            Err(reason) => {
                dead_letter(&producer, &message, &reason).await?;
                "dead_letters"
            }
        };
        counts.iter_mut().filter(|(other, _)| *other == name).for_each(|(_, count)| *count += 1);
        // Fails where a rebalance took the partition away; its next member drops the event as a duplicate.
        consumer.store_offset_from_message(&message).unwrap_or_else(|error| eprintln!("kafka: {error}"));
    }
    drop(consumer); // commits what was stored and leaves the group
    eprintln!("stopped {}", text(counts));
    Ok(())
}
