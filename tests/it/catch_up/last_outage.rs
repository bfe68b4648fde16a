//! `--since last-outage`: begins at the outages that the guardian of the running bridge keeps until a run has covered them.

use serde_json::Value;

use super::{HERE, SOURCES, Setup, TOPICS};
use crate::support::bridge::TestBridge;
use crate::support::kafka::free_port;
use crate::support::program::{Running, err, field};

/// A setup with a running bridge.
struct Guarded {
    setup: Setup,
    bridge: Running,
}

impl Guarded {
    fn start() -> Self {
        let setup = Setup::with(SOURCES, &TOPICS);
        let url = format!("127.0.0.1:{}", free_port());
        let listen = format!("[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = {url:?}\n");
        setup.configure("guardian = { interval = \"200ms\" }", &format!("{listen}{SOURCES}"));
        setup.tenant.apply();
        let bridge = Running::serve(&setup.tenant.file());
        Self { setup, bridge }
    }

    /// Nexudus disables webhooks long after their last success, the guardian re-enables them, and a success follows. Returns the
    /// guardian's line about the last webhook.
    fn outage(&self, paths: &[&str], last_success: &str) -> String {
        let nexudus = &self.setup.tenant.nexudus;
        let mut line = String::new();
        for path in paths {
            let id = self.setup.tenant.webhook(path);
            let last_success = format!("{last_success:?}");
            let off = [("Active", "false"), ("ErrorCount", "10"), ("LastTrigger", last_success.as_str())];
            nexudus.change_webhook(id, &off).expect("exists");
            line = self.bridge.line_with(&format!("webhook_id={id}"));
            assert!(line.contains("a webhook that Nexudus had disabled is enabled again"), "{line}");
            let success = format!("\"{}\"", jiff::Timestamp::now());
            nexudus.change_webhook(id, &[("LastTrigger", &success), ("ErrorCount", "0")]).expect("exists");
        }
        line
    }

    fn catch_up(&self, arguments: &[&str]) -> Value {
        self.setup.tenant.json(&[&["catch-up"], arguments].concat(), 0)
    }
}

fn published(summary: &Value) -> Vec<(String, u64)> {
    let rows = summary["published"].as_array().expect("a list").iter();
    rows.map(|row| {
        (row["action"].as_str().expect("text").to_owned(), row["events"].as_u64().expect("a number"))
    })
    .collect()
}

#[test]
fn an_outage_is_read_back_from_its_last_success_although_the_webhook_has_delivered_since() {
    let guarded = Guarded::start();
    let last_success = "2025-03-02T10:00:00.5Z";
    let line = guarded.outage(&["/webhooks/BookingDelete", "/webhooks/BookingUpdate"], last_success);
    assert_eq!(field(&line, "last_trigger"), last_success, "{line}");
    // A day before the last success: an earlier event may have failed until then.
    let command = "nexudus-bridge catch-up --since default/BookingUpdate=2025-03-01T10:00:00Z";
    assert!(line.contains(command), "{line}");

    let setup = &guarded.setup;
    let updated = setup.put("Booking", HERE, "2024-01-01T00:00:00Z", "2025-03-20T00:00:00Z");
    setup.put("Booking", HERE, "2024-01-01T00:00:00Z", "2025-02-27T00:00:00Z"); // before the outage
    assert_eq!(published(&guarded.catch_up(&["--since", "last-trigger"])), []);
    for dry_run in ["first", "second"] {
        let summary = guarded.catch_up(&["--since", "last-outage", "--dry-run"]);
        assert_eq!(published(&summary), [("BookingUpdate".to_owned(), 1)], "{dry_run}: it covers nothing");
    }
    let output = setup.run(&["--since", "last-outage"]);
    assert!(output.status.success(), "{}", err(&output));
    let expected =
        format!("events of default/BookingDelete are missing since {last_success} and cannot be read back");
    assert!(err(&output).contains(&expected), "{}", err(&output));
    assert_eq!(setup.published(), [format!("BookingUpdate {updated}")]);

    // The outage is covered now, so the next run finds none.
    let output = setup.run(&["--since", "last-outage"]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("has detected no outage since it started at 20"), "{}", err(&output));

    // A complete run that begins at a time also covers the outages in its range.
    guarded.outage(&["/webhooks/BookingCreate", "/webhooks/BookingUpdate"], last_success);
    let actions = |summary: Value| summary["published"].as_array().map(Vec::len);
    guarded.catch_up(&["--since", "default/BookingUpdate=2025-03-02T10:00:00Z"]);
    guarded.catch_up(&["--since", "default/BookingCreate=2025-03-02T10:00:01Z"]);
    setup.put("Booking", HERE, "2025-03-20T00:00:00Z", "2025-03-20T00:00:00Z");
    let left = guarded.catch_up(&["--since", "last-outage", "--dry-run"]);
    assert_eq!(published(&left), [("BookingCreate".to_owned(), 1)]);
    guarded.catch_up(&["--since", "2025-03-02T10:00:00Z"]);
    assert_eq!(actions(guarded.catch_up(&["--since", "last-outage", "--dry-run"])), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_bridge_is_named_with_the_remedy() {
    let other = TestBridge::on_embedded(&[], &[]).await;
    let setup = Setup::with(SOURCES, &TOPICS);
    let closed = format!("http://127.0.0.1:{}", free_port());
    let (strange, elsewhere) = (format!("http://{}", other.admin), setup.tenant.nexudus.base_url());
    for (url, expected) in [
        (&closed, format!("cannot read the outages of the bridge at {closed}/outages")),
        (&strange, "manages other webhooks (base_url".to_owned()),
        (&elsewhere, "is not a bridge's list of outages (status 4".to_owned()),
    ] {
        let output = setup.run(&["--since", "last-outage", "--bridge", url]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(
            err(&output).contains(&expected) && err(&output).contains("--bridge names"),
            "{}",
            err(&output)
        );
    }
    assert_eq!(setup.published(), [""; 0]);
}
