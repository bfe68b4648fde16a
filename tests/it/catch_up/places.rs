//! To which source a record belongs, and what is left out because of it.

use nexudus_double::{Fault, Matching};
use serde_json::json;

use super::{BEFORE, HERE, NORTH, Office, SINCE, sorted};
use crate::support::program::{err, out};

/// One source a location, each for all there is.
const ALL: &str = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
[sources.north]
secrets = ["test-secret"]
business_id = 1999000002
"#;

#[test]
fn a_record_without_a_location_has_that_of_the_record_it_belongs_to() {
    let kinds = [
        ("Booking", "BookingCreate"),
        ("CommunityMessage", "CommunityBoardNewReply"),
        ("CoworkerMessage", "CoworkerMessageCreate"),
        ("HelpDeskComment", "HelpDeskCommentCreated"),
    ];
    let office = Office::with(ALL, &kinds.map(|(_, action)| action));
    let mut expected = Vec::new();
    for (entity, action) in kinds {
        for (location, source) in [(HERE, "default"), (NORTH, "north")] {
            for _ in 0..2 {
                let id = office.put(entity, location, SINCE, SINCE);
                expected.push(format!("{action} /nexudus/{source} {id}"));
            }
        }
    }
    let summary = office.json(&[], 0);
    assert_eq!((&summary["unplaced"], &summary["elsewhere"]), (&json!({}), &json!(0)));
    let published = sorted(office.messages().iter().map(|(action, message)| {
        let source = message.header("ce_source").expect("a source");
        format!("{action} {source} {}", message.header("ce_subject").expect("a key"))
    }));
    assert_eq!(published, sorted(expected));
    let parents = office.tenant.asked();
    let read = parents.entries().filter(|entry| entry.path.starts_with("/api/spaces/resources/")).count();
    assert_eq!(read, 2, "each parent is read once");
}

#[test]
fn a_record_that_leaves_its_location_empty_has_that_of_the_record_it_is_a_part_of() {
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
    let office = Office::with(ALL, &actions);
    let since = format!("{SINCE:?}");
    let change = |entity: &str, id: i64, fields: &[(&str, &str)]| {
        let fields = [fields, &[("UpdatedOn", since.as_str())]].concat();
        office.tenant.nexudus.change(entity, id, &fields).expect("there");
    };
    let mut expected = Vec::new();
    for (entity, own, field, parent, action) in kinds {
        let whole = office.put(parent, NORTH, BEFORE, BEFORE).to_string();
        let [part, stray] = [0, 1].map(|_| office.put(entity, HERE, SINCE, SINCE));
        change(entity, part, &[(own, "null"), (field, &whole)]);
        change(entity, stray, &[(own, "null"), (field, "null")]);
        expected.push(format!("{action} /nexudus/north {part}"));
        if entity == "CommunityThread" {
            // A part of a part.
            let id = office.put("CommunityMessage", HERE, SINCE, SINCE);
            change("CommunityMessage", id, &[("CommunityThreadId", &part.to_string())]);
            expected.push(format!("{reply} /nexudus/north {id}"));
        }
    }
    let summary = office.json(&[], 0);
    let unplaced =
        json!({"CommunityThread": 1, "CoworkerLedgerEntry": 1, "EventAttendee": 1, "FloorPlanDesk": 1});
    assert_eq!(summary["unplaced"], unplaced);
    let published = sorted(office.messages().iter().map(|(action, message)| {
        let source = message.header("ce_source").expect("a source");
        format!("{action} {source} {}", message.header("ce_subject").expect("a key"))
    }));
    assert_eq!(published, sorted(expected));
}

#[test]
fn a_record_whose_location_nobody_knows_is_counted_as_unplaced() {
    for status in [404, 500] {
        let office = Office::open();
        office.tenant.nexudus.adjust(|manners| manners.missing_status = status);
        let [orphan, nowhere, placed] = [0, 1, 2].map(|_| office.put("Booking", HERE, BEFORE, SINCE));
        let since = format!("{SINCE:?}");
        for (id, resource) in [(orphan, "1"), (nowhere, "null")] {
            let fields = [("ResourceId", resource), ("UpdatedOn", since.as_str())];
            office.tenant.nexudus.change("Booking", id, &fields).expect("there");
        }
        let summary = office.json(&[], 0);
        assert_eq!((&summary["unplaced"], &summary["failed"]), (&json!({"Booking": 2}), &json!([])));
        assert_eq!(office.published(), [format!("BookingUpdate {placed}")]);
        if status == 500 {
            continue; // takes long: such an answer is asked for again
        }
        let told = out(&office.run(&["--since", SINCE, "--dry-run"]));
        assert!(told.contains("Left out: 2 Booking have no location that can be read\n"), "{told}");
    }
}

#[test]
fn a_parent_that_nexudus_does_not_give_fails_the_record_and_a_missing_role_ends_the_run() {
    let office = Office::open();
    let [here, again, north] =
        [HERE, HERE, NORTH].map(|location| office.put("Booking", location, BEFORE, SINCE));
    let parent = office.record("Booking", here).integer("ResourceId").expect("a number");
    let fault = Fault::Refused("not today".to_owned());
    office.tenant.nexudus.fault(Matching::get(&format!("/api/spaces/resources/{parent}")).always(), fault);
    let summary = office.json(&[], 1);
    let error = format!("{} refuses with 200: not today", office.tenant.named());
    let failed = |id: i64| json!({"entity": "Booking", "id": id, "event": null, "error": error});
    assert_eq!(summary["failed"], json!([failed(here), failed(again)]));
    let path = format!("/api/spaces/resources/{parent}");
    assert_eq!(office.tenant.asked().of("GET", &path).len(), 1, "that is known then");
    assert_eq!(office.published(), [format!("BookingUpdate {north}")]);

    let office = Office::open();
    office.put("Booking", HERE, BEFORE, SINCE);
    let roles = ["Business-List", "Booking-List", "Booking-Read", "Team-List", "Visitor-List"];
    let account = nexudus_double::demo::administrator();
    office.tenant.nexudus.set_account(account.with_roles(&roles));
    let summary = office.json(&[], 1);
    let error = summary["error"].as_str().expect("an error");
    assert!(error.ends_with("needs API access and the role Resource-Read"), "{error}");
    assert_eq!(summary["go_on_since"], json!([SINCE]));
    assert!(office.messages().is_empty());
}

#[test]
fn a_coworker_belongs_to_the_location_that_invoices_it_else_to_its_only_one() {
    let office = Office::with(ALL, &["CoworkerUpdate"]);
    let all = [
        (r"1999000002", r"[1999000001]", Some("north")),
        ("null", "[1999000001]", Some("default")),
        ("null", "[1999000001,1999000002]", None),
        ("null", "null", None),
    ];
    let mut expected = Vec::new();
    for (invoicing, businesses, source) in all {
        let id = office.put("Coworker", HERE, BEFORE, SINCE);
        let since = format!("{SINCE:?}");
        let fields =
            [("InvoicingBusinessId", invoicing), ("Businesses", businesses), ("UpdatedOn", since.as_str())];
        office.tenant.nexudus.change("Coworker", id, &fields).expect("there");
        expected.extend(source.map(|source| format!("/nexudus/{source} {id}")));
    }
    let summary = office.json(&[], 0);
    assert_eq!(summary["unplaced"], json!({"Coworker": 2}));
    let told = out(&office.run(&["--since", SINCE, "--dry-run"]));
    let unreadable = "Not readable: 43 wanted actions for deletions, signals and transitions: AccessControlUpdate, \
                      BlogPostDelete, BookingDelete, CalendarEventAttendeeDelete, CalendarEventDelete and 38 more (--json lists all)\n";
    assert!(told.contains(unreadable), "{told}");
    let published = office.messages().into_iter().map(|(_, message)| {
        format!(
            "{} {}",
            message.header("ce_source").expect("one"),
            message.header("ce_subject").expect("one")
        )
    });
    assert_eq!(sorted(published), sorted(expected));
}

#[test]
fn what_no_wanted_action_tells_of_is_uncovered_and_what_is_elsewhere_is_only_counted() {
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
    let office = Office::with(sources, &topics);
    office.put("Booking", HERE, SINCE, SINCE); // created, and no source wants BookingCreate
    office.put("Visitor", HERE, BEFORE, SINCE); // nothing tells of changed visitors
    let message = office.put("HelpDeskMessage", HERE, BEFORE, SINCE);
    let changed = office.put("Team", HERE, BEFORE, SINCE);
    let new = office.put("Team", HERE, SINCE, SINCE);
    for entity in ["Team", "Booking", "Visitor"] {
        office.put(entity, NORTH, SINCE, SINCE);
    }
    let summary = office.json(&[], 0);
    let uncovered = json!({"Booking": 1, "HelpDeskMessage": 1, "Visitor": 1});
    assert_eq!((&summary["uncovered"], &summary["elsewhere"]), (&uncovered, &json!(3)));
    assert_eq!(office.published(), sorted([format!("TeamCreated {new}"), format!("TeamUpdated {changed}")]));
    let journal = office.tenant.asked();
    let read = |id: i64| journal.entries().any(|entry| entry.path.ends_with(&format!("/{id}")));
    assert!(!read(message), "the list has told enough");
    let output = office.run(&["--since", SINCE, "--dry-run"]);
    let left = "Left out: 1 Booking, 1 HelpDeskMessage, 1 Visitor changed, but no source wants the action for that change\n\
        Left out: 3 records of other locations: no source of this run has their business_id\n";
    assert!(out(&output).contains(left), "{}{}", out(&output), err(&output));
}

#[test]
fn sources_of_one_location_each_get_what_they_want() {
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
    let office = Office::with(sources, &["BookingCreate", "BookingUpdate", "TeamUpdated"]);
    let changed = office.put("Booking", HERE, BEFORE, SINCE);
    let new = office.put("Booking", HERE, SINCE, SINCE);
    let summary = office.json(&[], 0);
    let events = |source: &str, action: &str| json!({"source": source, "action": action, "events": 1});
    let expected = [
        events("default", "BookingCreate"),
        events("default", "BookingUpdate"),
        events("twin", "BookingUpdate"),
    ];
    assert_eq!((&summary["published"], &summary["uncovered"]), (&json!(expected), &json!({})));
    let twice = format!("BookingUpdate {changed}");
    assert_eq!(office.published(), sorted([format!("BookingCreate {new}"), twice.clone(), twice]));
}
