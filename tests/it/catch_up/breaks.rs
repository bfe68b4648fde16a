//! A run that ends early prints the command that resumes it, and the resumed run completes the set.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nexudus_double::{Fault, Limits, Matching, Options};
use serde_json::{Value, json};

use super::{BEFORE, HERE, SINCE, SOURCES, Setup, TOPICS, paste, sorted};
use crate::support::bridge::MAX_WAIT;
use crate::support::kafka::{Client, OwnBroker, pause};
use crate::support::program::{err, out, program};
use crate::support::proxy::Proxy;

/// Puts records whose orders of creation and of update differ. Returns their events and the record that is read third.
fn put(setup: &Setup) -> (Vec<String>, i64) {
    let day = |day: u32| format!("2025-03-{day:02}T00:00:00Z");
    let mut third = 0;
    let mut expected = Vec::new();
    for (created, updated) in [(3, 4), (1, 5), (6, 7), (4, 8), (1, 9), (5, 10)] {
        let id = setup.put("Booking", HERE, &day(created), &day(updated));
        if created > 2 {
            expected.push(format!("BookingCreate {id}"));
        }
        expected.push(format!("BookingUpdate {id}"));
        if updated == 5 {
            third = id;
        }
    }
    (sorted(expected), third)
}

fn deduplicated(published: Vec<String>) -> Vec<String> {
    let once: BTreeSet<String> = published.into_iter().collect();
    once.into_iter().collect()
}

/// Resumes a run by its summary, and asserts that all events are published.
#[track_caller]
fn go_on(setup: &Setup, summary: &Value, expected: &[String]) {
    let since = summary["go_on_since"].as_array().expect("values");
    let since = since.iter().flat_map(|value| ["--since", value.as_str().expect("text")]);
    let arguments: Vec<&str> = ["catch-up"].into_iter().chain(since).collect();
    let done = setup.tenant.json(&arguments, 0);
    assert_eq!((&done["error"], &done["go_on_since"]), (&json!(null), &json!([])));
    is_complete(setup, expected);
}

/// Asserts that no event has another action, and that copies have equal ids.
#[track_caller]
pub(super) fn is_complete(setup: &Setup, expected: &[String]) {
    assert_eq!(deduplicated(setup.published()), expected);
    let ids: BTreeSet<String> =
        setup.messages().iter().filter_map(|(_, it)| it.header("ce_id").map(str::to_owned)).collect();
    // The events of one record have equal bytes, and differ in their action.
    assert_eq!(ids.len(), expected.len());
}

/// Makes Nexudus fail for every request that reads this booking.
pub(super) fn lose(setup: &Setup, booking: i64) {
    let read = Matching::get(&format!("/api/spaces/bookings/{booking}")).always();
    let looked_up = Matching::get("/api/spaces/bookings/").containing("id=[").always();
    for matching in [read, looked_up] {
        setup.tenant.nexudus.fault(matching, Fault::Html(503));
    }
}

/// Interrupts a command when Nexudus gets a request for this path.
fn interrupted(setup: &Setup, arguments: &[&str], path: &str) -> Output {
    let slow = Fault::Late(Duration::from_secs(60), nexudus_double::Effect::Done);
    setup.tenant.nexudus.fault(Matching::get(path).always(), slow);
    let mut command = program();
    command.args(["catch-up"]).args(arguments).arg("--config").arg(setup.tenant.file());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let deadline = Instant::now() + MAX_WAIT;
    while setup.tenant.nexudus.journal().of("GET", path).is_empty() {
        assert!(Instant::now() < deadline, "no request for {path}");
        pause(Duration::from_millis(20));
    }
    let signalled = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(signalled.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    setup.tenant.nexudus.heal();
    output
}

#[test]
fn after_an_outage_of_nexudus_the_next_run_completes_the_set() {
    let setup = Setup::new();
    let (expected, third) = put(&setup);
    lose(&setup, third);
    let output = setup.run(&["--since", SINCE]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("Published 4 events"), "{}", out(&output));
    let printed = err(&output);
    let named = setup.tenant.named();
    let error = format!("error: ended before its time: {named} is not available: it answers 503");
    assert!(printed.contains(&error), "{printed}");
    let next = "Not everything is published. To continue: nexudus-bridge catch-up --since 2025-03-05T00:00:00Z --config ";
    assert!(printed.contains(next), "{printed}");
    assert_eq!(setup.published().len(), 4);
    setup.tenant.nexudus.heal();
    let output = paste(&printed);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    is_complete(&setup, &expected);
}

#[test]
fn a_dry_run_that_ends_early_is_repeated_from_its_beginning() {
    let setup = Setup::new();
    let (_, third) = put(&setup);
    lose(&setup, third);
    let output = setup.run(&["--since", SINCE, "--until", "2025-03-09", "--dry-run", "--max-records", "99"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = err(&output);
    let again = format!(
        "Not all records were read. To begin at the same moment again: nexudus-bridge catch-up --since {SINCE} \
         --until 2025-03-09T00:00:00Z --max-records 99 --config {} --dry-run\n",
        setup.tenant.file().display()
    );
    assert!(printed.ends_with(&again), "{printed}");
    setup.tenant.nexudus.heal();
    let output = paste(&printed);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
    assert!(out(&output).contains("Would publish 9 events"), "{}", out(&output));
}

/// Asserts that a run has printed an absolute beginning: `ago` before a moment between `before` and `after`.
#[track_caller]
fn is_absolute(printed: &str, ago: SignedDuration, [before, after]: [Timestamp; 2]) {
    let words = printed.split_once("To begin at the same moment again: nexudus-bridge catch-up --since ");
    let word = words.and_then(|(_, rest)| rest.split_whitespace().next()).expect(printed);
    let since: Timestamp = word.parse().expect("a moment");
    let second = SignedDuration::from_secs(1); // windows begin with whole seconds
    assert!(before - ago - second <= since && since <= after - ago, "{since}: {printed}");
}

#[test]
fn if_nexudus_fails_before_reading_nothing_is_published() {
    let setup = Setup::new();
    put(&setup);
    setup.tenant.nexudus.fault(Matching::get("/api/spaces/teams").always(), Fault::Html(503));
    let before = Timestamp::now();
    let output = setup.run(&["--since", "9000h"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    let named = setup.tenant.named();
    let expected = format!("error: nothing was published: Team: {named} is not available: it answers 503");
    assert!(err(&output).contains(&expected), "{}", err(&output));
    is_absolute(&err(&output), SignedDuration::from_hours(9000), [before, Timestamp::now()]);
    assert!(setup.messages().is_empty());
    setup.tenant.nexudus.heal();
    let output = paste(&err(&output));
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn a_run_interrupted_before_reading_prints_its_beginning() {
    let setup = Setup::new();
    for path in ["/api/sys/businesses", "/api/spaces/teams"] {
        let before = Timestamp::now();
        let output = interrupted(&setup, &["--since", "2h"], path);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""), "{}", err(&output));
        assert!(err(&output).starts_with("error: nothing was published: interrupted\n"), "{}", err(&output));
        is_absolute(&err(&output), SignedDuration::from_hours(2), [before, Timestamp::now()]);
    }
}

#[test]
fn after_an_outage_of_kafka_the_next_run_completes_the_set() {
    let proxy = Arc::new(Proxy::start(([127, 0, 0, 1], 9).into()));
    let broker = OwnBroker::start_behind(proxy.address(), &[]);
    proxy.retarget(broker.behind_proxy());
    let options = Options { limits: Limits::NONE, ..Options::default() };
    let bootstrap = proxy.address().to_string();
    let setup = Setup::on(&bootstrap, broker.client(), SOURCES, &TOPICS, options);
    let file = std::fs::read_to_string(setup.tenant.file()).expect("a path of the test");
    setup.tenant.configure(&file.replace("[kafka]\n", "[kafka]\nconfirm_timeout = \"3s\"\n"));
    let (expected, third) = put(&setup);
    let network = Arc::clone(&proxy);
    let reading = Matching::get(&format!("/api/spaces/bookings/{third}"));
    setup.tenant.nexudus.before_response(reading, move |_| network.cut());
    let summary = setup.json(&[], 1);
    let error = summary["error"].as_str().expect("an error");
    assert!(
        error.starts_with("no broker confirmed in time; the event may still have been written"),
        "{error}"
    );
    proxy.restore();
    assert_eq!(setup.published().len(), 4);
    go_on(&setup, &summary, &expected);
}

#[test]
fn an_interrupted_run_prints_the_command_that_resumes_it() {
    let setup = Setup::new();
    let (expected, third) = put(&setup);
    let path = format!("/api/spaces/bookings/{third}");
    let output = interrupted(&setup, &["--since", SINCE, "--json"], &path);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let summary: Value = serde_json::from_str(&out(&output)).expect("an object");
    assert_eq!(summary["error"], "interrupted");
    go_on(&setup, &summary, &expected);
}

#[test]
fn an_event_that_kafka_refuses_for_good_is_counted_and_the_others_are_published() {
    let setup = Setup::with(SOURCES, &["BookingUpdate"]);
    let kafka: &Client = &setup.kafka;
    kafka.create_topic(&format!("{}TeamUpdated", setup.prefix), 1, &[("max.message.bytes", "3000")]);
    let [large, small] = [1, 2].map(|_| setup.put("Team", HERE, BEFORE, SINCE));
    let name = format!("\"{}\"", "x".repeat(4000));
    let since = format!("{SINCE:?}");
    let fields = [("Name", name.as_str()), ("UpdatedOn", since.as_str())];
    setup.tenant.nexudus.change("Team", large, &fields).expect("exists");
    let booking = setup.put("Booking", HERE, BEFORE, "2025-03-05T00:00:00Z");
    let summary = setup.json(&[], 1);
    let failed = &summary["failed"];
    assert_eq!(failed.as_array().map(Vec::len), Some(1), "{summary}");
    assert_eq!(
        (&failed[0]["entity"], &failed[0]["id"], &failed[0]["event"]),
        (&json!("Team"), &json!(large), &json!("default TeamUpdated"))
    );
    assert_eq!((&summary["go_on_since"], &summary["error"]), (&json!([SINCE]), &json!(null)));
    assert_eq!(setup.published(), [format!("BookingUpdate {booking}")]);
    let team = kafka.consume_all(&format!("{}TeamUpdated", setup.prefix), 1, MAX_WAIT);
    assert_eq!(team[0].key.as_deref(), Some(small.to_string().as_bytes()));

    let output = setup.run(&["--since", SINCE]);
    let printed = err(&output);
    let first = format!("failed: Team {large} (default TeamUpdated): the broker refuses it for good: ");
    assert!(printed.starts_with(&first) && !printed.contains("xxx"), "{printed}");
    assert!(
        printed.contains(
            "After the cause is removed: nexudus-bridge catch-up --since 2025-03-02T10:00:00Z --config "
        ),
        "{printed}"
    );
    assert!(out(&output).contains("Failed: 1\n"), "{}", out(&output));
}

#[test]
fn a_missing_topic_fails_its_own_events_only() {
    let setup = Setup::with(SOURCES, &["BookingUpdate"]);
    setup.put("Team", HERE, BEFORE, SINCE);
    let booking = setup.put("Booking", HERE, BEFORE, "2025-03-05T00:00:00Z");
    let summary = setup.json(&[], 1);
    let error = summary["failed"][0]["error"].as_str().expect("an error");
    assert!(error.starts_with("the broker refuses it for now: "), "{error}");
    assert_eq!(setup.published(), [format!("BookingUpdate {booking}")]);
}

#[test]
fn a_topic_that_refuses_three_events_in_a_row_is_not_tried_again() {
    let setup = Setup::with(SOURCES, &["BookingUpdate"]);
    let teams: Vec<i64> = (0..6).map(|_| setup.put("Team", HERE, BEFORE, SINCE)).collect();
    let booking = setup.put("Booking", HERE, BEFORE, "2025-03-05T00:00:00Z");
    let summary = setup.json(&[], 1);
    let errors: Vec<&str> = summary["failed"].as_array().expect("a list").iter().map(error_of).collect();
    assert_eq!(errors.len(), teams.len());
    assert!(
        errors[..3].iter().all(|error| error.starts_with("the broker refuses it for now: ")),
        "{errors:?}"
    );
    let not_read = "not read: its topic has refused 3 events in a row";
    assert!(errors[3..].iter().all(|error| *error == not_read), "{errors:?}");
    let journal = setup.tenant.asked();
    let read = teams.iter().filter(|id| !journal.of("GET", &format!("/api/spaces/teams/{id}")).is_empty());
    assert_eq!(read.count(), 3, "records for a topic that refuses are not read");
    assert_eq!((&summary["error"], &summary["go_on_since"]), (&json!(null), &json!([SINCE])));
    assert_eq!(setup.published(), [format!("BookingUpdate {booking}")]);
}

#[test]
fn a_run_ends_with_the_reason_when_every_topic_refuses() {
    let setup = Setup::with(SOURCES, &[]);
    let bookings: Vec<i64> = (0..8).map(|_| setup.put("Booking", HERE, BEFORE, SINCE)).collect();
    let output = setup.run(&["--since", SINCE]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let expected = "error: ended before its time: every topic that is left has refused 3 events in a row; the last reason: \
                the broker refuses it for now: ";
    assert!(err(&output).contains(expected), "{}", err(&output));
    assert!(
        err(&output).contains("To continue: nexudus-bridge catch-up --since 2025-03-02T10:00:00Z "),
        "{}",
        err(&output)
    );
    let journal = setup.tenant.asked();
    let read =
        bookings.iter().filter(|id| !journal.of("GET", &format!("/api/spaces/bookings/{id}")).is_empty());
    assert_eq!(read.count(), 3);
    // After the topic is created, the printed command publishes all events.
    setup.kafka.create_topic(&format!("{}BookingUpdate", setup.prefix), 1, &[]);
    assert_eq!(paste(&err(&output)).status.code(), Some(0));
    let topic = format!("{}BookingUpdate", setup.prefix);
    assert_eq!(setup.kafka.consume_all(&topic, bookings.len(), MAX_WAIT).len(), bookings.len());
}

fn error_of(failed: &Value) -> &str {
    failed["error"].as_str().expect("an error")
}

#[test]
fn with_more_records_than_allowed_nothing_is_published() {
    let setup = Setup::new();
    for _ in 0..4 {
        setup.put("Booking", HERE, SINCE, SINCE);
    }
    for _ in 0..3 {
        setup.put("Team", HERE, SINCE, SINCE);
    }
    let output = setup.run(&["--since", SINCE, "--max-records", "6"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    let expected = "nothing was published: Team has 3 records that may have changed since then, which makes more than --max-records 6 in all";
    assert!(err(&output).contains(expected), "{}", err(&output));
    assert!(setup.messages().is_empty());
    let journal = setup.tenant.asked();
    assert!(
        !journal.entries().any(|entry| entry.path.starts_with("/api/spaces/bookings/")),
        "nothing is read"
    );
    setup.json(&["--max-records", "7"], 0);
    assert_eq!(setup.messages().len(), 7);
}
