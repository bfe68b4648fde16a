//! Right under every reading of what Nexudus's documentation leaves open.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use nexudus_double::{Effect, Fault, Limits, Manners, Matching, Options, RetryAfter, demo};
use serde_json::json;

use super::{BEFORE, HERE, NORTH, Office, SINCE, SOURCES, TOPICS, sorted};
use crate::support::kafka::plain;
use crate::support::program::{err, out};

#[test]
fn a_filter_that_is_ignored_in_another_zone_or_without_fractions_loses_and_adds_nothing() {
    let office = Office::open();
    let within = [
        office.put("Booking", HERE, SINCE, SINCE),
        office.put("Booking", HERE, BEFORE, "2025-03-02T10:00:00.7Z"),
        office.put("Booking", HERE, BEFORE, "2025-03-09T23:00:00"),
        office.put("Booking", HERE, BEFORE, "2025-03-10T10:00:00Z"),
    ];
    for outside in
        ["2025-03-02T09:59:59.9Z", "2025-03-01T11:00:00Z", "2025-03-10T10:00:01Z", "2025-03-12T00:00:00Z"]
    {
        office.put("Booking", HERE, "2025-01-01T00:00:00Z", outside);
    }
    let manners: [fn(&mut Manners); 6] = [
        |_| {},
        |manners| manners.entity_ranges = false,
        |manners| manners.range_zone = SignedDuration::from_hours(14),
        |manners| manners.range_zone = SignedDuration::from_hours(-12),
        |manners| manners.times_to_the_second = true,
        |manners| manners.partial_listings = false,
    ];
    for change in manners {
        office.tenant.nexudus.adjust(|manners| {
            *manners = Manners::default();
            change(manners);
        });
        office.tenant.nexudus.clear_journal();
        // Where Nexudus writes whole seconds, 10:00:00.7 reads 10:00:00.
        let arguments = ["catch-up", "--since", "2025-03-02T10:00:00.5Z", "--until", "2025-03-10T10:00:00Z"];
        let summary = office.tenant.json(&[&arguments[..], &["--dry-run"]].concat(), 0);
        let events =
            |action: &str, events: usize| json!({"source": "default", "action": action, "events": events});
        assert_eq!(summary["published"], json!([events("BookingCreate", 1), events("BookingUpdate", 3)]));
        let read: BTreeSet<i64> = office
            .tenant
            .asked()
            .entries()
            .filter(|entry| entry.path.starts_with("/api/spaces/bookings/"))
            .filter_map(|entry| entry.path.rsplit('/').next()?.parse().ok())
            .collect();
        assert_eq!(read, within.into_iter().collect());
    }
}

#[test]
fn records_that_are_deleted_and_added_while_pages_are_read_hide_no_other() {
    for is_added in [false, true] {
        let office = Office::open();
        office.tenant.nexudus.adjust(|manners| manners.largest_page = 100);
        let bookings: Vec<i64> = (0..150).map(|_| office.put("Booking", HERE, SINCE, SINCE)).collect();
        let first = bookings[0];
        // The 101st record moves to the first page after that was read. An addition keeps the total.
        let page = Matching::get("/api/spaces/bookings").containing("page=1").after(1);
        office.tenant.nexudus.meanwhile(page, move |world| {
            world.remove("Booking", first).expect("there");
            if is_added {
                let record = world.example("Booking", HERE).expect("known");
                world.add("Booking", HERE, record).expect("known");
            }
        });
        let summary = office.json(&["--until", "2025-03-03"], 0);
        assert_eq!((&summary["published"][0]["events"], &summary["gone"]), (&json!(149), &json!(0)));
        assert_eq!(office.published(), sorted(bookings[1..].iter().map(|id| format!("BookingCreate {id}"))));
    }
}

#[test]
fn a_refused_deep_page_is_no_missing_role_and_the_message_says_what_to_do() {
    let office = Office::open();
    // The locations fit on one page.
    office.tenant.nexudus.adjust(|manners| (manners.largest_page, manners.last_page) = (3, 1));
    for _ in 0..4 {
        office.put("Booking", HERE, SINCE, SINCE);
    }
    let output = office.run(&["--since", SINCE]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let told = format!(
        "nothing was published: Booking: {} answers 403 to page 2 of the list of Booking, but returned the pages before it: \
         Nexudus, or a proxy before it, refuses deep pages: We will be back soon; choose a later --since, or read one kind at a \
         time with --entity\n",
        office.tenant.named()
    );
    assert!(err(&output).contains(&told), "{}", err(&output));
    assert!(!err(&output).contains("role"), "{}", err(&output));
    // The first page is refused where the role is missing.
    office.tenant.nexudus.adjust(|manners| manners.last_page = 0);
    let told = "needs API access and the role Booking-List: We will be back soon\n";
    let output = office.run(&["--since", SINCE]);
    assert!(err(&output).contains(told), "{}", err(&output));
}

#[test]
fn a_record_that_is_deleted_between_list_and_read_is_counted_whatever_nexudus_answers_for_it() {
    for status in [404, 500] {
        let office = Office::open();
        office.tenant.nexudus.adjust(|manners| manners.missing_status = status);
        let [gone, stays] = [0, 1].map(|_| office.put("Booking", HERE, SINCE, SINCE));
        let deleted = Matching::get(&format!("/api/spaces/bookings/{stays}"));
        office.tenant.nexudus.meanwhile(Matching::get("/api/spaces/bookings").after(1), move |world| {
            drop(world.remove("Booking", gone));
        });
        office.tenant.nexudus.fault(deleted, Fault::Throttled(409, RetryAfter::Seconds(0)));
        let summary = office.json(&[], 0);
        assert_eq!((&summary["gone"], &summary["failed"]), (&json!(1), &json!([])), "{status}");
        assert_eq!(office.published(), [format!("BookingCreate {stays}")]);
    }
}

#[test]
fn a_record_that_nexudus_has_and_does_not_give_fails_alone() {
    let office = Office::open();
    let [broken, whole] = [0, 1].map(|_| office.put("Booking", HERE, BEFORE, SINCE));
    let always = Matching::get(&format!("/api/spaces/bookings/{broken}")).always();
    office
        .tenant
        .nexudus
        .fault(always, Fault::Status(500, r#"{"Message":"An error has occurred."}"#.to_owned()));
    let summary = office.json(&[], 1);
    let failed = json!([{
        "entity": "Booking", "id": broken, "event": null,
        "error": format!("{} is not available: it answers 500", office.tenant.named()),
    }]);
    assert_eq!((&summary["failed"], &summary["error"]), (&failed, &json!(null)));
    assert_eq!(summary["go_on_since"], json!([SINCE]));
    assert_eq!(office.published(), [format!("BookingUpdate {whole}")]);
}

#[test]
fn answers_that_fail_for_a_moment_lose_nothing() {
    let office = Office::open();
    let bookings: Vec<i64> = (0..6).map(|_| office.put("Booking", HERE, SINCE, SINCE)).collect();
    let faults = [
        Fault::Throttled(409, RetryAfter::Seconds(1)),
        Fault::Throttled(429, RetryAfter::DateIn(1)),
        Fault::Html(502),
        Fault::HalfBody,
        Fault::Cut(Effect::Done),
        Fault::Status(401, String::new()),
    ];
    for (id, fault) in bookings.iter().zip(faults) {
        office.tenant.nexudus.fault(Matching::get(&format!("/api/spaces/bookings/{id}")), fault);
    }
    office.json(&[], 0);
    assert_eq!(office.published(), sorted(bookings.iter().map(|id| format!("BookingCreate {id}"))));
}

#[test]
fn the_pace_is_kept() {
    let spacing = Duration::from_millis(50);
    let limits = Limits { spacing, ..Limits::NONE };
    let options = Options { limits, ..Options::default() };
    let office = Office::on(plain().bootstrap(), plain().client(), SOURCES, &TOPICS, options);
    for _ in 0..10 {
        office.put("Booking", HERE, SINCE, SINCE);
    }
    let file = std::fs::read_to_string(office.tenant.file()).expect("ours");
    let spaced = file.replace("request_spacing = \"0s\"", "request_spacing = \"50ms\"");
    office.tenant.configure(&spaced);
    let begun = Instant::now();
    office.json(&[], 0);
    let journal = office.tenant.asked();
    assert!(journal.len() > 12 && begun.elapsed() >= spacing * 12, "{}", journal.len());
    assert!(journal.answered(409).is_empty());
    assert!(journal.shortest_gap().is_some_and(|gap| gap >= spacing), "{:?}", journal.shortest_gap());
}

#[test]
fn no_secret_comes_into_any_output() {
    let office = Office::open();
    let ids = [HERE, NORTH].map(|location| office.put("Booking", location, SINCE, SINCE));
    let words = format!("no {} for\u{1b}[31m you", demo::PASSWORD);
    office.tenant.nexudus.fault(
        Matching::get(&format!("/api/spaces/bookings/{}", ids[0])).always(),
        Fault::Refused(words.clone()),
    );
    for arguments in [&["--since", SINCE][..], &["--since", SINCE, "--json"]] {
        let output = office.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let said = format!("{}{}", out(&output), err(&output));
        assert!(said.contains("no *** for [31m you") || said.contains("no *** for  [31m you"), "{said}");
        assert!(
            ![demo::PASSWORD, "test-secret", "\u{1b}"].iter().any(|secret| said.contains(secret)),
            "{said}"
        );
        let person = office.record("Booking", ids[1]).get::<String>("CoworkerFullName").expect("a name");
        assert!(!said.contains(&person), "{said}");
    }
    office.tenant.nexudus.fault(Matching::get("/api/spaces/bookings").always(), Fault::Refused(words));
    let output = office.run(&["--since", SINCE]);
    assert!(
        err(&output).contains("nothing was published: Booking: ") && !err(&output).contains(demo::PASSWORD)
    );
}
