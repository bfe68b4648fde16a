//! `catch-up` reads the records that changed in Nexudus while webhooks were disabled. It publishes each once, whole and with a
//! mark, and writes nothing to Nexudus.

mod arguments;
mod behaviours;
mod breaks;
mod last_outage;
mod last_trigger;
mod locations;

use std::collections::BTreeSet;
use std::process::Output;

use nexudus_double::{Options, RawRecord, demo};
use serde_json::{Value, json};

use crate::support::bridge::TestBridge;
use crate::support::kafka::{Client, Consumed, plain, unique};
use crate::support::nexudus::Tenant;
use crate::support::program::{err, out, program};

const HERE: i64 = demo::LOCATIONS[0];
const NORTH: i64 = demo::LOCATIONS[1];

/// Two locations. The actions of their sources are some changes, a deletion and a signal.
const SOURCES: &str = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["Booking*", "Team*", "Visitor*"]
[sources.north]
secrets = ["test-secret"]
business_id = 1999000002
actions = ["Booking*"]
"#;

/// The topics of [`SOURCES`], and topics that must stay empty.
const TOPICS: [&str; 9] = [
    "BookingCreate",
    "BookingUpdate",
    "BookingDelete",
    "TeamCreated",
    "TeamUpdated",
    "VisitorRegistered",
    "VisitorNotification",
    "CoworkerUpdate",
    "quarantine",
];

const SINCE: &str = "2025-03-02T10:00:00Z";
const BEFORE: &str = "2025-03-02T09:59:00Z";

/// A tenant of Nexudus, and the topics of a bridge for it.
struct Setup {
    tenant: Tenant,
    kafka: Client,
    bootstrap: String,
    prefix: String,
    topics: Vec<String>,
}

impl Setup {
    /// Uses the shared Apache Kafka, and a Nexudus in which no record has changed since the year 2020.
    fn new() -> Self {
        Self::with(SOURCES, &TOPICS)
    }

    fn with(sources: &str, topics: &[&str]) -> Self {
        let limits = nexudus_double::Limits::NONE;
        Self::on(
            plain().bootstrap(),
            plain().client(),
            sources,
            topics,
            Options { limits, ..Options::default() },
        )
    }

    /// `bootstrap` is the program's `kafka.bootstrap_servers`.
    fn on(bootstrap: &str, kafka: Client, sources: &str, topics: &[&str], options: Options) -> Self {
        let tenant = Tenant::with_options(sources, options);
        for entity in ["Resource", "Coworker", "Booking", "CoworkerContract", "Team", "Visitor", "Tariff"]
            .into_iter()
            .chain(["CommunityThread", "HelpDeskMessage", "Business"])
        {
            for id in tenant.nexudus.ids(entity) {
                let old = "\"2020-01-01T00:00:00Z\"";
                tenant.nexudus.change(entity, id, &[("CreatedOn", old), ("UpdatedOn", old)]).expect("exists");
            }
        }
        let prefix = format!("{}.", unique("catch-up"));
        let topics: Vec<String> = topics.iter().map(|topic| format!("{prefix}{topic}")).collect();
        for topic in &topics {
            kafka.create_topic(topic, 1, &[]);
        }
        let setup = Self { tenant, kafka, bootstrap: bootstrap.to_owned(), prefix, topics };
        setup.configure("", sources);
        setup
    }

    /// Writes another configuration: `nexudus` is added to `[nexudus]`, and `sources` replaces the sources.
    fn configure(&self, nexudus: &str, sources: &str) {
        let Self { tenant, bootstrap, prefix, .. } = self;
        tenant.configure(&format!(
            "{}[kafka]\nbootstrap_servers = {bootstrap:?}\n[topics]\nprefix = {prefix:?}\ncreate = false\n{sources}",
            tenant.section(nexudus)
        ));
    }

    /// Puts a record into Nexudus that was created at `created` and last changed at `updated`.
    fn put(&self, entity: &str, location: i64, created: &str, updated: &str) -> i64 {
        let mut record = self.tenant.nexudus.example(entity, location).expect("known");
        record.set("CreatedOn", created);
        record.set("UpdatedOn", updated);
        self.tenant.nexudus.add(entity, location, record).expect("known")
    }

    fn record(&self, entity: &str, id: i64) -> RawRecord {
        self.tenant.nexudus.record(entity, id).expect("exists")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.tenant.run(&[&["catch-up"], arguments].concat())
    }

    /// Runs `catch-up --json` with `--since` [`SINCE`], and returns the object.
    #[track_caller]
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        self.tenant.json(&[&["catch-up", "--since", SINCE], arguments].concat(), code)
    }

    /// Returns all messages of all topics, each with its action.
    fn messages(&self) -> Vec<(String, Consumed)> {
        let mut messages = Vec::new();
        for topic in &self.topics {
            let action = topic.strip_prefix(&self.prefix).expect("a path of the test");
            messages.extend(self.kafka.read_to_end(topic).into_iter().map(|it| (action.to_owned(), it)));
        }
        messages
    }

    /// Returns the action and key of all messages, in order.
    fn published(&self) -> Vec<String> {
        sorted(self.messages().iter().map(|(action, message)| {
            let key = message.key.as_deref().map(String::from_utf8_lossy);
            format!("{action} {}", key.expect("each has a key"))
        }))
    }
}

/// Runs the command in a run's output, as a user who pastes it does.
#[track_caller]
fn paste(printed: &str) -> Output {
    let command = printed.lines().find_map(|line| line.split_once(": nexudus-bridge ")).expect(printed).1;
    let words = shlex::split(command).expect("whole words");
    program().args(words).output().expect("the program can be run")
}

fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

/// Returns the bytes of a record, which are the same in the API and in a delivery.
fn bytes(record: &RawRecord) -> String {
    String::from_utf8(record.to_json().into()).expect("text")
}

#[test]
fn each_record_of_the_window_is_published_once_whole_and_with_a_mark() {
    let setup = Setup::new();
    let late = "2025-03-04T08:30:00.1234567Z";
    let new = setup.put("Booking", HERE, SINCE, late);
    let old = setup.put("Booking", NORTH, BEFORE, SINCE);
    let team = setup.put("Team", HERE, "2025-01-01T00:00:00Z", "2025-03-03T00:00:00Z");
    let visitor = setup.put("Visitor", HERE, "2025-03-02T12:00:00.05Z", "2025-03-02T12:00:00.05Z");
    setup.put("Booking", HERE, BEFORE, BEFORE);
    setup.put("Team", HERE, "2025-03-01T00:00:00Z", "2025-03-02T09:59:59.9999999Z");
    let summary = setup.json(&[], 0);
    let run_id = summary["run_id"].as_str().expect("an id").to_owned();
    let events = |source: &str, action: &str| json!({"source": source, "action": action, "events": 1});
    let unreadable =
        ["BookingDelete", "TeamDeleted", "VisitorCheckedin", "VisitorDeleted", "VisitorNotification"];
    let expected = json!({
        "run_id": run_id, "dry_run": false,
        "published": [
            events("default", "BookingCreate"),
            events("default", "BookingUpdate"),
            events("default", "TeamUpdated"),
            events("default", "VisitorRegistered"),
            events("north", "BookingUpdate"),
        ],
        "uncovered": {}, "unplaced": {}, "elsewhere": 0, "outside": 0, "gone": 0, "failed": [],
        "unreadable": unreadable, "unknown_since": [], "error": null, "go_on_since": [],
    });
    assert_eq!(summary, expected);

    let messages = setup.messages();
    let wanted = [
        ("BookingCreate", "default", "Booking", new, late),
        ("BookingUpdate", "default", "Booking", new, late),
        ("BookingUpdate", "north", "Booking", old, SINCE),
        ("TeamUpdated", "default", "Team", team, "2025-03-03T00:00:00Z"),
        ("VisitorRegistered", "default", "Visitor", visitor, "2025-03-02T12:00:00.05Z"),
    ];
    assert_eq!(messages.len(), wanted.len(), "nothing else on any topic: {:?}", setup.published());
    for (action, source, entity, id, time) in wanted {
        let key = id.to_string();
        let of_event =
            |(topic, it): &&(_, Consumed)| topic == action && it.key.as_deref() == Some(key.as_bytes());
        let (_, message) = messages.iter().find(of_event).expect("published");
        assert_eq!(String::from_utf8_lossy(&message.value), bytes(&setup.record(entity, id)));
        let fixed = [
            ("content-type", "application/json".to_owned()),
            ("ce_specversion", "1.0".to_owned()),
            ("ce_source", format!("/nexudus/{source}")),
            ("ce_type", format!("com.nexudus.{action}")),
            ("ce_subject", id.to_string()),
            ("ce_time", time.to_owned()),
            ("ce_nexuduscatchup", run_id.clone()),
        ];
        for (name, value) in &fixed {
            assert_eq!(message.header(name), Some(value.as_str()), "{action} {name}");
        }
        let names: BTreeSet<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        let rest = ["ce_id", "ce_nexudusreceived", "ce_nexudusfingerprint"];
        assert_eq!(names, fixed.iter().map(|(name, _)| *name).chain(rest).collect());
        assert_eq!(message.header("ce_id"), message.header("ce_nexudusfingerprint"));
    }

    only_reads_what_is_wanted(&setup, [new, old, team, visitor]);
}

/// Asserts that a run with these records reads each record once, and only the lists that it needs.
fn only_reads_what_is_wanted(setup: &Setup, ids: [i64; 4]) {
    let journal = setup.tenant.asked();
    assert!(journal.writes().is_empty(), "Nexudus is only read");
    let lists: Vec<String> =
        journal.entries().map(|it| it.line()).filter(|it| it.contains("UpdatedOn")).collect();
    assert!(lists.iter().any(|it| it.contains("from_Booking_UpdatedOn=2025-03-01T10%3A00")), "{lists:?}");
    assert!(lists.iter().all(|it| it.contains("orderBy=Id") && !it.contains("to_")), "{lists:?}");
    assert!(!lists.iter().any(|it| it.contains("from_Coworker_")), "no source has an action of this kind");
    for id in ids {
        let read = journal.entries().filter(|entry| entry.path.ends_with(&format!("/{id}"))).count();
        assert_eq!(read, 1, "{id}");
    }
}

#[test]
fn a_dry_run_prints_the_events_and_publishes_nothing() {
    let setup = Setup::new();
    for minute in 10..13 {
        let time = format!("2025-03-02T10:{minute}:00Z");
        setup.put("Booking", HERE, &time, &time);
    }
    setup.put("Team", HERE, BEFORE, SINCE);
    let summary = setup.json(&["--dry-run"], 0);
    assert_eq!(summary["dry_run"], true);
    let output = setup.run(&["--since", SINCE, "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let expected = "\
SOURCE   ACTION         EVENTS
default  BookingCreate       3
default  TeamUpdated         1
Would publish 4 events
Not readable: 5 wanted actions for deletions, signals and transitions: BookingDelete, TeamDeleted, VisitorCheckedin, VisitorDeleted, VisitorNotification
";
    assert_eq!((out(&output).as_str(), err(&output).as_str()), (expected, ""));
    assert!(setup.messages().is_empty() && setup.tenant.asked().writes().is_empty());

    let output = setup.run(&["--since", SINCE]);
    let printed = out(&output);
    assert!(printed.contains("Published 4 events, marked ce_nexuduscatchup: 0"), "{printed}");
    assert!(
        printed.contains("\nRunning it again publishes the same events again, with the same ids\n"),
        "{printed}"
    );
    assert_eq!((setup.messages().len(), err(&output).as_str()), (4, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_and_live_deliveries_of_the_same_bytes_give_the_same_ids() {
    let setup = Setup::new();
    let new = setup.put("Booking", HERE, SINCE, "2025-03-02T11:00:00.1234567Z");
    let team = setup.put("Team", HERE, BEFORE, SINCE);
    let runs = [setup.json(&[], 0), setup.json(&[], 0)];
    assert_ne!(runs[0]["run_id"], runs[1]["run_id"]);
    let bridge = TestBridge::on(plain().bootstrap(), plain().client(), setup.prefix.clone(), &[]).await;
    let events =
        [("BookingCreate", "Booking", new), ("BookingUpdate", "Booking", new), ("TeamUpdated", "Team", team)];
    for (action, entity, id) in events {
        let body = format!("[{}]", bytes(&setup.record(entity, id)));
        bridge.deliver(action, body).await.events("confirmed");
        let copies = bridge.topic(action, 3);
        for copy in &copies {
            assert_eq!((&copy.key, &copy.value), (&copies[0].key, &copies[0].value));
            for name in ["ce_id", "ce_time", "ce_source", "ce_type"] {
                assert_eq!(copy.header(name), copies[0].header(name), "{action} {name}");
            }
        }
        let marks: Vec<Option<&str>> = copies.iter().map(|copy| copy.header("ce_nexuduscatchup")).collect();
        assert_eq!(marks, [runs[0]["run_id"].as_str(), runs[1]["run_id"].as_str(), None]);
    }
}

#[test]
fn records_are_published_in_the_order_of_their_changes() {
    let setup = Setup::new();
    let times = ["2025-03-05T00:00:00Z", "2025-03-02T10:00:00.5Z", "2025-03-03T00:00:00Z", SINCE];
    let bookings: Vec<i64> = times.iter().map(|time| setup.put("Booking", HERE, BEFORE, time)).collect();
    let team = setup.put("Team", HERE, BEFORE, "2025-03-04T00:00:00Z");
    setup.json(&[], 0);
    let read: Vec<i64> = setup
        .tenant
        .asked()
        .entries()
        .filter_map(|entry| entry.path.rsplit('/').next()?.parse().ok())
        .filter(|id| bookings.contains(id) || *id == team)
        .collect();
    assert_eq!(read, [bookings[3], bookings[1], bookings[2], team, bookings[0]]);
    let messages = setup.messages();
    let keys: Vec<String> = messages
        .iter()
        .filter(|(action, _)| action == "BookingUpdate")
        .map(|(_, message)| String::from_utf8_lossy(message.key.as_deref().expect("a key")).into_owned())
        .collect();
    assert_eq!(keys, [3, 1, 2, 0].map(|at: usize| bookings[at].to_string()));
}
