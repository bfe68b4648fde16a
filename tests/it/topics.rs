//! Topics: created where the configuration says so, compared in words, never deleted.

use nexudus_bridge::kafka::topics::{Difference, Topics};

use crate::support::bridge::{PATIENCE, TestBridge, config};
use crate::support::kafka::{plain, unique};

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_created_at_start_and_large_enough_for_the_body_limit() {
    let prefix = format!("{}.", unique("it"));
    let settings = [
        ("topics.create", "true"),
        ("topics.partitions", "1"),
        ("topics.config.retention_ms", "3600000"),
        ("topics.config.cleanup_policy", "compact,delete"),
        ("ingress.max_body_bytes", "5000000"),
    ];
    let client = plain().client();
    let bridge = TestBridge::on(plain().bootstrap(), client.clone(), prefix.clone(), &settings).await;
    let none_missing = |reply: &crate::support::bridge::Reply| {
        reply.status == 200 && reply.json()["missing_topics"] == serde_json::json!([])
    };
    bridge
        .wait_until_admin("/readyz", |reply| {
            none_missing(reply)
                && client.topics().iter().filter(|name| name.starts_with(&prefix)).count() == 90
        })
        .await;
    let large = format!(r#"{{"Id":1,"Text":"{}"}}"#, "x".repeat(4_999_900));
    bridge.deliver("BookingCreate", large.clone()).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, large.as_bytes());
    let settings = client.topic_configs(&bridge.name_of("BookingCreate"));
    assert_eq!(settings["retention.ms"], "3600000");
    assert_eq!(settings["max.message.bytes"], (5_000_000 + 65_536).to_string());
    let quarantine = client.topic_configs(&bridge.name_of("quarantine"));
    assert_eq!(quarantine["retention.ms"], "2592000000");
    assert_eq!(quarantine["cleanup.policy"], "delete", "bodies there have no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_is_missing_and_what_differs_and_apply_creates_only_what_is_missing() {
    let prefix = format!("{}.", unique("it"));
    let client = plain().client();
    let name = |action: &str| format!("{prefix}{action}");
    client.create_topic(
        &name("BookingCreate"),
        5,
        &[("retention.ms", "1000"), ("max.message.bytes", "4259840")],
    );
    let settings = [
        ("topics.partitions", "2"),
        ("topics.replication_factor", "1"),
        ("topics.config.retention_ms", "2000"),
        ("topics.quarantine_config.retention_ms", "3000"),
    ];
    let topics = Topics::new(&config(plain().bootstrap(), &prefix, &settings)).expect("a client can be made");
    let plan = topics.plan().await.expect("the cluster answers");
    assert_eq!((plan.create.len(), plan.unchanged), (89, 0));
    let difference = |field: &str, have: &str, want: &str| Difference {
        topic: name("BookingCreate"),
        field: field.to_owned(),
        have: have.to_owned(),
        want: want.to_owned(),
    };
    assert_eq!(
        plan.differences,
        [difference("partitions", "5", "2"), difference("retention.ms", "1000", "2000")]
    );
    assert!(
        plan.warnings.iter().any(|warning| warning.contains("fewer than 3 replicas")),
        "{:?}",
        plan.warnings
    );
    assert_eq!(topics.apply(&plan).await.expect("the cluster answers"), []);
    assert_eq!(client.partitions(&name("BookingCreate")).len(), 5, "left as it is");
    client.consume_all(&name("TeamCreated"), 0, PATIENCE); // by then the client knows it
    assert_eq!(client.partitions(&name("TeamCreated")).len(), 2);
    assert_eq!(client.topic_configs(&name("quarantine"))["retention.ms"], "3000");
    let again = topics.plan().await.expect("the cluster answers");
    assert_eq!((again.create.len(), again.unchanged, again.differences.len()), (0, 89, 2));
    assert_eq!(
        topics.apply(&plan).await.expect("the cluster answers"),
        [],
        "somebody else created them meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_an_error_with_its_cause() {
    let nowhere = format!("127.0.0.1:{}", crate::support::kafka::free_port());
    let topics = Topics::new(&config(&nowhere, "n.", &[])).expect("a client can be made");
    let error = topics.plan().await.expect_err("nobody is there").to_string();
    assert!(error.contains("cannot be listed") && error.contains("BrokerTransportFailure"), "{error}");
}
