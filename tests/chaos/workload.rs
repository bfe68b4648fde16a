//! The workload: a function of the seed, the connection and a number, so that no record has to be kept.
//!
//! Each record contains its name (connection, number, index in the delivery). So the test can make the record of a message on a topic
//! again, and compare it byte for byte.

use std::fmt::Write as _;

/// An action of the workload.
pub(crate) struct Action {
    pub(crate) name: &'static str,
    /// True if the action is a signal. Copies of a change share their `ce_id`; each copy of a signal has its own.
    pub(crate) signal: bool,
}

/// Changes and signals, and the isolated action, whose topic is deleted and created again. Its confirmed events are deleted with
/// the topic, so its connections send no other action.
pub(crate) const ACTIONS: [Action; 5] = [
    Action { name: "CoworkerUpdate", signal: false },
    Action { name: "CoworkerCheckin", signal: true },
    Action { name: "BookingUpdate", signal: false },
    Action { name: "AccessControlUpdate", signal: true },
    Action { name: "BlogPostUpdate", signal: false },
];

/// The index in [`ACTIONS`] of the isolated action.
pub(crate) const ISOLATED: usize = ACTIONS.len() - 1;

/// Number of connections.
pub(crate) const CONNECTIONS: u16 = 40;

/// Number of connections (the last ones) that send the isolated action.
const ISOLATED_CONNECTIONS: u16 = 3;

/// Number of keys; few, so that many deliveries of many connections have the same key.
const KEYS: u32 = 5;

const MAX_RECORDS: usize = 4;

/// One record in this number is long.
const LONG_ONE_IN: u32 = 300;

const LONG_WORDS: usize = 3_000;

const WORDS: [&str; 12] = [
    "José",
    "Ñandú",
    "😀",
    "plain",
    "北京",
    "Zürich",
    "\\u00e9t\\u00e9",
    "👩‍💻",
    "e\u{301}",
    "שלום",
    "a\\/b",
    "\\\"quoted\\\"",
];

/// The name of a delivery: its connection, and its number in that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) connection: u16,
    pub(crate) number: u32,
}

/// The properties of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The index of its action in [`ACTIONS`].
    pub(crate) action: usize,
    pub(crate) records: usize,
}

/// The workload of a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    seed: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns whether a connection sends only the isolated action.
    pub(crate) fn is_isolated(connection: u16) -> bool {
        connection >= CONNECTIONS - ISOLATED_CONNECTIONS
    }

    pub(crate) fn delivery(self, name: Name) -> Delivery {
        let mut chance = self.chance(name, MAX_RECORDS);
        let action = chance.usize(..ISOLATED);
        let action = if Self::is_isolated(name.connection) { ISOLATED } else { action };
        // Half of the deliveries have one record, as Nexudus documents.
        let records = if chance.bool() { 1 } else { chance.usize(1..=MAX_RECORDS) };
        Delivery { action, records }
    }

    /// Returns the key of a record: its `Id`.
    pub(crate) fn key(self, name: Name, place: usize) -> u32 {
        self.chance(name, place).u32(1..=KEYS)
    }

    /// Returns a record as it is sent: with text of all kinds, escapes, and a number that a parser would print differently.
    pub(crate) fn record(self, name: Name, place: usize) -> String {
        let mut chance = self.chance(name, place);
        let key = chance.u32(1..=KEYS);
        let Name { connection, number } = name;
        let mut record =
            format!("{{\"Id\":{key},\"Chaos\":\"{connection}-{number}-{place}\",\"Price\":0.09000,");
        if chance.bool() {
            record.push_str("\"UpdatedOn\":\"2026-01-02T03:04:05.1200000Z\",");
        }
        record.push_str(if chance.bool() { "\"Text\": \"" } else { "\"Text\":\"" });
        let words = if chance.u32(..LONG_ONE_IN) == 0 { LONG_WORDS } else { chance.usize(..40) };
        for _ in 0..words {
            let word = WORDS[chance.usize(..WORDS.len())];
            write!(record, "{word} ").expect("a string takes everything");
        }
        record.push_str("\"}");
        record
    }

    /// Returns the body of a delivery: an array of its records.
    pub(crate) fn body(self, name: Name) -> String {
        let records: Vec<String> =
            (0..self.delivery(name).records).map(|place| self.record(name, place)).collect();
        format!("[{}]", records.join(","))
    }

    /// Returns the random numbers of a record. With a `place` that no record has, they are those of the delivery.
    fn chance(self, name: Name, place: usize) -> fastrand::Rng {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        for part in [u64::from(name.connection), u64::from(name.number), place as u64] {
            chance = fastrand::Rng::with_seed(chance.u64(..) ^ part);
        }
        chance
    }
}

/// Returns the name of the record in a message.
pub(crate) fn claimed(value: &[u8]) -> Option<(Name, usize)> {
    const FIELD: &str = "\"Chaos\":\"";
    let text = std::str::from_utf8(value).ok()?;
    let (_, rest) = text.split_once(FIELD)?;
    let (claim, _) = rest.split_once('"')?;
    let mut parts = claim.split('-');
    let connection = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    let place = parts.next()?.parse().ok()?;
    Some((Name { connection, number }, place))
}

#[test]
fn a_record_is_made_again_from_its_name_and_differs_from_every_other() {
    let workload = Workload::new(7);
    let mut seen = std::collections::BTreeSet::new();
    for (connection, number) in [(0, 0), (0, 1), (1, 0), (39, 1_000_000)] {
        let name = Name { connection, number };
        for place in 0..workload.delivery(name).records {
            let record = workload.record(name, place);
            assert_eq!(claimed(record.as_bytes()), Some((name, place)));
            assert_eq!(record, Workload::new(7).record(name, place));
            assert_ne!(record, Workload::new(8).record(name, place));
            let json: serde_json::Value = serde_json::from_str(&record).expect("valid JSON");
            assert_eq!(json["Id"], workload.key(name, place));
            assert!(seen.insert(record));
        }
    }
}

#[test]
fn what_is_sent_is_of_every_kind() {
    let workload = Workload::new(1);
    let names =
        (0..CONNECTIONS).flat_map(|connection| (0..200).map(move |number| Name { connection, number }));
    let bodies: Vec<(Delivery, String)> =
        names.map(|name| (workload.delivery(name), workload.body(name))).collect();
    for action in 0..ACTIONS.len() {
        assert!(bodies.iter().any(|(delivery, _)| delivery.action == action), "{action}");
    }
    assert!((1..=MAX_RECORDS).all(|records| bodies.iter().any(|(delivery, _)| delivery.records == records)));
    let ascii = bodies.iter().filter(|(_, body)| body.is_ascii()).count();
    assert!(ascii > 0 && ascii < bodies.len());
    assert!(bodies.iter().any(|(_, body)| body.len() > 10_000));
}
