//! The senders, which act as Nexudus: each connection sends one delivery after the other, and retries it until the answer is 2xx.
//!
//! Nexudus retries up to ten times, at intervals that are not documented. The senders do the same with shorter intervals. One thread
//! serves all senders and measures its own delays. An answer that waited for this thread does not count as late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::journal::{Entry, Journal, Position};
use crate::post::{Connection, Posted};
use crate::stage::{Stage, between};
use crate::workload::{ACTIONS, CONNECTIONS, Name, Workload};

/// Maximum number of retries of a delivery.
const RETRIES: u32 = 10;

/// Wait between attempts: begins with the first value, and doubles up to the second.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Maximum pause between two deliveries of a connection.
const PAUSE: Duration = Duration::from_millis(30);

/// The sender closes one attempt in this number after a time of [`EARLY_CLOSE_AFTER`], if there is no answer by then.
const HUNG_UP_ONE_IN: u32 = 100;
const EARLY_CLOSE_AFTER: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(20), Duration::from_millis(700)];

/// Maximum time of an answer above `confirm_timeout`, by the contract.
const MARGIN: Duration = Duration::from_secs(1);

/// Time-out of an answer, which is longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interval at which the thread measures its own delay.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The cause of attempts that the sender itself ended.
pub(crate) const HUNG_UP: &str = "the sender hung up";

const CAUSES: [&str; 5] = ["timeout", "queue_full", "overloaded", "broker", "shutting_down"];

/// The senders of a run: the address of the bridge, the workload, and the shared stage.
#[derive(Clone)]
pub(crate) struct Senders {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) workload: Workload,
    pub(crate) prefix: String,
    pub(crate) confirm_timeout: Duration,
    pub(crate) stage: Arc<Stage>,
    pub(crate) seed: u64,
}

/// The result of an attempt.
enum Attempt {
    Confirmed(Box<[Position]>),
    /// No 2xx; whether the attempt may have published its events.
    Open {
        published: bool,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: serde_json::Value,
    cause: String,
    detail: String,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    topic: String,
    partition: i32,
    offset: Option<i64>,
}

impl Senders {
    /// Sends until the stage ends, and returns the journal of each connection.
    pub(crate) fn run(self) -> Vec<Journal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime of one thread").block_on(async {
            let stage = Arc::clone(&self.stage);
            let looking = tokio::spawn(async move {
                loop {
                    let begun = Instant::now();
                    tokio::time::sleep(LOOK_EVERY).await;
                    stage.delayed(begun.elapsed().saturating_sub(LOOK_EVERY));
                }
            });
            let mut senders = JoinSet::new();
            for connection in 0..CONNECTIONS {
                senders.spawn(Sender::new(self.clone(), connection).run());
            }
            let mut journals = vec![Journal::new(); usize::from(CONNECTIONS)];
            while let Some(ended) = senders.join_next().await {
                let (connection, journal) = ended.expect("senders do not panic");
                journals[usize::from(connection)] = journal;
            }
            looking.abort();
            journals
        })
    }
}

struct Sender {
    senders: Senders,
    connection: Connection,
    number: u16,
    chance: fastrand::Rng,
}

impl Sender {
    fn new(senders: Senders, number: u16) -> Self {
        let chance = fastrand::Rng::with_seed(senders.seed ^ (u64::from(number) << 32));
        Self { connection: Connection::new(senders.address), senders, number, chance }
    }

    async fn run(mut self) -> (u16, Journal) {
        let mut journal = Journal::new();
        while !self.senders.stage.is_ending() {
            let number = u32::try_from(journal.len()).expect("not so many in hours");
            let entry = self.deliver(Name { connection: self.number, number }).await;
            journal.push(entry);
            let pause = PAUSE.mul_f64(self.chance.f64());
            tokio::time::sleep(pause).await;
        }
        (self.number, journal)
    }

    async fn deliver(&mut self, name: Name) -> Entry {
        let stage = Arc::clone(&self.senders.stage);
        let body = self.senders.workload.body(name);
        let mut entry = Entry { sent: stage.now(), ..Entry::default() };
        let mut wait = WAIT.0;
        for _ in 0..=RETRIES {
            let began = stage.now();
            match self.attempt(name, &body).await {
                Attempt::Confirmed(places) => {
                    entry.answered = Some(stage.now());
                    stage.confirmed(entry.sent, Workload::is_isolated(self.number), places.len());
                    entry.places = places;
                    if !entry.attempts.is_empty() {
                        entry.attempts.push((began, false));
                    }
                    return entry;
                }
                Attempt::Open { published } => entry.attempts.push((began, published)),
            }
            self.connection.close();
            tokio::time::sleep(wait.mul_f64(0.5 + self.chance.f64() / 2.0)).await;
            wait = (wait * 2).min(WAIT.1);
        }
        stage.seen().given_up += 1;
        entry
    }

    async fn attempt(&mut self, name: Name, body: &str) -> Attempt {
        let stage = Arc::clone(&self.senders.stage);
        let delivery = self.senders.workload.delivery(name);
        let signature = stage.key().sign(body.as_bytes());
        let request = format!(
            "POST /webhooks/{} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             x-nexudus-hook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
            ACTIONS[delivery.action].name,
            body.len()
        );
        let hangs_up = self.chance.u32(..HUNG_UP_ONE_IN) == 0;
        let patience = match self.chance.choice(EARLY_CLOSE_AFTER) {
            Some(little) if hangs_up => little,
            _ => self.senders.confirm_timeout + PATIENCE,
        };
        let from = stage.now();
        let posted = self.connection.post(request.as_bytes(), patience).await;
        let to = stage.now();
        let mut seen = stage.seen();
        seen.attempts += 1;
        match posted {
            Posted::Answered { status, body, took } => {
                seen.longest_answer = seen.longest_answer.max(took);
                let limit = self.senders.confirm_timeout + MARGIN;
                if took > limit && took.saturating_sub(stage.own_delay(from)) > limit {
                    seen.late.add(|| format!("{name:?} at {:?}: {took:?}", between(0, from)));
                }
                drop(seen);
                self.judge(name, status, &body, from, to)
            }
            Posted::HungUp if hangs_up => {
                seen.refused(HUNG_UP);
                Attempt::Open { published: true }
            }
            Posted::HungUp => {
                seen.refused("no answer");
                seen.late.add(|| format!("{name:?} at {:?}: no answer in {patience:?}", between(0, from)));
                Attempt::Open { published: true }
            }
            Posted::Unreachable(error) | Posted::Broken(error) if !stage.had_outage(from, to) => {
                seen.refused("connection error, the bridge being there");
                seen.wrong
                    .add(|| format!("{name:?} at {:?}: {error}, the bridge being there", between(0, from)));
                Attempt::Open { published: true }
            }
            Posted::Unreachable(_) => {
                seen.refused("no connection, the bridge being away");
                Attempt::Open { published: false }
            }
            Posted::Broken(_) => {
                seen.refused("connection broken, the bridge being away");
                Attempt::Open { published: true }
            }
        }
    }

    /// Judges an answer: a 200 with a position for each record, a 503 with a cause, or a violation of the contract.
    fn judge(&self, name: Name, status: u16, body: &[u8], from: u64, to: u64) -> Attempt {
        let stage = &self.senders.stage;
        let delivery = self.senders.workload.delivery(name);
        let topic = format!("{}{}", self.senders.prefix, ACTIONS[delivery.action].name);
        let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
        let whole = answer.status == "confirmed" && answer.events.len() == delivery.records;
        let mut seen = stage.seen();
        if status == 200 && whole && answer.events.iter().all(|event| event.topic == topic) {
            let place = |event: &Event| Position { partition: event.partition, offset: event.offset };
            return Attempt::Confirmed(answer.events.iter().map(place).collect());
        }
        let cause = answer.cause;
        let expected = cause != "shutting_down" || stage.had_outage(from, to);
        if status != 503 || !CAUSES.contains(&cause.as_str()) || !expected {
            let body = String::from_utf8_lossy(body);
            seen.wrong.add(|| format!("{name:?} at {:?}: {status} {body}", between(0, from)));
        }
        let (_, error) = answer.detail.split_once(": ").unwrap_or_default();
        let error = error.split(' ').next().unwrap_or_default(); // the Kafka client's name of the error
        seen.refused(&format!("{status} {cause}: {error}"));
        Attempt::Open { published: !matches!(cause.as_str(), "overloaded" | "shutting_down") }
    }
}
