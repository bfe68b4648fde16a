//! A producer quota: the broker throttles the bridge, which names the quota and stays ready.

use std::time::Duration;

use crate::support::bridge::TestBridge;
use crate::support::kafka::{OwnBroker, unique};
use crate::support::say;

/// A deadline longer than the silence after which a cluster counts as unreachable. So a throttled broker is silent for that long while
/// one delivery waits.
const SETTINGS: [(&str, &str); 2] =
    [("kafka.confirm_timeout", "16s"), ("kafka.properties.socket_timeout_ms", "60000")];

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_bridge_stays_ready_and_names_the_quota_as_the_cause() {
    let broker = OwnBroker::start();
    let prefix = format!("{}.", unique("it"));
    for action in ["BookingCreate", "quarantine"] {
        broker.client().create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client(), prefix, &SETTINGS).await;
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed");
    broker.limit_producers("nexudus-bridge", 1_000);

    // Far above the quota. It is confirmed, and after it the broker reads nothing from this connection for at least a minute.
    let large = format!(r#"{{"Id":2,"Text":"{}"}}"#, "x".repeat(100_000));
    bridge.deliver("BookingCreate", large).await.events("confirmed");
    let throttled = bridge.deliver("BookingCreate", r#"{"Id":3}"#);
    tokio::pin!(throttled);
    let reply = loop {
        tokio::select! {
            reply = &mut throttled => break reply,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let ready = bridge.admin("/readyz").await;
                assert_eq!(ready.status, 200, "{}", ready.json());
            }
        }
    };
    let detail = reply.problem(503, "timeout");
    assert!(detail.contains("throttles the producer") && detail.contains("quota"), "{detail}");
    let series =
        format!(r#"nexudus_bridge_producer_throttled_seconds_total{{broker="{}"}}"#, broker.bootstrap());
    let seconds = bridge.metric(&series).await;
    say(&format!("throttled for {seconds} s: {detail}"));
    assert!(seconds > 10.0, "{seconds}");
    assert_eq!(bridge.metric("nexudus_bridge_producer_rebuilds_total").await, 0.0);
}
