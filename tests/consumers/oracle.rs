//! The deliveries of the test, in random order with duplicates, and the resulting rows.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use nexudus_bridge::event::Fingerprint;

/// Records of each entity.
const RECORDS: i64 = 450;

/// Updates of each record.
const UPDATES: usize = 3;

/// Events that the database refuses, and records without `Id`, of each kind.
const POISON: i64 = 10;

/// An action whose events are no state of a record, and their number.
pub(crate) const SIGNAL: &str = "CoworkerCheckin";
const SIGNALS: i64 = 400;

/// The content of the table `records`: `updated_on`, `json` (both `None` for a deleted record) and number of applied events.
pub(crate) type Rows = BTreeMap<(String, i64), (Option<String>, Option<String>, u64)>;

/// The text that a trigger of the test's databases refuses.
pub(crate) const REFUSED: &str = "refuse this row";

/// The whole workload.
pub(crate) struct Workload {
    /// Action and record of each delivery, duplicates included.
    pub(crate) deliveries: Vec<(&'static str, String)>,
    pub(crate) rows: Rows,
    /// Every `ce_id` that must be applied.
    pub(crate) ids: BTreeSet<String>,
    /// Every `ce_id` that must become a dead letter, with the cause.
    pub(crate) dead: BTreeMap<String, &'static str>,
}

impl Workload {
    pub(crate) fn new(rng: &mut Rng, deliveries: usize) -> Self {
        let mut all =
            Self { deliveries: Vec::new(), rows: Rows::new(), ids: BTreeSet::new(), dead: BTreeMap::new() };
        for (entity, actions) in [
            ("Booking", ["BookingCreate", "BookingUpdate", "BookingDelete"]),
            ("Team", ["TeamCreated", "TeamUpdated", "TeamDeleted"]),
        ] {
            for id in 1..=RECORDS {
                all.add(entity, actions, id);
            }
        }
        for id in 1..=POISON {
            let refused =
                format!(r#"{{"Id":{},"Name":"{REFUSED}","UpdatedOn":"2026-01-01T00:00:00Z"}}"#, RECORDS + id);
            all.poison(refused, "refused_by_database");
            all.poison(format!(r#"{{"UniqueId":"poison-{id}","Id":null}}"#), "invalid_record");
        }
        for id in 1..=SIGNALS {
            all.deliveries.push((SIGNAL, record(SIGNAL, id, 0)));
        }
        let distinct = all.deliveries.len();
        assert!(distinct < deliveries, "too few deliveries for duplicates");
        while all.deliveries.len() < deliveries {
            let copy = all.deliveries[rng.usize(..distinct)].clone();
            all.deliveries.push(copy);
        }
        rng.shuffle(&mut all.deliveries);
        all
    }

    /// Adds a create and updates of a record. Two of three records are deleted, one of these with the time of the creation.
    fn add(&mut self, entity: &str, [create, update, delete]: [&'static str; 3], id: i64) {
        for version in 0..=UPDATES {
            let action = if version == 0 { create } else { update };
            self.event(action, id, version);
        }
        let deleted = id % 3 != 0;
        if deleted {
            self.event(delete, id, if id % 3 == 1 { 0 } else { UPDATES + 1 });
        }
        let events = (UPDATES + 1 + usize::from(deleted)) as u64;
        let row = match deleted {
            true => (None, None, events),
            false => (Some(time(UPDATES).1), Some(record(update, id, UPDATES)), events),
        };
        self.rows.insert((entity.to_owned(), id), row);
    }

    fn event(&mut self, action: &'static str, id: i64, version: usize) {
        let record = record(action, id, version);
        self.ids.insert(Fingerprint::of("default", action, record.as_bytes()).as_str().to_owned());
        self.deliveries.push((action, record));
    }

    fn poison(&mut self, record: String, cause: &'static str) {
        let id = Fingerprint::of("default", "TeamUpdated", record.as_bytes()).as_str().to_owned();
        self.dead.insert(id, cause);
        self.deliveries.push(("TeamUpdated", record));
    }
}

/// Returns a record with text, escapes and numbers that a consumer must not serialize again.
fn record(action: &str, id: i64, version: usize) -> String {
    let time = time(version).0;
    format!(
        r#"{{ "Id":{id}, "Version":{version},"UpdatedOn":"{time}","Price":0.09000,"Name":"Zoë \u2028 {action}"}}"#
    )
}

/// Returns the time of a version as Nexudus writes it, and as consumers store it. As text, the times of Nexudus have another order.
fn time(version: usize) -> (String, String) {
    let (second, fraction) = (version / 4, ["", ".25", ".5", ".7500001"][version % 4]);
    let time = format!("2026-01-01T00:00:{second:02}");
    let digits = fraction.trim_start_matches('.');
    (format!("{time}{fraction}Z"), format!("{time}.{digits:0<9}Z"))
}
