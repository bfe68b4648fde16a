//! The redelivery memory: a retry of what was confirmed without being answered is answered, and not published again.

use std::time::Duration;

use crate::support::bridge::TestBridge;
use crate::support::kafka::{OwnBroker, unique};
use crate::support::proxy::Proxy;
use crate::support::wire::{Wire, delivery};

const RECORD: &str = r#"{"Id":1,"UpdatedOn":"2026-01-02T03:04:05Z"}"#;

const CONFIRMED: &str = r#"nexudus_bridge_events_confirmed_total{action="BookingCreate",source="default"}"#;
const SUPPRESSED: &str =
    r#"nexudus_bridge_redeliveries_suppressed_total{action="BookingCreate",source="default"}"#;

/// Another state of it.
const OTHER: &str = r#"{"Id":1,"UpdatedOn":"2026-01-02T03:04:06Z"}"#;

/// How long the embedded broker takes for an answer, so that a client can hang up before it.
const SLOW: Duration = Duration::from_secs(5);

/// A bridge on a broker that is connected already and slow from now on. One event is on the action's topic.
async fn on_a_slow_broker(action: &str, settings: &[(&str, &str)]) -> TestBridge {
    // A delivery may have to wait for the round trip of another request too.
    let settings = [settings, &[("kafka.confirm_timeout", "30s")]].concat();
    let bridge = TestBridge::on_embedded(&[action, "BookingUpdate"], &settings).await;
    bridge.deliver(action, OTHER).await.events("confirmed");
    bridge.broker().round_trip(SLOW);
    bridge
}

/// Posts a signed record and hangs up as soon as the bridge has all of it; over once the bridge has seen that, as any
/// sender's wait between two attempts lets it.
async fn hang_up(bridge: &TestBridge, action: &str) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    wire.send(&delivery(action, RECORD.as_bytes())).await.expect("written");
    bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", RECORD.len() as f64).await;
    wire.shut().await.expect("shut");
    wire.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_for_the_first_attempt_and_a_later_one_recalls_it() {
    let bridge = on_a_slow_broker("BookingCreate", &[]).await;
    hang_up(&bridge, "BookingCreate").await;
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
async fn what_was_answered_and_what_differs_is_published_again() {
    let bridge = on_a_slow_broker("BookingCreate", &[]).await;
    hang_up(&bridge, "BookingCreate").await;
    bridge.broker().clear_faults();
    // Answered before, another action: nothing of it is in the memory.
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
    hang_up(&bridge, "CoworkerCheckin").await;
    bridge.broker().clear_faults(); // the first takes its time all the same
    bridge.deliver("CoworkerCheckin", RECORD).await.events("confirmed");
    let messages = bridge.topic("CoworkerCheckin", 3);
    assert_ne!(messages[1].header("ce_id"), messages[2].header("ce_id"));
    assert_eq!(messages[1].header("ce_nexudusfingerprint"), messages[2].header("ce_nexudusfingerprint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_without_entries_is_none() {
    let bridge = on_a_slow_broker("BookingCreate", &[("redelivery.max_entries", "0")]).await;
    hang_up(&bridge, "BookingCreate").await;
    bridge.broker().clear_faults();
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    bridge.topic("BookingCreate", 3);
}

/// The broker has the event and its answer is held back: neither the bridge nor the sender knows. When the network is
/// whole again, the retry finds the word on the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_broker_an_answer_held_by_the_network_makes_no_duplicate() {
    let proxy = Proxy::start(([127, 0, 0, 1], 9).into());
    let broker = OwnBroker::start_behind(proxy.address(), &[]);
    proxy.retarget(broker.behind_proxy());
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    let bootstrap = proxy.address().to_string();
    // More than one request in flight: else an answer to a look at the cluster, held too, would keep the event back.
    let settings = [("kafka.confirm_timeout", "30s"), ("kafka.properties.max_in_flight", "5")];
    let bridge = TestBridge::on(&bootstrap, broker.client(), prefix, &settings).await;
    bridge.deliver("BookingCreate", OTHER).await.events("confirmed"); // the leader is connected
    proxy.hold_answers();
    hang_up(&bridge, "BookingCreate").await;
    bridge.topic("BookingCreate", 2); // the event is there, and nobody has been told
    assert_eq!(bridge.metric(CONFIRMED).await, 1.0);
    proxy.restore();
    let events = bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    let messages = bridge.topic("BookingCreate", 2);
    assert_eq!((messages[1].value.as_slice(), &events[0]["offset"]), (RECORD.as_bytes(), &1.into()));
    assert_eq!(bridge.metric(SUPPRESSED).await, 1.0);
}
