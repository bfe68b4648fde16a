//! What a test asks of a broker: topics made and described, and everything that a topic holds.
//!
//! Reading assigns partitions itself, so there is no wait for a group, and goes on until the broker has said
//! of every partition that it ends here. What is in the log by then is returned, no matter how many messages
//! were expected: a duplicate cannot hide behind a count that was already reached.

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

/// How long one question to a broker that is up may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The wait between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How to connect to a cluster.
#[derive(Clone)]
pub(crate) struct Client {
    config: ClientConfig,
}

/// One message, as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// None is no key; an empty key is something else.
    pub(crate) key: Option<Vec<u8>>,
    /// Empty for a message without a value.
    pub(crate) value: Vec<u8>,
    /// In the order in which they were written.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// How a partition fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) partition: i32,
    /// The broker's number; negative when there is none.
    pub(crate) leader: i32,
    /// How many replicas are in sync.
    pub(crate) in_sync: usize,
}

impl Consumed {
    /// The value of the first header of this name, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }
}

impl Client {
    /// A client of an open listener.
    pub(crate) fn new(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        // Local brokers come back within moments, the defaults wait for up to ten seconds.
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        // Asking for a telemetry subscription keeps the first request of each client waiting for 55 ms.
        config.set("enable.metrics.push", "false");
        Self { config }
    }

    /// The same with one more librdkafka property.
    #[must_use]
    pub(crate) fn set(mut self, property: &str, value: &str) -> Self {
        self.config.set(property, value);
        self
    }

    /// All properties, for a producer or consumer of the test's own.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Makes a topic with the given topic settings, one copy per partition unless the cluster's default is
    /// another, and waits until every partition has a leader.
    #[track_caller]
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        topic.config = configs.to_vec();
        self.make(&topic);
    }

    /// Makes a topic of one partition, which only the broker with this number has a copy of.
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

    /// Gives a topic so many partitions, and waits until each has a leader.
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

    /// Deletes a topic and waits until nobody sees it any more.
    #[track_caller]
    pub(crate) fn delete_topic(&self, name: &str) {
        let results = self.administer(async |admin, options| admin.delete_topics(&[name], options).await);
        for result in results.unwrap_or_else(|error| panic!("cannot delete topic {name}: {error}")) {
            result.unwrap_or_else(|(_, code)| panic!("cannot delete topic {name}: {code}"));
        }
        let consumer = self.consumer();
        wait_until(&format!("topic {name} is gone"), || ask_partitions(&consumer, name).is_empty());
    }

    /// The settings of a topic, defaults included.
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

    /// The partitions of a topic; none when there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> Vec<i32> {
        ask_partitions(&self.consumer(), topic).into_keys().collect()
    }

    /// The names of all topics, the cluster's internal ones left out.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let metadata = self.consumer().fetch_metadata(None, ANSWER_WITHIN);
        let metadata = metadata.unwrap_or_else(|error| panic!("cannot list topics: {error}"));
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| !name.starts_with("__")).collect()
    }

    /// All messages that are in a topic now, by partition and offset.
    #[track_caller]
    pub(crate) fn read_to_end(&self, topic: &str) -> Vec<Consumed> {
        read_to_end(&self.consumer(), topic, Instant::now() + ANSWER_WITHIN)
    }

    /// Shows every message that is in a topic now, one after the other and in the order of each partition, so that a
    /// topic of any size can be read.
    #[track_caller]
    pub(crate) fn scan(&self, topic: &str, timeout: Duration, see: impl FnMut(Consumed)) {
        scan(&self.consumer(), topic, Instant::now() + timeout, see);
    }

    /// What the cluster says of a topic's partitions: their number, leader and replicas in sync. Nothing while it
    /// does not answer.
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

    /// All messages of a topic as soon as there are `expected`, by partition and offset.
    ///
    /// # Panics
    /// When the time is over before that many are there, and when there are more.
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

    /// All messages of a topic as soon as there are `minimum`; maybe more.
    ///
    /// # Panics
    /// When the time is over before that many are there.
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

    /// Proves that a topic holds `expected` messages now and still after a quiet time, and returns them.
    ///
    /// For what may only come late, a retry for instance; what is already in the log [`Client::consume_all`]
    /// sees.
    #[track_caller]
    pub(crate) fn stays_at(&self, topic: &str, expected: usize, quiet: Duration) -> Vec<Consumed> {
        self.consume_all(topic, expected, Duration::ZERO);
        pause(quiet);
        self.consume_all(topic, expected, Duration::ZERO)
    }

    /// Waits until the cluster names a broker; gives up early when `given_up` says so.
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

    /// A consumer outside of any real group, which is told where a partition ends.
    fn consumer(&self) -> BaseConsumer {
        let mut config = self.config.clone();
        // The binding hands out messages only with a group, but an assigned consumer never joins it.
        config.set("group.id", unique("reader")).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
        // Looking for the coordinator of that group is retried; closing waits for it, 100 ms by default.
        config.set("retry.backoff.ms", "5");
        config.create().unwrap_or_else(|error| panic!("cannot make a consumer: {error}"))
    }

    /// Asks a question of the admin client, on a thread with a runtime of its own: the caller may be inside
    /// another one.
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

/// The partitions of a topic, and whether each has a leader at the moment.
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
        // One that was just made: a broker has yet to hear of it.
        assert!(Instant::now() < deadline, "there is no topic {topic}");
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
            // Told while librdkafka goes on trying: a broker that is away. The deadline decides.
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

/// A line per message, for the reader of a failed test.
fn list(messages: &[Consumed]) -> String {
    let line = |message: &Consumed| {
        let key = message.key.as_deref().map(String::from_utf8_lossy);
        let value: String = String::from_utf8_lossy(&message.value).chars().take(60).collect();
        format!("  {}/{} key {key:?} value {value:?}", message.partition, message.offset)
    };
    messages.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Lets a moment pass between two looks at a condition. Not a way to wait for the condition itself.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
