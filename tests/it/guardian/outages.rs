//! The beginning of an outage: recorded before a webhook is re-enabled, and kept until a catch-up has covered the outage.

use nexudus_bridge::app::Ended;
use serde_json::{Value, json};

use super::{disable, guarded, tenant, wait_for, wait_for_looks};
use crate::support::bridge::{Reply, TestBridge, http_client};
use crate::support::nexudus::Tenant;

const STARTED: &str =
    "nexudus_bridge_webhook_outage_started_timestamp_seconds{action=\"BookingCreate\",source=\"default\"}";

/// Disables a webhook as Nexudus does, long after its last success.
fn fails(tenant: &Tenant, id: i64, last_success: &str) {
    tenant.nexudus.change_webhook(id, &[("LastTrigger", &format!("{last_success:?}"))]).expect("exists");
    disable(tenant, id, "10");
}

async fn outages(bridge: &TestBridge) -> Value {
    bridge.admin("/outages").await.json()
}

async fn cover(bridge: &TestBridge, kind: &str, host: &str, ranges: &Value) -> u16 {
    let url = format!("http://{}/outages/covered", bridge.admin);
    let request = http_client().post(url).header("content-type", kind).header("host", host);
    request.body(ranges.to_string()).send().await.expect("the bridge answers").status().as_u16()
}

fn range(since: &str, until: &str) -> Value {
    json!([{"source": "default", "action": "BookingCreate", "since": since, "until": until}])
}

async fn text(reply: Reply) -> String {
    String::from_utf8(reply.body).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_kept_from_the_last_success_until_a_catch_up_has_covered_it() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    let bridge = guarded(&tenant, &[]).await;
    wait_for_looks(&tenant, 2).await;
    assert_eq!(outages(&bridge).await["outages"], json!([]));
    fails(&tenant, booking, "2026-01-02T03:04:05.5Z");
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    bridge.wait_for_metric(STARTED, 1_767_323_045.5).await;

    // The first success overwrites LastTrigger, and the next outage begins before a catch-up.
    fails(&tenant, booking, "2026-01-05T00:00:00Z");
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 3).await;
    let report = outages(&bridge).await;
    let [outage] = &report["outages"].as_array().expect("a list")[..] else { panic!("{report}") };
    assert_eq!(outage["since"], "2026-01-02T03:04:05.5Z", "the earliest time stays");
    assert_eq!(
        (&outage["source"], &outage["action"], &outage["webhook_id"], &outage["readable"]),
        (&json!("default"), &json!("BookingCreate"), &json!(booking), &json!(true))
    );
    assert!(outage["until"].is_string(), "{report}");
    let command = "nexudus-bridge catch-up --since default/BookingCreate=2026-01-01T03:04:05Z";
    assert_eq!(report["command"], command);
    assert_eq!(bridge.admin("/console/state").await.json()["outages"]["command"], command);

    let (early, now) = ("2026-01-02T03:04:05Z", "2199-01-01T00:00:00Z");
    for (kind, host, ranges, status) in [
        ("text/plain", "127.0.0.1", range(early, now), 400),
        ("application/json", "127.0.0.1", json!({}), 400),
        ("application/json", "rebound.example", range(early, now), 421),
        ("application/json", "127.0.0.1", range("2026-01-02T03:04:06Z", now), 204),
        ("application/json", "127.0.0.1", range("2026-01-01T00:00:00Z", early), 204),
    ] {
        assert_eq!(cover(&bridge, kind, host, &ranges).await, status, "{kind} {host} {ranges}");
        assert_eq!(outages(&bridge).await["command"], command, "{kind} {host} {ranges}");
    }
    assert_eq!(cover(&bridge, "application/json", "127.0.0.1", &range(early, now)).await, 204);
    let report = outages(&bridge).await;
    assert_eq!((&report["outages"], &report["command"]), (&json!([]), &Value::Null));
    let metrics = text(bridge.admin("/metrics").await).await;
    assert!(!metrics.contains("webhook_outage_started_timestamp_seconds{"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_during_an_outage_keeps_its_beginning() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    let mut first = guarded(&tenant, &[("ingress.shutdown_delay", "0s")]).await;
    wait_for_looks(&tenant, 1).await;
    first.broker().down();
    first.wait_until_ready_is(503).await;
    fails(&tenant, booking, "2026-01-02T03:04:05.5Z");
    first.wait_for_metric(STARTED, 1_767_323_045.5).await;
    first.stopper().stop();
    assert_eq!(first.ended().await, Ended::Drained);
    let second = guarded(&tenant, &[]).await;
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    second.wait_for_metric(STARTED, 1_767_323_045.5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_cannot_be_read_back_is_kept_without_a_command() {
    let tenant = Tenant::with(&super::SOURCE.replace("TeamUpdated", "BookingDelete"));
    tenant.apply();
    let (never, booking) = (tenant.webhook("/BookingDelete"), tenant.webhook("/BookingCreate"));
    tenant.nexudus.change_webhook(never, &[("CreatedOn", "\"2026-01-01T00:00:00Z\"")]).expect("exists");
    disable(&tenant, never, "10");
    let actions = ("sources.default.actions", "[\"BookingCreate\", \"BookingDelete\"]");
    let bridge = guarded(&tenant, &[actions]).await;
    wait_for(&tenant, never, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 2).await;
    let report = outages(&bridge).await;
    let [outage] = &report["outages"].as_array().expect("a list")[..] else { panic!("{report}") };
    assert_eq!(
        (&outage["action"], &outage["since"], &outage["readable"], &report["command"]),
        (&json!("BookingDelete"), &json!("2026-01-01T00:00:00Z"), &json!(false), &Value::Null),
        "without a success it began when the webhook was created"
    );
    // A webhook that a person disables has no outage.
    disable(&tenant, booking, "3");
    wait_for_looks(&tenant, 3).await;
    assert_eq!(outages(&bridge).await["outages"].as_array().map(Vec::len), Some(1));
}
