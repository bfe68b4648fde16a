//! `catch-up` is right under every behaviour that Nexudus's documentation leaves open.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use nexudus_double::{Behaviour, Effect, Fault, Limits, Matching, Options, RetryAfter, demo};
use serde_json::json;

use super::{BEFORE, HERE, NORTH, SINCE, SOURCES, Setup, TOPICS, sorted};
use crate::support::kafka::plain;
use crate::support::program::{err, out};

#[test]
fn no_behaviour_of_the_time_filter_loses_or_adds_a_record() {
    let setup = Setup::new();
    let within = [
        setup.put("Booking", HERE, SINCE, SINCE),
        setup.put("Booking", HERE, BEFORE, "2025-03-02T10:00:00.7Z"),
        setup.put("Booking", HERE, BEFORE, "2025-03-09T23:00:00"),
        setup.put("Booking", HERE, BEFORE, "2025-03-10T10:00:00Z"),
    ];
    for outside in
        ["2025-03-02T09:59:59.9Z", "2025-03-01T11:00:00Z", "2025-03-10T10:00:01Z", "2025-03-12T00:00:00Z"]
    {
        setup.put("Booking", HERE, "2025-01-01T00:00:00Z", outside);
    }
    let behaviour: [fn(&mut Behaviour); 6] = [
        |_| {},
        |behaviour| behaviour.entity_ranges = false,
        |behaviour| behaviour.range_zone = SignedDuration::from_hours(14),
        |behaviour| behaviour.range_zone = SignedDuration::from_hours(-12),
        |behaviour| behaviour.times_to_the_second = true,
        |behaviour| behaviour.partial_listings = false,
    ];
    for change in behaviour {
        setup.tenant.nexudus.adjust(|behaviour| {
            *behaviour = Behaviour::default();
            change(behaviour);
        });
        setup.tenant.nexudus.clear_journal();
        // If Nexudus writes whole seconds, it returns 10:00:00.7 as 10:00:00.
        let arguments = ["catch-up", "--since", "2025-03-02T10:00:00.5Z", "--until", "2025-03-10T10:00:00Z"];
        let summary = setup.tenant.json(&[&arguments[..], &["--dry-run"]].concat(), 0);
        let events =
            |action: &str, events: usize| json!({"source": "default", "action": action, "events": events});
        assert_eq!(summary["published"], json!([events("BookingCreate", 1), events("BookingUpdate", 3)]));
        let read: BTreeSet<i64> = setup
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
fn deletions_and_additions_between_pages_hide_no_record() {
    for is_added in [false, true] {
        let setup = Setup::new();
        setup.tenant.nexudus.adjust(|behaviour| behaviour.largest_page = 100);
        let bookings: Vec<i64> = (0..150).map(|_| setup.put("Booking", HERE, SINCE, SINCE)).collect();
        let first = bookings[0];
        // After the first page was read, the 101st record moves onto it. An addition keeps the total.
        let page = Matching::get("/api/spaces/bookings").containing("page=1").after(1);
        setup.tenant.nexudus.before_response(page, move |world| {
            world.remove("Booking", first).expect("exists");
            if is_added {
                let record = world.example("Booking", HERE).expect("known");
                world.add("Booking", HERE, record).expect("known");
            }
        });
        let summary = setup.json(&["--until", "2025-03-03"], 0);
        assert_eq!((&summary["published"][0]["events"], &summary["gone"]), (&json!(149), &json!(0)));
        assert_eq!(setup.published(), sorted(bookings[1..].iter().map(|id| format!("BookingCreate {id}"))));
    }
}

#[test]
fn a_refused_deep_page_is_no_missing_role_and_the_message_has_the_remedy() {
    let setup = Setup::new();
    // The locations fit on one page.
    setup.tenant.nexudus.adjust(|behaviour| (behaviour.largest_page, behaviour.last_page) = (3, 1));
    for _ in 0..4 {
        setup.put("Booking", HERE, SINCE, SINCE);
    }
    let output = setup.run(&["--since", SINCE]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let expected = format!(
        "nothing was published: Booking: {} answers 403 to page 2 of the list of Booking, but returned the pages before it: \
         Nexudus, or a proxy before it, refuses deep pages: We will be back soon; choose a later --since, or read one kind at a \
         time with --entity\n",
        setup.tenant.named()
    );
    assert!(err(&output).contains(&expected), "{}", err(&output));
    assert!(!err(&output).contains("role"), "{}", err(&output));
    // Without the role, the first page is refused.
    setup.tenant.nexudus.adjust(|behaviour| behaviour.last_page = 0);
    let expected = "needs API access and the role Booking-List: We will be back soon\n";
    let output = setup.run(&["--since", SINCE]);
    assert!(err(&output).contains(expected), "{}", err(&output));
}

#[test]
fn a_record_deleted_between_list_and_read_is_counted_whatever_nexudus_answers() {
    for status in [404, 500] {
        let setup = Setup::new();
        setup.tenant.nexudus.adjust(|behaviour| behaviour.missing_status = status);
        let [gone, stays] = [0, 1].map(|_| setup.put("Booking", HERE, SINCE, SINCE));
        let deleted = Matching::get(&format!("/api/spaces/bookings/{stays}"));
        setup.tenant.nexudus.before_response(Matching::get("/api/spaces/bookings").after(1), move |world| {
            drop(world.remove("Booking", gone));
        });
        setup.tenant.nexudus.fault(deleted, Fault::Throttled(409, RetryAfter::Seconds(0)));
        let summary = setup.json(&[], 0);
        assert_eq!((&summary["gone"], &summary["failed"]), (&json!(1), &json!([])), "{status}");
        assert_eq!(setup.published(), [format!("BookingCreate {stays}")]);
    }
}

#[test]
fn a_record_that_nexudus_does_not_return_fails_alone() {
    let setup = Setup::new();
    let [broken, whole] = [0, 1].map(|_| setup.put("Booking", HERE, BEFORE, SINCE));
    let always = Matching::get(&format!("/api/spaces/bookings/{broken}")).always();
    setup
        .tenant
        .nexudus
        .fault(always, Fault::Status(500, r#"{"Message":"An error has occurred."}"#.to_owned()));
    let summary = setup.json(&[], 1);
    let failed = json!([{
        "entity": "Booking", "id": broken, "event": null,
        "error": format!("{} is not available: it answers 500", setup.tenant.named()),
    }]);
    assert_eq!((&summary["failed"], &summary["error"]), (&failed, &json!(null)));
    assert_eq!(summary["go_on_since"], json!([SINCE]));
    assert_eq!(setup.published(), [format!("BookingUpdate {whole}")]);
}

#[test]
fn temporary_failures_lose_nothing() {
    let setup = Setup::new();
    let bookings: Vec<i64> = (0..6).map(|_| setup.put("Booking", HERE, SINCE, SINCE)).collect();
    let faults = [
        Fault::Throttled(409, RetryAfter::Seconds(1)),
        Fault::Throttled(429, RetryAfter::DateIn(1)),
        Fault::Html(502),
        Fault::HalfBody,
        Fault::Cut(Effect::Done),
        Fault::Status(401, String::new()),
    ];
    for (id, fault) in bookings.iter().zip(faults) {
        setup.tenant.nexudus.fault(Matching::get(&format!("/api/spaces/bookings/{id}")), fault);
    }
    setup.json(&[], 0);
    assert_eq!(setup.published(), sorted(bookings.iter().map(|id| format!("BookingCreate {id}"))));
}

#[test]
fn the_rate_limits_are_kept() {
    let spacing = Duration::from_millis(50);
    let limits = Limits { spacing, ..Limits::NONE };
    let options = Options { limits, ..Options::default() };
    let setup = Setup::on(plain().bootstrap(), plain().client(), SOURCES, &TOPICS, options);
    for _ in 0..10 {
        setup.put("Booking", HERE, SINCE, SINCE);
    }
    let file = std::fs::read_to_string(setup.tenant.file()).expect("a path of the test");
    let spaced = file.replace("request_spacing = \"0s\"", "request_spacing = \"50ms\"");
    setup.tenant.configure(&spaced);
    let begun = Instant::now();
    setup.json(&[], 0);
    let journal = setup.tenant.asked();
    assert!(journal.len() > 12 && begun.elapsed() >= spacing * 12, "{}", journal.len());
    assert!(journal.answered(409).is_empty());
    assert!(journal.shortest_gap().is_some_and(|gap| gap >= spacing), "{:?}", journal.shortest_gap());
}

#[test]
fn no_output_holds_a_secret() {
    let setup = Setup::new();
    let ids = [HERE, NORTH].map(|location| setup.put("Booking", location, SINCE, SINCE));
    let words = format!("no {} for\u{1b}[31m you", demo::PASSWORD);
    setup.tenant.nexudus.fault(
        Matching::get(&format!("/api/spaces/bookings/{}", ids[0])).always(),
        Fault::Refused(words.clone()),
    );
    for arguments in [&["--since", SINCE][..], &["--since", SINCE, "--json"]] {
        let output = setup.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let printed = format!("{}{}", out(&output), err(&output));
        assert!(
            printed.contains("no *** for [31m you") || printed.contains("no *** for  [31m you"),
            "{printed}"
        );
        assert!(
            ![demo::PASSWORD, "test-secret", "\u{1b}"].iter().any(|secret| printed.contains(secret)),
            "{printed}"
        );
        let person = setup.record("Booking", ids[1]).get::<String>("CoworkerFullName").expect("a name");
        assert!(!printed.contains(&person), "{printed}");
    }
    setup.tenant.nexudus.fault(Matching::get("/api/spaces/bookings").always(), Fault::Refused(words));
    let output = setup.run(&["--since", SINCE]);
    assert!(
        err(&output).contains("nothing was published: Booking: ") && !err(&output).contains(demo::PASSWORD)
    );
}
