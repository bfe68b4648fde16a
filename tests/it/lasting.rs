//! A producer that lasts: topics made again, brokers that moved, long silence, and a client that is of no use any more.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, TestBridge};
use crate::support::kafka::{OwnBroker, plain, unique};
use crate::support::proxy::Proxy;

/// The deadline of these tests' bridges.
const SHORT: (&str, &str) = ("kafka.confirm_timeout", "1s");

const REBUILDS: &str = "nexudus_bridge_producer_rebuilds_total";

/// A broker of the test's own with the two topics that a bridge needs; gives their prefix.
fn topics_on(broker: &OwnBroker) -> String {
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    prefix
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_and_made_again_is_used_again_by_the_same_producer() {
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
        // A client that may not ask again by itself is of no use any more, and a new one takes over.
        assert!(strategy == "rebootstrap" || bridge.metric(REBUILDS).await == 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_silence_the_first_delivery_is_confirmed() {
    // What days of idling do: connections closed by the broker, the producer's id forgotten.
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
async fn a_producer_whose_messages_only_time_out_is_replaced_and_its_deliveries_get_their_answers() {
    let settings = [SHORT, ("kafka.properties.socket_timeout_ms", "10000")]; // so the broker is connected
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":1}"#).await;
    // Passing errors, which the client tries again until the message's time is over; metadata is answered.
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000]);
    let begun = Instant::now();
    while bridge.metric(REBUILDS).await == 0.0 {
        let delivering =
            ["2", "3", "4"].map(|id| bridge.deliver("BookingCreate", format!(r#"{{"Id":{id}}}"#)));
        for reply in join_all(delivering).await {
            reply.problem(503, "timeout");
        }
        assert!(begun.elapsed() < MAX_WAIT, "it is not replaced");
    }
    bridge.broker().clear_faults();
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":5}"#).await;
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    let values = bridge.kafka().read_to_end(&bridge.name_of("BookingCreate"));
    assert!(values.iter().any(|message| message.value == br#"{"Id":5}"#));
}
