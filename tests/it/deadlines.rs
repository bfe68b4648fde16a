//! Deadlines: whatever the brokers do, each answer comes in time and says why.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, Reply, TestBridge};
use crate::support::kafka::{Client, OwnBroker, unique};
use crate::support::proxy::Proxy;
use crate::support::say;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
const SETTING: (&str, &str) = ("kafka.confirm_timeout", "2s");

/// The promise is 3 s; the rest is what a busy machine may add to both sides. The chaos test holds the bridge to the promise
/// itself, as it measures its own delays.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// Deliveries of each kind at once.
const CLIENTS: usize = 4;

/// How often all of them send while a fault lasts: the client passes from waiting to knowing that all brokers are down.
const ROUNDS: usize = 3;

const ACTIONS: [&str; 4] = ["BookingCreate", "BookingUpdate", "CoworkerCreate", "quarantine"];

/// What happens to the network, and how it is made to.
type Fault = (&'static str, fn(&Proxy));

/// One delivery of each kind: a record, several, what belongs on the quarantine topic for two reasons.
fn kinds(id: &str) -> [(&'static str, String); 4] {
    let records: Vec<String> = (0..7).map(|n| format!(r#"{{"Id":"{id}-{n}"}}"#)).collect();
    [
        ("BookingCreate", format!(r#"[{{"Id":"{id}"}}]"#)),
        ("BookingUpdate", format!("[{}]", records.join(","))),
        ("BookingCreate", format!("not JSON {id}")),
        ("NoSuchAction", format!(r#"[{{"Id":"{id}"}}]"#)),
    ]
}

/// Asserts a 503 for Kafka's sake; gives its cause, which depends on whether the client is connected just then, and its detail.
#[track_caller]
fn refused_for_kafka(reply: &Reply) -> (String, String) {
    let cause = reply.json()["cause"].as_str().unwrap_or("none").to_owned();
    assert!(matches!(cause.as_str(), "timeout" | "broker"), "{}", reply.json());
    let detail = reply.problem(503, &cause);
    (cause, detail)
}

/// Sends deliveries of each kind at once; each has to be refused for Kafka's sake, in time.
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

/// Waits until a delivery of each kind is answered 200 again; everything before that has to be a 503 in time.
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
async fn each_answer_comes_in_time_while_the_only_broker_is_stopped_and_after_it_goes_on_all_is_confirmed() {
    let broker = OwnBroker::start();
    let bridge = on(&broker, &broker.bootstrap(), &[SETTING]).await;
    let patient = on(&broker, &broker.bootstrap(), &[]).await; // a broker that has just gone on makes no topics yet
    confirmed_again(&bridge, "start").await;
    broker.stop_process();
    for _ in 0..ROUNDS {
        refused_in_time(&bridge, "SIGSTOP").await;
    }
    // A topic that the client has never asked about.
    let begun = Instant::now();
    refused_for_kafka(&bridge.deliver("CoworkerCreate", r#"{"Id":1}"#).await);
    assert!(begun.elapsed() <= ANSWERED_WITHIN, "{:?}", begun.elapsed());
    broker.continue_process();
    confirmed_again(&bridge, "SIGSTOP").await;
    // Once more in the middle of traffic, for shorter than the time-out.
    patient.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await; // the leader is connected
    broker.stop_process();
    let (reply, ()) = tokio::join!(patient.deliver("BookingCreate", r#"{"Id":2}"#), async {
        patient.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
        broker.continue_process();
    });
    reply.events("confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_comes_in_time_whatever_the_network_to_the_broker_does() {
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
async fn each_answer_comes_in_time_from_a_broker_that_takes_connections_and_has_never_answered() {
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
async fn the_deadline_includes_what_is_tried_alone_and_the_quarantine_after_it() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[SETTING]).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
    bridge.broker().round_trip(CONFIRM_TIMEOUT * 2 / 3);
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2]); // in its batch, then alone
    let begun = Instant::now();
    let reply = bridge.deliver("BookingCreate", r#"{"Id":2}"#).await;
    assert!(begun.elapsed() <= ANSWERED_WITHIN, "{:?}", begun.elapsed());
    // A busy client may have hung up on so slow a broker: then none is connected.
    let (_, detail) = refused_for_kafka(&reply);
    assert!(detail.contains("no broker confirmed in time") || detail.contains("no Kafka broker"), "{detail}");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
}
