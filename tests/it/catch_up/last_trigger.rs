//! `--since last-trigger`: begins for each webhook at its last success, less an overlap.

use serde_json::json;

use super::breaks::{is_complete, lose};
use super::{HERE, SINCE, Setup, paste, sorted};
use crate::support::program::{err, out};

const SOURCES: &str = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["BookingCreate", "BookingUpdate", "TeamUpdated", "VisitorRegistered", "TeamDeleted"]
"#;

/// Returns a setup whose webhooks have different times of the last success.
fn setup() -> Setup {
    let setup = Setup::with(SOURCES, &["BookingCreate", "BookingUpdate", "TeamUpdated", "VisitorRegistered"]);
    setup.tenant.apply();
    for (path, created, last) in [
        ("/BookingCreate", "2025-01-01T00:00:00Z", Some("2025-03-04T10:00:00Z")),
        ("/BookingUpdate", "2025-01-01T00:00:00Z", Some("2025-03-03T10:00:00Z")),
        ("/TeamUpdated", "2025-03-05T10:00:00Z", None),
    ] {
        let last = last.map_or("null".to_owned(), |last| format!("{last:?}"));
        let fields = [("CreatedOn", format!("{created:?}")), ("LastTrigger", last)];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        setup.tenant.nexudus.change_webhook(setup.tenant.webhook(path), &fields).expect("exists");
    }
    assert!(setup.tenant.nexudus.remove_webhook(setup.tenant.webhook("/VisitorRegistered")));
    setup
}

/// The outage begins at 12:00. A booking that was created and delivered at 08:00 is updated at 14:00.
#[test]
fn an_update_in_the_outage_of_a_record_created_on_the_same_day_is_published() {
    let (created_on, outage, updated_on) =
        ("2025-03-04T08:00:00Z", "2025-03-04T12:00:00Z", "2025-03-04T14:00:00Z");
    for actions in [&["BookingUpdate"][..], &["BookingCreate", "BookingUpdate"]] {
        let sources = SOURCES.replace(
            r#"["BookingCreate", "BookingUpdate", "TeamUpdated", "VisitorRegistered", "TeamDeleted"]"#,
            &format!("{actions:?}"),
        );
        let setup = Setup::with(&sources, actions);
        setup.tenant.apply();
        for action in actions {
            let fields = [("LastTrigger", format!("{outage:?}"))];
            let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
            let webhook = setup.tenant.webhook(&format!("/{action}"));
            setup.tenant.nexudus.change_webhook(webhook, &fields).expect("exists");
        }
        let id = setup.put("Booking", HERE, created_on, updated_on);
        // Created in the overlap, and never updated.
        let unchanged = setup.put("Booking", HERE, created_on, created_on);
        // The creation is in the overlap, so BookingCreate is published again. It is a copy under its own action.
        let mut expected = vec![format!("BookingUpdate {id}")];
        if actions.contains(&"BookingCreate") {
            expected.extend([id, unchanged].map(|id| format!("BookingCreate {id}")));
        }
        setup.tenant.json(&["catch-up", "--since", "last-trigger"], 0);
        assert_eq!(setup.published(), sorted(expected), "{actions:?}");
        // Without an overlap only the update is left.
        let arguments = ["catch-up", "--since", "last-trigger", "--overlap", "0s", "--dry-run"];
        let update = json!([{"source": "default", "action": "BookingUpdate", "events": 1}]);
        assert_eq!(setup.tenant.json(&arguments, 0)["published"], update, "{actions:?}");
    }
}

#[test]
fn each_webhook_has_its_own_window_and_actions_without_a_webhook_are_named() {
    let setup = setup();
    let put = |entity: &str, created: &str, updated: &str| setup.put(entity, HERE, created, updated);
    let old = "2025-01-01T00:00:00Z";
    let created = put("Booking", "2025-03-03T10:00:00Z", "2025-03-03T10:00:00Z");
    let updated = put("Booking", old, "2025-03-02T10:00:00Z");
    // Created before the range of BookingCreate, and never updated.
    put("Booking", "2025-03-03T09:59:59Z", "2025-03-03T09:59:59Z");
    let team = put("Team", old, "2025-03-04T10:00:00Z");
    put("Booking", old, "2025-03-02T09:59:59Z");
    put("Team", old, "2025-03-04T09:59:59Z");
    put("Visitor", "2025-03-09T00:00:00Z", "2025-03-09T00:00:00Z");
    // One wanted action is not read, so not everything is done.
    let summary = setup.tenant.json(&["catch-up", "--since", "last-trigger"], 1);
    assert_eq!(summary["unknown_since"], json!(["default/VisitorRegistered"]));
    assert_eq!(summary["unreadable"], json!(["TeamDeleted"]));
    let expected = [
        format!("BookingCreate {created}"),
        format!("BookingUpdate {updated}"),
        format!("TeamUpdated {team}"),
    ];
    assert_eq!(setup.published(), sorted(expected));
    assert!(setup.tenant.asked().writes().is_empty());

    let output = setup.run(&["--since", "last-trigger", "--dry-run"]);
    let missing = "Not read, since no webhook gives a beginning: default/VisitorRegistered; give one with --since SOURCE/ACTION=TIME for each\n";
    assert!(out(&output).contains(missing), "{}", out(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_resumed_run_keeps_its_windows_although_the_webhooks_deliver_again() {
    let setup = setup();
    let put = |entity: &str, created: &str, updated: &str| setup.put(entity, HERE, created, updated);
    let old = "2025-01-01T00:00:00Z";
    let first = put("Booking", old, "2025-03-02T11:00:00Z");
    // The run ends here: updated in the range of BookingUpdate, created before that of BookingCreate.
    let early = put("Booking", "2025-03-02T10:00:00Z", "2025-03-02T12:00:00Z");
    let both = put("Booking", "2025-03-03T11:00:00Z", "2025-03-05T00:00:00Z");
    let team = put("Team", old, "2025-03-04T10:00:00Z");
    // Not published: updated before its window, and a kind whose action has no webhook.
    put("Team", "2025-01-01T00:00:00Z", "2025-03-04T09:00:00Z");
    put("Visitor", "2025-03-09T00:00:00Z", "2025-03-09T00:00:00Z");
    lose(&setup, early);
    let output = setup.run(&["--since", "last-trigger", "--overlap", "1day"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert_eq!(setup.published(), [format!("BookingUpdate {first}")]);
    setup.tenant.nexudus.heal();

    let fields = [("LastTrigger", "\"2025-11-01T00:00:00Z\"")];
    for path in ["/BookingCreate", "/BookingUpdate", "/TeamUpdated"] {
        setup.tenant.nexudus.change_webhook(setup.tenant.webhook(path), &fields).expect("exists");
    }
    let output = paste(&err(&output));
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let expected = [
        format!("BookingCreate {both}"),
        format!("BookingUpdate {both}"),
        format!("BookingUpdate {first}"),
        format!("BookingUpdate {early}"),
        format!("TeamUpdated {team}"),
    ];
    is_complete(&setup, &sorted(expected));
}

#[test]
fn an_action_without_a_webhook_can_have_a_beginning_of_its_own() {
    let setup = setup();
    let visitor = setup.put("Visitor", HERE, "2025-03-09T00:00:00Z", "2025-03-09T00:00:00Z");
    setup.put("Visitor", HERE, "2025-03-08T00:00:00Z", "2025-03-08T00:00:00Z");
    let own = "default/visitorregistered=2025-03-09";
    let summary = setup.tenant.json(&["catch-up", "--since", own, "--since", "last-trigger"], 0);
    assert_eq!(summary["unknown_since"], json!([]));
    assert_eq!(setup.published(), [format!("VisitorRegistered {visitor}")]);
}

#[test]
fn the_overlap_can_be_chosen() {
    let setup = setup();
    for (overlap, events) in [("0s", 1), ("30m", 2), ("1day", 3)] {
        let updated = match overlap {
            "0s" => "2025-03-03T10:00:00Z",
            "30m" => "2025-03-03T09:30:00Z",
            _ => "2025-03-02T10:00:00Z",
        };
        setup.put("Booking", HERE, "2025-01-01T00:00:00Z", updated);
        let arguments = ["catch-up", "--since", "last-trigger", "--overlap", overlap, "--dry-run"];
        let summary = setup.tenant.json(&arguments, 1); // VisitorRegistered has no webhook
        let expected = json!([{"source": "default", "action": "BookingUpdate", "events": events}]);
        assert_eq!(summary["published"], expected, "{overlap}");
    }
    let output = setup.run(&["--since", SINCE, "--overlap", "1h"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("--overlap requires --since last-outage or last-trigger"),
        "{}",
        err(&output)
    );
}

#[test]
fn without_any_webhook_the_run_has_no_beginning() {
    let setup = Setup::with(SOURCES, &["BookingCreate"]);
    let output = setup.run(&["--since", "last-trigger"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let message = "no webhook shows when its events began to be missing; expected --since with a time";
    assert!(
        err(&output).contains(message) && err(&output).contains("default/TeamUpdated"),
        "{}",
        err(&output)
    );
}
