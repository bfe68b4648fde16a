//! Keeps the newest state of Nexudus records in SQLite. `../README.md` describes the behaviour.

mod records;

use std::env;
use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, ClientContext, Statistics};
use rusqlite::{Connection, ErrorCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

use crate::records::{Change, SCHEMA, apply, parse};

const ATTEMPTS: u32 = 5;

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

/// Applies a change, with retries. The inner error is the reason for a dead letter; the outer one ends the program.
async fn retry(db: &mut Connection, change: &Change<'_>) -> rusqlite::Result<Result<bool, String>> {
    for attempt in 1.. {
        match apply(db, change) {
            Err(_) if attempt < ATTEMPTS => sleep(Duration::from_millis(50 << attempt)).await,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Ok(Err(format!("refused_by_database: {error}")));
            }
            result => return result.map(Ok),
        }
    }
    unreachable!("the last attempt returns")
}

/// Publishes a copy with its headers, the reason and the position, and waits for the delivery report.
async fn dead_letter(
    producer: &FutureProducer,
    topic: &str,
    message: &BorrowedMessage<'_>,
    reason: &str,
) -> KafkaResult<()> {
    let position = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    eprintln!("dead letter: {position}: {reason}");
    let (cause, detail) = reason.split_once(": ").unwrap_or((reason, ""));
    let mut headers = message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach());
    for (name, value) in [("cause", cause), ("detail", detail), ("position", &position)] {
        headers = headers.insert(Header { key: &format!("dead-letter-{name}"), value: Some(value) });
    }
    let mut letter = FutureRecord::to(topic).headers(headers);
    (letter.key, letter.payload) = (message.key(), message.payload());
    producer.send(letter, Duration::from_secs(60)).await.map(drop).map_err(|(error, _)| error)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
    let group = setting("KAFKA_GROUP", "nexudus-records");
    let topics = setting("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete");
    let dead_letters = setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters");
    let mut db = Connection::open(setting("DATABASE", "records.db"))?;
    db.execute_batch(SCHEMA)?;

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let producer: FutureProducer = config.clone().set("enable.idempotence", "true").create()?;
    config.set("group.id", &group).set("auto.offset.reset", "earliest").set("session.timeout.ms", "10000");
    // Commits in the background, at a rebalance and at the end, but only offsets that were stored after the work.
    config.set("enable.auto.offset.store", "false").set("auto.commit.interval.ms", "1000");
    config.set("statistics.interval.ms", "1000");
    let consumer: StreamConsumer<Group> = config.create_with_context(Group::default())?;
    consumer.subscribe(&topics.split(',').collect::<Vec<_>>())?;

    let (mut applied, mut duplicates, mut rejected) = (0_u64, 0_u64, 0_u64);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut log = interval(Duration::from_secs(setting("LOG_SECONDS", "10").parse()?));
    loop {
        let message = tokio::select! {
            _ = terminate.recv() => break,
            _ = log.tick() => {
                let lag = consumer.context().0.load(Relaxed);
                eprintln!("progress applied={applied} duplicates={duplicates} dead_letters={rejected} lag={lag}");
                continue;
            }
            message = consumer.recv() => message,
        };
        let Ok(message) = message.inspect_err(|error| eprintln!("kafka: {error}")) else { continue };
        let result = match parse(&message) {
            Ok(change) => retry(&mut db, &change).await?,
            Err(reason) => Err(reason.to_owned()),
        };
        match result {
            Ok(true) => applied += 1,
            Ok(false) => duplicates += 1,
            Err(reason) => {
                dead_letter(&producer, &dead_letters, &message, &reason).await?;
                rejected += 1;
            }
        }
        // Fails where a rebalance took the partition away; its next member drops the event as a duplicate.
        consumer.store_offset_from_message(&message).unwrap_or_else(|error| eprintln!("kafka: {error}"));
    }
    drop(consumer); // commits what was stored and leaves the group
    eprintln!("stopped applied={applied} duplicates={duplicates} dead_letters={rejected}");
    Ok(())
}
