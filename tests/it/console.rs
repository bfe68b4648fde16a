//! The console: its content, who may open it, and that viewers do not disturb the bridge.

use std::time::{Duration, Instant};

use nexudus_bridge::app::Ended;
use nexudus_bridge::recent::MAX_VIEWERS;
use serde_json::Value;

use crate::support::bridge::{MAX_WAIT, Reply, TestBridge, http_client};

/// A response with server-sent events, read as they arrive.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn of(bridge: &TestBridge) -> Self {
        let url = format!("http://{}/console/events", bridge.admin);
        let response = http_client().get(url).send().await.expect("the bridge answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// Reads until `wanted` is true for the text read so far, and returns the text.
    async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> &str {
        let reading = async {
            while !wanted(&self.text) {
                let chunk = self.response.chunk().await.expect("readable").expect("more follows");
                self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            }
        };
        let read = tokio::time::timeout(MAX_WAIT, reading).await;
        assert!(read.is_ok(), "still only {}", self.text);
        &self.text
    }
}

/// Returns the events in a text of server-sent events.
fn events_in(text: &str) -> Vec<Value> {
    let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default(); // the last event may be incomplete
    let data = whole.lines().filter_map(|line| line.strip_prefix("data: {"));
    data.map(|rest| serde_json::from_str(&format!("{{{rest}")).expect("JSON")).collect()
}

async fn with_host(bridge: &TestBridge, path: &str, host: &str) -> u16 {
    let request = http_client().get(format!("http://{}{path}", bridge.admin)).header("host", host);
    request.send().await.expect("the bridge answers").status().as_u16()
}

async fn state(bridge: &TestBridge) -> Value {
    bridge.admin("/console/state").await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_one_file_that_may_run_its_own_script_and_nothing_else() {
    let bridge = TestBridge::on_embedded(&[], &[]).await;
    let page = bridge.admin("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for reply in [page, bridge.admin("/console/state").await] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name}");
        }
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_beyond_loopback_unless_it_is_enabled() {
    let all_interfaces = ("admin.listen", "0.0.0.0:0");
    for (settings, on) in [
        (vec![all_interfaces], false),
        (vec![("admin.console", "false")], false),
        (vec![all_interfaces, ("admin.console", "true")], true),
        (vec![], true),
    ] {
        let mut bridge = TestBridge::on_embedded(&[], &settings).await;
        bridge.admin.set_ip([127, 0, 0, 1].into());
        for path in ["/", "/console/state", "/console/events"] {
            let status = with_host(&bridge, path, "127.0.0.1").await;
            assert_eq!(status, if on { 200 } else { 404 }, "{path} with {settings:?}");
        }
        if !on {
            let reply = bridge.admin("/").await;
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
            assert!(reply.json()["detail"].as_str().expect("a detail").contains("admin.console = true"));
        }
        assert_eq!(bridge.admin("/healthz").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_that_dns_rebinding_can_forge_is_refused_unless_the_console_is_enabled() {
    let bridge = TestBridge::on_embedded(&[], &[]).await;
    for path in ["/", "/console/state", "/console/events"] {
        assert_eq!(with_host(&bridge, path, "evil.example:9464").await, 421, "{path}");
        assert_eq!(with_host(&bridge, path, "localhost:9464").await, 200, "{path}");
    }
    assert_eq!(with_host(&bridge, "/metrics", "evil.example").await, 200);
    let asked = TestBridge::on_embedded(&[], &[("admin.console", "true")]).await;
    assert_eq!(with_host(&asked, "/", "bridge.internal").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_get_the_positions_of_events_and_nothing_of_their_bodies() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed"); // before a viewer is connected
    let mut events = Events::of(&bridge).await;
    let body = r#"[{"Id":42,"FullName":"Somebody Private"},{"FullName":"Without a key"}]"#;
    let receipt = bridge.deliver("BookingCreate", body).await.events("confirmed");
    bridge.deliver("BookingCreate", "nonsense of Somebody Private").await.events("quarantined");
    let text = events.until(|text| events_in(text).len() == 3).await;
    assert!(!text.contains("Private") && !text.contains("Without"), "{text}");
    let seen = events_in(text);
    assert_eq!((&seen[0]["key"], &seen[1]["key"]), (&"42".into(), &Value::Null));
    for (seen, confirmed) in seen.iter().zip(&receipt) {
        assert_eq!(
            (seen["source"].as_str(), seen["action"].as_str()),
            (Some("default"), Some("BookingCreate"))
        );
        for field in ["topic", "partition", "offset"] {
            assert_eq!(seen[field], confirmed[field], "{field}");
        }
        assert!(seen["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 60_000.0), "{seen}");
        assert!(seen["quarantined"].is_null());
        let time: jiff::Timestamp = seen["time"].as_str().expect("a time").parse().expect("RFC 3339");
        assert!(time.duration_until(jiff::Timestamp::now()).as_secs().abs() < 60, "{seen}");
    }
    assert_eq!(
        (&seen[2]["quarantined"], &seen[2]["topic"]),
        (&"not_json".into(), &"nexudus.quarantine".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_viewers_is_limited() {
    let bridge = TestBridge::on_embedded(&[], &[]).await;
    let mut viewers = Vec::new();
    for _ in 0..MAX_VIEWERS {
        viewers.push(Events::of(&bridge).await);
    }
    let refused = bridge.admin("/console/events").await;
    assert_eq!((refused.status, refused.header("content-type")), (503, Some("application/problem+json")));
    assert_eq!(state(&bridge).await["viewers"], MAX_VIEWERS);
    viewers.pop();
    // The bridge detects that a viewer has disconnected when its connection ends.
    let one_less = |reply: &Reply| reply.json()["viewers"] == MAX_VIEWERS - 1;
    bridge.wait_until_admin("/console/state", one_less).await;
    Events::of(&bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_viewer_gets_the_number_of_missed_events() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let mut events = Events::of(&bridge).await;
    let records: Vec<String> = (0..1000).map(|id| format!(r#"{{"Id":{id}}}"#)).collect();
    bridge.deliver("BookingCreate", format!("[{}]", records.join(","))).await.events("confirmed");
    let missed = |text: &str| -> usize {
        let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
        let numbers = whole.lines().filter_map(|line| line.strip_prefix("data: ")?.parse::<usize>().ok());
        numbers.sum()
    };
    let text = events.until(|text| events_in(text).len() + missed(text) == 1000).await;
    assert!(missed(text) > 0 && text.contains("event: missed\n"), "{} seen", events_in(text).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_grouped_by_kind_with_their_remedy() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    assert_eq!(state(&bridge).await["setbacks"], serde_json::json!([]));
    for _ in 0..3 {
        bridge.post("BookingCreate", &[], "{}").await.problem(401, "missing_signature");
    }
    let wrong = [("X-Nexudus-Hook-Signature", "ab".repeat(32))];
    bridge.post("BookingCreate", &[(wrong[0].0, &wrong[0].1)], "{}").await.problem(401, "invalid_signature");
    bridge.post("nowhere/BookingCreate", &[], "{}").await.problem(404, "unknown_source");
    bridge.deliver("BookingCreate", "nonsense").await.events("quarantined");
    let state = state(&bridge).await;
    let setbacks = state["setbacks"].as_array().expect("a list");
    let kinds: Vec<_> = setbacks
        .iter()
        .map(|s| (s["source"].as_str(), s["action"].as_str(), s["outcome"].as_str(), s["count"].as_u64()))
        .collect();
    let kind = |source, outcome, count| (Some(source), Some("BookingCreate"), Some(outcome), Some(count));
    let unknown = (Some("unknown"), Some("unknown"), Some("unknown_source"), Some(1));
    assert_eq!(
        kinds,
        [
            kind("default", "quarantined", 1),
            unknown,
            kind("default", "invalid_signature", 1),
            kind("default", "missing_signature", 3)
        ]
    );
    assert!(setbacks[3]["detail"].as_str().expect("a detail").contains("X-Nexudus-Hook-Signature"));
    let advice = |label: &str| {
        let outcomes = state["outcomes"].as_array().expect("a list");
        outcomes.iter().find(|outcome| outcome["label"] == label).expect("listed")["advice"].clone()
    };
    assert!(advice("missing_signature").as_str().expect("a text").contains("shared secret"));
    assert!(advice("quarantined").as_str().expect("a text").contains("quarantine replay"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_readiness_and_its_reasons() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.wait_until_admin("/console/state", |reply| reply.json()["ready"] == true).await;
    bridge.broker().down();
    let not_ready = |reply: &Reply| reply.json()["ready"] == false;
    let state = bridge.wait_until_admin("/console/state", not_ready).await.json();
    assert!(state["reasons"][0].as_str().expect("a reason").contains("Kafka"), "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_viewer_is_disconnected_and_does_not_delay_the_stop() {
    let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let mut events = Events::of(&bridge).await;
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed");
    events.until(|text| events_in(text).len() == 1).await;
    let begun = Instant::now();
    bridge.stopper().stop();
    assert_eq!(bridge.ended().await, Ended::Drained);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The stream ends with an `end` event or with the connection.
    let rest =
        tokio::time::timeout(MAX_WAIT, async { while let Ok(Some(_)) = events.response.chunk().await {} });
    assert!(rest.await.is_ok(), "the stream has an end");
}
