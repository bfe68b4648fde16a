//! Topics: created if `topics.create` is true, compared with the configuration, never deleted.

use std::collections::BTreeMap;

use nexudus_bridge::kafka::topics::{Difference, Topics};
use serde_json::{Value, json};

use crate::support::bridge::{MAX_WAIT, Reply, TestBridge, config};
use crate::support::kafka::{OwnBroker, plain, unique};

const CREATE: (&str, &str) = ("topics.create", "true");

/// Returns the refused topics that `/readyz` lists, each with its error.
fn refused(reply: &Reply) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let listed = reply.json()["refused_topics"].as_array().expect("a list").clone();
    listed.iter().map(|refused| (text(&refused["topic"]), text(&refused["error"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_created_at_start_and_accept_the_maximum_body() {
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
    assert_eq!(quarantine["cleanup.policy"], "delete", "quarantined bodies have no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_missing_and_different_topics_and_apply_creates_the_missing_ones() {
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
    assert_eq!(topics.apply(&plan).await.expect("the cluster answers"), BTreeMap::new());
    assert_eq!(client.partitions(&name("BookingCreate")).len(), 5, "the existing topic is unchanged");
    client.consume_all(&name("TeamCreated"), 0, MAX_WAIT); // until the client has the metadata of the topic
    assert_eq!(client.partitions(&name("TeamCreated")).len(), 2);
    assert_eq!(client.topic_configs(&name("quarantine"))["retention.ms"], "3000");
    let again = topics.plan().await.expect("the cluster answers");
    assert_eq!((again.create.len(), again.unchanged, again.differences.len()), (0, 89, 2));
    assert_eq!(
        topics.apply(&plan).await.expect("the cluster answers"),
        BTreeMap::new(),
        "somebody else has created the topics"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_an_error_with_its_cause() {
    let nowhere = format!("127.0.0.1:{}", crate::support::kafka::free_port());
    let topics = Topics::new(&config(&nowhere, "n.", &[])).expect("a client can be made");
    let error = topics.plan().await.expect_err("no broker").to_string();
    assert!(error.contains("cannot be listed") && error.contains("BrokerTransportFailure"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_becomes_ready_when_every_topic_can_be_written_to() {
    let prefix = format!("{}.", unique("it"));
    let settings = [CREATE, ("topics.partitions", "1")];
    let client = plain().client();
    let bridge = TestBridge::on(plain().bootstrap(), client.clone(), prefix.clone(), &settings).await;
    let mut reasons = Vec::new();
    loop {
        let reply = bridge.admin("/readyz").await;
        if reply.status == 200 {
            assert_eq!(reply.json()["missing_topics"], json!([]));
            break;
        }
        reasons.push(reply.json()["reasons"].to_string());
    }
    let created = client.topics().iter().filter(|name| name.starts_with(&prefix)).count();
    assert_eq!(created, 90, "topics at the moment of readiness; reasons before: {reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("topics are being created")), "{reasons:?}");
    for action in ["BookingCreate", "TeamUpdated", "VisitorRegistered"] {
        bridge.deliver(action, r#"{"Id":1}"#).await.events("confirmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_delivery_of_a_topic_times_out_while_the_broker_is_silent() {
    let broker = OwnBroker::start();
    let settings = [
        CREATE,
        ("topics.partitions", "1"),
        ("kafka.confirm_timeout", "4s"),
        ("kafka.properties.socket_timeout_ms", "60000"), // the silent broker stays connected
    ];
    let prefix = format!("{}.", unique("it"));
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client(), prefix.clone(), &settings).await;
    bridge.wait_until_ready_is(200).await;
    let created = broker.client().topics().iter().filter(|name| name.starts_with(&prefix)).count();
    assert_eq!(created, 90, "topics at the moment of readiness");
    broker.stop_process();
    let detail = bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.problem(503, "timeout");
    assert!(!detail.to_lowercase().contains("topic"), "{detail}");
    broker.continue_process();
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":2}"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_topic_is_listed_with_kafka_s_message_and_created_after_the_cause_is_removed() {
    let name = unique("it");
    let client = plain().client();
    let other = format!("{name}_BookingCreate"); // Kafka's metrics treat `.` and `_` as equal
    client.create_topic(&other, 1, &[]);
    let settings = [CREATE, ("topics.partitions", "1")];
    let prefix = format!("{name}.");
    let bridge = TestBridge::on(plain().bootstrap(), client.clone(), prefix, &settings).await;
    let reply = bridge.wait_until_ready_is(200).await;
    let refusals = refused(&reply);
    let [(topic, error)] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!(*topic, bridge.name_of("BookingCreate"));
    assert!(error.contains("collides with existing topic") && error.contains(&other), "{error}");
    assert_eq!(reply.json()["missing_topics"], json!([topic]));
    bridge.deliver("TeamUpdated", r#"{"Id":1}"#).await.events("confirmed");
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.problem(503, "broker");

    client.delete_topic(&other);
    let none = |reply: &Reply| refused(reply).is_empty() && reply.json()["missing_topics"] == json!([]);
    bridge.wait_until_admin("/readyz", none).await;
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":2}"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_detects_a_deleted_topic_and_the_topic_is_created_again() {
    let prefix = format!("{}.", unique("it"));
    let client = plain().client();
    let settings = [CREATE, ("topics.partitions", "1")];
    let bridge = TestBridge::on(plain().bootstrap(), client.clone(), prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed");
    for action in ["BookingCreate", "TeamUpdated", "quarantine"] {
        client.delete_topic(&bridge.name_of(action));
    }
    bridge.deliver("BookingCreate", r#"{"Id":2}"#).await.problem(503, "broker");
    bridge.deliver_until_confirmed("BookingCreate", r#"{"Id":3}"#).await;
    bridge.deliver_until_confirmed("TeamUpdated", r#"{"Id":4}"#).await;
    bridge.deliver("BookingCreate", "not JSON").await.events("quarantined");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_topics_create_a_delivery_detects_a_deleted_topic_and_the_topic_is_listed() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    bridge.wait_until_ready_is(200).await;
    let topic = bridge.name_of("BookingCreate");
    let is_listed =
        |reply: &Reply| reply.json()["missing_topics"].as_array().expect("a list").contains(&json!(topic));
    assert!(!is_listed(&bridge.admin("/readyz").await));
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed");
    plain().client().delete_topic(&topic);
    let detail = bridge.deliver("BookingCreate", r#"{"Id":2}"#).await.problem(503, "broker");
    assert!(detail.contains("does not have the topic"), "{detail}");
    bridge.wait_until_admin("/readyz", is_listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_brokers_are_reported_with_kafka_s_message() {
    let prefix = format!("{}.", unique("it"));
    let settings = [("topics.replication_factor", "3")];
    let topics = Topics::new(&config(plain().bootstrap(), &prefix, &settings)).expect("a client can be made");
    let plan = topics.plan().await.expect("the cluster answers");
    let failed = topics.apply(&plan).await.expect("the cluster answers");
    assert_eq!(failed.len(), 90, "{failed:?}");
    for (topic, error) in failed {
        assert!(topic.starts_with(&prefix), "{topic}");
        assert!(
            error.starts_with("InvalidReplicationFactor: ") && error.contains("only 1 broker"),
            "{error}"
        );
    }
}
