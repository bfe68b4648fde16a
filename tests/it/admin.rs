//! The admin listener: metrics that Prometheus's own tool accepts, health, readiness.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::support::bridge::{TestBridge, http_client};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_names_of_the_documentation_and_pass_promtool() {
    let settings = [
        ("sources.warns.signature", "warn"),
        ("redelivery.max_bytes", "2048"),
        ("kafka.properties.queue_buffering_max_messages", "0"),
        ("kafka.properties.queue_buffering_max_kbytes", "50000"),
    ];
    let bridge = TestBridge::on_apache(&["BookingCreate"], &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BookingCreate", r#"[{"Id":1},{"Id":2}]"#).await.events("confirmed");
    bridge.deliver("BookingCreate", "nonsense").await.events("quarantined");
    bridge.post("BookingCreate", &[], "{}").await.problem(401, "missing_signature");
    bridge.post("warns/BookingCreate", &[], r#"{"Id":3}"#).await.events("confirmed");
    // The brokers appear with the client's first statistics.
    let reply = bridge
        .wait_until_admin("/metrics", |reply| {
            String::from_utf8_lossy(&reply.body).contains("nexudus_bridge_broker_up{")
        })
        .await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(reply.body).expect("text");
    has_every_metric(&text);
    for (series, value) in [
        (r#"deliveries_total{action="BookingCreate",outcome="confirmed",source="default"}"#, 1.0),
        (r#"deliveries_total{action="BookingCreate",outcome="quarantined",source="default"}"#, 1.0),
        (r#"deliveries_total{action="BookingCreate",outcome="missing_signature",source="default"}"#, 1.0),
        (r#"deliveries_total{action="BookingCreate",outcome="confirmed",source="warns"}"#, 1.0),
        (r#"events_confirmed_total{action="BookingCreate",source="default"}"#, 2.0),
        (r#"quarantined_total{reason="not_json",source="default"}"#, 1.0),
        (r#"delivery_duration_seconds_count{outcome="confirmed"}"#, 2.0),
        ("confirm_duration_seconds_count", 3.0),
        ("ready", 1.0),
        ("in_flight_deliveries_limit", 4096.0),
        ("in_flight_bytes_limit", 33_554_432.0),
        ("redelivery_bytes_limit", 2048.0),
        ("producer_queue_messages_limit", f64::INFINITY), // for librdkafka 0 means no limit
        ("producer_queue_bytes_limit", 51_200_000.0),
        ("confirm_timeout_seconds", 10.0),
    ] {
        assert_eq!(bridge.metric(&format!("nexudus_bridge_{series}")).await, value, "{series}");
    }
    promtool(&text);
}

/// Asserts the type and the help text of each metric.
fn has_every_metric(text: &str) {
    for (name, kind) in [
        ("deliveries_total", "counter"),
        ("events_confirmed_total", "counter"),
        ("delivery_duration_seconds", "histogram"),
        ("confirm_duration_seconds", "histogram"),
        ("in_flight_deliveries", "gauge"),
        ("in_flight_bytes", "gauge"),
        ("in_flight_deliveries_limit", "gauge"),
        ("in_flight_bytes_limit", "gauge"),
        ("redelivery_bytes_limit", "gauge"),
        ("producer_queue_messages_limit", "gauge"),
        ("producer_queue_bytes_limit", "gauge"),
        ("confirm_timeout_seconds", "gauge"),
        ("last_confirmed_timestamp_seconds", "gauge"),
        ("producer_queue_messages", "gauge"),
        ("producer_queue_bytes", "gauge"),
        ("producer_throttled_seconds_total", "counter"),
        ("broker_up", "gauge"),
        ("broker_rtt_seconds", "gauge"),
        ("signature_matches_total", "counter"),
        ("signature_warnings_total", "counter"),
        ("quarantined_total", "counter"),
        ("ready", "gauge"),
        ("topics_missing", "gauge"),
        ("build_info", "gauge"),
    ] {
        assert!(text.contains(&format!("# TYPE nexudus_bridge_{name} {kind}\n")), "{name} in\n{text}");
        assert!(text.contains(&format!("# HELP nexudus_bridge_{name} ")), "{name}");
    }
    assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"));
}

/// Checks names, types and help texts with Prometheus's own tool.
fn promtool(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "promtool cannot be run ({error}); install it (Debian, Ubuntu: apt-get install prometheus)"
            )
        });
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.is_empty(), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn label_values_never_come_from_a_request() {
    let bridge = TestBridge::on_embedded(&[], &[]).await;
    for path in
        ["evil-action", "evil-source/BookingCreate", "evil-source/evil-action", "default/evil%22action"]
    {
        bridge.post(path, &[], "{}").await;
    }
    let text = String::from_utf8(bridge.admin("/metrics").await.body).expect("text");
    assert!(!text.contains("evil"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthz_reports_the_process_and_readyz_the_cluster() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    assert_eq!(bridge.admin("/healthz").await.status, 200);
    let ready = bridge.wait_until_ready_is(200).await.json();
    assert_eq!((&ready["ready"], &ready["reasons"]), (&true.into(), &serde_json::json!([])));
    bridge.broker().down();
    let not_ready = bridge.wait_until_ready_is(503).await.json();
    assert_eq!(not_ready["ready"], false);
    assert_eq!(bridge.admin("/healthz").await.status, 200);
    assert_eq!(bridge.metric("nexudus_bridge_ready").await, 0.0);
    bridge.broker().up();
    bridge.wait_until_ready_is(200).await;
    assert_eq!(bridge.metric("nexudus_bridge_ready").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_listed_and_the_bridge_stays_ready() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    bridge.wait_until_ready_is(200).await;
    let listed = |reply: &crate::support::bridge::Reply| {
        !reply.json()["missing_topics"].as_array().expect("a list").is_empty()
    };
    let reply = bridge.wait_until_admin("/readyz", listed).await;
    let missing = reply.json()["missing_topics"].as_array().expect("a list").clone();
    assert_eq!((reply.status, missing.len()), (200, 88), "{missing:?}");
    assert!(!missing.contains(&bridge.name_of("BookingCreate").into()));
    assert_eq!(bridge.metric("nexudus_bridge_topics_missing").await, 88.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_compressed_for_a_scraper_that_accepts_gzip_and_for_no_other() {
    let bridge = TestBridge::on_embedded(&[], &[]).await;
    let url = format!("http://{}/metrics", bridge.admin);
    // Prometheus sends `gzip`. The other values refuse gzip or do not list it, or the header is missing.
    let cases = [
        (Some("gzip"), true),
        (Some("gzip;q=1.0,identity;q=0.5"), true),
        (Some("deflate, gzip;q=0.8, identity;q=0.1"), true),
        (Some("gzip;q=0"), false),
        (Some("identity"), false),
        (Some("br"), false),
        (None, false),
    ];
    for (accepted, is_compressed) in cases {
        let mut request = http_client().get(&url);
        if let Some(accepted) = accepted {
            request = request.header("accept-encoding", accepted);
        }
        let response = request.send().await.expect("the bridge answers");
        assert_eq!(response.status(), 200, "{accepted:?}");
        assert_eq!(response.headers()["vary"], "Accept-Encoding", "{accepted:?}");
        let encoding = response.headers().get("content-encoding").cloned();
        let body = response.bytes().await.expect("the answer arrives whole");
        let text = if is_compressed {
            assert_eq!(encoding.as_ref().and_then(|value| value.to_str().ok()), Some("gzip"), "{accepted:?}");
            let mut text = String::new();
            flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).expect("gzip of text");
            assert!(body.len() < text.len() / 3, "{} of {} bytes", body.len(), text.len());
            text
        } else {
            assert!(encoding.is_none(), "{accepted:?}: {encoding:?}");
            String::from_utf8(body.to_vec()).expect("text")
        };
        assert!(text.contains("nexudus_bridge_ready "), "{accepted:?}: {text}");
    }
}
