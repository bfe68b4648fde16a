//! Faults between the bridge and Kafka: the answers, and that every delivery answered 200 is on its topic.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaRespErr as Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::bridge::{TestBridge, sign};
use crate::support::kafka::{Client, OwnBroker, free_port, plain, unique};

const RECORD: &str = r#"{"Id":1}"#;

/// The deadline of these bridges, and the bound on their answers: one second more, and a tolerance for a busy machine.
const SHORT: (&str, &str) = ("kafka.confirm_timeout", "1s");
const ANSWERED_WITHIN: Duration = Duration::from_secs(7);

/// Settings for tests in which the broker confirms once before it is silent. The deadline is longer than a cold start or a stall.
/// The socket time-out is longer still, so that the client stays connected to the silent broker.
const LONG: [(&str, &str); 2] =
    [("kafka.confirm_timeout", "4s"), ("kafka.properties.socket_timeout_ms", "20000")];

/// Round trip to a broker that counts as silent with [`LONG`].
const SILENT: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn an_error_about_one_message_puts_it_whole_on_the_quarantine_topic() {
    use Error::{
        RD_KAFKA_RESP_ERR_INVALID_RECORD as INVALID_RECORD,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE,
        RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE as LIST_TOO_LARGE,
    };
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    for (kept, error) in [INVALID_RECORD, TOO_LARGE, LIST_TOO_LARGE].into_iter().enumerate() {
        bridge.broker().fail_produce(&[error, error]); // in its batch, then alone
        let events = bridge.deliver("BookingCreate", format!("[{RECORD}]")).await.events("quarantined");
        assert_eq!(events[0]["topic"], "nexudus.quarantine", "{error:?}");
        let message = &bridge.topic("quarantine", kept + 1)[kept..].to_vec();
        assert!(
            message.iter().all(|message| message.header("quarantine-reason") == Some("refused")),
            "{error:?}"
        );
        assert!(message.iter().all(|message| message.value == format!("[{RECORD}]").as_bytes()), "{error:?}");
    }
    let confirmed = r#"nexudus_bridge_events_confirmed_total{action="BookingCreate",source="default"}"#;
    assert_eq!(bridge.metric(confirmed).await, 0.0);
    assert!(bridge.topic("BookingCreate", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_batch_does_not_affect_the_other_messages() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]); // the batch, but not the message alone
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_quarantine_topic_refuses_too_the_answer_is_503() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD; 4]);
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(detail.contains("the quarantine topic refuses the delivery for good"), "{detail}");
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1).len(), 1);
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_refusal_is_503_with_cause_broker_and_not_quarantined() {
    use Error::{
        RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP as INVALID_TIMESTAMP,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR as STORAGE,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as UNAUTHORIZED,
    };
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.broker().fail_produce(&[STORAGE]); // a full disk, which the client retries
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    for error in [INVALID_TIMESTAMP, UNAUTHORIZED] {
        bridge.broker().fail_produce(&[error]);
        let reply = bridge.deliver("BookingCreate", RECORD).await;
        let detail = reply.problem(503, "broker");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
    }
    assert_eq!(bridge.topic("BookingCreate", 1).len(), 1);
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_errors_are_retried_within_the_deadline_and_then_confirmed() {
    use Error::{
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as FEW_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as TIMED_OUT,
    };
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    for (published, error) in [FEW_REPLICAS, NOT_LEADER, TIMED_OUT].into_iter().enumerate() {
        bridge.broker().fail_produce(&[error, error]);
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        assert_eq!(bridge.topic("BookingCreate", published + 1).len(), published + 1, "{error:?}");
    }
}

/// A repeated request whose first answer was lost: librdkafka reports success and counts offsets from -1 or -1001.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kafka_already_has_is_confirmed_without_an_offset() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
    let body = format!("[{}]", [RECORD; 3].join(","));
    let events = bridge.deliver("BookingCreate", body).await.events("confirmed");
    assert_eq!(events.len(), 3);
    assert!(
        events.iter().all(|event| event["offset"].is_null() && event["partition"].is_i64()),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_answer_is_503_with_cause_broker_until_the_broker_returns() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[SHORT]).await;
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    bridge.broker().down();
    let not_ready = bridge.wait_until_ready_is(503).await.json();
    assert!(
        not_ready["reasons"][0].as_str().is_some_and(|reason| reason.contains("no Kafka broker")),
        "{not_ready}"
    );
    let begun = Instant::now();
    let reply = bridge.deliver("BookingCreate", RECORD).await;
    let detail = reply.problem(503, "broker");
    assert!(begun.elapsed() < ANSWERED_WITHIN, "{:?}", begun.elapsed());
    assert!(!detail.contains("127.0.0.1") && !detail.contains("localhost"), "{detail}");
    bridge.broker().up();
    bridge.wait_until_ready_is(200).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":2}"#).await;
    let messages = bridge.kafka().consume_at_least(&bridge.name_of("BookingCreate"), 2, ANSWERED_WITHIN);
    assert!(messages.iter().any(|message| message.value == br#"{"Id":2}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_but_silent_broker_is_503_with_cause_timeout() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &LONG).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed"); // the leader is connected
    bridge.broker().round_trip(SILENT);
    let begun = Instant::now();
    bridge.deliver("BookingCreate", RECORD).await.problem(503, "timeout");
    assert!(begun.elapsed() < ANSWERED_WITHIN + Duration::from_secs(3), "{:?}", begun.elapsed());
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="timeout",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_answered_503_with_cause_queue_full() {
    let settings = [("kafka.properties.queue_buffering_max_messages", "1"), ("kafka.confirm_timeout", "30s")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    bridge.broker().round_trip(Duration::from_secs(5));
    let (first, second) = tokio::join!(bridge.deliver("BookingCreate", RECORD), async {
        bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
        let second = bridge.deliver("BookingCreate", RECORD).await;
        bridge.broker().clear_faults(); // the first delivery keeps its delay
        second
    });
    second.problem(503, "queue_full");
    first.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 2).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_cancels_nothing() {
    let settings = [("kafka.confirm_timeout", "30s")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed"); // the leader is connected
    bridge.broker().round_trip(Duration::from_secs(5));
    let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    let (signature, length) = (sign(RECORD.as_bytes()), RECORD.len());
    let request = format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{RECORD}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
    drop(stream);
    bridge.broker().clear_faults(); // the delivery in flight keeps its delay
    let series = r#"nexudus_bridge_events_confirmed_total{action="BookingCreate",source="default"}"#;
    bridge.wait_for_metric(series, 2.0).await;
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="confirmed",source="default"}"#;
    bridge.wait_for_metric(series, 2.0).await;
    assert_eq!(bridge.topic("BookingCreate", 2)[1].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_time_out_the_permit_is_free_and_the_event_may_be_on_the_topic() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &LONG).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed"); // the leader is connected
    bridge.broker().round_trip(SILENT);
    bridge.deliver("BookingCreate", RECORD).await.problem(503, "timeout");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="timeout",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 1.0);
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="confirmed",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 1.0, "the first delivery");
    bridge.broker().clear_faults(); // reading takes many round trips
    bridge.topic("BookingCreate", 2); // a time-out is no failure: the broker wrote the event, and only its acknowledgement was late
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_its_topic_is_quarantined_and_the_rest_of_the_batch_is_confirmed() {
    let prefix = format!("{}.", unique("it"));
    let client = plain().client();
    client.create_topic(&format!("{prefix}BookingCreate"), 1, &[("max.message.bytes", "2000")]);
    client.create_topic(&format!("{prefix}quarantine"), 1, &[]);
    let bridge = TestBridge::on(plain().bootstrap(), client, prefix, &[]).await;
    bridge.wait_until_ready_is(200).await;
    let small = |id: usize| format!(r#"[{{"Id":{id},"Text":"{}"}}]"#, "s".repeat(300));
    let large = format!(r#"[{{"Id":0,"Text":"{}"}}]"#, "l".repeat(3000));
    let deliveries = (0..100)
        .map(|id| bridge.deliver("BookingCreate", if id % 20 == 7 { large.clone() } else { small(id) }));
    let replies = join_all(deliveries).await;
    for (id, reply) in replies.iter().enumerate() {
        reply.events(if id % 20 == 7 { "quarantined" } else { "confirmed" });
    }
    let mut values: Vec<Vec<u8>> =
        bridge.topic("BookingCreate", 95).into_iter().map(|message| message.value).collect();
    let mut expected: Vec<Vec<u8>> = (0..100)
        .filter(|id| id % 20 != 7)
        .map(|id| small(id).trim_matches(['[', ']']).as_bytes().to_vec())
        .collect();
    values.sort();
    expected.sort();
    assert_eq!(values, expected);
    assert!(bridge.topic("quarantine", 5).iter().all(|message| message.value == large.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_record_for_its_topic_is_quarantined() {
    let prefix = format!("{}.", unique("it"));
    let client = plain().client();
    client.create_topic(&format!("{prefix}BookingCreate"), 1, &[("cleanup.policy", "compact")]); // requires keys
    client.create_topic(&format!("{prefix}quarantine"), 1, &[]);
    let bridge = TestBridge::on(plain().bootstrap(), client, prefix, &[]).await;
    bridge.deliver("BookingCreate", r#"[{"Id":1},{"NoKey":true}]"#).await.events("quarantined");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, br#"{"Id":1}"#);
    assert_eq!(bridge.topic("quarantine", 1)[0].value, br#"[{"Id":1},{"NoKey":true}]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_503_until_it_exists() {
    let bridge = TestBridge::on_apache(&[], &[]).await;
    bridge.wait_until_ready_is(200).await;
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(detail.contains("nknown"), "{detail}");
    bridge.kafka().create_topic(&bridge.name_of("BookingCreate"), 3, &[]);
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    assert!(!bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_cluster_is_503_and_not_ready_with_the_reason_and_without_the_host() {
    let bootstrap = format!("127.0.0.1:{}", free_port());
    let bridge = TestBridge::on(&bootstrap, Client::new(&bootstrap), "n.".to_owned(), &[SHORT]).await;
    let begun = Instant::now();
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(begun.elapsed() < ANSWERED_WITHIN, "{:?}", begun.elapsed());
    assert!(detail.contains("BrokerTransportFailure") && !detail.contains("127.0.0.1"), "{detail}");
    let reasons = bridge.wait_until_ready_is(503).await.json();
    assert!(reasons["reasons"][0].as_str().is_some_and(|reason| reason.contains("no contact")), "{reasons}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_broker_that_is_stopped_then_killed_then_restarted_is_reported_and_loses_nothing() {
    let broker = OwnBroker::start();
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    let settings = [SHORT, ("kafka.properties.socket_timeout_ms", "10000")]; // a stopped broker stays connected
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client(), prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    let mut confirmed = Vec::new();
    let record = |id: usize| format!(r#"{{"Id":{id}}}"#);
    bridge.deliver_until_confirmed("BookingCreate", &record(1)).await;
    confirmed.push(record(1));

    broker.stop_process();
    bridge.deliver("BookingCreate", record(2)).await.problem(503, "timeout");
    bridge.wait_until_ready_is(503).await;
    broker.continue_process();
    bridge.wait_until_ready_is(200).await;
    bridge.deliver_until_confirmed("BookingCreate", &record(3)).await;
    confirmed.push(record(3));

    broker.kill();
    bridge.wait_until_ready_is(503).await;
    bridge.deliver("BookingCreate", record(4)).await.problem(503, "broker");
    broker.restart();
    bridge.wait_until_ready_is(200).await;
    bridge.deliver_until_confirmed("BookingCreate", &record(5)).await;
    confirmed.push(record(5));

    let values: Vec<Vec<u8>> = bridge
        .kafka()
        .read_to_end(&bridge.name_of("BookingCreate"))
        .into_iter()
        .map(|message| message.value)
        .collect();
    for record in confirmed {
        assert!(
            values.iter().any(|value| *value == record.as_bytes()),
            "{record} was answered 200 and is not there"
        );
    }
}
