//! Hostile clients: floods, two thousand connections, ambiguous requests, malicious names.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{MAX_WAIT, TestBridge, sign};

const RECORD: &str = r#"{"Id":1}"#;

/// An answer, with the parts that these tests check.
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

/// Writes all bytes, and reads until the bridge closes the connection.
async fn until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    let mut stream = TcpStream::connect(address).await.expect("the bridge listens");
    let (mut reader, mut writer) = stream.split();
    let mut read = Vec::new();
    let write = async {
        writer.write_all(bytes).await.ok(); // the bridge may close the connection before the last byte
    };
    let reading = async {
        reader.read_to_end(&mut read).await.ok(); // a reset also ends the connection
    };
    let both = async { tokio::join!(write, reading) };
    tokio::time::timeout(MAX_WAIT, both).await.expect("the connection is closed in time");
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

/// Returns a valid delivery of a record to `BookingCreate`, with more header lines.
fn delivery(record: &str, headers: &str) -> String {
    let length = record.len();
    format!("{}Content-Length: {length}\r\n{headers}\r\n{record}", signed_head(record))
}

/// Returns the head of a signed delivery without its framing headers.
fn signed_head(record: &str) -> String {
    let signature = sign(record.as_bytes());
    format!("POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\n")
}

/// Returns requests with an ambiguous end, each with a name.
fn ambiguous_framings() -> Vec<(String, String)> {
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
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused_and_nothing_after_them_is_read() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    // If the bridge read this as a request, it would be valid.
    let smuggled = delivery(r#"{"Id":"smuggled"}"#, "");
    let mut cases = ambiguous_framings();
    cases.push(("chunks in HTTP/1.0".to_owned(), {
        let head = signed_head(RECORD).replace("HTTP/1.1", "HTTP/1.0");
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{RECORD}\r\n0\r\n\r\n", RECORD.len())
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
async fn unusual_but_unambiguous_requests_are_accepted() {
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
        format!("{}{last}", delivery(RECORD, "").replace(" /webhooks", " http://foreign.example/webhooks")),
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
async fn the_body_of_a_refused_request_is_not_read_as_a_request() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let inner = delivery(r#"{"Id":"inner"}"#, "");
    let framed = format!("Host: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    for (line, status) in [
        ("POST /webhooks/BookingCreate", 401),
        ("POST /webhooks/NoSuchThing", 404),
        ("POST /webhooks/foreign/BookingCreate", 404),
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

mod floods;

#[tokio::test(flavor = "multi_thread")]
async fn names_with_nulls_dots_and_slashes_reach_no_other_topic() {
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
        for target in [target.to_owned(), format!("http://foreign.example{target}")] {
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
    // With a valid signature, such names are kept unchanged on the quarantine topic.
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
