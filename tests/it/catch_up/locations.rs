//! The source that a record belongs to, and the records that are left out because of their location.

use nexudus_double::{Fault, Matching};
use serde_json::json;

use super::{BEFORE, HERE, NORTH, SINCE, Setup, sorted};
use crate::support::program::{err, out};

/// One source for each location, with all actions.
const ALL: &str = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
[sources.north]
secrets = ["test-secret"]
business_id = 1999000002
"#;

#[test]
fn a_record_without_a_location_field_has_that_of_its_parent() {
    let kinds = [
        ("Booking", "BookingCreate"),
        ("CommunityMessage", "CommunityBoardNewReply"),
        ("CoworkerMessage", "CoworkerMessageCreate"),
        ("HelpDeskComment", "HelpDeskCommentCreated"),
    ];
    let setup = Setup::with(ALL, &kinds.map(|(_, action)| action));
    let mut expected = Vec::new();
    for (entity, action) in kinds {
        for (location, source) in [(HERE, "default"), (NORTH, "north")] {
            for _ in 0..2 {
                let id = setup.put(entity, location, SINCE, SINCE);
                expected.push(format!("{action} /nexudus/{source} {id}"));
            }
        }
    }
    let summary = setup.json(&[], 0);
    assert_eq!((&summary["unplaced"], &summary["elsewhere"]), (&json!({}), &json!(0)));
    let published = sorted(setup.messages().iter().map(|(action, message)| {
        let source = message.header("ce_source").expect("a source");
        format!("{action} {source} {}", message.header("ce_subject").expect("a key"))
    }));
    assert_eq!(published, sorted(expected));
    let parents = setup.tenant.asked();
    let read = parents.entries().filter(|entry| entry.path.starts_with("/api/spaces/resources/")).count();
    assert_eq!(read, 2, "each parent is read once");
}

#[test]
fn a_record_with_an_empty_location_has_that_of_its_parent() {
    let kinds = [
        ("CommunityThread", "BusinessId", "CommunityGroupId", "CommunityGroup", "CommunityBoardNewThread"),
        (
            "CoworkerLedgerEntry",
            "BusinessId",
            "CoworkerInvoiceId",
            "CoworkerInvoice",
            "CoworkerInvoiceLedgerEntryCreate",
        ),
        ("EventAttendee", "BusinessId", "CalendarEventId", "CalendarEvent", "CalendarEventAttendeeCreate"),
        ("FloorPlanDesk", "FloorPlanBusinessId", "FloorPlanId", "FloorPlan", "FloorPlanDeskCreate"),
    ];
    let reply = "CommunityBoardNewReply";
    let actions: Vec<&str> = kinds.iter().map(|(.., action)| *action).chain([reply]).collect();
    let setup = Setup::with(ALL, &actions);
    let since = format!("{SINCE:?}");
    let change = |entity: &str, id: i64, fields: &[(&str, &str)]| {
        let fields = [fields, &[("UpdatedOn", since.as_str())]].concat();
        setup.tenant.nexudus.change(entity, id, &fields).expect("exists");
    };
    let mut expected = Vec::new();
    for (entity, own, field, parent, action) in kinds {
        let whole = setup.put(parent, NORTH, BEFORE, BEFORE).to_string();
        let [part, stray] = [0, 1].map(|_| setup.put(entity, HERE, SINCE, SINCE));
        change(entity, part, &[(own, "null"), (field, &whole)]);
        change(entity, stray, &[(own, "null"), (field, "null")]);
        expected.push(format!("{action} /nexudus/north {part}"));
        if entity == "CommunityThread" {
            // A part of a part.
            let id = setup.put("CommunityMessage", HERE, SINCE, SINCE);
            change("CommunityMessage", id, &[("CommunityThreadId", &part.to_string())]);
            expected.push(format!("{reply} /nexudus/north {id}"));
        }
    }
    let summary = setup.json(&[], 0);
    let unplaced =
        json!({"CommunityThread": 1, "CoworkerLedgerEntry": 1, "EventAttendee": 1, "FloorPlanDesk": 1});
    assert_eq!(summary["unplaced"], unplaced);
    let published = sorted(setup.messages().iter().map(|(action, message)| {
        let source = message.header("ce_source").expect("a source");
        format!("{action} {source} {}", message.header("ce_subject").expect("a key"))
    }));
    assert_eq!(published, sorted(expected));
}

#[test]
fn a_record_with_an_unknown_location_is_counted_as_unplaced() {
    for status in [404, 500] {
        let setup = Setup::new();
        setup.tenant.nexudus.adjust(|behaviour| behaviour.missing_status = status);
        let [orphan, nowhere, placed] = [0, 1, 2].map(|_| setup.put("Booking", HERE, BEFORE, SINCE));
        let since = format!("{SINCE:?}");
        for (id, resource) in [(orphan, "1"), (nowhere, "null")] {
            let fields = [("ResourceId", resource), ("UpdatedOn", since.as_str())];
            setup.tenant.nexudus.change("Booking", id, &fields).expect("exists");
        }
        let summary = setup.json(&[], 0);
        assert_eq!((&summary["unplaced"], &summary["failed"]), (&json!({"Booking": 2}), &json!([])));
        assert_eq!(setup.published(), [format!("BookingUpdate {placed}")]);
        if status == 500 {
            continue; // too slow for this test: the client retries such an answer
        }
        let printed = out(&setup.run(&["--since", SINCE, "--dry-run"]));
        assert!(printed.contains("Left out: 2 Booking have no location that can be read\n"), "{printed}");
    }
}

#[test]
fn an_unreadable_parent_fails_the_record_and_a_missing_role_ends_the_run() {
    let setup = Setup::new();
    let [here, again, north] =
        [HERE, HERE, NORTH].map(|location| setup.put("Booking", location, BEFORE, SINCE));
    let parent = setup.record("Booking", here).integer("ResourceId").expect("a number");
    let fault = Fault::Refused("not today".to_owned());
    setup.tenant.nexudus.fault(Matching::get(&format!("/api/spaces/resources/{parent}")).always(), fault);
    let summary = setup.json(&[], 1);
    let error = format!("{} refuses with 200: not today", setup.tenant.named());
    let failed = |id: i64| json!({"entity": "Booking", "id": id, "event": null, "error": error});
    assert_eq!(summary["failed"], json!([failed(here), failed(again)]));
    let path = format!("/api/spaces/resources/{parent}");
    assert_eq!(
        setup.tenant.asked().of("GET", &path).len(),
        1,
        "the parent's failure is kept for the other records"
    );
    assert_eq!(setup.published(), [format!("BookingUpdate {north}")]);

    let setup = Setup::new();
    setup.put("Booking", HERE, BEFORE, SINCE);
    let roles = ["Business-List", "Booking-List", "Booking-Read", "Team-List", "Visitor-List"];
    let account = nexudus_double::demo::administrator();
    setup.tenant.nexudus.set_account(account.with_roles(&roles));
    let summary = setup.json(&[], 1);
    let error = summary["error"].as_str().expect("an error");
    assert!(error.ends_with("needs API access and the role Resource-Read"), "{error}");
    assert_eq!(summary["go_on_since"], json!([SINCE]));
    assert!(setup.messages().is_empty());
}

#[test]
fn a_coworker_belongs_to_its_invoicing_location_else_to_its_only_one() {
    let setup = Setup::with(ALL, &["CoworkerUpdate"]);
    let all = [
        (r"1999000002", r"[1999000001]", Some("north")),
        ("null", "[1999000001]", Some("default")),
        ("null", "[1999000001,1999000002]", None),
        ("null", "null", None),
    ];
    let mut expected = Vec::new();
    for (invoicing, businesses, source) in all {
        let id = setup.put("Coworker", HERE, BEFORE, SINCE);
        let since = format!("{SINCE:?}");
        let fields =
            [("InvoicingBusinessId", invoicing), ("Businesses", businesses), ("UpdatedOn", since.as_str())];
        setup.tenant.nexudus.change("Coworker", id, &fields).expect("exists");
        expected.extend(source.map(|source| format!("/nexudus/{source} {id}")));
    }
    let summary = setup.json(&[], 0);
    assert_eq!(summary["unplaced"], json!({"Coworker": 2}));
    let printed = out(&setup.run(&["--since", SINCE, "--dry-run"]));
    let unreadable = "Not readable: 43 wanted actions for deletions, signals and transitions: AccessControlUpdate, \
                      BlogPostDelete, BookingDelete, CalendarEventAttendeeDelete, CalendarEventDelete and 38 more (--json lists all)\n";
    assert!(printed.contains(unreadable), "{printed}");
    let published = setup.messages().into_iter().map(|(_, message)| {
        format!(
            "{} {}",
            message.header("ce_source").expect("one"),
            message.header("ce_subject").expect("one")
        )
    });
    assert_eq!(sorted(published), sorted(expected));
}

#[test]
fn changes_without_a_wanted_action_are_uncovered_and_other_locations_are_counted() {
    let sources = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["BookingUpdate", "TeamCreated", "VisitorRegistered", "HelDeskMessageCreated"]
[sources.twin]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["TeamUpdated"]
"#;
    let topics = ["BookingCreate", "BookingUpdate", "TeamCreated", "TeamUpdated", "VisitorRegistered"];
    let setup = Setup::with(sources, &topics);
    setup.put("Booking", HERE, SINCE, SINCE); // created, and BookingCreate is not wanted
    setup.put("Visitor", HERE, BEFORE, SINCE); // no action is about changed visitors
    let message = setup.put("HelpDeskMessage", HERE, BEFORE, SINCE);
    let changed = setup.put("Team", HERE, BEFORE, SINCE);
    let new = setup.put("Team", HERE, SINCE, SINCE);
    for entity in ["Team", "Booking", "Visitor"] {
        setup.put(entity, NORTH, SINCE, SINCE);
    }
    let summary = setup.json(&[], 0);
    let uncovered = json!({"Booking": 1, "HelpDeskMessage": 1, "Visitor": 1});
    assert_eq!((&summary["uncovered"], &summary["elsewhere"]), (&uncovered, &json!(3)));
    assert_eq!(setup.published(), sorted([format!("TeamCreated {new}"), format!("TeamUpdated {changed}")]));
    let journal = setup.tenant.asked();
    let read = |id: i64| journal.entries().any(|entry| entry.path.ends_with(&format!("/{id}")));
    assert!(!read(message), "the fields in the list are sufficient");
    let output = setup.run(&["--since", SINCE, "--dry-run"]);
    let left = "Left out: 1 Booking, 1 HelpDeskMessage, 1 Visitor changed, but no source wants the action for that change\n\
        Left out: 3 records of other locations: no source of this run has their business_id\n";
    assert!(out(&output).contains(left), "{}{}", out(&output), err(&output));
}

#[test]
fn sources_of_one_location_each_get_their_own_actions() {
    let sources = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["Booking*"]
[sources.twin]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["BookingUpdate", "TeamUpdated"]
"#;
    let setup = Setup::with(sources, &["BookingCreate", "BookingUpdate", "TeamUpdated"]);
    let changed = setup.put("Booking", HERE, BEFORE, SINCE);
    let new = setup.put("Booking", HERE, SINCE, SINCE);
    let summary = setup.json(&[], 0);
    let events = |source: &str, action: &str| json!({"source": source, "action": action, "events": 1});
    let expected = [
        events("default", "BookingCreate"),
        events("default", "BookingUpdate"),
        events("twin", "BookingUpdate"),
    ];
    assert_eq!((&summary["published"], &summary["uncovered"]), (&json!(expected), &json!({})));
    let twice = format!("BookingUpdate {changed}");
    assert_eq!(setup.published(), sorted([format!("BookingCreate {new}"), twice.clone(), twice]));
}
