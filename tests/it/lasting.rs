//! The producer over time: topics created again, brokers at new addresses, long idle times, and a client that stops working.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, TestBridge};
use crate::support::kafka::{OwnBroker, plain, unique};
use crate::support::proxy::Proxy;

/// The deadline of these bridges.
const SHORT: (&str, &str) = ("kafka.confirm_timeout", "1s");

const REBUILDS: &str = "nexudus_bridge_producer_rebuilds_total";

/// Creates the two topics that a bridge needs, and returns their prefix.
fn topics_on(broker: &OwnBroker) -> String {
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    prefix
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_and_created_again_is_used_by_the_same_producer() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    let topic = bridge.name_of("BookingCreate");
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
    for (id, partitions) in [(2, 3), (3, 1), (4, 5)] {
        plain().client().delete_topic(&topic);
        bridge.deliver("BookingCreate", r#"{"Id":0}"#).await.problem(503, "broker");
        plain().client().create_topic(&topic, partitions, &[]);
        bridge.deliver_until_confirmed("BookingCreate", &format!(r#"{{"Id":{id}}}"#)).await;
        let values: Vec<Vec<u8>> = bridge.kafka().read_to_end(&topic).into_iter().map(|m| m.value).collect();
        assert!(values.contains(&format!(r#"{{"Id":{id}}}"#).into_bytes()), "{values:?}");
    }
    assert_eq!(bridge.metric(REBUILDS).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_at_new_addresses_are_found_through_the_bootstrap_address() {
    for strategy in ["rebootstrap", "none"] {
        let mut broker = OwnBroker::start();
        let bootstrap = Proxy::start(broker.address());
        let settings = [SHORT, ("kafka.properties.metadata_recovery_strategy", strategy)];
        let prefix = topics_on(&broker);
        let bridge =
            TestBridge::on(&bootstrap.address().to_string(), broker.client(), prefix, &settings).await;
        bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
        broker.restart_elsewhere();
        bootstrap.retarget(broker.address());
        bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":2}"#).await;
        bridge.wait_until_ready_is(200).await;
        // Without rebootstrap the client never connects again, and a new producer replaces it.
        assert!(strategy == "rebootstrap" || bridge.metric(REBUILDS).await == 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_idle_time_the_first_delivery_is_confirmed() {
    // The effects of days without deliveries: the broker closes connections and drops the producer's id.
    let broker = OwnBroker::start_with(&[
        ("connections.max.idle.ms", "1000"),
        ("producer.id.expiration.ms", "500"),
        ("producer.id.expiration.check.interval.ms", "100"),
    ]);
    let prefix = topics_on(&broker);
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client(), prefix, &[]).await;
    for id in 0..3 {
        bridge.deliver_until_confirmed("BookingCreate", &format!(r#"{{"Id":{id}}}"#)).await;
    }
    for id in 3..5 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        bridge.deliver("BookingCreate", format!(r#"{{"Id":{id}}}"#)).await.events("confirmed");
    }
    assert_eq!(bridge.metric(REBUILDS).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_messages_all_time_out_is_replaced_and_its_deliveries_are_answered() {
    let settings = [SHORT, ("kafka.properties.socket_timeout_ms", "10000")]; // the client stays connected
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
    // Temporary errors, which the client retries until the message times out. Metadata requests are answered.
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000]);
    let begun = Instant::now();
    while bridge.metric(REBUILDS).await == 0.0 {
        let delivering =
            ["2", "3", "4"].map(|id| bridge.deliver("BookingCreate", format!(r#"{{"Id":{id}}}"#)));
        for reply in join_all(delivering).await {
            reply.problem(503, "timeout");
        }
        assert!(begun.elapsed() < MAX_WAIT, "the producer is not replaced");
    }
    bridge.broker().clear_faults();
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":5}"#).await;
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    let values = bridge.kafka().read_to_end(&bridge.name_of("BookingCreate"));
    assert!(values.iter().any(|message| message.value == br#"{"Id":5}"#));
}
