//! Keeps the newest state of Nexudus records in SQLite. `../README.md` describes the behaviour.

mod records;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::{env, error::Error, time::Duration};

use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, ClientContext, Statistics, error::KafkaResult};
use rusqlite::{Connection, ErrorCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

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

/// Applies a message, with retries. The inner error is the reason for a dead letter; the outer one ends the program.
async fn handle(
    db: &mut Connection,
    message: &BorrowedMessage<'_>,
) -> rusqlite::Result<Result<bool, String>> {
    let change = match records::parse(message) {
        Ok(change) => change,
        Err(reason) => return Ok(Err(reason.to_owned())),
    };
    for pause in [100, 200, 400, 800] {
        match records::apply(db, &change) {
            Ok(is_new) => return Ok(Ok(is_new)),
            Err(_) => sleep(Duration::from_millis(pause)).await,
        }
    }
    match records::apply(db, &change) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Err(format!("refused_by_database: {error}")))
        }
        result => result.map(Ok),
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
    let brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
    let group = setting("KAFKA_GROUP", "nexudus-records");
    let topics = setting("KAFKA_TOPICS", "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete");
    let mut db = Connection::open(setting("DATABASE", "records.db"))?;
    db.execute_batch(records::SCHEMA)?;

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
        match handle(&mut db, &message).await? {
            Ok(true) => applied += 1,
            Ok(false) => duplicates += 1,
            Err(reason) => {
                dead_letter(&producer, &message, &reason).await?;
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
