//! `quarantine`: messages of the quarantine topic are listed, shown and replayed, and stay on the topic.

use std::process::{Command, Output};

use nexudus_bridge::kafka::embedded::RDKafkaRespErr;

use crate::support::bridge::{TestBridge, sign};
use crate::support::kafka::{Client, Consumed, Pattern, Resource, free_port, plain, secured, unique};
use crate::support::program::{err, out, program};

/// Two bookings, with escapes, spaces, zeros and non-ASCII text that must stay unchanged.
const BODY: &str =
    r#"[{"Id": 7, "Name":"Jos\u00e9 é😀","Price":0.09000,"UpdatedOn":"2026-01-02T03:04:05"} , {"Id":8}]"#;

/// Returns the command `quarantine` with the cluster and topics of a test.
fn command(bootstrap: &str, prefix: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command
        .arg("quarantine")
        .args(arguments)
        .env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", bootstrap)
        .env("NEXUDUS_BRIDGE__TOPICS__PREFIX", prefix)
        .env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", "[\"x\"]")
        .env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__EXTRA_ACTIONS", r#"["NewThing","OtherThing","Stuck"]"#);
    command
}

/// Runs `quarantine` on the shared broker with the topics of `bridge`.
fn quarantine(bridge: &TestBridge, arguments: &[&str]) -> Output {
    let mut command = command(plain().bootstrap(), &bridge.name_of(""), arguments);
    command.output().expect("it runs")
}

#[track_caller]
fn ends(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
    out(output)
}

/// Returns the headers that are equal for all deliveries of the same body.
fn lasting_headers(message: &Consumed) -> Vec<(String, Vec<u8>)> {
    let of_the_delivery = ["ce_nexudusreceived", "traceparent"];
    let lasting = message.headers.iter().filter(|(name, _)| !of_the_delivery.contains(&name.as_str()));
    let mut lasting: Vec<_> = lasting.cloned().collect();
    if message.key.as_deref() == Some(b"8") {
        lasting.retain(|(name, _)| name != "ce_time"); // the record has no time, so this is the time of receipt
    }
    lasting
}

/// `list` prints both messages, and filters them.
fn lists(bridge: &TestBridge, slip: &String, garbage: &String) {
    let table = ends(&quarantine(bridge, &["list"]), 0);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["RECEIVED", "SOURCE", "ACTION", "REASON", "BYTES", "POSITION"]);
    let bytes = BODY.len().to_string();
    assert_eq!(lines[1][1..], ["default", "BokingCreate", "unknown_action", &bytes, slip]);
    assert_eq!(lines[2][1..], ["default", "BookingCreate", "not_json", "13", garbage]);
    for (filters, places) in [
        (&["--reason", "not_json"][..], vec![garbage]),
        (&["--action", "bok*"], vec![slip]),
        (&["--since", "1h", "--source", "default"], vec![slip, garbage]),
        (&["--limit", "1"], vec![garbage]),
        (&["--until", "2020-01-01"], vec![]),
    ] {
        let json = ends(&quarantine(bridge, &[&["list", "--json"], filters].concat()), 0);
        let objects = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let mut listed: Vec<String> =
            objects.map(|object| object["position"].as_str().expect("a position").to_owned()).collect();
        let mut places: Vec<String> = places.into_iter().cloned().collect();
        listed.sort();
        places.sort();
        assert_eq!(listed, places, "{filters:?}");
    }
}

/// `show` prints a message without control characters, or its bytes.
fn shows(bridge: &TestBridge, slip: &str, garbage: &str, trace: &str) {
    let shown = ends(&quarantine(bridge, &["show", slip]), 0);
    assert!(shown.ends_with(&format!("\n\n{BODY}\n")), "{shown}");
    assert!(shown.contains("quarantine-reason") && shown.contains(trace), "{shown}");
    assert_eq!(quarantine(bridge, &["show", "--raw", garbage]).stdout, b"\x1b[2Jnot json\x07");
    let shown = ends(&quarantine(bridge, &["show", garbage]), 0);
    assert!(!shown.contains('\u{1b}') && shown.contains("[2Jnot json"), "{shown:?}");
    for (nowhere, expected) in [("0@999", "no message at 0@999"), ("9@0", "no partition 9, it has 0 to 2")] {
        let missing = quarantine(bridge, &["show", nowhere]);
        ends(&missing, 1);
        assert!(err(&missing).contains(expected), "{}", err(&missing));
    }
}

fn refuses_a_wrong_replay(bridge: &TestBridge) {
    for (wrong, expected) in [
        (&["--as", "BookingCreate"][..], "--action"),
        (&["--action", "BokingCreate", "--as", "BokingCreate"], "did you mean BookingCreate?"),
        (&["--since", "yesterday"], "2026-01-02T03:04:05Z"),
        (&["0@x"], "PARTITION@OFFSET"),
        (&["--reason", "not_jsn"], "not_json"),
    ] {
        let refused = quarantine(bridge, &[&["replay"], wrong].concat());
        ends(&refused, 2);
        assert!(err(&refused).contains(expected), "{wrong:?}: {}", err(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_action_is_listed_shown_and_replayed_under_the_right_action_byte_for_byte() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("X-Nexudus-Hook-Signature", sign(BODY.as_bytes())), ("traceparent", trace.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    bridge.post("BokingCreate", &headers, BODY).await.events("quarantined");
    bridge.deliver("BookingCreate", "\u{1b}[2Jnot json\u{7}").await.events("quarantined");
    let kept = bridge.topic("quarantine", 2);
    let place = |reason: &str| {
        let message = kept.iter().find(|message| message.header("quarantine-reason") == Some(reason));
        message.map(|message| format!("{}@{}", message.partition, message.offset)).expect("it is kept")
    };
    let (slip, garbage) = (place("unknown_action"), place("not_json"));

    lists(&bridge, &slip, &garbage);
    shows(&bridge, &slip, &garbage, trace);
    refuses_a_wrong_replay(&bridge);
    let corrected = ["replay", "--action", "bokingcreate", "--as", "bookingcreate"];
    let dry = quarantine(&bridge, &[&corrected[..], &["--dry-run"]].concat());
    assert!(err(&dry).contains("no earlier run is remembered"), "{}", err(&dry));
    let dry = ends(&dry, 0);
    let topic = bridge.name_of("BookingCreate");
    assert!(dry.contains(&topic) && dry.contains("key 7") && dry.contains("key 8"), "{dry}");
    assert!(dry.contains("1 would be replayed (2 events), 0 skipped, 0 failed"), "{dry}");
    assert!(bridge.topic("BookingCreate", 0).is_empty());

    let replayed = ends(&quarantine(&bridge, &corrected), 0);
    assert!(replayed.contains("1 replayed (2 events), 0 skipped, 0 failed"), "{replayed}");
    let mut first = bridge.topic("BookingCreate", 2);
    first.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(first[0].value, BODY.as_bytes()[1..BODY.find(" , ").expect("two records")]);
    assert_eq!(first[1].value, br#"{"Id":8}"#);
    let of_slip = kept.iter().find(|message| message.header("nexudus-action") == Some("BokingCreate"));
    let received = of_slip.and_then(|message| message.header("ce_nexudusreceived"));
    for event in &first {
        assert_eq!(
            (event.header("traceparent"), event.header("ce_nexudusreceived")),
            (Some(trace), received)
        );
        assert_eq!(event.header("quarantine-reason"), None);
    }
    let again = quarantine(&bridge, &corrected);
    assert_eq!(err(&again), "");
    let again = ends(&again, 0);
    assert!(
        again.contains("0 replayed (0 events), 0 skipped, 0 failed, 1 replayed by earlier runs"),
        "{again}"
    );
    bridge.topic("BookingCreate", 2);
    ends(&quarantine(&bridge, &["replay", "--again", &slip, "--as", "6"]), 0);
    bridge.deliver("BookingCreate", BODY).await.events("confirmed");
    for copies in bridge.topic("BookingCreate", 6).chunk_by(|a, b| a.key == b.key) {
        for copy in copies {
            assert_eq!(copy.value, copies[0].value, "a replay, its repetition and a live delivery");
            assert_eq!(copy.partition, copies[0].partition);
            assert_eq!(lasting_headers(copy), lasting_headers(&copies[0]));
        }
    }
    let rest = ends(&quarantine(&bridge, &["replay"]), 1);
    assert!(rest.contains("the body is not JSON, or not UTF-8"), "{rest}");
    assert!(
        rest.contains("0 replayed (0 events), 1 skipped, 0 failed, 1 replayed by earlier runs"),
        "{rest}"
    );
    assert_eq!(bridge.topic("quarantine", 2), kept, "nothing is deleted, moved or added");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_replayed_are_left_for_a_later_run_and_others_are_not_repeated() {
    let bridge = TestBridge::on_apache(&["NewThing"], &[]).await;
    for action in ["NewThing", "OtherThing", "NewThing", "OtherThing", "NewThing"] {
        bridge.deliver(action, r#"{"Id":1}"#).await.events("quarantined");
    }
    bridge.deliver("NewThing", "[]").await.events("quarantined");
    bridge.deliver("NewThing", "[1]").await.events("quarantined");
    let first = ends(&quarantine(&bridge, &["replay"]), 1);
    assert!(first.contains("4 replayed (3 events), 1 skipped, 2 failed"), "{first}");
    assert!(
        first.contains(&format!("{}: the broker refuses it for now", bridge.name_of("OtherThing"))),
        "{first}"
    );
    assert!(first.contains("an empty array, nothing to publish"), "{first}");
    let things = bridge.topic("NewThing", 3);
    let mut ids: Vec<&str> = things.iter().filter_map(|event| event.header("ce_id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "equal signals are events of their own");
    assert!(things.iter().all(|event| event.value == br#"{"Id":1}"#));

    bridge.kafka().create_topic(&bridge.name_of("OtherThing"), 1, &[]);
    let second = ends(&quarantine(&bridge, &["replay"]), 1);
    assert!(
        second.contains("2 replayed (2 events), 1 skipped, 0 failed, 4 replayed by earlier runs"),
        "{second}"
    );
    assert_eq!(bridge.topic("OtherThing", 2).len(), 2);
    assert_eq!(bridge.topic("NewThing", 3), things);
    let third = ends(&quarantine(&bridge, &["replay", "--action", "NewThing", "--action", "OtherThing"]), 1);
    assert!(
        third.contains("0 replayed (0 events), 1 skipped, 0 failed, 6 replayed by earlier runs"),
        "{third}"
    );
    ends(&quarantine(&bridge, &["replay", "--again", "--action", "NewThing", "--until", "1s"]), 1);
    let repeated = bridge.topic("NewThing", 6);
    assert!(
        ids.iter().all(|id| repeated.iter().filter(|event| event.header("ce_id") == Some(id)).count() == 2)
    );
    assert_eq!(bridge.topic("quarantine", 7).len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_refuses_three_events_in_a_row_is_not_tried_again() {
    let bridge = TestBridge::on_apache(&["NewThing"], &[]).await;
    for action in ["OtherThing", "OtherThing", "OtherThing", "OtherThing", "OtherThing", "NewThing"] {
        bridge.deliver(action, r#"{"Id":1}"#).await.events("quarantined");
    }
    let replayed = ends(&quarantine(&bridge, &["replay"]), 1);
    assert!(replayed.contains("1 replayed (1 event), 0 skipped, 5 failed"), "{replayed}");
    let topic = bridge.name_of("OtherThing");
    let count = |text: &str| replayed.matches(text).count();
    assert_eq!(count("the broker refuses it for now"), 3, "{replayed}");
    assert_eq!(count(&format!("not tried: {topic} has refused 3 events in a row")), 2, "{replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_refused_by_its_topic_is_replayed_after_the_topic_accepts_it() {
    let bridge = TestBridge::on_apache(&[], &[]).await;
    let topic = bridge.name_of("BookingCreate");
    bridge.kafka().create_topic(&topic, 1, &[("max.message.bytes", "2000")]);
    let large = format!(r#"{{"Id":1,"Notes":"{}"}}"#, "x".repeat(3_000));
    bridge.deliver("BookingCreate", large.clone()).await.events("quarantined");
    let refused = ends(&quarantine(&bridge, &["replay"]), 1);
    assert!(refused.contains("the broker refuses it for good: MessageSizeTooLarge"), "{refused}");
    assert!(bridge.topic("BookingCreate", 0).is_empty());
    bridge.kafka().delete_topic(&topic);
    bridge.kafka().create_topic(&topic, 1, &[]);
    ends(&quarantine(&bridge, &["replay", "--reason", "refused"]), 0);
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, large.as_bytes());
    assert_eq!(bridge.topic("quarantine", 1).len(), 1, "a replay quarantines nothing anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_accepted_by_signature_warn_keeps_its_mark_also_on_the_embedded_broker() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[("sources.default.signature", "warn")]).await;
    bridge.post("BokingCreate", &[], r#"{"Id":1}"#).await.events("quarantined");
    let bootstrap = bridge.broker().bootstrap_servers().to_owned();
    let quarantine =
        |arguments: &[&str]| command(&bootstrap, "nexudus.", arguments).output().expect("it runs");
    let table = ends(&quarantine(&["list"]), 0);
    assert!(table.contains("unknown_action (signature missing)"), "{table}");
    let replay = ["replay", "--action", "BokingCreate", "--as", "BookingCreate"];
    ends(&quarantine(&replay), 0);
    let again = ends(&quarantine(&replay), 0);
    assert!(again.contains("1 replayed by earlier runs"), "{again}");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].header("nexudus-signature"), Some("missing"));
}

#[test]
fn a_missing_broker_a_missing_topic_and_an_empty_topic_are_named() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let attempts = [&["list"][..], &["show", "0@0"], &["replay"]].map(|arguments| {
        let mut command =
            command("127.0.0.1:9", "nexudus.", &[arguments, &["--bootstrap", &nobody]].concat());
        std::thread::spawn(move || command.output().expect("it runs")) // each waits seconds for the broker
    });
    let prefix = format!("{}.", unique("it"));
    for arguments in [&["list"][..], &["show", "0@0"], &["replay"]] {
        let missing = command(plain().bootstrap(), &prefix, arguments).output().expect("it runs");
        ends(&missing, 1);
        assert!(
            err(&missing).contains(&format!("no topic {prefix}quarantine on the cluster")),
            "{}",
            err(&missing)
        );
    }
    Client::new(plain().bootstrap()).create_topic(&format!("{prefix}quarantine"), 2, &[]);
    let empty = command(plain().bootstrap(), &prefix, &["list"]).output().expect("it runs");
    assert_eq!(ends(&empty, 0), "");
    assert!(err(&empty).contains(&format!("{prefix}quarantine is empty")), "{}", err(&empty));
    let nothing = command(plain().bootstrap(), &prefix, &["replay"]).output().expect("it runs");
    assert!(ends(&nothing, 0).contains("0 replayed"), "{}", out(&nothing));
    for attempt in attempts {
        let output = attempt.join().expect("it ran");
        assert_eq!(ends(&output, 1), "");
        assert!(
            err(&output).contains(&nobody) && err(&output).contains("connection refused"),
            "{}",
            err(&output)
        );
    }
    assert!(plain().client().read_to_end(&format!("{prefix}quarantine")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_confirmations_a_replay_ends_early_and_the_next_replays_everything() {
    let bridge = TestBridge::on_embedded(&["NewThing", "OtherThing", "Stuck"], &[]).await;
    for action in ["NewThing", "NewThing", "OtherThing", "Stuck"] {
        bridge.deliver(action, r#"{"Id":1}"#).await.events("quarantined");
    }
    let bootstrap = bridge.broker().bootstrap_servers().to_owned();
    let replay = |confirm_timeout: &str| {
        let mut command = command(&bootstrap, "nexudus.", &["replay"]);
        command.env("NEXUDUS_BRIDGE__KAFKA__CONFIRM_TIMEOUT", confirm_timeout).output().expect("it runs")
    };
    bridge.broker().fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 2_000]);
    let output = replay("1s");
    assert!(ends(&output, 1).contains("0 replayed"), "{}", out(&output));
    assert!(out(&output).contains("no broker confirmed in time"), "{}", out(&output));
    assert!(err(&output).contains("the cluster confirms nothing"), "{}", err(&output));
    bridge.broker().clear_faults();
    assert!(ends(&replay("30s"), 0).contains("4 replayed (4 events), 0 skipped, 0 failed"));
    for (action, events) in [("NewThing", 2), ("OtherThing", 1), ("Stuck", 1)] {
        assert_eq!(bridge.topic(action, events).len(), events);
    }
}

mod progress;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_on_the_consumer_group_is_named_before_anything_is_published() {
    const GROUP: &str = "nexudus-bridge-quarantine-replay";
    let (broker, admin) = (secured(), secured().client("admin"));
    let prefix = broker.topics(&["Read", "Write", "Describe"]);
    let ca = broker.ca_pem_path().display().to_string();
    let properties = [
        ("SECURITY_PROTOCOL", "SASL_SSL"),
        ("SASL_MECHANISM", "SCRAM-SHA-512"),
        ("SASL_USERNAME", "bridge"),
        ("SASL_PASSWORD", broker.password("bridge")),
        ("SSL_CA_LOCATION", &ca),
    ];
    let settings =
        properties.map(|(name, value)| (format!("kafka.properties.{}", name.to_lowercase()), value));
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), *value));
    let bridge = TestBridge::on(&broker.bootstrap(), admin, prefix.clone(), &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BokingCreate", r#"{"Id":1}"#).await.events("quarantined");
    let quarantine = |arguments: &[&str]| {
        let mut command = command(&broker.bootstrap(), &prefix, arguments);
        for (name, value) in properties {
            command.env(format!("NEXUDUS_BRIDGE__KAFKA__PROPERTIES__{name}"), value);
        }
        command.output().expect("it runs")
    };
    assert_eq!(ends(&quarantine(&["list"]), 0).lines().count(), 2, "reading needs no right on a group");
    let replay = ["replay", "0@0", "--as", "BookingCreate"];
    let refused = quarantine(&replay);
    ends(&refused, 1);
    assert!(err(&refused).contains(&format!("READ on the group {GROUP}")), "{}", err(&refused));
    assert!(bridge.topic("BookingCreate", 0).is_empty());
    broker.grant("bridge", Resource::Group, GROUP, Pattern::Literal, "Read");
    ends(&quarantine(&replay), 0);
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, br#"{"Id":1}"#);
}
