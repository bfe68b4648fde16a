//! Kafka client of the tests: creates and describes topics, and reads all messages of a topic.
//!
//! A read assigns partitions itself, so it does not wait for a consumer group. It ends when the broker has reported the end of
//! every partition, and returns all messages up to there, whatever number the test expects. So a duplicate behind the expected
//! number is found, too.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::unique;

/// Time-out of one request to a running broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Interval at which a condition is checked.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The connection to a cluster.
#[derive(Clone)]
pub(crate) struct Client {
    config: ClientConfig,
}

/// One message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// `None` for a message without a key, which differs from an empty key.
    pub(crate) key: Option<Vec<u8>>,
    /// The value; empty for a message without a value.
    pub(crate) value: Vec<u8>,
    /// The headers, in the order in which they were written.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// The state of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) partition: i32,
    /// The broker's number; negative if there is no leader.
    pub(crate) leader: i32,
    /// Number of in-sync replicas.
    pub(crate) in_sync: usize,
}

impl Consumed {
    /// Returns the value of the first header of this name, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }
}

impl Client {
    /// Makes a client of a listener without authentication.
    pub(crate) fn new(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        // Local brokers are back within moments; the defaults wait for up to ten seconds.
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        // A request for a telemetry subscription would delay the first request of each client by 55 ms.
        config.set("enable.metrics.push", "false");
        Self { config }
    }

    /// Returns the client with one more librdkafka property.
    #[must_use]
    pub(crate) fn set(mut self, property: &str, value: &str) -> Self {
        self.config.set(property, value);
        self
    }

    /// Returns all properties, for a producer or consumer of the test's own.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Creates a topic with these topic settings and waits until every partition has a leader. There is one replica per partition
    /// unless the cluster has another default.
    #[track_caller]
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        topic.config = configs.to_vec();
        self.make(&topic);
    }

    /// Creates a topic of one partition, with its only replica on the broker with this number.
    #[track_caller]
    pub(crate) fn create_topic_on(&self, name: &str, node: i32) {
        let nodes = [node];
        let partitions: [&[i32]; 1] = [&nodes];
        let topic = NewTopic::new(name, 1, TopicReplication::Variable(&partitions));
        self.make(&topic.set("min.insync.replicas", "1"));
    }

    #[track_caller]
    fn make(&self, topic: &NewTopic<'_>) {
        let name = topic.name;
        let results = self.administer(async |admin, options| admin.create_topics([topic], options).await);
        for result in results.unwrap_or_else(|error| panic!("cannot create topic {name}: {error}")) {
            result.unwrap_or_else(|(_, code)| panic!("cannot create topic {name}: {code}"));
        }
        let wanted = usize::try_from(topic.num_partitions).expect("a number of partitions");
        let consumer = self.consumer();
        wait_until(&format!("topic {name} has leaders"), || {
            let found = ask_partitions(&consumer, name);
            found.len() == wanted && found.values().all(|led| *led)
        });
    }

    /// Increases the partitions of a topic to this number, and waits until each has a leader.
    #[track_caller]
    pub(crate) fn add_partitions(&self, name: &str, partitions: usize) {
        let more = NewPartitions::new(name, partitions);
        let results = self.administer(async |admin, options| admin.create_partitions([&more], options).await);
        for result in results.unwrap_or_else(|error| panic!("cannot add partitions to {name}: {error}")) {
            result.unwrap_or_else(|(_, code)| panic!("cannot add partitions to {name}: {code}"));
        }
        let consumer = self.consumer();
        wait_until(&format!("the partitions of {name} have leaders"), || {
            let found = ask_partitions(&consumer, name);
            found.len() == partitions && found.values().all(|led| *led)
        });
    }

    /// Deletes a topic and waits until no broker lists it any more.
    #[track_caller]
    pub(crate) fn delete_topic(&self, name: &str) {
        let results = self.administer(async |admin, options| admin.delete_topics(&[name], options).await);
        for result in results.unwrap_or_else(|error| panic!("cannot delete topic {name}: {error}")) {
            result.unwrap_or_else(|(_, code)| panic!("cannot delete topic {name}: {code}"));
        }
        let consumer = self.consumer();
        wait_until(&format!("topic {name} is deleted"), || ask_partitions(&consumer, name).is_empty());
    }

    /// Returns the settings of a topic, defaults included.
    pub(crate) fn topic_configs(&self, name: &str) -> BTreeMap<String, String> {
        let topic = ResourceSpecifier::Topic(name);
        let described =
            self.administer(async |admin, options| admin.describe_configs([&topic], options).await);
        let described = described.unwrap_or_else(|error| panic!("cannot describe topic {name}: {error}"));
        let resources = described.into_iter().map(|resource| match resource {
            Ok(resource) => resource.entries,
            Err(code) => panic!("cannot describe topic {name}: {code}"),
        });
        resources.flatten().filter_map(|entry| Some((entry.name, entry.value?))).collect()
    }

    /// Returns the partitions of a topic; none if the topic does not exist.
    pub(crate) fn partitions(&self, topic: &str) -> Vec<i32> {
        ask_partitions(&self.consumer(), topic).into_keys().collect()
    }

    /// Returns the names of all topics, without the cluster's internal ones.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let metadata = self.consumer().fetch_metadata(None, ANSWER_WITHIN);
        let metadata = metadata.unwrap_or_else(|error| panic!("cannot list topics: {error}"));
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| !name.starts_with("__")).collect()
    }

    /// Returns all messages that are in a topic now, by partition and offset.
    #[track_caller]
    pub(crate) fn read_to_end(&self, topic: &str) -> Vec<Consumed> {
        read_to_end(&self.consumer(), topic, Instant::now() + ANSWER_WITHIN)
    }

    /// Passes each message that is in a topic now to `see`, in the order of each partition. So a topic of any size can be read.
    #[track_caller]
    pub(crate) fn scan(&self, topic: &str, timeout: Duration, see: impl FnMut(Consumed)) {
        scan(&self.consumer(), topic, Instant::now() + timeout, see);
    }

    /// Returns the state of each partition of a topic; nothing while the cluster does not answer.
    pub(crate) fn states(&self, topic: &str, timeout: Duration) -> Vec<PartitionState> {
        let Ok(metadata) = self.consumer().fetch_metadata(Some(topic), timeout) else { return Vec::new() };
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let state = |partition: &MetadataPartition| PartitionState {
            partition: partition.id(),
            leader: partition.leader(),
            in_sync: partition.isr().len(),
        };
        partitions.map(state).collect()
    }

    /// Waits for `expected` messages of a topic, and returns all of them by partition and offset.
    ///
    /// # Panics
    /// If the time-out passes before, or if there are more messages.
    #[track_caller]
    pub(crate) fn consume_all(&self, topic: &str, expected: usize, timeout: Duration) -> Vec<Consumed> {
        let messages = self.consume_at_least(topic, expected, timeout);
        let found = messages.len();
        assert!(
            found == expected,
            "expected {expected} messages in {topic}, found {found}:\n{}",
            list(&messages)
        );
        messages
    }

    /// Waits for `minimum` messages of a topic, and returns all of them.
    ///
    /// # Panics
    /// If the time-out passes before.
    #[track_caller]
    pub(crate) fn consume_at_least(&self, topic: &str, minimum: usize, timeout: Duration) -> Vec<Consumed> {
        let deadline = Instant::now() + timeout;
        let consumer = self.consumer();
        loop {
            let messages = read_to_end(&consumer, topic, deadline.max(Instant::now() + ANSWER_WITHIN));
            if messages.len() >= minimum {
                return messages;
            }
            assert!(
                Instant::now() < deadline,
                "expected {minimum} messages in {topic} within {timeout:?}, found {}:\n{}",
                messages.len(),
                list(&messages)
            );
            pause(LOOK_EVERY);
        }
    }

    /// Asserts that a topic has `expected` messages now and after the time `quiet`, and returns them.
    ///
    /// For messages that could arrive late, such as those of a retry. [`Client::consume_all`] sees only messages that are in the
    /// log already.
    #[track_caller]
    pub(crate) fn stays_at(&self, topic: &str, expected: usize, quiet: Duration) -> Vec<Consumed> {
        self.consume_all(topic, expected, Duration::ZERO);
        pause(quiet);
        self.consume_all(topic, expected, Duration::ZERO)
    }

    /// Waits until the cluster lists a broker. Gives up early when `given_up` returns true.
    pub(super) fn wait_until_ready(
        &self,
        within: Duration,
        given_up: impl Fn() -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + within;
        let consumer = self.consumer();
        loop {
            let reason = match consumer.fetch_metadata(None, Duration::from_millis(500)) {
                Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
                Ok(_) => "it names no broker".to_owned(),
                Err(error) => error.to_string(),
            };
            if given_up() {
                return Err("it ended".to_owned());
            }
            if Instant::now() >= deadline {
                return Err(format!("not ready within {within:?}: {reason}"));
            }
            pause(LOOK_EVERY);
        }
    }

    /// Makes a consumer without a consumer group, which reports the end of each partition.
    fn consumer(&self) -> BaseConsumer {
        let mut config = self.config.clone();
        // The library returns messages only with a group id, but an assigned consumer never joins the group.
        config.set("group.id", unique("reader")).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
        // The search for the coordinator of the group is retried, and closing waits for it, 100 ms by default.
        config.set("retry.backoff.ms", "5");
        config.create().unwrap_or_else(|error| panic!("cannot make a consumer: {error}"))
    }

    /// Runs `ask` with the admin client, on a thread with a runtime of its own, since the caller can be inside another runtime.
    fn administer<T: Send>(
        &self,
        ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T + Send,
    ) -> T {
        let answer = || {
            let admin = self.config.create().unwrap_or_else(|error| panic!("no admin client: {error}"));
            let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
            let runtime =
                tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
            runtime.block_on(ask(&admin, &options))
        };
        thread::scope(|scope| scope.spawn(answer).join()).expect("the reason was printed by the thread")
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + ANSWER_WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {ANSWER_WITHIN:?} until {what}");
        pause(LOOK_EVERY);
    }
}

/// Returns the partitions of a topic, and whether each has a leader now.
fn ask_partitions(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, bool> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN);
    let metadata = metadata.unwrap_or_else(|error| panic!("cannot ask for topic {topic}: {error}"));
    let found = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
    let partitions = found.flat_map(|found| found.partitions());
    partitions.map(|partition| (partition.id(), partition.leader() >= 0)).collect()
}

#[track_caller]
fn read_to_end(consumer: &BaseConsumer, topic: &str, deadline: Instant) -> Vec<Consumed> {
    let mut messages = Vec::new();
    scan(consumer, topic, deadline, |message| messages.push(message));
    messages.sort_by_key(|message| (message.partition, message.offset));
    messages
}

#[track_caller]
fn scan(consumer: &BaseConsumer, topic: &str, deadline: Instant, mut see: impl FnMut(Consumed)) {
    let partitions = loop {
        let partitions = ask_partitions(consumer, topic);
        if !partitions.is_empty() {
            break partitions;
        }
        // It can take a moment until a broker lists a new topic.
        assert!(Instant::now() < deadline, "no topic {topic}");
        pause(LOOK_EVERY);
    };
    let mut assignment = TopicPartitionList::new();
    for partition in partitions.keys() {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&assignment).unwrap_or_else(|error| panic!("cannot assign {topic}: {error}"));
    let mut seen = 0;
    let mut ended = BTreeSet::new();
    while ended.len() < partitions.len() {
        assert!(Instant::now() < deadline, "{topic} could not be read to its end, {seen} messages seen");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                seen += 1;
                see(Consumed::from(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            // An error such as of a lost connection, while librdkafka tries again. Only the deadline ends the read.
            Some(Err(_)) | None => {}
        }
    }
    consumer.unassign().expect("there is an assignment");
}

impl From<&BorrowedMessage<'_>> for Consumed {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect(),
        }
    }
}

/// Returns one line per message, for the output of a failed test.
fn list(messages: &[Consumed]) -> String {
    let line = |message: &Consumed| {
        let key = message.key.as_deref().map(String::from_utf8_lossy);
        let value: String = String::from_utf8_lossy(&message.value).chars().take(60).collect();
        format!("  {}/{} key {key:?} value {value:?}", message.partition, message.offset)
    };
    messages.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Waits between two checks of a condition. Not a way to wait for the condition itself.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
