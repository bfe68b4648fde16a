//! `--since last-outage`: from what the guardian of the running bridge has kept, until a run has covered it.

use serde_json::Value;

use super::{HERE, Office, SOURCES, TOPICS};
use crate::support::bridge::TestBridge;
use crate::support::kafka::free_port;
use crate::support::program::{Running, err, field};

/// An office whose bridge runs.
struct Guarded {
    office: Office,
    bridge: Running,
}

impl Guarded {
    fn start() -> Self {
        let office = Office::with(SOURCES, &TOPICS);
        let url = format!("127.0.0.1:{}", free_port());
        let listen = format!("[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = {url:?}\n");
        office.configure("guardian = { interval = \"200ms\" }", &format!("{listen}{SOURCES}"));
        office.tenant.apply();
        let bridge = Running::serve(&office.tenant.file());
        Self { office, bridge }
    }

    /// Nexudus disables webhooks long after their last success, the guardian re-enables them, and a success follows. Returns the
    /// guardian's line about the last one.
    fn outage(&self, paths: &[&str], last_success: &str) -> String {
        let nexudus = &self.office.tenant.nexudus;
        let mut line = String::new();
        for path in paths {
            let id = self.office.tenant.webhook(path);
            let last_success = format!("{last_success:?}");
            let off = [("Active", "false"), ("ErrorCount", "10"), ("LastTrigger", last_success.as_str())];
            nexudus.change_webhook(id, &off).expect("there");
            line = self.bridge.line_with(&format!("webhook_id={id}"));
            assert!(line.contains("a webhook that Nexudus had disabled is active again"), "{line}");
            let success = format!("\"{}\"", jiff::Timestamp::now());
            nexudus.change_webhook(id, &[("LastTrigger", &success), ("ErrorCount", "0")]).expect("there");
        }
        line
    }

    fn catch_up(&self, arguments: &[&str]) -> Value {
        self.office.tenant.json(&[&["catch-up"], arguments].concat(), 0)
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
fn an_outage_is_read_back_from_its_last_success_though_the_webhook_has_delivered_since() {
    let guarded = Guarded::start();
    let last_success = "2025-03-02T10:00:00.5Z";
    let line = guarded.outage(&["/webhooks/BookingDelete", "/webhooks/BookingUpdate"], last_success);
    assert_eq!(field(&line, "last_trigger"), last_success, "{line}");
    // A day earlier: some events may have been failing while a later one succeeded.
    let command = "nexudus-bridge catch-up --since default/BookingUpdate=2025-03-01T10:00:00Z";
    assert!(line.contains(command), "{line}");

    let office = &guarded.office;
    let updated = office.put("Booking", HERE, "2024-01-01T00:00:00Z", "2025-03-20T00:00:00Z");
    office.put("Booking", HERE, "2024-01-01T00:00:00Z", "2025-02-27T00:00:00Z"); // before the outage
    assert_eq!(published(&guarded.catch_up(&["--since", "last-trigger"])), []);
    for dry_run in ["first", "second"] {
        let summary = guarded.catch_up(&["--since", "last-outage", "--dry-run"]);
        assert_eq!(published(&summary), [("BookingUpdate".to_owned(), 1)], "{dry_run}: it covers nothing");
    }
    let output = office.run(&["--since", "last-outage"]);
    assert!(output.status.success(), "{}", err(&output));
    let told =
        format!("events of default/BookingDelete are missing since {last_success} and cannot be read back");
    assert!(err(&output).contains(&told), "{}", err(&output));
    assert_eq!(office.published(), [format!("BookingUpdate {updated}")]);

    // It is covered now, and the next run says so.
    let output = office.run(&["--since", "last-outage"]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("has detected no outage since it started at 20"), "{}", err(&output));

    // A run that begins at a time covers the outages in its range, if it comes to its end.
    guarded.outage(&["/webhooks/BookingCreate", "/webhooks/BookingUpdate"], last_success);
    let actions = |summary: Value| summary["published"].as_array().map(Vec::len);
    guarded.catch_up(&["--since", "default/BookingUpdate=2025-03-02T10:00:00Z"]);
    guarded.catch_up(&["--since", "default/BookingCreate=2025-03-02T10:00:01Z"]);
    office.put("Booking", HERE, "2025-03-20T00:00:00Z", "2025-03-20T00:00:00Z");
    let left = guarded.catch_up(&["--since", "last-outage", "--dry-run"]);
    assert_eq!(published(&left), [("BookingCreate".to_owned(), 1)]);
    guarded.catch_up(&["--since", "2025-03-02T10:00:00Z"]);
    assert_eq!(actions(guarded.catch_up(&["--since", "last-outage", "--dry-run"])), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_cannot_be_asked_is_named_with_what_to_do() {
    let other = TestBridge::on_embedded(&[], &[]).await;
    let office = Office::with(SOURCES, &TOPICS);
    let closed = format!("http://127.0.0.1:{}", free_port());
    let (strange, elsewhere) = (format!("http://{}", other.admin), office.tenant.nexudus.base_url());
    for (url, told) in [
        (&closed, format!("cannot read the outages of the bridge at {closed}/outages")),
        (&strange, "manages other webhooks (base_url".to_owned()),
        (&elsewhere, "is not a bridge's list of outages (status 4".to_owned()),
    ] {
        let output = office.run(&["--since", "last-outage", "--bridge", url]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).contains(&told) && err(&output).contains("--bridge names"), "{}", err(&output));
    }
    assert_eq!(office.published(), [""; 0]);
}
