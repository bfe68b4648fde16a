//! The redelivery memory: the retry of a delivery that was confirmed but not answered is answered, and not published again.

use std::time::Duration;

use crate::support::bridge::TestBridge;
use crate::support::kafka::{OwnBroker, unique};
use crate::support::proxy::Proxy;
use crate::support::wire::{Wire, delivery};

const RECORD: &str = r#"{"Id":1,"UpdatedOn":"2026-01-02T03:04:05Z"}"#;

const CONFIRMED: &str = r#"nexudus_bridge_events_confirmed_total{action="BookingCreate",source="default"}"#;
const SUPPRESSED: &str =
    r#"nexudus_bridge_redeliveries_suppressed_total{action="BookingCreate",source="default"}"#;

/// The same record after a change.
const OTHER: &str = r#"{"Id":1,"UpdatedOn":"2026-01-02T03:04:06Z"}"#;

/// Round trip of the embedded broker, so that a client can disconnect before the confirmation.
const SLOW: Duration = Duration::from_secs(5);

/// Starts a bridge on a broker that is connected, and slow from now on. One event is on the action's topic.
async fn on_a_slow_broker(action: &str, settings: &[(&str, &str)]) -> TestBridge {
    // A delivery may have to wait for the round trip of another request too.
    let settings = [settings, &[("kafka.confirm_timeout", "30s")]].concat();
    let bridge = TestBridge::on_embedded(&[action, "BookingUpdate"], &settings).await;
    bridge.deliver(action, OTHER).await.events("confirmed");
    bridge.broker().round_trip(SLOW);
    bridge
}

/// Posts a signed record, and disconnects when the bridge has read all of it. Returns when the bridge has detected this, as it does
/// during a sender's wait between two attempts.
async fn disconnect(bridge: &TestBridge, action: &str) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    wire.send(&delivery(action, RECORD.as_bytes())).await.expect("written");
    bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", RECORD.len() as f64).await;
    wire.shut().await.expect("shut");
    wire.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_for_the_first_attempt_and_a_later_one_gets_its_confirmation() {
    let bridge = on_a_slow_broker("BookingCreate", &[]).await;
    disconnect(&bridge, "BookingCreate").await;
    let joined = bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    bridge.broker().clear_faults();
    let recalled = bridge.deliver("default/BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(joined, recalled, "both are the first attempt's confirmation");
    let messages = bridge.topic("BookingCreate", 2);
    assert_eq!(messages[1].value, RECORD.as_bytes());
    assert_eq!(joined[0]["offset"], messages[1].offset);
    assert_eq!(joined[0]["id"], messages[1].header("ce_id").expect("each event has an id"));
    assert_eq!(bridge.metric(CONFIRMED).await, 2.0);
    assert_eq!(bridge.metric(SUPPRESSED).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_and_different_deliveries_are_published_again() {
    let bridge = on_a_slow_broker("BookingCreate", &[]).await;
    disconnect(&bridge, "BookingCreate").await;
    bridge.broker().clear_faults();
    // An answered delivery and another action are not in the memory.
    bridge.deliver("BookingCreate", OTHER).await.events("confirmed");
    bridge.deliver("BookingUpdate", RECORD).await.events("confirmed");
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.metric(SUPPRESSED).await, 1.0, "only the retry of the delivery that was not answered");
    let messages = bridge.topic("BookingCreate", 3);
    let copies = |of: &str| messages.iter().filter(|message| message.value == of.as_bytes()).count();
    assert_eq!((copies(OTHER), copies(RECORD)), (2, 1));
    assert_eq!(bridge.topic("BookingUpdate", 1)[0].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_always_published_again() {
    let bridge = on_a_slow_broker("CoworkerCheckin", &[]).await;
    disconnect(&bridge, "CoworkerCheckin").await;
    bridge.broker().clear_faults(); // the first delivery keeps its delay
    bridge.deliver("CoworkerCheckin", RECORD).await.events("confirmed");
    let messages = bridge.topic("CoworkerCheckin", 3);
    assert_ne!(messages[1].header("ce_id"), messages[2].header("ce_id"));
    assert_eq!(messages[1].header("ce_nexudusfingerprint"), messages[2].header("ce_nexudusfingerprint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_with_zero_entries_is_disabled() {
    let bridge = on_a_slow_broker("BookingCreate", &[("redelivery.max_entries", "0")]).await;
    disconnect(&bridge, "BookingCreate").await;
    bridge.broker().clear_faults();
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    bridge.topic("BookingCreate", 3);
}

/// The broker has the event, but the network holds its acknowledgement. When the network works again, the retry gets the confirmation
/// of the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_broker_a_held_acknowledgement_causes_no_duplicate() {
    let proxy = Proxy::start(([127, 0, 0, 1], 9).into());
    let broker = OwnBroker::start_behind(proxy.address(), &[]);
    proxy.retarget(broker.behind_proxy());
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    let bootstrap = proxy.address().to_string();
    // With one request in flight, the held answer to a metadata request would delay the event.
    let settings = [("kafka.confirm_timeout", "30s"), ("kafka.properties.max_in_flight", "5")];
    let bridge = TestBridge::on(&bootstrap, broker.client(), prefix, &settings).await;
    bridge.deliver("BookingCreate", OTHER).await.events("confirmed"); // the leader is connected
    proxy.hold_answers();
    disconnect(&bridge, "BookingCreate").await;
    bridge.topic("BookingCreate", 2); // the event is on the topic, and the confirmation is held
    assert_eq!(bridge.metric(CONFIRMED).await, 1.0);
    proxy.restore();
    let events = bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    let messages = bridge.topic("BookingCreate", 2);
    assert_eq!((messages[1].value.as_slice(), &events[0]["offset"]), (RECORD.as_bytes(), &1.into()));
    assert_eq!(bridge.metric(SUPPRESSED).await, 1.0);
}
