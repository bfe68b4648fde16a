//! Deadlines: whatever the brokers do, each answer arrives in time and names the cause.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, Reply, TestBridge};
use crate::support::kafka::{Client, OwnBroker, unique};
use crate::support::proxy::Proxy;
use crate::support::say;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
const SETTING: (&str, &str) = ("kafka.confirm_timeout", "2s");

/// The documented bound is 3 s; the rest is a tolerance for a busy machine. The chaos test checks the documented bound, since it
/// measures its own delays.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// Number of deliveries of each kind at the same time.
const CLIENTS: usize = 4;

/// Number of rounds of deliveries during a fault: the client first waits for the broker, and later reports that all brokers are down.
const ROUNDS: usize = 3;

const ACTIONS: [&str; 4] = ["BookingCreate", "BookingUpdate", "CoworkerCreate", "quarantine"];

/// A fault of the network: its name, and the function that causes it.
type Fault = (&'static str, fn(&Proxy));

/// Returns one delivery of each kind: one record, several records, and two that belong on the quarantine topic.
fn kinds(id: &str) -> [(&'static str, String); 4] {
    let records: Vec<String> = (0..7).map(|n| format!(r#"{{"Id":"{id}-{n}"}}"#)).collect();
    [
        ("BookingCreate", format!(r#"[{{"Id":"{id}"}}]"#)),
        ("BookingUpdate", format!("[{}]", records.join(","))),
        ("BookingCreate", format!("not JSON {id}")),
        ("NoSuchAction", format!(r#"[{{"Id":"{id}"}}]"#)),
    ]
}

/// Asserts a 503 because of Kafka. Returns its cause, which depends on the client's connections at that time, and its detail.
#[track_caller]
fn refused_for_kafka(reply: &Reply) -> (String, String) {
    let cause = reply.json()["cause"].as_str().unwrap_or("none").to_owned();
    assert!(matches!(cause.as_str(), "timeout" | "broker"), "{}", reply.json());
    let detail = reply.problem(503, &cause);
    (cause, detail)
}

/// Sends deliveries of each kind at the same time, and asserts that each is refused because of Kafka, in time.
async fn refused_in_time(bridge: &TestBridge, fault: &str) {
    let deliveries = (0..CLIENTS).flat_map(|_| kinds(&unique(fault))).map(|(path, body)| async move {
        let begun = Instant::now();
        let reply = bridge.deliver(path, body.as_str()).await;
        let took = begun.elapsed();
        let (cause, _) = refused_for_kafka(&reply);
        assert!(took <= ANSWERED_WITHIN, "{fault}: {took:?} until {cause} for {body}");
        (cause, took)
    });
    let answers = join_all(deliveries).await;
    let longest = answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let timeouts = answers.iter().filter(|(cause, _)| cause == "timeout").count();
    say(&format!("{fault}: {} answers, {timeouts} of them timeout, longest {longest:?}", answers.len()));
}

/// Waits until a delivery of each kind is answered 200 again. Every answer before that must be a 503 in time.
async fn confirmed_again(bridge: &TestBridge, fault: &str) {
    let begun = Instant::now();
    for (path, body) in kinds(&unique("again")) {
        loop {
            let asked = Instant::now();
            let reply = bridge.deliver(path, body.as_str()).await;
            assert!(asked.elapsed() <= ANSWERED_WITHIN, "after {fault}: {:?}", asked.elapsed());
            if reply.status == 200 {
                break;
            }
            assert_eq!(reply.status, 503, "after {fault}: {}", reply.json());
            assert!(begun.elapsed() < MAX_WAIT, "after {fault} nothing is confirmed: {}", reply.json());
        }
    }
    say(&format!("after {fault}: confirmed again within {:?}", begun.elapsed()));
}

async fn on(broker: &OwnBroker, bootstrap: &str, settings: &[(&str, &str)]) -> TestBridge {
    let prefix = format!("{}.", unique("it"));
    for action in ACTIONS {
        broker.client().create_topic(&format!("{prefix}{action}"), 3, &[]);
    }
    TestBridge::on(bootstrap, broker.client(), prefix, settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_arrives_in_time_while_the_only_broker_is_stopped_and_all_is_confirmed_after_it_continues()
 {
    let broker = OwnBroker::start();
    let bridge = on(&broker, &broker.bootstrap(), &[SETTING]).await;
    let with_default_time_out = on(&broker, &broker.bootstrap(), &[]).await; // a broker that has just continued creates no topics yet
    confirmed_again(&bridge, "start").await;
    broker.stop_process();
    for _ in 0..ROUNDS {
        refused_in_time(&bridge, "SIGSTOP").await;
    }
    // A topic whose metadata the client has never requested.
    let begun = Instant::now();
    refused_for_kafka(&bridge.deliver("CoworkerCreate", r#"{"Id":1}"#).await);
    assert!(begun.elapsed() <= ANSWERED_WITHIN, "{:?}", begun.elapsed());
    broker.continue_process();
    confirmed_again(&bridge, "SIGSTOP").await;
    // Again during a delivery, for less than the time-out.
    with_default_time_out.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await; // the leader is connected
    broker.stop_process();
    let (reply, ()) = tokio::join!(with_default_time_out.deliver("BookingCreate", r#"{"Id":2}"#), async {
        with_default_time_out.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
        broker.continue_process();
    });
    reply.events("confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_arrives_in_time_whatever_the_network_to_the_broker_does() {
    let proxy = Proxy::start(([127, 0, 0, 1], 9).into());
    let broker = OwnBroker::start_behind(proxy.address(), &[]);
    proxy.retarget(broker.behind_proxy());
    let bridge = on(&broker, &proxy.address().to_string(), &[SETTING]).await;
    confirmed_again(&bridge, "start").await;
    let faults: [Fault; 3] =
        [("black-hole", Proxy::stall), ("answers-held", Proxy::hold_answers), ("refused", Proxy::cut)];
    for (fault, begin) in faults {
        begin(&proxy);
        for _ in 0..ROUNDS {
            refused_in_time(&bridge, fault).await;
        }
        proxy.restore();
        confirmed_again(&bridge, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_arrives_in_time_if_the_broker_accepts_connections_and_never_answers() {
    let proxy = Proxy::start(([127, 0, 0, 1], 9).into());
    proxy.stall();
    let bootstrap = proxy.address().to_string();
    let bridge = TestBridge::on(&bootstrap, Client::new(&bootstrap), "n.".to_owned(), &[SETTING]).await;
    for _ in 0..ROUNDS {
        refused_in_time(&bridge, "silent").await;
    }
    bridge.wait_until_ready_is(503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_includes_single_retries_and_the_quarantine() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[SETTING]).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
    bridge.broker().round_trip(CONFIRM_TIMEOUT * 2 / 3);
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2]); // in its batch, then alone
    let begun = Instant::now();
    let reply = bridge.deliver("BookingCreate", r#"{"Id":2}"#).await;
    assert!(begun.elapsed() <= ANSWERED_WITHIN, "{:?}", begun.elapsed());
    // A busy client may have closed the connection to such a slow broker.
    let (_, detail) = refused_for_kafka(&reply);
    assert!(detail.contains("no broker confirmed in time") || detail.contains("no Kafka broker"), "{detail}");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
}
