//! A cluster with TLS, passwords and access rights: successes, and the messages about failures.

use std::time::{Duration, Instant};

use nexudus_bridge::kafka::topics::Topics;

use crate::support::bridge::{TestBridge, config};
use crate::support::kafka::{Acl, Pattern, Resource, secured, unique};

const RECORD: &str = r#"{"Id":1,"FullName":"José"}"#;

/// Returns the settings of a bridge that signs in as `user` with `password`, and trusts the authority at `ca`.
fn signing_in<'a>(user: &'a str, password: &'a str, ca: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("kafka.confirm_timeout", "3s"),
        ("kafka.properties.security_protocol", "SASL_SSL"),
        ("kafka.properties.sasl_mechanism", "SCRAM-SHA-512"),
        ("kafka.properties.sasl_username", user),
        ("kafka.properties.sasl_password", password),
        ("kafka.properties.ssl_ca_location", ca),
    ]
}

fn writes(prefix: &str) -> [Acl<'_>; 2] {
    let right = |operation| Acl {
        user: "bridge",
        resource: Resource::Topic,
        name: prefix,
        pattern: Pattern::Prefixed,
        operation,
    };
    [right("Write"), right("Describe")]
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_a_password_and_write_rights_deliveries_are_confirmed() {
    let broker = secured();
    let prefix = format!("{}.", unique("it"));
    let admin = broker.client("admin");
    for action in ["BookingCreate", "quarantine"] {
        admin.create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    broker.grant_all(&writes(&prefix));
    let ca = broker.ca_pem_path().display().to_string();
    let settings = signing_in("bridge", broker.password("bridge"), &ca);
    let bridge = TestBridge::on(&broker.bootstrap(), admin, prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_in_the_answer_and_in_readiness_without_being_shown() {
    let broker = secured();
    let ca = broker.ca_pem_path().display().to_string();
    let settings = signing_in("bridge", "wrong-password", &ca);
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client("admin"), "n.".into(), &settings).await;
    let begun = Instant::now();
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "the refusal waits for the deadline: {:?}",
        begun.elapsed()
    );
    assert!(detail.contains("Authentication") && !detail.contains("127.0.0.1"), "{detail}");
    let reasons = bridge.wait_until_ready_is(503).await.json().to_string();
    assert!(reasons.contains("Authentication") && !reasons.contains("wrong-password"), "{reasons}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_named() {
    let broker = secured();
    let foreign = broker.foreign_ca_pem_path().display().to_string();
    let settings = signing_in("bridge", broker.password("bridge"), &foreign);
    let bridge = TestBridge::on(&broker.bootstrap(), broker.client("admin"), "n.".into(), &settings).await;
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(detail.contains("SSL"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_write_rights_are_503_until_they_are_granted_and_nothing_is_quarantined() {
    let broker = secured();
    let prefix = format!("{}.", unique("it"));
    let admin = broker.client("admin");
    for action in ["BookingCreate", "quarantine"] {
        admin.create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    // An idempotent producer needs the right to write to at least one topic.
    broker.grant_all(&writes(&unique("elsewhere")));
    let ca = broker.ca_pem_path().display().to_string();
    let settings = signing_in("bridge", broker.password("bridge"), &ca);
    let bridge = TestBridge::on(&broker.bootstrap(), admin, prefix.clone(), &settings).await;
    bridge.wait_until_ready_is(200).await;
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(detail.contains("TopicAuthorizationFailed"), "{detail}");
    broker.grant_all(&writes(&prefix));
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    assert!(!bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).is_empty());
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_failed_without_rights_is_replaced_and_works_after_they_are_granted() {
    let broker = secured();
    let prefix = format!("{}.", unique("it"));
    let admin = broker.client("admin");
    for action in ["BookingCreate", "quarantine"] {
        admin.create_topic(&format!("{prefix}{action}"), 1, &[]);
    }
    let ca = broker.ca_pem_path().display().to_string();
    let settings = signing_in("nobody", broker.password("nobody"), &ca);
    let bridge = TestBridge::on(&broker.bootstrap(), admin, prefix.clone(), &settings).await;
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(detail.contains("AuthorizationFailed"), "{detail}");
    let replaced = |reply: &crate::support::bridge::Reply| {
        !String::from_utf8_lossy(&reply.body).contains("nexudus_bridge_producer_rebuilds_total 0\n")
    };
    bridge.wait_until_admin("/metrics", replaced).await;
    let rights = writes(&prefix).map(|right| Acl { user: "nobody", ..right });
    broker.grant_all(&rights);
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    assert!(!bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).is_empty());
    broker.revoke_all(&rights); // other tests expect that this user has no rights
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_may_not_be_created_are_reported_with_the_missing_right() {
    let broker = secured();
    let prefix = format!("{}.", unique("it"));
    let ca = broker.ca_pem_path().display().to_string();
    let settings = signing_in("nobody", broker.password("nobody"), &ca);
    let topics = Topics::new(&config(&broker.bootstrap(), &prefix, &settings)).expect("a client can be made");
    let plan = topics.plan().await.expect("the cluster answers");
    assert_eq!(plan.create.len(), 90);
    let failed = topics.apply(&plan).await.expect("the cluster answers");
    assert_eq!(failed.len(), 90);
    assert!(failed.values().all(|error| error.contains("needs CREATE")), "{failed:?}");
    let wrong = signing_in("nobody", "wrong-password", &ca);
    let topics = Topics::new(&config(&broker.bootstrap(), &prefix, &wrong)).expect("a client can be made");
    let error = topics.plan().await.expect_err("refused").to_string();
    assert!(error.contains("Authentication"), "{error}");
}
