//! Hostile clients: floods, two thousand connections, requests that could be read in two ways, names that mean harm.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use nexudus_bridge::kafka::embedded::{EmbeddedBroker, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{PATIENCE, SECRET, TestBridge, http_client, sign};
use crate::support::program::{PROGRAM, Running, field, isolated};
use crate::support::say;

const RECORD: &str = r#"{"Id":1}"#;

/// An answer, as far as these tests look at it.
#[derive(Debug)]
struct Answer {
    status: u16,
    kind: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    /// Asserts a problem document of this status.
    #[track_caller]
    fn problem(&self, status: u16, case: &str) {
        assert_eq!(self.status, status, "{case}: {self:?}");
        assert_eq!(self.kind.as_deref(), Some("application/problem+json"), "{case}: {self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(problem["status"], status, "{case}");
    }
}

/// Writes all and reads until the bridge closes the connection.
async fn until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    let mut stream = TcpStream::connect(address).await.expect("the bridge listens");
    let (mut reader, mut writer) = stream.split();
    let mut read = Vec::new();
    let write = async {
        writer.write_all(bytes).await.ok(); // it may be closed before the last byte
    };
    let reading = async {
        reader.read_to_end(&mut read).await.ok(); // a reset is an end, too
    };
    let both = async { tokio::join!(write, reading) };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection is closed in time");
    answers(&read)
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).expect("HTTP");
        assert!(parsed.is_complete(), "{}", bytes.escape_ascii());
        let status = response.code.expect("a status");
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8(found.value.to_vec()).expect("text"))
        };
        let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let (body, rest) = bytes[parsed.unwrap()..].split_at(length);
        answers.push(Answer { status, kind: header("content-type"), body: body.to_vec() });
        bytes = rest;
    }
    answers
}

/// A right delivery of a record to `BookingCreate`, with more header lines.
fn delivery(record: &str, headers: &str) -> String {
    let length = record.len();
    format!("{}Content-Length: {length}\r\n{headers}\r\n{record}", signed_head(record))
}

/// The head of a signed delivery up to where it tells its length.
fn signed_head(record: &str) -> String {
    let signature = sign(record.as_bytes());
    format!("POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    // Were it taken for a request, it would be a right one.
    let smuggled = delivery(r#"{"Id":"smuggled"}"#, "");
    let (head, length) = (signed_head(RECORD), RECORD.len());
    let chunked = format!("{length:x}\r\n{RECORD}\r\n0\r\n\r\n");
    let mut cases = Vec::new();
    for framing in [
        &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nX: y\0",
    ] {
        cases.push((framing.to_owned(), format!("{head}{framing}\r\n\r\n{chunked}")));
    }
    for framing in [
        &format!("Content-Length: {length}\r\nContent-Length: {length}"),
        &format!("Content-Length: {length}\r\nContent-Length: 9999"),
        &format!("Content-Length: {length}, {length}"),
        &format!("Content-Length: +{length}"),
        &format!("Content-Length: -{length}"),
        &format!("Content-Length: 0x{length:x}"),
        &format!("Content-Length: {length}.0"),
        &format!("Content-Length: {length} 9"),
        &format!("Content-Length : {length}"),
        &format!("Content-Length:\r\n {length}"),
        &format!("Content-Length: {length}\r\n folded"),
        &format!("Content-Length: {length}\r\nHost: y"),
        &format!("Content-Length: {length}\r\nX\r\n"),
        &format!("Content-Length: {length}\r\nX: a\rb"),
        "Content-Length:",
        "Content-Length: 99999999999999999999",
    ] {
        cases.push((framing.to_owned(), format!("{head}{framing}\r\n\r\n{RECORD}")));
    }
    for body in [
        format!("{length:x}\n{RECORD}\r\n0\r\n\r\n"),
        format!("{length:x};a=\n{RECORD}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{RECORD}0\r\n\r\n"),
        format!("0x{length:x}\r\n{RECORD}\r\n0\r\n\r\n"),
        format!("+{length:x}\r\n{RECORD}\r\n0\r\n\r\n"),
        format!("-1\r\n{RECORD}\r\n0\r\n\r\n"),
        format!("1000000000000000{length:x}\r\n{RECORD}\r\n0\r\n\r\n"),
        format!("\r\n{RECORD}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{RECORD}\r\nzz\r\n"),
    ] {
        cases.push((body.clone(), format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}")));
    }
    cases.push(("chunks in HTTP/1.0".to_owned(), {
        let head = head.replace("HTTP/1.1", "HTTP/1.0");
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked}")
    }));
    cases.push(("no host".to_owned(), delivery(RECORD, "").replace("Host: x\r\n", "")));
    cases.push(("no version".to_owned(), "POST /webhooks/BookingCreate\r\n\r\n".to_owned()));
    cases.push(("HTTP/2".to_owned(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()));
    cases.push(("a WebSocket".to_owned(), delivery(RECORD, "Upgrade: websocket\r\n")));
    let tried = cases.iter().map(async |(case, bytes)| {
        let answers = until_closed(bridge.ingress, format!("{bytes}{smuggled}").as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{case:?}");
    });
    join_all(tried).await;
    assert!(bridge.topic("BookingCreate", 0).is_empty() && bridge.topic("quarantine", 0).is_empty());
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_and_yet_clear_is_read_in_one_way() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let (head, length) = (signed_head(RECORD), RECORD.len());
    let last = delivery(r#"{"Id":"last"}"#, "Connection: close\r\n");
    let chunks = |extension: &str, trailer: &str| {
        format!(
            "{head}Transfer-Encoding: Chunked\r\n\r\n{length:x}{extension}\r\n{RECORD}\r\n0\r\n{trailer}\r\n{last}"
        )
    };
    let cases = [
        chunks(";name=\"value\"", ""),
        chunks(" ; a", "X-Nexudus-Hook-Signature: 1\r\nContent-Length: 4\r\n"),
        format!("{}{last}", delivery(RECORD, "").replace("\r\n", "\n")), // RFC 9112, section 2.2
        format!("\r\n\r\n{}{last}", delivery(RECORD, "")),
        format!("{}{last}", delivery(RECORD, "Upgrade: h2c\r\nConnection: Upgrade\r\n")),
        format!("{}{last}", delivery(RECORD, "").replace(" /webhooks", " http://stranger.example/webhooks")),
    ];
    for case in &cases {
        let answers = until_closed(bridge.ingress, case.as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200], "{case}");
    }
    let values: BTreeSet<Vec<u8>> =
        bridge.topic("BookingCreate", 2 * cases.len()).into_iter().map(|message| message.value).collect();
    assert_eq!(values, BTreeSet::from([RECORD.into(), br#"{"Id":"last"}"#.to_vec()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_refused_request_is_no_request() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let inner = delivery(r#"{"Id":"inner"}"#, "");
    let framed = format!("Host: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    for (line, status) in [
        ("POST /webhooks/BookingCreate", 401),
        ("POST /webhooks/NoSuchThing", 404),
        ("POST /webhooks/stranger/BookingCreate", 404),
        ("POST /nowhere", 404),
        ("POST *", 404),
        ("PUT /webhooks/BookingCreate", 405),
        ("GET /webhooks/BookingCreate", 405),
        ("CONNECT /webhooks/BookingCreate", 405),
        ("CONNECT broker:9092", 404),
    ] {
        let answers = until_closed(bridge.ingress, format!("{line} HTTP/1.1\r\n{framed}").as_bytes()).await;
        assert_eq!(answers.len(), 1, "{line}: {answers:?}");
        answers[0].problem(status, line);
    }
    assert!(bridge.topic("BookingCreate", 0).is_empty() && bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_nulls_dots_and_slashes_lead_nowhere() {
    let settings =
        [("sources.north.secrets", r#"["test-secret"]"#), ("sources.north.url_tokens", r#"["t"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let long = "x".repeat(60_000);
    let long_query = format!("/webhooks/north/BookingCreate?token={long}");
    let cases = [
        ("/webhooks/..", 404),
        ("/webhooks/../webhooks/BookingCreate", 404),
        ("/webhooks/../../metrics", 404),
        ("/webhooks/./BookingCreate", 404),
        ("/webhooks//BookingCreate", 404),
        ("//webhooks/BookingCreate", 404),
        ("/webhooks/default/..", 404),
        ("/webhooks/%2e%2e/BookingCreate", 404),
        ("/webhooks/default%2fBookingCreate", 404),
        ("/webhooks/BookingCreate%2f", 404),
        ("/webhooks/BookingCreate%00", 404),
        ("/webhooks/default%00/BookingCreate", 404),
        ("/webhooks/%00", 404),
        ("/webhooks/%ff%fe", 404),
        ("/webhooks/%", 404),
        ("/webhooks/quarantine", 404),
        ("/webhooks/..%2fquarantine", 404),
        ("/webhooks/%0d%0aX:%20y", 404),
        ("/metrics", 404),
        ("/webhooks/north/BookingCreate?token=%00", 401),
        ("/webhooks/north/BookingCreate?token=t%00", 401),
        ("/webhooks/north/BookingCreate?token=../t", 401),
        ("/webhooks/north/BookingCreate?%00=%00&token[]=t", 401),
        (&long_query, 401),
    ];
    let framing = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (target, status) in cases {
        for target in [target.to_owned(), format!("http://stranger.example{target}")] {
            let request = format!("POST {target} {framing}");
            let answers = until_closed(bridge.ingress, request.as_bytes()).await;
            assert_eq!(answers.len(), 1, "{target}: {answers:?}");
            answers[0].problem(status, &target);
        }
    }
    for target in ["/webhooks/\0", "/webhooks/Booking\0Create", "/web hooks/6", "", "http://[/webhooks/6"] {
        let answers = until_closed(bridge.ingress, format!("POST {target} {framing}").as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [400], "{target:?}");
    }
    // Signed, such names are kept as they are, and the topic is the quarantine's.
    for name in ["..", "a%00b", "..%2f..%2fquarantine", "%0d%0aX:%20y"] {
        let request =
            delivery(RECORD, "Connection: close\r\n").replace("/BookingCreate", &format!("/{name}"));
        let answers = until_closed(bridge.ingress, request.as_bytes()).await;
        let answer: serde_json::Value = serde_json::from_slice(&answers[0].body).expect("JSON");
        assert_eq!(answer["status"], "quarantined", "{name}: {answer}");
        assert_eq!(answer["events"][0]["topic"], bridge.name_of("quarantine"), "{name}");
    }
    let kept: BTreeSet<String> = bridge
        .topic("quarantine", 4)
        .iter()
        .map(|message| message.header("nexudus-action").expect("the action").to_owned())
        .collect();
    let names = ["..", "a\0b", "..%2f..%2fquarantine", "\r\nX: y"].map(str::to_owned);
    assert_eq!(kept, BTreeSet::from(names));
    assert!(bridge.topic("BookingCreate", 0).is_empty());
}

/// The real program on an embedded broker, in a process of its own so that its memory and files are its alone.
struct Served {
    ingress: SocketAddr,
    admin: String,
    http: reqwest::Client,
    /// What it has said so far.
    said: Vec<String>,
    running: Running,
    _broker: EmbeddedBroker,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Starts it through `sh`, which sets the limits of a process before it begins.
    fn start(ulimit: &str) -> Self {
        let topics = ["BookingCreate", "quarantine"].map(|action| (format!("nexudus.{action}"), 1)).to_vec();
        let broker = EmbeddedBroker::start(Options { port: None, topics }).expect("a broker");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "ingress.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\ntopics.create = false\n\
             kafka.bootstrap_servers = {:?}\ningress.body_timeout = \"5m\"\nsources.default.secrets = [{SECRET:?}]\n",
            broker.bootstrap_servers()
        );
        std::fs::write(&file, text).expect("written");
        let mut shell = isolated("sh");
        shell.args(["-c", &format!("{ulimit}; exec \"$0\" serve --config \"$1\"")]).arg(PROGRAM).arg(&file);
        let running = Running::start(&mut shell);
        let said = running.lines_until("the bridge is listening");
        let line = said.last().expect("it ends with the line");
        let ingress = field(line, "ingress").parse().expect("an address");
        let admin = format!("http://{}/metrics", field(line, "admin"));
        Self { ingress, admin, http: http_client(), said, running, _broker: broker, _folder: folder }
    }

    /// The series of `/metrics` with their values.
    async fn metrics(&self) -> Vec<(String, f64)> {
        let answer = self.http.get(&self.admin).send().await.expect("the admin listener answers");
        let text = answer.text().await.expect("text");
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
    }

    async fn metric(&self, wanted: &str) -> f64 {
        let metrics = self.metrics().await;
        metrics.iter().find(|(series, _)| series == wanted).unwrap_or_else(|| panic!("no {wanted}")).1
    }

    /// Waits until there is a series that begins like this.
    async fn wait_until_there(&self, series: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.metrics().await.iter().any(|(there, _)| there.starts_with(series)) {
            assert!(tokio::time::Instant::now() < deadline, "there is no {series}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits until a metric is as wanted.
    async fn wait_for(&self, series: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let value = self.metric(series).await;
            if wanted(value) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{series} stays {value}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// A right delivery on a connection of its own.
    async fn deliver(&self) {
        let answers = until_closed(self.ingress, delivery(RECORD, "Connection: close\r\n").as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200], "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_and_names_are_refused_and_leave_nothing_behind() {
    let served = Served::start("ulimit -n 1024");
    served.deliver().await;
    let flood = |round: usize| {
        let mut requests = Vec::new();
        for number in 0..20 {
            let many: String = (0..10_000).map(|n| format!("X-{n}-{number}: y\r\n")).collect();
            let long = format!("X: {}\r\n", "y".repeat(1 << 20));
            let target = format!("/webhooks/6?{}", "x".repeat(1 << 20));
            for (headers, target) in [(many.as_str(), "/webhooks/6"), (&long, "/webhooks/6"), ("", &target)] {
                requests.push(format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
            }
            for method in ["POST", "PUT", "GET", "BREW"] {
                let name = format!("made{round}up{number}");
                for path in [name.clone(), format!("{name}/6"), format!("default/{name}?token={name}")] {
                    requests.push(format!(
                        "{method} /webhooks/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-{name}: {name}\r\n\r\n"
                    ));
                }
            }
        }
        requests
    };
    served.wait_until_there("nexudus_bridge_broker_up{").await; // comes with the client's first statistics
    let mut seen: Vec<(usize, f64)> = Vec::new();
    for round in 0..4 {
        for requests in flood(round).chunks(16) {
            let sent = requests.iter().map(async |request| {
                for answer in until_closed(served.ingress, request.as_bytes()).await {
                    assert!((400..500).contains(&answer.status), "{answer:?} to {:.200}", request);
                }
            });
            join_all(sent).await;
        }
        let metrics = served.metrics().await;
        assert!(metrics.iter().all(|(series, _)| !series.contains("made")), "{metrics:?}");
        seen.push((metrics.len(), served.metric("process_resident_memory_bytes").await));
    }
    // The first round makes what every kind of refusal needs; from then on nothing grows.
    let (first, last) = (seen[0], seen[3]);
    assert_eq!(first.0, last.0, "series: {seen:?}");
    assert!(last.1 < first.1 + 16e6, "memory: {seen:?}");
    served.deliver().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_is_an_error_in_the_log() {
    let served = Served::start("ulimit -n 1024");
    let head = signed_head(RECORD);
    for request in [
        "what is no HTTP\r\n\r\n".to_owned(),
        "POST /webhooks/6 HTTP/1.1\r\n\r\n".to_owned(),
        format!("{head}Content-Length: +8\r\n\r\n{RECORD}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("{head}X: {}\r\n\r\n", "y".repeat(1 << 20)),
    ] {
        let answers = until_closed(served.ingress, request.as_bytes()).await;
        assert!(
            answers.iter().all(|answer| (400..500).contains(&answer.status)),
            "{request:.100}: {answers:?}"
        );
    }
    // The next line that every configuration shows.
    let unsigned = "POST /webhooks/6 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    until_closed(served.ingress, unsigned.as_bytes()).await;
    let lines = served.running.lines_until("missing_signature");
    assert!(lines.iter().all(|line| !line.contains("ERROR")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signed_body_or_head_multiplies_its_size_in_memory() {
    /// A few copies of the largest body: the one that is gathered, the Kafka client's, and 1,000 events.
    const MOST_EXTRA_BYTES: u64 = 48_000_000;
    const LARGEST: usize = 4 * 1024 * 1024;
    let served = Served::start("ulimit -n 1024");
    served.deliver().await;
    let filled = |piece: &str, before: &str, after: &str| {
        let count = (LARGEST - before.len() - after.len()) / piece.len();
        format!("{before}{}{after}", piece.repeat(count))
    };
    let levels = LARGEST / 2 - 10;
    let thousand = format!("[{}{{}}]", r#"{"Id":1},"#.repeat(999));
    let trace = format!(
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: {}\r\n",
        "a=b,".repeat(28_000)
    );
    let query = format!("?{}", "a=b&".repeat(15_000));
    let many_headers: String =
        (0..90).map(|number| format!("X-{number}: {}\r\n", "y".repeat(1300))).collect();
    let large_key = filled("k", r#"[{"Id":""#, r#""}]"#);
    for (case, query, headers, body) in [
        ("records", "", "", filled("{},", "[", "{}]")),
        ("records with a key", "", "", filled(r#"{"Id":1},"#, "[", "{}]")),
        ("levels of arrays", "", "", format!("[{}{}]", "[".repeat(levels), "]".repeat(levels))),
        ("levels in a record", "", "", format!(r#"[{{"a":{}{}}}]"#, "[".repeat(levels), "]".repeat(levels))),
        ("fields", "", "", filled(r#""Id":"\u0041","#, "[{", r#""Id":1}]"#)),
        ("a key of escapes", "", "", filled("\\u0041", r#"[{"Id":""#, r#""}]"#)),
        ("a large key", "", "", large_key),
        ("a trace for each record", "", trace.as_str(), thousand.clone()),
        ("parameters", query.as_str(), "", thousand.clone()),
        ("header lines", "", many_headers.as_str(), thousand.clone()),
        ("bytes that are not text", "", "", filled("\u{1}", "", "")),
    ] {
        let before = served.running.reset_peak_bytes();
        let request = delivery(&body, &format!("{headers}Connection: close\r\n"));
        let request = request.replacen("/BookingCreate", &format!("/BookingCreate{query}"), 1);
        let answers = until_closed(served.ingress, request.as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let extra = served.running.peak_bytes().saturating_sub(before);
        say(&format!("{case}: {statuses:?}, {extra} bytes above {before}"));
        assert_eq!(statuses, [200], "{case}");
        assert!(extra < MOST_EXTRA_BYTES, "{case}: {extra} bytes above {before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_connections_are_held_while_a_good_client_is_served() {
    const CONNECTIONS: usize = 2_000;
    // This process opens them all and is given leave as the bridge gives it to itself.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    // What most systems start a program with.
    let served = Served::start("ulimit -Sn 1024");
    assert_eq!(
        served.metric("process_max_fds").await,
        limit.maximum.map_or(f64::INFINITY, |most| most as f64)
    );
    served.deliver().await;
    let before = served.metric("process_open_fds").await;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(served.ingress).await.expect("the bridge listens");
        let begun = format!("{}Content-Length: 100\r\n\r\n[", signed_head(RECORD));
        stream.write_all(begun.as_bytes()).await.expect("written");
        connections.push(stream);
        if number % 500 == 0 {
            // Some say nothing, some half a head. Those end by themselves after a while.
            let (silent, mut half) =
                tokio::join!(TcpStream::connect(served.ingress), TcpStream::connect(served.ingress));
            half.as_mut().expect("it listens").write_all(&begun.as_bytes()[..50]).await.expect("written");
            connections.extend(silent.into_iter().chain(half));
            served.deliver().await;
        }
    }
    served
        .wait_for("nexudus_bridge_in_flight_deliveries", |deliveries| deliveries == CONNECTIONS as f64)
        .await;
    assert!(served.metric("process_open_fds").await > CONNECTIONS as f64);
    served.deliver().await;
    drop(connections);
    served.wait_for("process_open_fds", |open| open < before + 50.0).await;
    served.wait_for("nexudus_bridge_in_flight_deliveries", |deliveries| deliveries == 0.0).await;
    served.deliver().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_open_files_connections_wait_and_the_bridge_says_beforehand() {
    let served = Served::start("ulimit -n 200");
    assert!(served.said.iter().any(|line| line.contains("fewer files may be open")), "{:?}", served.said);
    let before = served.metric("process_open_fds").await;
    let connect = (0..400).map(|_| TcpStream::connect(served.ingress));
    let connections: Vec<TcpStream> =
        join_all(connect).await.into_iter().map(|stream| stream.expect("it waits in the backlog")).collect();
    let waiting = tokio::spawn({
        let ingress = served.ingress;
        async move { until_closed(ingress, delivery(RECORD, "Connection: close\r\n").as_bytes()).await }
    });
    tokio::task::yield_now().await;
    drop(connections);
    let answers = waiting.await.expect("it ends");
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    served.wait_for("process_open_fds", |open| open < before + 50.0).await;
}
