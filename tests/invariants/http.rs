//! The HTTP surface as a whole: a real bridge on an embedded broker, bytes on a connection, and what came of them.
//!
//! Whatever is written, each answer is HTTP with a status that the contract knows, topics get nothing but records whose
//! bodies were signed, no series is made of a stranger's words, and the next delivery is taken as if nothing had been.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::action::{Action as Known, Kind};
use nexudus_bridge::app::App;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::delivery::decode::{Content, MAX_RECORDS, decode};
use nexudus_bridge::event::Fingerprint;
use nexudus_bridge::kafka::embedded::{EmbeddedBroker, Options};
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::kafka::topics::wanted;
use nexudus_bridge::signature::SigningKey;
use tokio::runtime::Runtime;

use crate::body::Body;

/// What is written on one connection, one after the other and without waiting for answers.
pub(crate) type Pieces = Vec<Piece>;

/// A part of what is written.
#[derive(Debug, Arbitrary)]
pub(crate) enum Piece {
    /// A delivery, right or wrong.
    Delivery(Delivery),
    /// Some bytes.
    Raw(Vec<u8>),
    /// A line that begins a request, or goes on with one.
    Line(u8),
}

/// A delivery.
#[derive(Debug, Arbitrary)]
pub(crate) struct Delivery {
    method: u8,
    target: Target,
    action: Action,
    signature: Signature,
    framing: Framing,
    odd: Option<u8>,
    body: Body,
}

#[derive(Debug, Arbitrary)]
enum Target {
    Short,
    Source(u8),
    Absolute,
    Asterisk,
    Query(Vec<u8>),
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Action {
    Known(u8),
    Escaped(u8),
    Number(u8),
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Signature {
    Right,
    Flipped(u8),
    Missing,
    Twice,
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Framing {
    Length,
    Chunked(u8),
    Off(i8),
    Both,
    Odd(u8),
    Neither,
}

const SECRET: &str = "surface-secret";
const PREFIX: &str = "nexudus.";
const SOURCES: [&str; 2] = ["default", "north"];
const LARGEST_BODY: usize = 64 * 1024;

/// The statuses of the contract, and 100 for clients that wait for it.
const STATUSES: [u16; 10] = [100, 200, 400, 401, 404, 405, 408, 413, 415, 503];

/// How long a client waits for more, when nothing says that there is none.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long anything may take that surely comes.
const SURELY: Duration = Duration::from_secs(20);

#[rustfmt::skip]
const METHODS: [&str; 8] = ["POST", "POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "CONNECT"];

#[rustfmt::skip]
const ODD_FRAMINGS: [&str; 14] = [
    "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding : chunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity\r\n", "Transfer-Encoding:\r\n chunked\r\n", "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding\r\n", "Content-Length: +5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5, 5\r\n", "Content-Length : 5\r\n",
    "Content-Length: 0x5\r\n", "Content-Length: 99999999999999999999\r\n",
];

#[rustfmt::skip]
const ODD_HEADERS: [&str; 12] = [
    "Connection: close\r\n", "Upgrade: websocket\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Expect: 100-continue\r\n",
    "Content-Encoding: gzip\r\n", "Host: y\r\n", "X: \0\r\n", " folded\r\n", "X: bare\nY: line\r\n", "X\r\n", ": x\r\n",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n",
];

#[rustfmt::skip]
const LINES: [&str; 10] = [
    "\r\n", "POST /webhooks/BookingCreate HTTP/1.1\r\n", "Host: x\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
    "0\r\n\r\n", "5;x=y\r\nabcde\r\n", "GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\n",
];

/// A bridge that was started once for this process, and what has come of it so far.
struct Surface {
    ingress: SocketAddr,
    steady: Connection,
    admin: Connection,
    settled: u64,
    _runtime: Runtime,
    _broker: EmbeddedBroker,
}

static SURFACE: LazyLock<Mutex<Surface>> = LazyLock::new(|| Mutex::new(Surface::start()));

/// Writes the pieces and holds everything that came of them against what was signed.
pub(crate) fn nothing_but_signed_records_reaches_a_topic(pieces: &[Piece]) {
    let mut surface = SURFACE.lock().unwrap_or_else(|failed| {
        SURFACE.clear_poison();
        let mut surface = failed.into_inner();
        surface.reached(); // what the failure before has left
        surface
    });
    let mut signed = Signed::default();
    let mut bytes = Vec::new();
    for piece in pieces {
        piece.write(&mut bytes, &mut signed);
    }
    let last = Delivery::right("BookingCreate", "Connection: close\r\n");
    last.write(&mut bytes, &mut signed);
    let faultless = pieces.iter().all(Piece::is_faultless).then_some(pieces.len() + 1);
    let answers = answers_to(surface.ingress, &bytes, faultless);
    let mut seen = 0;
    for Answer { status, body, .. } in &answers {
        assert!(STATUSES.contains(status), "{status} for {}", bytes.escape_ascii());
        // actix-web takes method and version of an answer from the last request that it has read: with a HEAD behind it in
        // the pipeline, an answer has no body.
        let cut = body.is_empty() && bytes.windows(5).any(|text| text == b"HEAD ");
        if *status == 200 && !cut {
            seen += signed.events_of(body);
        }
    }
    let reached = surface.reached();
    assert!(reached <= signed.most, "{reached} of {} for {}", signed.most, bytes.escape_ascii());
    assert!(reached >= seen, "{seen} were answered, {reached} confirmed");
    if let Some(count) = faultless {
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, vec![200; count], "{}", bytes.escape_ascii());
        assert_eq!(reached, seen);
    }
    surface.takes_a_delivery();
}

/// What was signed: no more than this may reach a topic.
#[derive(Default)]
struct Signed {
    most: u64,
    records: Vec<Bytes>,
}

impl Signed {
    fn add(&mut self, body: &Bytes) {
        if let Content::Records(records) = decode(body, "Id", MAX_RECORDS) {
            self.most += records.len() as u64;
            self.records.extend(records.into_iter().map(|record| record.value));
        } else {
            self.most += 1; // kept whole
        }
    }

    /// The number of events in an answer, each of them of a record that was signed.
    fn events_of(&self, answer: &[u8]) -> u64 {
        let answer: serde_json::Value = serde_json::from_slice(answer).expect("a 200 holds JSON");
        let events = answer["events"].as_array().expect("a 200 lists its events");
        for event in events {
            let topic = event["topic"].as_str().expect("a topic");
            let action = topic.strip_prefix(PREFIX).expect("a topic of ours");
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

impl Piece {
    fn write(&self, bytes: &mut Vec<u8>, signed: &mut Signed) {
        match self {
            Self::Delivery(delivery) => delivery.write(bytes, signed),
            Self::Raw(raw) => bytes.extend_from_slice(raw),
            Self::Line(place) => bytes.extend_from_slice(pick(&LINES, *place).as_bytes()),
        }
    }

    /// Whether every server must take it and go on.
    fn is_faultless(&self) -> bool {
        match self {
            Self::Delivery(Delivery { method, target, action, signature, framing, odd, body }) => {
                pick(&METHODS, *method) == "POST"
                    && matches!(target, Target::Short | Target::Absolute)
                    && matches!(action, Action::Known(_) | Action::Escaped(_))
                    && matches!(signature, Signature::Right)
                    && matches!(framing, Framing::Length | Framing::Chunked(_))
                    && odd.is_none()
                    && body.bytes().len() <= LARGEST_BODY
            }
            _ => false,
        }
    }
}

impl Delivery {
    /// One that is right in every respect.
    fn right(action: &str, odd: &str) -> Self {
        let place = |found: Option<usize>| u8::try_from(found.expect("it is there")).expect("few");
        Self {
            method: 0,
            target: Target::Short,
            action: Action::Known(place(ENTRIES.iter().position(|entry| entry.name == action))),
            signature: Signature::Right,
            framing: Framing::Length,
            odd: ODD_HEADERS.iter().position(|known| *known == odd).map(|found| place(Some(found))),
            body: Body::Text(r#"{"Id":1}"#.to_owned()),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>, signed: &mut Signed) {
        let body = Bytes::from(self.body.bytes());
        let mut put = |text: &[u8]| bytes.extend_from_slice(text);
        put(pick(&METHODS, self.method).as_bytes());
        put(b" ");
        put(&self.path());
        put(b" HTTP/1.1\r\nHost: x\r\n");
        if let Some(odd) = self.odd {
            put(pick(&ODD_HEADERS, odd).as_bytes());
        }
        let right = SigningKey::new(SECRET).expect("not empty").sign(&body);
        for value in self.signature.values(&right) {
            put(b"X-Nexudus-Hook-Signature: ");
            put(&value);
            put(b"\r\n");
        }
        if matches!(self.signature, Signature::Right | Signature::Twice) {
            signed.add(&body);
        }
        self.framing.write(&body, bytes);
    }

    fn path(&self) -> Vec<u8> {
        let action = self.action.text();
        let (before, after): (&[u8], &[u8]) = match &self.target {
            Target::Short => (b"/webhooks/", b""),
            Target::Source(place) => match place % 4 {
                0 => (b"/webhooks/default/", b""),
                1 => (b"/webhooks/north/", b"?token=t%6Fken"),
                2 => (b"/webhooks/north/", b"?token=wrong"),
                _ => (b"/webhooks/stranger/", b""),
            },
            Target::Absolute => (b"http://x/webhooks/", b""),
            Target::Asterisk => return b"*".to_vec(),
            Target::Query(query) => return [b"/webhooks/", &action[..], b"?token=", query].concat(),
            Target::Any(target) => return target.clone(),
        };
        [before, &action, after].concat()
    }
}

impl Action {
    fn text(&self) -> Vec<u8> {
        let name = |place: u8| ENTRIES[usize::from(place) % ENTRIES.len()].name;
        match self {
            Self::Known(place) => name(*place).as_bytes().to_vec(),
            Self::Escaped(place) => {
                name(*place).bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect()
            }
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Any(text) => text.clone(),
        }
    }
}

impl Signature {
    /// The header's values: none, one or two.
    fn values(&self, right: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Right => vec![right.as_bytes().to_vec()],
            Self::Flipped(place) => {
                let mut digits = right.as_bytes().to_vec();
                let place = usize::from(*place) % digits.len();
                digits[place] = if digits[place] == b'0' { b'1' } else { b'0' };
                vec![digits]
            }
            Self::Missing => Vec::new(),
            Self::Twice => vec![right.as_bytes().to_vec(); 2],
            Self::Any(value) => vec![value.clone()],
        }
    }
}

impl Framing {
    fn write(&self, body: &[u8], bytes: &mut Vec<u8>) {
        let length = |number: usize| format!("Content-Length: {number}\r\n");
        let (header, chunk) = match self {
            Self::Length => (length(body.len()), None),
            Self::Off(by) => (length(body.len().saturating_add_signed((*by).into())), None),
            Self::Neither => (String::new(), None),
            Self::Odd(place) => (pick(&ODD_FRAMINGS, *place).to_owned(), None),
            Self::Both => (format!("{}Transfer-Encoding: chunked\r\n", length(body.len())), Some(7)),
            Self::Chunked(size) => {
                ("Transfer-Encoding: chunked\r\n".to_owned(), Some(usize::from(*size) + 1))
            }
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let Some(chunk) = chunk else { return bytes.extend_from_slice(body) };
        for piece in body.chunks(chunk) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
}

fn pick(list: &[&'static str], place: u8) -> &'static str {
    list[usize::from(place) % list.len()]
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
                ("REDELIVERY__MAX_ENTRIES", "0"), // else what is answered need not have been confirmed just now
                ("TOPICS__CREATE", "false"),
                ("SOURCES__DEFAULT__SECRETS", &format!("[{SECRET:?}]")),
                ("SOURCES__NORTH__SECRETS", &format!("[{SECRET:?}]")),
                ("SOURCES__NORTH__URL_TOKENS", r#"["token"]"#),
            ];
            let named = |(name, value): (&str, &str)| (format!("NEXUDUS_BRIDGE__{name}"), value.to_owned());
            load(None, &Environment::from(variables.map(named)), check_property).expect("lawful").config
        };
        let topics = wanted(&settings("x:1")).into_iter().map(|topic| (topic.name, 1)).collect();
        let broker = EmbeddedBroker::start(Options { port: None, topics }).expect("a broker");
        let config = settings(broker.bootstrap_servers());
        let app = runtime.block_on(async { App::build(config) }).expect("a bridge");
        let (ingress, admin) = (app.ingress_address(), app.admin_address());
        runtime.spawn(app.run(std::future::pending(), std::future::pending()));
        let mut surface = Self {
            ingress,
            steady: Connection::open(ingress, SURELY),
            admin: Connection::open(admin, SURELY),
            settled: 0,
            _runtime: runtime,
            _broker: broker,
        };
        surface.reached();
        surface.takes_a_delivery();
        surface
    }

    /// How many events have reached topics since the last look, once everything is settled. What is counted is counted
    /// under names that the bridge knows.
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
            assert!(begun.elapsed() < SURELY, "{in_flight} deliveries do not end");
        }
    }

    /// A delivery that is right is confirmed, on a connection that has nothing to do with what was written.
    fn takes_a_delivery(&mut self) {
        let (mut bytes, mut signed) = (Vec::new(), Signed::default());
        Delivery::right("BookingUpdate", "").write(&mut bytes, &mut signed);
        self.steady.send(&bytes);
        let answer = self.steady.answer().expect("an answer");
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, signed.events_of(&answer.body)), (200, 1), "{shown}");
        self.settled += 1;
    }
}

/// Whether the labels of a series come from the configuration and the catalogue.
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

/// A client's side of a connection.
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

/// So many answers, or every one up to one that closes the connection. Nothing of what was written is read any more when
/// this returns.
fn answers_to(ingress: SocketAddr, bytes: &[u8], expected: Option<usize>) -> Vec<Answer> {
    let mut connection = Connection::open(ingress, if expected.is_some() { SURELY } else { PATIENCE });
    connection.stream.write_all(bytes).ok(); // it may be closed before the last byte
    let mut answers: Vec<Answer> = Vec::new();
    // With pipelined requests actix-web says of earlier answers, too, that they are the last.
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
    fn open(address: SocketAddr, patience: Duration) -> Self {
        let stream = TcpStream::connect(address).expect("the bridge listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_write_timeout(Some(SURELY)).expect("an option");
        let connection = Self { stream, unread: Vec::new() };
        connection.be_patient(patience);
        connection
    }

    fn be_patient(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("an option");
    }

    /// Goes away and waits until the bridge has seen that.
    fn end(mut self) {
        self.be_patient(SURELY);
        self.stream.shutdown(Shutdown::Write).ok(); // it may be closed already
        if let Err(error) = self.stream.read_to_end(&mut Vec::new()) {
            assert_ne!(
                error.kind(),
                ErrorKind::WouldBlock,
                "the connection of a client that is gone is kept"
            );
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is kept");
    }

    /// The next answer; none if no further one comes.
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
        // The answer to HEAD tells the length of a body that does not come.
        let comes = length > 0 && !whole.starts_with(b"HTTP/1.") && !(whole.is_empty() && self.is_over());
        if comes && whole.len() < length {
            return None;
        }
        let length = if comes { length } else { 0 };
        let body = whole[..length].to_vec();
        self.unread.drain(..head + length);
        Some(Answer { status, body, closes })
    }

    /// Whether nothing more comes for now.
    fn is_over(&self) -> bool {
        !matches!(self.stream.peek(&mut [0]), Ok(1))
    }
}

#[cfg(test)]
mod properties {
    use arbitrary::Unstructured;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_anything_that_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let pieces = Unstructured::new(&bytes).arbitrary::<Pieces>().expect("made of any bytes");
            nothing_but_signed_records_reaches_a_topic(&pieces);
        }
    }
}
