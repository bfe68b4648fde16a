//! Invariants of the HTTP surface: a real bridge on an embedded broker gets arbitrary bytes on a connection.
//!
//! For all bytes:
//!
//! - Each answer is HTTP with a status of the contract.
//! - Only signed records reach topics.
//! - The bytes appear in no label of a metric.
//! - The next delivery is accepted.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::action::{Action as Known, Kind};
use nexudus_bridge::app::App;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::delivery::decode::{Content, MAX_RECORDS, decode};
use nexudus_bridge::event::Fingerprint;
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::kafka::topics::wanted;
use tokio::runtime::Runtime;

use crate::request::{Delivery, LARGEST_BODY, Piece, SECRET};

const PREFIX: &str = "nexudus.";
const SOURCES: [&str; 2] = ["default", "north"];
/// The statuses of the contract, and 100 for clients that wait for it.
const STATUSES: [u16; 10] = [100, 200, 400, 401, 404, 405, 408, 413, 415, 503];

/// Time for which a client waits for further bytes, if the number of answers is unknown.
const MAX_SILENCE: Duration = Duration::from_millis(300);

/// Time-out of bytes that must arrive.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A bridge that is started once for this process, and its counts so far.
struct Surface {
    ingress: SocketAddr,
    steady: Connection,
    admin: Connection,
    settled: u64,
    _runtime: Runtime,
    _broker: EmbeddedBroker,
}

static SURFACE: LazyLock<Mutex<Surface>> = LazyLock::new(|| Mutex::new(Surface::start()));

/// Writes the pieces, and compares the answers and the published events with the signed records.
pub(crate) fn nothing_but_signed_records_reaches_a_topic(pieces: &[Piece]) {
    let mut surface = SURFACE.lock().unwrap_or_else(|failed| {
        SURFACE.clear_poison();
        let mut surface = failed.into_inner();
        surface.reached(); // skips the events of a failed run before
        surface
    });
    let mut signed = Signed::default();
    let mut bytes = Vec::new();
    for piece in pieces {
        signed.add(piece.write(&mut bytes));
    }
    let last = Delivery::valid("BookingCreate", "Connection: close\r\n");
    signed.add(last.write(&mut bytes));
    let expected = pieces.iter().all(Piece::is_valid).then_some(pieces.len() + 1);
    let answers = answers_to(surface.ingress, &bytes, expected);
    let mut seen = 0;
    for Answer { status, body, .. } in &answers {
        assert!(STATUSES.contains(status), "{status} for {}", bytes.escape_ascii());
        // actix-web takes method and version of an answer from the last request that it has read. If a HEAD follows in the
        // pipeline, an answer has no body.
        let cut = body.is_empty() && bytes.windows(5).any(|text| text == b"HEAD ");
        if *status == 200 && !cut {
            seen += signed.events_of(body);
        }
    }
    let reached = surface.reached();
    assert!(reached <= signed.most, "{reached} of {} for {}", signed.most, bytes.escape_ascii());
    assert!(reached >= seen, "{seen} were answered, {reached} confirmed");
    if let Some(count) = expected {
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, vec![200; count], "{}", bytes.escape_ascii());
        assert_eq!(reached, seen);
    }
    surface.takes_a_delivery();
}

/// The signed bodies: the maximum number of their events, and their records.
#[derive(Default)]
struct Signed {
    most: u64,
    records: Vec<Bytes>,
}

impl Signed {
    fn add(&mut self, body: Option<Bytes>) {
        let Some(body) = body else { return };
        if let Content::Records(records) = decode(&body, "Id", MAX_RECORDS) {
            self.most += records.len() as u64;
            self.records.extend(records.into_iter().map(|record| record.value));
        } else {
            self.most += 1; // kept whole
        }
    }

    /// Returns the number of events in an answer. Asserts that each of them is of a signed record.
    fn events_of(&self, answer: &[u8]) -> u64 {
        let answer: serde_json::Value = serde_json::from_slice(answer).expect("a 200 holds JSON");
        let events = answer["events"].as_array().expect("a 200 lists its events");
        for event in events {
            let topic = event["topic"].as_str().expect("a topic");
            let action = topic.strip_prefix(PREFIX).expect("a topic of the bridge");
            if answer["status"] == "confirmed" {
                let known = Known::known(action).unwrap_or_else(|| panic!("{topic} is no action's"));
                let id = event["id"].as_str().expect("an id");
                assert!(
                    known.kind == Kind::Signal || self.has(known.name, id),
                    "{id} on {topic} was not signed"
                );
            } else {
                assert_eq!((&answer["status"], action), (&"quarantined".into(), "quarantine"));
            }
        }
        events.len() as u64
    }

    fn has(&self, action: &str, id: &str) -> bool {
        let ids = |record| SOURCES.map(|source| Fingerprint::of(source, action, record));
        self.records.iter().flat_map(|record| ids(record)).any(|known| known.as_str() == id)
    }
}

impl Surface {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let settings = |bootstrap: &str| {
            let variables = [
                ("INGRESS__LISTEN", "127.0.0.1:0"),
                ("INGRESS__MAX_BODY_BYTES", &LARGEST_BODY.to_string()),
                ("INGRESS__BODY_TIMEOUT", "100ms"),
                ("ADMIN__LISTEN", "127.0.0.1:0"),
                ("KAFKA__BOOTSTRAP_SERVERS", bootstrap),
                ("REDELIVERY__MAX_ENTRIES", "0"), // otherwise an answer could come from the memory, without a new confirmation
                ("TOPICS__CREATE", "false"),
                ("SOURCES__DEFAULT__SECRETS", &format!("[{SECRET:?}]")),
                ("SOURCES__NORTH__SECRETS", &format!("[{SECRET:?}]")),
                ("SOURCES__NORTH__URL_TOKENS", r#"["token"]"#),
            ];
            let named = |(name, value): (&str, &str)| (format!("NEXUDUS_BRIDGE__{name}"), value.to_owned());
            load(None, &Environment::from(variables.map(named)), check_property).expect("lawful")
        };
        let topics = wanted(&settings("x:1")).into_iter().map(|topic| (topic.name, 1)).collect();
        let broker = EmbeddedBroker::start(None, topics).expect("a broker");
        let config = settings(broker.bootstrap_servers());
        let app = runtime.block_on(async { App::build(config) }).expect("a bridge");
        let (ingress, admin) = (app.ingress_address(), app.admin_address());
        runtime.spawn(app.run(std::future::pending(), std::future::pending()));
        let mut surface = Self {
            ingress,
            steady: Connection::open(ingress, MAX_WAIT),
            admin: Connection::open(admin, MAX_WAIT),
            settled: 0,
            _runtime: runtime,
            _broker: broker,
        };
        surface.reached();
        surface.takes_a_delivery();
        surface
    }

    /// Returns the number of events that have reached topics since the last call, once no delivery is in flight. Asserts that
    /// every series has known labels.
    fn reached(&mut self) -> u64 {
        let begun = Instant::now();
        loop {
            self.admin.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = self.admin.answer().expect("the admin listener answers");
            let text = String::from_utf8(answer.body).expect("the text format is UTF-8");
            let (mut total, mut in_flight) = (0, 0);
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                assert_is_known(series);
                let count = || value.parse::<f64>().expect("a number") as u64;
                match series.split('{').next().expect("a name") {
                    "nexudus_bridge_events_confirmed_total" | "nexudus_bridge_quarantined_total" => {
                        total += count()
                    }
                    "nexudus_bridge_in_flight_deliveries" => in_flight = count(),
                    _ => {}
                }
            }
            if in_flight == 0 {
                return total - std::mem::replace(&mut self.settled, total);
            }
            assert!(begun.elapsed() < MAX_WAIT, "{in_flight} deliveries do not end");
        }
    }

    /// Asserts that a valid delivery is confirmed on another connection.
    fn takes_a_delivery(&mut self) {
        let (mut bytes, mut signed) = (Vec::new(), Signed::default());
        signed.add(Delivery::valid("BookingUpdate", "").write(&mut bytes));
        self.steady.send(&bytes);
        let answer = self.steady.answer().expect("an answer");
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, signed.events_of(&answer.body)), (200, 1), "{shown}");
        self.settled += 1;
    }
}

/// Asserts that the labels of a series come from the configuration and the catalogue.
fn assert_is_known(series: &str) {
    static ACTIONS: LazyLock<BTreeSet<&str>> =
        LazyLock::new(|| ENTRIES.iter().map(|entry| entry.name).collect());
    let label = |name: &str| {
        let (_, behind) = series.split_once(&format!("{name}=\""))?;
        behind.split('"').next()
    };
    let known = |action: &str| action == "unknown" || ACTIONS.contains(action);
    assert!(label("action").is_none_or(known), "{series}");
    assert!(
        label("source").is_none_or(|source| source == "unknown" || SOURCES.contains(&source)),
        "{series}"
    );
}

/// The client's side of a connection.
struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer of the bridge.
struct Answer {
    status: u16,
    body: Vec<u8>,
    closes: bool,
}

/// Returns `expected` answers, or all answers up to one that closes the connection. After the return the bridge reads none of
/// these bytes any more.
fn answers_to(ingress: SocketAddr, bytes: &[u8], expected: Option<usize>) -> Vec<Answer> {
    let mut connection = Connection::open(ingress, if expected.is_some() { MAX_WAIT } else { MAX_SILENCE });
    connection.stream.write_all(bytes).ok(); // the bridge may close the connection before the last byte
    let mut answers: Vec<Answer> = Vec::new();
    // In the answers to pipelined requests, actix-web marks earlier ones as the last, too.
    let is_last = |answers: &[Answer]| match expected {
        Some(expected) => answers.len() == expected,
        None => answers.last().is_some_and(|answer| answer.closes),
    };
    while !is_last(&answers)
        && let Some(answer) = connection.answer()
    {
        answers.push(answer);
    }
    connection.end();
    answers
}

impl Connection {
    fn open(address: SocketAddr, read_timeout: Duration) -> Self {
        let stream = TcpStream::connect(address).expect("the bridge listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_write_timeout(Some(MAX_WAIT)).expect("an option");
        let connection = Self { stream, unread: Vec::new() };
        connection.set_read_timeout(read_timeout);
        connection
    }

    fn set_read_timeout(&self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("an option");
    }

    /// Closes the sending side, and waits until the bridge has closed the connection.
    fn end(mut self) {
        self.set_read_timeout(MAX_WAIT);
        self.stream.shutdown(Shutdown::Write).ok(); // the connection may be closed already
        if let Err(error) = self.stream.read_to_end(&mut Vec::new()) {
            assert_ne!(
                error.kind(),
                ErrorKind::WouldBlock,
                "the bridge keeps the connection of a client that has closed it"
            );
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is kept");
    }

    /// Returns the next answer; `None` without a further one.
    fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parsed() {
                return Some(answer);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    assert!(self.unread.is_empty(), "half an answer: {}", self.unread.escape_ascii());
                    return None;
                }
                Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn parsed(&mut self) -> Option<Answer> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.unread);
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {}", self.unread.escape_ascii()));
        let httparse::Status::Complete(head) = parsed else { return None };
        let status = response.code.expect("a status");
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(std::str::from_utf8(found.value).expect("our headers are ASCII").to_ascii_lowercase())
        };
        let closes = header("connection").as_deref() == Some("close");
        let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let whole = &self.unread[head..];
        // The answer to a HEAD has the length of a body, but no body.
        let comes = length > 0 && !whole.starts_with(b"HTTP/1.") && !(whole.is_empty() && self.is_over());
        if comes && whole.len() < length {
            return None;
        }
        let length = if comes { length } else { 0 };
        let body = whole[..length].to_vec();
        self.unread.drain(..head + length);
        Some(Answer { status, body, closes })
    }

    /// Returns whether no further bytes have arrived for now.
    fn is_over(&self) -> bool {
        !matches!(self.stream.peek(&mut [0]), Ok(1))
    }
}

#[cfg(test)]
mod properties {
    use arbitrary::Unstructured;
    use proptest::prelude::*;

    use super::*;
    use crate::request::Pieces;

    proptest! {
        #[test]
        fn of_anything_that_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let pieces = Unstructured::new(&bytes).arbitrary::<Pieces>().expect("made of any bytes");
            nothing_but_signed_records_reaches_a_topic(&pieces);
        }
    }
}
