//! Tombstones: a delete on a shared topic is followed by a message that removes the record from a compacted topic.

use std::time::Instant;

use nexudus_bridge::kafka::embedded::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, TestBridge, sign};
use crate::support::kafka::{Consumed, plain, unique};
use crate::support::program::{err, out, program};

const BY_ENTITY: (&str, &str) = ("topics.layout", r#"{"*": "{entity}"}"#);
const TOMBSTONES: (&str, &str) = ("topics.tombstones", "true");

/// Returns the action of a message, and true if it is a tombstone.
fn meaning(message: &Consumed) -> (&str, bool) {
    let kind = message.header("ce_type").expect("a ce_type");
    let is_tombstone = message.header("nexudus-tombstone") == Some("true");
    assert_eq!(is_tombstone, message.value.is_empty(), "only a tombstone has no value");
    (kind.strip_prefix("com.nexudus.").expect("the bridge's"), is_tombstone)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_followed_by_a_tombstone_with_its_key_and_headers() {
    let bridge = TestBridge::on_apache(&["Booking", "Coworker"], &[BY_ENTITY, TOMBSTONES]).await;
    bridge.deliver("BookingCreate", r#"[{"Id":1}]"#).await.events("confirmed");
    let answered = bridge.deliver("BookingDelete", r#"[{"Id":1},{"NoKey":true}]"#).await.events("confirmed");
    assert_eq!(answered.len(), 2, "a tombstone is not an event");
    bridge.deliver("CoworkerCheckin", r#"[{"Id":1}]"#).await.events("confirmed");
    let messages = bridge.topic("Booking", 4);
    let of_record: Vec<&Consumed> = messages.iter().filter(|message| message.key.is_some()).collect();
    assert_eq!(
        of_record.iter().map(|message| meaning(message)).collect::<Vec<_>>(),
        [("BookingCreate", false), ("BookingDelete", false), ("BookingDelete", true)]
    );
    let (event, tombstone) = (of_record[1], of_record[2]);
    assert_eq!((&event.key, event.partition), (&tombstone.key, tombstone.partition));
    let mut headers = tombstone.headers.clone();
    headers.retain(|(name, _)| name != "nexudus-tombstone");
    assert_eq!(headers, event.headers);
    assert_eq!(
        bridge.topic("Coworker", 1).iter().map(meaning).collect::<Vec<_>>(),
        [("CoworkerCheckin", false)]
    );
    let series = r#"nexudus_bridge_events_confirmed_total{action="BookingDelete",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_not_answered_200_before_its_tombstone_is_confirmed() {
    let bridge = TestBridge::on_embedded(&["Booking"], &[BY_ENTITY, TOMBSTONES]).await;
    let refused_for_now = Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_NO_ERROR, refused_for_now]);
    bridge.deliver("BookingDelete", r#"[{"Id":1}]"#).await.problem(503, "broker");
    assert_eq!(
        bridge.topic("Booking", 1).iter().map(meaning).collect::<Vec<_>>(),
        [("BookingDelete", false)]
    );
    bridge.deliver_until_confirmed("BookingDelete", r#"[{"Id":1}]"#).await; // the client keeps the refusal for a while
    let messages = bridge.kafka().read_to_end(&bridge.name_of("Booking"));
    let (tombstone, events) = messages.split_last().expect("messages");
    assert_eq!(meaning(tombstone), ("BookingDelete", true));
    assert!(events.len() > 1 && events.iter().all(|event| meaning(event) == ("BookingDelete", false)));
    assert!(messages.iter().all(|message| message.header("ce_id") == messages[0].header("ce_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_whose_tombstone_is_refused_for_good_is_quarantined() {
    let bridge = TestBridge::on_embedded(&["Booking"], &[BY_ENTITY, TOMBSTONES]).await;
    let invalid = Error::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_NO_ERROR, invalid, invalid]);
    bridge.deliver("BookingDelete", r#"[{"Id":1}]"#).await.events("quarantined");
    assert_eq!(
        bridge.topic("Booking", 1).iter().map(meaning).collect::<Vec<_>>(),
        [("BookingDelete", false)]
    );
    assert_eq!(bridge.topic("quarantine", 1)[0].header("quarantine-reason"), Some("refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_delete_is_followed_by_its_tombstone() {
    let bridge = TestBridge::on_apache(&["Booking"], &[BY_ENTITY, TOMBSTONES]).await;
    let body = br#"[{"Id":7}]"#;
    bridge
        .post("BokingDelete", &[("X-Nexudus-Hook-Signature", &*sign(body))], &body[..])
        .await
        .events("quarantined");
    let mut replay = program();
    replay
        .args(["quarantine", "replay", "--action", "BokingDelete", "--as", "BookingDelete"])
        .env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", plain().bootstrap())
        .env("NEXUDUS_BRIDGE__TOPICS__PREFIX", bridge.name_of(""))
        .env("NEXUDUS_BRIDGE__TOPICS__LAYOUT", BY_ENTITY.1)
        .env("NEXUDUS_BRIDGE__TOPICS__TOMBSTONES", TOMBSTONES.1);
    let output = replay.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let messages = bridge.topic("Booking", 2);
    assert_eq!(
        messages.iter().map(meaning).collect::<Vec<_>>(),
        [("BookingDelete", false), ("BookingDelete", true)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_removes_a_deleted_record_and_keeps_the_newest_state_of_others() {
    let prefix = format!("{}.", unique("it"));
    let client = plain().client();
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    client.create_topic(&format!("{prefix}Booking"), 1, &compacted);
    client.create_topic(&format!("{prefix}quarantine"), 1, &[]);
    let bridge = TestBridge::on(plain().bootstrap(), client, prefix, &[BY_ENTITY, TOMBSTONES]).await;
    for (action, record) in [
        ("BookingCreate", r#"[{"Id":1}]"#),
        ("BookingCreate", r#"[{"Id":2}]"#),
        ("BookingUpdate", r#"[{"Id":2,"Newest":true}]"#),
        ("BookingDelete", r#"[{"Id":1}]"#),
    ] {
        bridge.deliver(action, record).await.events("confirmed");
    }
    let begun = Instant::now();
    loop {
        // A new segment begins with a message: only closed segments are compacted.
        bridge.deliver("BookingUpdate", r#"[{"Id":3}]"#).await.events("confirmed");
        let messages = bridge.kafka().read_to_end(&bridge.name_of("Booking"));
        let of = |key: &str| {
            messages.iter().filter(|message| message.key.as_deref() == Some(key.as_bytes())).count()
        };
        if (of("1"), of("2")) == (0, 1) {
            let newest = messages.iter().find(|message| message.key.as_deref() == Some(b"2")).expect("one");
            assert_eq!(newest.value, br#"{"Id":2,"Newest":true}"#);
            return;
        }
        assert!(begun.elapsed() < 6 * MAX_WAIT, "not compacted: {} of 1, {} of 2", of("1"), of("2"));
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}
