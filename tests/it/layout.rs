//! The topic layout: `[topics.layout]` routes several actions to one topic.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use nexudus_bridge::kafka::topics::Topics;
use serde_json::Value;

use crate::support::bridge::{TestBridge, config, sign};
use crate::support::kafka::{Consumed, free_port, plain, unique};
use crate::support::program::{Running, err, header, out, program};

const BY_ENTITY: &str = r#"{"*": "{entity}"}"#;

/// Returns the action of an event, from its `ce_type`.
fn action(message: &Consumed) -> &str {
    message.header("ce_type").and_then(|kind| kind.strip_prefix("com.nexudus.")).expect("a ce_type")
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_updates_and_deletes_of_a_record_keep_their_order_on_a_shared_topic() {
    const RECORDS: usize = 7;
    let settings = [("topics.layout", BY_ENTITY)];
    let bridge = TestBridge::on_apache(&["Booking", "Coworker"], &settings).await;
    let mut sent: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for round in 0..6 {
        for id in 0..RECORDS {
            let action = match round {
                0 => "BookingCreate",
                5 => "BookingDelete",
                _ => "BookingUpdate",
            };
            let record = format!(r#"{{"Id":{id},"Round":{round}}}"#);
            bridge.deliver(action, format!("[{record}]")).await.events("confirmed");
            sent.entry(id.to_string()).or_default().push((action.to_owned(), record.into_bytes()));
        }
    }
    let confirmed = bridge.deliver("CoworkerCheckin", r#"[{"Id":1}]"#).await.events("confirmed");
    assert_eq!(confirmed[0]["topic"], bridge.name_of("Coworker"), "a signal is on the topic of its entity");
    let mut found: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for message in bridge.topic("Booking", 6 * RECORDS) {
        let key = String::from_utf8(message.key.clone().expect("a key")).expect("text");
        partitions.entry(key.clone()).or_default().insert(message.partition);
        found.entry(key).or_default().push((action(&message).to_owned(), message.value.clone()));
    }
    assert!(partitions.values().all(|partitions| partitions.len() == 1), "{partitions:?}");
    assert_eq!(found, sent);
    let series = r#"nexudus_bridge_events_confirmed_total{action="BookingDelete",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 7.0, "labels name the action, not the topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_the_layout_are_created_with_the_settings_of_their_overrides() {
    let prefix = format!("{}.", unique("it"));
    let settings = [
        ("topics.layout", BY_ENTITY),
        ("topics.partitions", "1"),
        ("topics.replication_factor", "1"),
        (
            "topics.overrides",
            r#"{"Coworker*": {"config": {"retention.ms": "5000"}}, "Coworker": {"partitions": 4}, "quarantine": {"partitions": 2}}"#,
        ),
    ];
    let topics = Topics::new(&config(plain().bootstrap(), &prefix, &settings)).expect("a client can be made");
    let plan = topics.plan().await.expect("the cluster answers");
    assert_eq!((plan.create.len(), plan.unchanged), (29, 0));
    assert_eq!(topics.apply(&plan).await.expect("the cluster answers"), BTreeMap::new());
    let client = plain().client();
    let name = |topic: &str| format!("{prefix}{topic}");
    for (topic, partitions) in [("Booking", 1), ("Coworker", 4), ("CoworkerInvoice", 1), ("quarantine", 2)] {
        client.consume_all(&name(topic), 0, crate::support::bridge::MAX_WAIT); // until the client has the metadata of the topic
        assert_eq!(client.partitions(&name(topic)).len(), partitions, "{topic}");
    }
    assert_eq!(client.topic_configs(&name("CoworkerInvoice"))["retention.ms"], "5000");
    assert_ne!(client.topic_configs(&name("Booking"))["retention.ms"], "5000");
    let again = topics.plan().await.expect("the cluster answers");
    assert_eq!((again.create.len(), again.unchanged, again.differences.len()), (0, 29, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_delivery_is_replayed_onto_the_topic_of_the_layout() {
    let settings = [("topics.layout", BY_ENTITY)];
    let bridge = TestBridge::on_apache(&["Booking"], &settings).await;
    let body = br#"[{"Id":7},{"Id":8}]"#;
    let headers = [("X-Nexudus-Hook-Signature", &*sign(body))];
    bridge.post("BokingCreate", &headers, &body[..]).await.events("quarantined");
    let mut replay = program();
    replay
        .args(["quarantine", "replay", "--action", "BokingCreate", "--as", "BookingCreate"])
        .env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", plain().bootstrap())
        .env("NEXUDUS_BRIDGE__TOPICS__PREFIX", bridge.name_of(""))
        .env("NEXUDUS_BRIDGE__TOPICS__LAYOUT", BY_ENTITY);
    let output = replay.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let events = bridge.topic("Booking", 2);
    assert!(events.iter().all(|event| action(event) == "BookingCreate"));
}

/// A bridge of `dev` whose bookings share a topic.
struct Dev {
    kafka: String,
    url: String,
    _running: Running,
}

impl Dev {
    fn start() -> Self {
        let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
        let [port, kafka, admin] = ports.each_ref().map(String::as_str);
        let mut dev = with_layout(&["dev", "--port", port, "--kafka-port", kafka, "--admin-port", admin]);
        let running = Running::start(&mut dev);
        let banner = running.lines_until("Ctrl-C").join("\n");
        assert!(banner.contains("nexudus.* (28 of topics.layout), nexudus.quarantine"), "{banner}");
        assert!(banner.contains("kcat") && banner.contains("-t nexudus.Coworker -f"), "{banner}");
        Self {
            kafka: format!("127.0.0.1:{kafka}"),
            url: format!("http://127.0.0.1:{port}"),
            _running: running,
        }
    }

    fn send(&self, action: &str) {
        succeed(&mut with_layout(&["send", action, "--url", &self.url]));
    }

    /// Returns the actions and topics of the events that `tail` prints.
    fn tail(&self, arguments: &[&str]) -> Vec<(String, String)> {
        let all = ["tail", "--bootstrap", &self.kafka, "--from", "beginning", "--json"];
        let text = succeed(&mut with_layout(&[&all, arguments].concat()));
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        events.map(|event| (text(header(&event, "ce_type")), text(&event["topic"]))).collect()
    }
}

fn with_layout(arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).env("NEXUDUS_BRIDGE__TOPICS__LAYOUT", BY_ENTITY);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    out(&output)
}

#[test]
fn tail_selects_events_of_a_shared_topic_by_their_action() {
    let dev = Dev::start();
    for action in ["BookingCreate", "BookingUpdate", "CoworkerCheckin", "BookingDelete"] {
        dev.send(action);
    }
    let event = |action: &str, topic: &str| (format!("com.nexudus.{action}"), format!("nexudus.{topic}"));
    assert_eq!(dev.tail(&["BookingDelete", "--count", "1"]), [event("BookingDelete", "Booking")]);
    assert_eq!(dev.tail(&["36", "--count", "1"]), [event("CoworkerCheckin", "Coworker")]);
    let mut of_topic = dev.tail(&["booking", "--count", "3"]);
    of_topic.sort();
    assert_eq!(
        of_topic,
        ["BookingCreate", "BookingDelete", "BookingUpdate"].map(|action| event(action, "Booking"))
    );
}

#[test]
fn actions_lists_the_topics_of_the_layout() {
    let rows: Vec<Value> =
        serde_json::from_str(&succeed(&mut with_layout(&["actions", "--json"]))).expect("JSON");
    let topics: BTreeSet<&str> = rows.iter().map(|row| row["topic"].as_str().expect("a topic")).collect();
    assert_eq!((rows.len(), topics.len()), (89, 28));
    assert!(topics.contains("nexudus.Booking"), "{topics:?}");
    let table = succeed(&mut with_layout(&["actions"]));
    assert!(table.lines().any(|line| line.contains("BookingDelete") && line.contains("nexudus.Booking ")));
    let mut broken = program();
    broken.arg("actions").env("NEXUDUS_BRIDGE__TOPICS__LAYOUT", r#"{"BookngCreate": "x"}"#);
    let output = broken.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "the name can be looked up: {}", err(&output));
    assert!(
        err(&output).contains("the configuration has mistakes") && out(&output).contains("BookingCreate")
    );
}
