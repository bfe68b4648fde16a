//! The watch: a thread that requests metadata from the cluster every few seconds.
//!
//! Readiness uses the last answer and the client's errors. So a readiness probe never blocks, and an outage of the cluster is
//! detected without traffic. The watch also replaces a producer that has failed. Each round requests the metadata of one topic. The
//! list of all topics, which can be long, is read less often, to find missing topics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::metadata::MetadataTopic;

use super::producer::Producer;
use super::producer_health::ProducerHealth;
use super::topic_state::Phase;
use super::topics::wanted_names;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::vital::Part;

const ROUND: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(4);
const LIST_EVERY: Duration = Duration::from_secs(60);
const LIST_EVERY_WHILE_MISSING: Duration = Duration::from_secs(4);

/// A running watch. After it is dropped, the thread ends with its round, which can last some seconds without an answer.
#[derive(Debug)]
pub struct Watch {
    wake: SyncSender<()>,
}

impl Watch {
    /// Starts a watch for the topics of `config`. Each round requests the metadata of the topic `probe`.
    pub fn start(
        producer: Arc<Producer>,
        metrics: Arc<Metrics>,
        probe: String,
        config: &Config,
        part: Part,
    ) -> Self {
        let (wake, woken) = sync_channel(1);
        *producer.status.topics.wanted.lock() = wanted_names(config);
        let producer_health = ProducerHealth::new(producer.message_timeout);
        let mut round = Round { producer, metrics, probe, producer_health, listed: None, is_logged: false };
        part.spawn("kafka-watch", move || round.run(&woken)).expect("a thread can be started at start-up");
        Self { wake }
    }

    /// Starts a round with the list of topics at once. Requests during a round count as one.
    pub(super) fn look(&self) {
        self.wake.try_send(()).ok(); // an error: one request is waiting already, or the watch has ended
    }
}

/// Returns a topic's name and the leader of each of its partitions.
fn leaders(topic: &MetadataTopic) -> (&str, Vec<i32>) {
    let mut leaders = vec![-1; topic.partitions().len()];
    for partition in topic.partitions() {
        let index = usize::try_from(partition.id()).ok();
        if let Some(leader) = index.and_then(|index| leaders.get_mut(index)) {
            *leader = partition.leader();
        }
    }
    (topic.name(), leaders)
}

struct Round {
    producer: Arc<Producer>,
    metrics: Arc<Metrics>,
    probe: String,
    producer_health: ProducerHealth,
    listed: Option<Instant>,
    /// True if the missing topics were logged.
    is_logged: bool,
}

impl Round {
    fn run(&mut self, woken: &Receiver<()>) {
        loop {
            self.ask();
            match woken.recv_timeout(ROUND) {
                Ok(()) => self.listed = None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ask(&mut self) {
        if self.producer.replace_after_fatal_error() {
            self.listed = None; // a new client has no metadata yet
        }
        let status = &self.producer.status;
        let asked = self.producer.metadata(Some(&self.probe), TIMEOUT);
        if status.is_throttled() {
            self.producer_health.throttled(self.metrics.delivery_counts(), Instant::now());
        } else if let Some(why) =
            self.producer_health.failure(asked.is_ok(), self.metrics.delivery_counts(), Instant::now())
        {
            let replaced = self.producer.replace_if_another_works(&why, &self.probe, TIMEOUT);
            self.producer_health.tried(replaced, Instant::now());
            self.listed = self.listed.filter(|_| !replaced); // a new client has no metadata yet
        }
        let Ok(metadata) = asked else { return };
        let leaderless = |topic: &MetadataTopic| {
            !topic.partitions().is_empty()
                && topic.partitions().iter().all(|partition| partition.leader() < 0)
        };
        status.answered(metadata.topics().iter().any(leaderless));
        let every = if status.topics.missing().is_empty() { LIST_EVERY } else { LIST_EVERY_WHILE_MISSING };
        if self.listed.is_none_or(|at| at.elapsed() >= every) {
            self.list();
        }
    }

    /// Reads the list of topics. This also loads their metadata into the producer, so that the first delivery to a topic waits for its
    /// confirmation only.
    fn list(&mut self) {
        let topics = &self.producer.status.topics;
        let phase = topics.phase();
        let Ok(metadata) = self.producer.metadata(None, TIMEOUT) else { return };
        // Before the scheduler uses the new partitions with these producers.
        self.producer.refresh_others(TIMEOUT);
        self.listed = Some(Instant::now());
        let present: BTreeSet<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
        let wanted = topics.wanted.lock();
        let missing: Vec<String> =
            wanted.iter().filter(|topic| !present.contains(topic.as_str())).cloned().collect();
        let leaders = metadata.topics().iter().filter(|topic| wanted.contains(topic.name())).map(leaders);
        self.producer
            .queue
            .set_leaders(leaders.chain(missing.iter().map(|topic| (topic.as_str(), Vec::new()))));
        drop(wanted);
        self.metrics.topics_missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        let refused = topics.refused();
        let count = missing.iter().filter(|topic| !refused.contains_key(*topic)).count();
        if topics.set_missing(missing) {
            self.is_logged = false; // new ones may be in creation; the next look logs those that are still missing
        } else if count > 0 && !self.is_logged {
            self.is_logged = true;
            tracing::warn!(
                topics = count,
                "topics are missing on the cluster; `nexudus-bridge topics plan` lists them"
            );
        }
        if phase == Phase::Loading {
            topics.advance(Phase::Done);
        }
    }
}
