//! The broker, the bridge, and the consumers of one language.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use nexudus_bridge::sender::delivery::{Delivery, Target};
use nexudus_bridge::sender::post::{Poster, Retry};
use nexudus_bridge::signature::SigningKey;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

use crate::kafka::{Client, OwnBroker, free_port};
use crate::member::Member;
use crate::oracle::{REFUSED, Rows, SIGNAL, Workload};
use crate::{WITHIN, wait_until};

const SECRET: &str = "consumers-secret";

const ACTIONS: [&str; 7] =
    ["BookingCreate", "BookingUpdate", "BookingDelete", "TeamCreated", "TeamUpdated", "TeamDeleted", SIGNAL];

const PARTITIONS: i32 = 3;

/// Tombstones, and events of an action that no catalogue has, of each kind.
const SKIPPED: usize = 30;

/// Deliveries at the same time.
const CONNECTIONS: usize = 16;

const ASK_WITHIN: Duration = Duration::from_secs(20);

/// Messages that are no events, with the cause of their dead letters: `ce_id`, value, cause.
const GARBAGE: [(Option<&str>, &str, &str); 4] = [
    (None, "not JSON", "invalid_event"),
    (Some("garbage-1"), "not JSON", "invalid_record"),
    (Some("garbage-2"), r#"["Id"]"#, "invalid_record"),
    (Some("garbage-3"), r#"{"Id":92233720368547758080}"#, "invalid_record"),
];

/// A broker and a bridge.
pub(crate) struct Stage {
    runtime: Runtime,
    broker: OwnBroker,
    client: Client,
    poster: Poster,
    _bridge: Member,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let broker = OwnBroker::start();
        let client = broker.client();
        for action in ACTIONS.iter().chain(&["quarantine"]) {
            client.create_topic(&topic(action), PARTITIONS, &[]);
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("nexudus-bridge.toml");
        let (ingress, admin) = (free_port(), free_port());
        let settings = format!(
            "[ingress]\nlisten = \"127.0.0.1:{ingress}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [kafka]\nbootstrap_servers = \"{}\"\n[topics]\ncreate = false\n\
             [sources.default]\nsecrets = [\"{SECRET}\"]\n",
            broker.bootstrap()
        );
        std::fs::write(&file, settings).expect("our own directory");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_nexudus-bridge"));
        let bridge = Member::start("the bridge", &[program, "serve".into(), "--config".into(), file], &[]);
        let target = Target::parse(&format!("http://127.0.0.1:{ingress}"), None).expect("an address");
        let retry =
            Retry { limit: 100, shortest: Duration::from_millis(100), longest: Duration::from_secs(2) };
        let poster = Poster::new(target, retry, CONNECTIONS).expect("plain http");
        let runtime = Runtime::new().expect("a runtime");
        Self { runtime, broker, client, poster, _bridge: bridge, _folder: folder }
    }

    /// Posts records until each is confirmed.
    pub(crate) fn post(&self, deliveries: &[(&'static str, String)]) {
        let key = SigningKey::new(SECRET).expect("not empty");
        let post = |(action, record): &(&'static str, String)| {
            let body = format!("[{record}]");
            let delivery = Delivery::new("default".into(), (*action).into(), body, Some(&key));
            async move {
                let receipt =
                    self.poster.post(&delivery).await.result.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(receipt.status, "confirmed");
            }
        };
        let all = stream::iter(deliveries.iter().map(post)).buffer_unordered(CONNECTIONS);
        self.runtime.block_on(all.collect::<()>());
    }

    /// Publishes tombstones, as a bridge does for compaction, and events of an action that is newer than the consumers.
    pub(crate) fn publish_messages_to_skip(&self) {
        let producer: FutureProducer = self.client.config().create().expect("a producer");
        let topic = topic("BookingDelete");
        for id in 0..SKIPPED {
            let key = id.to_string();
            let tombstone = FutureRecord::<str, [u8]>::to(&topic).key(&key);
            self.runtime.block_on(producer.send(tombstone, ASK_WITHIN)).expect("published");
            let ce_id = format!("unknown-{id}");
            let unknown = FutureRecord::to(&topic).key(&key).payload(r#"{"Id":1}"#);
            let unknown = unknown.headers(event_headers(Some(&ce_id), "com.nexudus.BookingArchive"));
            self.runtime.block_on(producer.send(unknown, ASK_WITHIN)).expect("published");
        }
    }

    /// Publishes messages that only another producer can write.
    pub(crate) fn publish_garbage(&self) {
        let producer: FutureProducer = self.client.config().create().expect("a producer");
        for (id, value, _) in GARBAGE {
            let headers = event_headers(id, "com.nexudus.BookingUpdate");
            let topic = topic("BookingUpdate");
            let record = FutureRecord::to(&topic).key("garbage").payload(value).headers(headers);
            self.runtime.block_on(producer.send(record, ASK_WITHIN)).expect("published");
        }
    }

    pub(crate) fn restart_broker(&self) {
        self.broker.restart();
    }

    /// Returns the number of messages on the topics.
    pub(crate) fn messages(&self) -> usize {
        let mut messages = 0;
        for action in ACTIONS {
            self.client.scan(&topic(action), WITHIN, |_| messages += 1);
        }
        messages
    }

    /// Returns a consumer that never joins a group.
    fn observer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client.config().clone();
        config.set("group.id", group).create().expect("a consumer")
    }
}

/// Returns the headers of an event. Without an id the message is not an event.
fn event_headers(id: Option<&str>, ce_type: &str) -> OwnedHeaders {
    let attributes = [
        ("ce_specversion", "1.0"),
        ("ce_source", "/nexudus/default"),
        ("ce_type", ce_type),
        ("ce_time", "2026-01-01T00:00:00Z"),
    ];
    let all = id.map(|id| ("ce_id", id)).into_iter().chain(attributes);
    all.fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

fn topic(action: &str) -> String {
    format!("nexudus.{action}")
}

/// A row of the table `records`: entity, id, `updated_on`, `json`, and the number of transactions that applied a change.
type Row = (String, i64, Option<String>, Option<String>, u64);

/// The group of one language, with its database and its dead-letter topic.
pub(crate) struct Consumers {
    pub(crate) language: String,
    command: Vec<PathBuf>,
    members: Vec<Member>,
    started: usize,
    folder: tempfile::TempDir,
}

impl Consumers {
    pub(crate) fn new(language: &str, stage: &Stage) -> Self {
        let consumers = Self {
            language: language.to_owned(),
            command: command(language),
            members: Vec::new(),
            started: 0,
            folder: tempfile::Builder::new().prefix("consumers-").tempdir().expect("a temporary directory"),
        };
        stage.client.create_topic(&consumers.dead_letter_topic(), 1, &[]);
        consumers
    }

    fn group(&self) -> String {
        format!("consumers-{}", self.language)
    }

    fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letters", self.group())
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("records.db")
    }

    /// Starts another member and waits for its first line of progress.
    pub(crate) fn add_member(&mut self, stage: &Stage) {
        self.started += 1;
        let name = format!("{} {}", self.language, self.started);
        let topics = ACTIONS.map(topic).join(",");
        let environment = [
            ("KAFKA_BOOTSTRAP_SERVERS", stage.broker.bootstrap()),
            ("KAFKA_GROUP", self.group()),
            ("KAFKA_TOPICS", topics),
            ("DEAD_LETTER_TOPIC", self.dead_letter_topic()),
            ("DATABASE", self.database().to_string_lossy().into_owned()),
            ("LOG_SECONDS", "1".to_owned()),
        ];
        let environment = environment.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.members.push(Member::start(&name, &self.command, &environment));
    }

    /// Waits until the group has exactly this number of members, and each has partitions.
    pub(crate) fn wait_for_members(&mut self, stage: &Stage, count: usize) {
        let group = self.group();
        let observer = stage.observer(&group);
        wait_until(&format!("{group} has {count} members"), WITHIN, || {
            self.members.iter_mut().for_each(Member::is_running);
            let Ok(list) = observer.fetch_group_list(Some(&group), ASK_WITHIN) else { return false };
            list.groups().iter().any(|group| {
                let assigned =
                    group.members().iter().filter(|m| m.assignment().is_some_and(|a| a.len() > 10));
                group.state() == "Stable" && group.members().len() == count && assigned.count() == count
            })
        });
        for member in &mut self.members {
            wait_until("a member writes its progress", WITHIN, || {
                member.is_running();
                member.counter("applied").is_some()
            });
        }
    }

    /// Adds triggers to the database that count applied changes and refuse some rows.
    pub(crate) fn prepare_database(&self) {
        self.python(&["prepare", REFUSED]);
    }

    /// Kills the first member after it has applied events.
    pub(crate) fn kill_a_member_at_work(&mut self) {
        let mut member = self.members.remove(0);
        wait_until(&format!("a member of {} has work", self.group()), WITHIN, || {
            member.is_running();
            member.counter("applied").is_some_and(|applied| applied > 0)
        });
        member.kill();
    }

    pub(crate) fn wait_until_applied(&mut self, workload: &Workload) {
        let expected = workload.ids.len();
        wait_until(&format!("{} has applied {expected} events", self.group()), WITHIN, || {
            self.members.iter_mut().for_each(Member::is_running);
            self.python(&["count"]).trim().parse::<usize>().expect("a number") >= expected
        });
    }

    /// Waits until the committed offsets are the ends of all partitions.
    pub(crate) fn wait_until_committed(&mut self, stage: &Stage) {
        let observer = stage.observer(&self.group());
        let mut open = String::new();
        let topics = || {
            ACTIONS.iter().flat_map(|action| (0..PARTITIONS).map(move |partition| (topic(action), partition)))
        };
        wait_until(&format!("{} has committed everything", self.group()), WITHIN, || {
            self.members.iter_mut().for_each(Member::is_running);
            let mut list = TopicPartitionList::new();
            for (topic, partition) in topics() {
                list.add_partition(&topic, partition);
            }
            let Ok(committed) = observer.committed_offsets(list, ASK_WITHIN) else { return false };
            open = topics().fold(String::new(), |open, (topic, partition)| {
                let (_, end) = observer.fetch_watermarks(&topic, partition, ASK_WITHIN).unwrap_or((0, -1));
                let offset = committed.find_partition(&topic, partition).map(|p| p.offset());
                let done = offset == Some(Offset::Offset(end)) || end == 0;
                if done { open } else { format!("{open} {topic}/{partition}: {offset:?} of {end};") }
            });
            open.is_empty()
        });
    }

    /// Ends the members, and compares the database with the oracle. Returns the numbers of dropped duplicates and skipped messages.
    pub(crate) fn stop_and_compare(mut self, stage: &Stage, workload: &Workload) -> [u64; 2] {
        let counts = ["duplicates", "skipped"]
            .map(|name| self.members.iter().filter_map(|member| member.counter(name)).sum());
        for member in std::mem::take(&mut self.members) {
            member.stop();
        }
        self.resume(stage);
        let dump: serde_json::Value = serde_json::from_str(&self.python(&["dump"])).expect("JSON");
        let ids: BTreeSet<String> = serde_json::from_value(dump["events"].clone()).expect("texts");
        assert!(ids == workload.ids, "{}: other events than the oracle's", self.language);
        let rows: Vec<Row> = serde_json::from_value(dump["records"].clone()).expect("rows");
        let rows: Rows = rows
            .into_iter()
            .map(|(entity, id, time, json, events)| ((entity, id), (time, json, events)))
            .collect();
        for (key, expected) in &workload.rows {
            assert_eq!(rows.get(key), Some(expected), "{}: {key:?}", self.language);
        }
        assert_eq!(rows.len(), workload.rows.len(), "{}", self.language);
        self.compare_dead_letters(stage, workload);
        counts
    }

    /// Starts a new member, and asserts that it has no event to apply.
    fn resume(&mut self, stage: &Stage) {
        self.add_member(stage);
        self.wait_for_members(stage, 1);
        for log in std::mem::take(&mut self.members).into_iter().map(Member::stop) {
            let line = log.lines().find(|line| line.contains("stopped ")).unwrap_or_default();
            for count in ["applied=0", "duplicates=0", "skipped=0", "dead_letters=0"] {
                assert!(line.split(' ').any(|word| word == count), "{}: no {count}:\n{log}", self.language);
            }
        }
    }

    fn compare_dead_letters(&self, stage: &Stage, workload: &Workload) {
        let garbage = GARBAGE.map(|(id, _, cause)| (id.unwrap_or_default().to_owned(), cause));
        let expected: BTreeMap<_, _> =
            workload.dead.iter().map(|(id, cause)| (id.clone(), *cause)).chain(garbage).collect();
        let letters = stage.client.read_to_end(&self.dead_letter_topic());
        let found: BTreeMap<_, _> = letters
            .iter()
            .map(|letter| {
                let position = letter.header("dead-letter-position").unwrap_or_default();
                assert!(
                    position.starts_with("nexudus.") && !letter.value.is_empty(),
                    "{}: {letter:?}",
                    self.language
                );
                assert!(letter.header("dead-letter-detail").is_some(), "{}: {letter:?}", self.language);
                let id = letter.header("ce_id").unwrap_or_default().to_owned();
                (id, letter.header("dead-letter-cause").unwrap_or_default())
            })
            .collect();
        assert_eq!(found, expected, "{}: dead letters", self.language);
    }

    /// Runs `database.py` on the database.
    fn python(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/database.py");
        let output = Command::new("python3").arg(script).arg(self.database()).args(arguments).output();
        let output = output.expect("python3 can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

/// Returns the command of a consumer that `tests/consumers/build` has built.
fn command(language: &str) -> Vec<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_nexudus-bridge"));
    let built = program.ancestors().nth(2).expect("the target directory").join("consumers").join(language);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/consumers").join(language);
    match language {
        "python" => vec![built.join("bin/python"), source.join("consumer.py")],
        "java" => {
            let jars = format!("{0}/nexudus-consumer.jar:{0}/libs/*", built.join("target").display());
            vec!["java".into(), "-Xmx128m".into(), "-cp".into(), jars.into(), "NexudusConsumer".into()]
        }
        "go" | "rust" => vec![built.join("nexudus-consumer")],
        "typescript" => {
            let own = built.with_file_name("node").join("node_modules/node/bin/node");
            vec![if own.exists() { own } else { "node".into() }, built.join("consumer.ts")]
        }
        other => panic!("no consumer in {other}"),
    }
}
