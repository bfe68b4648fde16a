//! A whole outage: Kafka fails, Nexudus disables webhooks, and Kafka returns 30 hours later by Nexudus's clock. Then the guardian
//! re-enables the webhooks, and `catch-up` publishes the lost events.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use nexudus_bridge::sender::post::Retry;
use nexudus_double::{Limits, Nexudus, Options, demo};
use serde_json::Value;

use crate::support::bridge::{MAX_WAIT, SECRET};
use crate::support::kafka::{Client, OwnBroker, free_port, pause};
use crate::support::program::{Running, err, field, out, program};
use crate::support::say;

/// A record after a change: its kind, its id and its JSON.
type Version = (&'static str, i64, bytes::Bytes);

const LOCATION: i64 = demo::LOCATIONS[0];

/// The changes at the location.
struct Changes<'a> {
    nexudus: &'a Nexudus,
    /// The events that each topic must have in the end, by action.
    expected: BTreeMap<&'static str, Vec<Version>>,
}

impl Changes<'_> {
    fn note(&mut self, action: &'static str, entity: &'static str, id: i64) {
        let record = self.nexudus.record(entity, id).expect("exists").to_json();
        self.expected.entry(action).or_default().push((entity, id, record));
    }

    fn create(&mut self, action: &'static str, entity: &'static str) -> i64 {
        let record = self.nexudus.example(entity, LOCATION).expect("known");
        let id = record.id().expect("an id");
        self.nexudus.create(entity, LOCATION, record).expect("known");
        self.note(action, entity, id);
        id
    }

    fn update(&mut self, action: &'static str, entity: &'static str, id: i64, text: &str) {
        self.nexudus.update(entity, id, &[("ToStringText", &format!("{text:?}"))]).expect("exists");
        self.note(action, entity, id);
    }
}

fn wait_until(what: &str, within: Duration, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < within, "{what}: not within {within:?}");
        pause(Duration::from_millis(50));
    }
}

/// Starts Nexudus with a clock two days ago, so that 30 hours later is not in the future. Its records are older.
fn start_nexudus() -> Nexudus {
    let retry = Retry { limit: 10, shortest: Duration::from_millis(50), longest: Duration::from_millis(200) };
    let nexudus =
        Nexudus::start(Options { limits: Limits::NONE, retry, ..Options::default() }).expect("free ports");
    nexudus.populate(Some(SECRET));
    nexudus.shift_clock(SignedDuration::from_hours(-48));
    for entity in nexudus_bridge::catch_up::entities::all().map(|entity| entity.name) {
        for id in nexudus.ids(entity) {
            let long_ago = "\"2025-01-02T03:04:05Z\"";
            nexudus.change(entity, id, &[("CreatedOn", long_ago), ("UpdatedOn", long_ago)]).expect("exists");
        }
    }
    nexudus
}

fn write_settings(file: &Path, broker: &OwnBroker, nexudus: &Nexudus) {
    let ingress = format!("127.0.0.1:{}", free_port());
    let settings = format!(
        "[ingress]\nlisten = {ingress:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [kafka]\nbootstrap_servers = {:?}\nconfirm_timeout = \"1s\"\n[topics]\npartitions = 1\n\
         [nexudus]\nbase_url = {:?}\nusername = {:?}\npassword = {:?}\npublic_url = \"http://{ingress}\"\n\
         requests_per_minute = 100000\nwrites_per_minute = 100000\nrequest_spacing = \"0s\"\n\
         guardian = {{ interval = \"1s\" }}\n\
         [sources.default]\nsecrets = [{SECRET:?}]\nbusiness_id = {LOCATION}\n",
        broker.bootstrap(),
        nexudus.base_url(),
        demo::EMAIL,
        demo::PASSWORD,
    );
    std::fs::write(file, settings).expect("written");
}

/// Runs a command of the program and returns its output.
fn command(file: &Path, arguments: &[&str]) -> String {
    let mut program = program();
    // The bridge has a short deadline; a command on a busy machine needs a longer one.
    program.env("NEXUDUS_BRIDGE__KAFKA__CONFIRM_TIMEOUT", "30s");
    let output = program.args(arguments).arg("--config").arg(file).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}{}", out(&output), err(&output));
    out(&output)
}

#[test]
fn after_an_outage_of_kafka_and_disabled_webhooks_every_record_is_on_its_topic() {
    let broker = OwnBroker::start();
    let nexudus = start_nexudus();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    write_settings(&file, &broker, &nexudus);
    let bridge = Running::serve(&file);
    bridge.line_with("topics were created");
    let applied = command(&file, &["webhooks", "apply"]);
    assert!(applied.contains("Applied: 89 created, 0 changed, 0 failed."), "{applied}");

    // An ordinary day.
    let mut changes = Changes { nexudus: &nexudus, expected: BTreeMap::new() };
    let booking = changes.create("BookingCreate", "Booking");
    changes.update("BookingUpdate", "Booking", booking, "moved");
    let delivered = changes.create("BookingCreate", "Booking");
    wait_until("the day's events are delivered", MAX_WAIT, || nexudus.pending() == 0);
    assert_eq!(nexudus.missed(), 0);

    // Kafka fails. After ten failures Nexudus has disabled the webhooks of these events.
    nexudus.shift_clock(SignedDuration::from_hours(1));
    broker.kill();
    let outage = nexudus.now();
    let Lost { booking: lost, silent } = change_during_outage(&mut changes, booking, delivered);
    let status = command(&file, &["webhooks", "status"]);
    assert!(status.contains("83 ok, 6 disabled; 0 of others."), "{status}");

    // Kafka returns, and everything else recovers without a person.
    broker.restart();
    let returned = Instant::now();
    wait_until("the guardian re-enables the webhooks", Duration::from_secs(90), || {
        nexudus.webhooks().iter().all(|webhook| webhook.active)
    });
    say(&format!("{:?} after Kafka's return all webhooks are active again", returned.elapsed()));
    let line = bridge.line_with("a webhook that Nexudus had disabled is enabled again");
    assert!(field(&line, "failures").parse::<u32>().is_ok_and(|failures| failures >= 10), "{line}");
    changes.update("BookingUpdate", "Booking", lost, "after the outage");
    wait_until("new events are delivered", MAX_WAIT, || nexudus.pending() == 0);

    read_back(&file, &outage.to_string());
    let topics = broker.client();
    every_record_is_on_its_topic(&changes, &topics);
    let marked = |action: &str, id: i64| {
        let messages = topics.read_to_end(&format!("nexudus.{action}"));
        let of_record =
            messages.into_iter().filter(|it| it.key.as_deref() == Some(id.to_string().as_bytes()));
        of_record.filter(|message| message.header("ce_nexuduscatchup").is_some()).count()
    };
    assert_eq!(marked("BookingCreate", silent), 1, "its webhook was disabled");
    assert_eq!(marked("BookingUpdate", delivered), 1);
    assert_eq!(marked("BookingCreate", delivered), 0, "it was delivered before the outage");
    assert!(topics.read_to_end("nexudus.BookingDelete").is_empty(), "a deletion cannot be read back");
    bridge.signal("TERM");
    let (status, log) = bridge.ended(MAX_WAIT);
    assert!(status.success(), "{log}");
}

/// Bookings that were created in the outage.
struct Lost {
    booking: i64,
    /// Created after Nexudus had disabled the webhook.
    silent: i64,
}

/// Changes records until Nexudus has disabled six webhooks. `booking` is deleted, `delivered` updated.
fn change_during_outage(changes: &mut Changes<'_>, booking: i64, delivered: i64) -> Lost {
    let (nexudus, begun) = (changes.nexudus, Instant::now());
    let within = Duration::from_secs(120);
    let off =
        |action: i64| nexudus.webhooks().iter().any(|webhook| webhook.action == action && !webhook.active);
    changes.update("BookingUpdate", "Booking", delivered, "updated in the outage");
    let lost = changes.create("BookingCreate", "Booking");
    changes.update("TeamUpdated", "Team", nexudus.ids("Team")[0], "renamed");
    let visitor = changes.create("VisitorRegistered", "Visitor");
    wait_until("Nexudus disables webhooks", within, || [6, 7, 58, 42].into_iter().all(off));
    say(&format!("{:?} after Kafka's end Nexudus has disabled four webhooks", begun.elapsed()));
    nexudus.shift_clock(SignedDuration::from_hours(30));
    say("30 hours pass by Nexudus's clock");
    // Nexudus does not try to deliver these.
    let silent = changes.create("BookingCreate", "Booking");
    nexudus.delete("Booking", booking).expect("exists");
    wait_until("Nexudus disables the webhook of the deletion", within, || off(8));
    let checkin = nexudus.record("Visitor", visitor).expect("exists").to_json();
    nexudus.happened("VisitorNotification", LOCATION, checkin).expect("known");
    wait_until("Nexudus disables the webhook of the signal", within, || off(38) && nexudus.pending() == 0);
    Lost { booking: lost, silent }
}

/// Reads the lost events back. `last-trigger` would miss the update of the first hour: the webhook of `BookingUpdate` has
/// delivered an event since, and the outage is longer than the overlap.
fn read_back(file: &Path, since: &str) {
    let dry = command(file, &["catch-up", "--since", since, "--dry-run", "--json"]);
    let dry: Value = serde_json::from_str(&dry).expect("JSON");
    let printed = command(file, &["catch-up", "--since", since]);
    say(&format!("$ nexudus-bridge catch-up --since {since}\n{printed}"));
    let published = |action: &str| {
        let rows = dry["published"].as_array().expect("a list");
        rows.iter().find(|row| row["action"] == action).and_then(|row| row["events"].as_u64()).unwrap_or(0)
    };
    let counts = ["BookingCreate", "BookingUpdate", "TeamUpdated", "VisitorRegistered"].map(published);
    // The first booking was deleted, and the second was created before the outage.
    assert_eq!((counts, dry["published"].as_array().map(Vec::len)), ([2, 2, 1, 1], Some(4)), "{dry}");
    let unreadable: Vec<&str> =
        dry["unreadable"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for action in ["BookingDelete", "VisitorNotification", "CoworkerCheckin"] {
        assert!(unreadable.contains(&action), "{action} is named: {unreadable:?}");
    }
}

fn every_record_is_on_its_topic(changes: &Changes<'_>, topics: &Client) {
    for (action, versions) in &changes.expected {
        let messages = topics.read_to_end(&format!("nexudus.{action}"));
        for (entity, id, record) in versions {
            // A record that has changed again is read back in its present state.
            let now = changes.nexudus.record(entity, *id).map(|record| record.to_json());
            let whole = |value: &[u8]| value == record || now.as_deref() == Some(value);
            assert!(messages.iter().any(|message| whole(&message.value)), "{action} {id} is on its topic");
        }
    }
}
