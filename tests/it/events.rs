//! Events: the bytes on the topic, and their headers, keys and partitions.

use std::collections::BTreeMap;

use nexudus_bridge::action::catalogue::ENTRIES;
use sha2::{Digest as _, Sha256};

use crate::support::bridge::TestBridge;
use crate::support::kafka::Consumed;

fn fingerprint(action: &str, record: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"default\0");
    hash.update(action.as_bytes());
    hash.update(b"\0");
    hash.update(record);
    hex::encode(hash.finalize())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_published_byte_for_byte_whatever_they_contain() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    let digits = "1234567890".repeat(30);
    let records = [
        r#"{"b":1,"a":2,"b":3}"#.to_owned(),
        r#"{"Price":0.09000,"Rate":0.0,"Small":1E-05,"Minus":-0.0}"#.to_owned(),
        format!(r#"{{"Number":{digits}}}"#),
        r#"{ "Id" : 7 ,	"Spaced"  :  [ 1 , 2 ] }"#.to_owned(),
        r#"{"Escapes":"\u2028\/\"\\\b\ud83d\ude00 \ud800","Raw":"é😀👩‍👩‍👧 "}"#.to_owned(),
        r#"{"Nested":{"Id":1,"List":[{"Id":2},{}]}}"#.to_owned(),
    ];
    let body = format!(" [\n{}\n] ", records.join(" , "));
    assert_eq!(bridge.deliver("BookingCreate", body).await.events("confirmed").len(), records.len());
    let mut values: Vec<String> =
        bridge.topic("BookingCreate", records.len()).into_iter().map(|message| text(message.value)).collect();
    let mut expected = records.to_vec();
    values.sort();
    expected.sort();
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_event_has_the_headers_of_a_binary_cloudevent_and_an_id_derived_from_its_bytes() {
    let bridge = TestBridge::on_apache(&["BookingUpdate"], &[]).await;
    let record = r#"{"Id":1999000001,"UpdatedOn":"2026-01-02T03:04:05.1234567Z"}"#;
    let first = bridge.deliver("bookingupdate", format!("[{record}]")).await.events("confirmed");
    let second = bridge.deliver("7", format!("[{record}]")).await.events("confirmed");
    let messages = bridge.topic("BookingUpdate", 2);
    let id = fingerprint("BookingUpdate", record.as_bytes());
    for (message, answered) in messages.iter().zip([first, second]) {
        let headers: BTreeMap<&str, &str> = message
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("text")))
            .collect();
        let received = headers["ce_nexudusreceived"];
        let expected = BTreeMap::from([
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/nexudus/default"),
            ("ce_type", "com.nexudus.BookingUpdate"),
            ("ce_subject", "1999000001"),
            ("ce_time", "2026-01-02T03:04:05.1234567Z"),
            ("ce_nexudusreceived", received),
            ("ce_nexudusfingerprint", id.as_str()),
        ]);
        assert_eq!(headers, expected);
        let age = jiff::Timestamp::now().duration_since(received.parse().expect("RFC 3339"));
        assert!(age.as_secs_f64() < 60.0, "{received}");
        assert_eq!(message.key.as_deref(), Some(b"1999000001".as_slice()));
        assert_eq!(answered[0]["id"], id);
        assert_eq!(answered[0]["partition"], message.partition);
        assert_eq!(answered[0]["offset"], message.offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_event_has_an_id_of_its_own_and_the_fingerprint_of_its_bytes() {
    let settings = [("sources.default.extra_actions", r#"["SomethingNew"]"#)];
    let bridge = TestBridge::on_apache(&["AccessControlUpdate", "SomethingNew"], &settings).await;
    let record = r#"{"Id":1}"#;
    for action in ["AccessControlUpdate", "SomethingNew"] {
        let twice = format!("[{record},{record}]");
        let mut answered: Vec<String> = Vec::new();
        for _ in 0..2 {
            let events = bridge.deliver(action, twice.clone()).await.events("confirmed");
            answered.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        }
        let messages = bridge.topic(action, 4);
        let mut ids: Vec<&str> = messages.iter().filter_map(|message| message.header("ce_id")).collect();
        for id in &ids {
            assert_eq!(uuid::Uuid::parse_str(id).expect("a UUID").get_version_num(), 7, "{id}");
        }
        let print = fingerprint(action, record.as_bytes());
        assert!(messages.iter().all(|message| message.header("ce_nexudusfingerprint") == Some(&print)));
        ids.sort_unstable();
        answered.sort();
        assert_eq!(ids, answered);
        ids.dedup();
        assert_eq!(ids.len(), 4, "each real event has an id of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_the_actions_whose_record_can_repeat_and_all_others_are_changes() {
    let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    let bridge = TestBridge::on_embedded(&names, &[]).await;
    let signals = [
        "SendWelcomeEmail",
        "CoworkerCheckin",
        "CoworkerCheckout",
        "CoworkerCheckinFailed",
        "VisitorNotification",
        "AccessControlUpdate",
        "FailedCheckin",
        "CoworkerInvoiceFailedPayment",
        "CoworkerInvoiceAwaitingPayment",
        "NewsLetterSubscriberSubscribed",
        "NewsLetterSubscriberUnSubscribed",
        "NewsLetterSubscriberRemovedFromGroup",
    ];
    for name in names {
        let id = bridge.deliver(name, r#"{"Id":1}"#).await.events("confirmed")[0]["id"].clone();
        let is_content = id == fingerprint(name, br#"{"Id":1}"#);
        assert_eq!(is_content, !signals.contains(&name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_and_time_have_fallbacks_and_the_trace_context_is_passed_on() {
    let settings = [("topics.key", "CoworkerId"), ("sources.default.signature", "off")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "congo=t61rcWkgMzE"),
    ];
    let cases = [
        (r#"{"Id":1,"CoworkerId":22}"#, Some("22")),
        (r#"{"Id":1,"UniqueId":"5907feaf"}"#, Some("5907feaf")),
        (r#"{"Id":1,"CoworkerId":null}"#, None),
        (r#"{"CoworkerId":"\u00e9","UpdatedOn":"yesterday"}"#, Some("é")),
        (r#"{"CoworkerId":3,"UpdatedOn":"0001-01-01T00:00:00"}"#, Some("3")),
    ];
    for (record, _) in cases {
        bridge.post("BookingCreate", &trace, record).await.events("confirmed");
    }
    let messages = bridge.topic("BookingCreate", cases.len());
    for (record, key) in cases {
        let message = messages.iter().find(|message| message.value == record.as_bytes()).expect("published");
        assert_eq!(message.key.as_deref(), key.map(str::as_bytes), "{record}");
        assert_eq!(message.header("ce_subject"), key, "{record}");
        assert_eq!(message.header("ce_time"), message.header("ce_nexudusreceived"), "{record}");
        for (name, value) in trace {
            assert_eq!(message.header(name), Some(value), "{record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_context_that_breaks_the_grammar_of_w3c_is_not_passed_on() {
    let settings = [("sources.default.signature", "off")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (long, unsure) = ("x".repeat(60_000), format!("{PARENT}-more"));
    let cases = [
        (vec![("traceparent", long.as_str()), ("tracestate", &long)], (None, None)),
        (vec![("traceparent", &unsure), ("tracestate", "a=1")], (None, None)),
        (vec![("traceparent", PARENT), ("traceparent", PARENT)], (None, None)),
        (vec![("tracestate", "a=1")], (None, None)),
        (vec![("traceparent", PARENT), ("tracestate", &long)], (Some(PARENT), None)),
        (vec![("traceparent", PARENT), ("tracestate", "a=1,a=2")], (Some(PARENT), None)),
        (
            vec![("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")],
            (Some(PARENT), Some("a=1,b=2")),
        ),
    ];
    for (number, (headers, _)) in cases.iter().enumerate() {
        bridge.post("BookingCreate", headers, format!(r#"{{"Id":{number}}}"#)).await.events("confirmed");
    }
    for message in bridge.topic("BookingCreate", cases.len()) {
        let number: usize = message.header("ce_subject").expect("a key").parse().expect("a number");
        let (headers, expected) = &cases[number];
        let passed_on = (message.header("traceparent"), message.header("tracestate"));
        assert_eq!(passed_on, *expected, "{headers:.100?}");
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    key: String,
    partitions: BTreeMap<String, i32>,
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_those_that_a_java_client_computes() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("../data/partitions.json"))
        .expect("the golden partitions are JSON");
    let bridge = TestBridge::on_apache(&[], &[("topics.key", "Key")]).await;
    let counts: Vec<&String> = golden[0].partitions.keys().collect();
    let actions = ENTRIES.iter().map(|entry| entry.name);
    for (count, action) in counts.into_iter().zip(actions) {
        bridge.kafka().create_topic(&bridge.name_of(action), count.parse().expect("a number"), &[]);
        let keyed: Vec<&Golden> = golden.iter().filter(|golden| !golden.key.is_empty()).collect();
        let records: Vec<String> =
            keyed.iter().map(|golden| serde_json::json!({ "Key": golden.key }).to_string()).collect();
        bridge.deliver(action, format!("[{}]", records.join(","))).await.events("confirmed");
        let messages = bridge.topic(action, keyed.len());
        let by_key: BTreeMap<String, &Consumed> =
            messages.iter().map(|message| (text(message.key.clone().expect("a key")), message)).collect();
        for golden in keyed {
            assert_eq!(
                by_key[&golden.key].partition, golden.partitions[count],
                "{:?} of {count}",
                golden.key
            );
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}
