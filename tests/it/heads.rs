//! Heads of requests: the accepted forms of the same delivery, and refusals before a body is sent.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{MAX_WAIT, TestBridge, sign};

const RECORD: &str = r#"{"Id":1}"#;

/// Returns a request without its body.
fn head(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// Returns a signed delivery of the record to this target, with more header lines.
fn delivery(target: &str, headers: &str) -> String {
    let (signature, length) = (sign(RECORD.as_bytes()), RECORD.len());
    let framing = format!("X-Nexudus-Hook-Signature: {signature}\r\nContent-Length: {length}\r\n{headers}");
    format!("{}{RECORD}", head(&format!("POST {target}"), &framing))
}

/// Writes a request, and returns everything that is received until the bridge closes the connection.
async fn until_closed(bridge: &TestBridge, request: &str) -> String {
    let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A reset also ends the connection.
    let reading = async { drop(stream.read_to_end(&mut answer).await) };
    tokio::time::timeout(MAX_WAIT, reading).await.expect("the connection is closed in time");
    String::from_utf8(answer).expect("text")
}

/// Returns the series that counts deliveries of `BookingCreate` with this outcome.
fn series(outcome: &str) -> String {
    format!(
        r#"nexudus_bridge_deliveries_total{{action="BookingCreate",outcome="{outcome}",source="default"}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_expects_100_continue_is_refused_without_it() {
    let settings = [("ingress.max_body_bytes", "2000")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let signed = format!("X-Nexudus-Hook-Signature: {}\r\n", sign(RECORD.as_bytes()));
    let (small, large) = ("Content-Length: 8\r\n", "Content-Length: 2001\r\n");
    for (line, headers, status) in [
        ("POST /webhooks/BookingCreate", small.to_owned(), 401),
        ("POST /webhooks/BookingCreate", format!("{small}X-Nexudus-Hook-Signature: abc\r\n"), 401),
        ("POST /webhooks/BokingCreate", small.to_owned(), 404),
        ("POST /webhooks/nowhere/BookingCreate", format!("{signed}{small}"), 404),
        ("POST /elsewhere", format!("{signed}{small}"), 404),
        ("PUT /webhooks/BookingCreate", format!("{signed}{small}"), 405),
        ("POST /webhooks/BookingCreate", format!("{signed}{large}"), 413),
        ("POST /webhooks/BookingCreate", format!("{signed}{small}Content-Encoding: gzip\r\n"), 415),
    ] {
        let answer = until_closed(&bridge, &head(line, &format!("{headers}Expect: 100-continue\r\n"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {headers}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line} {headers}: {answer}");
    }
    // An acceptable request gets the answer 100, and is counted once.
    let request = delivery("/webhooks/BookingCreate", "Expect: 100-continue\r\nConnection: close\r\n");
    let answer = until_closed(&bridge, &request).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), "{answer}");
    for (outcome, count) in [
        ("confirmed", 1.0),
        ("missing_signature", 1.0),
        ("method", 1.0),
        ("too_large", 1.0),
        ("encoded", 1.0),
    ] {
        assert_eq!(bridge.metric(&series(outcome)).await, count, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bridge_refuses_a_request_that_expects_100_continue_without_it() {
    let settings = [("ingress.max_in_flight", "1"), ("ingress.body_timeout", "5m")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let mut waiting = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    let request = delivery("/webhooks/BookingCreate", "Expect: 100-continue\r\n");
    let head = request.strip_suffix(RECORD).expect("the body is last");
    waiting.write_all(head.as_bytes()).await.expect("written");
    let mut go_on = [0; 25];
    waiting.read_exact(&mut go_on).await.expect("100 Continue");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = until_closed(&bridge, head).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("overloaded"), "{answer}");
    waiting.write_all(RECORD.as_bytes()).await.expect("written");
    bridge.wait_for_metric(&series("confirmed"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_without_an_effect_are_accepted() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let taken = ["", " ", "identity", "Identity", "utf-8", "UTF-8", "identity, utf-8", ", identity"];
    for encoding in taken {
        let request = delivery(
            "/webhooks/BookingCreate",
            &format!("Connection: close\r\nContent-Encoding: {encoding}\r\n"),
        );
        let answer = until_closed(&bridge, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{encoding:?}: {answer}");
    }
    for encoding in ["gzip", "br", "identity, gzip", "utf-16", "identity identity", "x-utf-8"] {
        let request = delivery(
            "/webhooks/BookingCreate",
            &format!("Connection: close\r\nContent-Encoding: {encoding}\r\n"),
        );
        let answer = until_closed(&bridge, &request).await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{encoding:?}: {answer}");
    }
    assert_eq!(bridge.topic("BookingCreate", taken.len()).len(), taken.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_equal_signatures_are_accepted_and_different_ones_are_refused() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let right = sign(RECORD.as_bytes());
    let (lower, wrong) = (right.to_lowercase(), "0".repeat(64));
    const NAME: &str = "X-Nexudus-Hook-Signature";
    for equal in [
        vec![(NAME, right.as_str()), (NAME, &right)],
        vec![(NAME, &right), (NAME, &lower), (NAME, &right)],
        vec![(NAME, &format!("{right}, {right}"))],
    ] {
        bridge.post("BookingCreate", &equal, RECORD).await.events("confirmed");
    }
    for different in [
        vec![(NAME, right.as_str()), (NAME, &wrong)],
        vec![(NAME, &wrong), (NAME, &right)],
        vec![(NAME, &right), (NAME, "")],
        vec![(NAME, &format!("{right},{wrong}"))],
    ] {
        let detail = bridge.post("BookingCreate", &different, RECORD).await.problem(401, "invalid_signature");
        assert!(detail.contains("different"), "{detail}");
    }
    let detail = bridge
        .post("BookingCreate", &[(NAME, "abc"), (NAME, "abc")], RECORD)
        .await
        .problem(401, "invalid_signature");
    assert!(detail.contains("64 hexadecimal digits"), "{detail}");
    assert_eq!(bridge.topic("BookingCreate", 3).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_is_case_insensitive() {
    let settings = [("sources.north.secrets", r#"["test-secret"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let paths = [
        "/webhooks/BookingCreate",
        "/Webhooks/bookingCREATE",
        "/WEBHOOKS/DEFAULT/BOOKINGCREATE",
        "/webhooks/North/BookingCreate",
        "/webhooks/%4eORTH/6",
    ];
    for path in paths {
        let answer = until_closed(&bridge, &delivery(path, "Connection: close\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let messages = bridge.topic("BookingCreate", paths.len());
    let from =
        |source: &str| messages.iter().filter(|message| message.header("ce_source") == Some(source)).count();
    assert_eq!((from("/nexudus/default"), from("/nexudus/north")), (3, 2));
    // Other methods are refused, and counted for the same source.
    let answer = until_closed(&bridge, &head("GET /WebHooks/NORTH/6", "Connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let refused = series("method").replace("default", "north");
    assert_eq!(bridge.metric(&refused).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_accepted_plain_and_in_every_encoding() {
    let tokens = [("sources.default.url_tokens", r#"["a+b/c=", "new one", "100%25", "ä"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &tokens).await;
    let right = [
        "token=a+b/c=",
        "token=a%2Bb/c=",
        "token=a%2bb%2Fc%3D",
        "token=a+b%2Fc%3D",
        "x=1&token=%61%2Bb/c=&y",
        "t%6Fken=a+b/c=",
        "token=new+one",
        "token=new%20one",
        "token=100%25",
        "token=100%2525",
        "token=%C3%A4",
    ];
    for query in right {
        bridge.deliver(&format!("BookingCreate?{query}"), RECORD).await.events("confirmed");
    }
    for wrong in
        ["token=a%20b/c=", "token=a b/c=", "token=100%", "token=new", "token=%E4", "Token=new+one", "token"]
    {
        let request = delivery(
            &format!("/webhooks/BookingCreate?{}", wrong.replace(' ', "%20")),
            "Connection: close\r\n",
        );
        let answer = until_closed(&bridge, &request).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{wrong}: {answer}");
    }
    for twice in ["token=new+one&token=new+one", "token=x&token=new+one", "token=&t%6Fken="] {
        let detail =
            bridge.deliver(&format!("BookingCreate?{twice}"), RECORD).await.problem(401, "invalid_token");
        assert!(detail.contains("more than one"), "{twice}: {detail}");
    }
    assert_eq!(bridge.topic("BookingCreate", right.len()).len(), right.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_canonical_form_of_an_action_number_is_accepted() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.deliver("6", RECORD).await.events("confirmed");
    for path in ["+6", "06", "0006", "6.0", "%2B6", "-6", "6%20", "6_", "\u{0666}"] {
        bridge.post(path, &[], RECORD).await.problem(404, "unknown_action");
    }
    assert_eq!(bridge.topic("BookingCreate", 1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_and_a_request_to_upgrade_are_counted_once_each() {
    let settings = [("ingress.body_timeout", "5m")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let signed = format!("X-Nexudus-Hook-Signature: {}\r\n", sign(RECORD.as_bytes()));
    let begun = |framing: &str| head("POST /webhooks/BookingCreate", &format!("{signed}{framing}\r\n"));
    // A closed connection, a reset connection, and invalid chunks.
    for (number, reset) in [false, true].into_iter().enumerate() {
        let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
        let request = format!("{}[", begun("Content-Length: 100"));
        stream.write_all(request.as_bytes()).await.expect("written");
        bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", 1.0).await;
        if reset {
            stream.set_zero_linger().expect("the connection exists");
        }
        drop(stream);
        bridge.wait_for_metric(&series("incomplete"), number as f64 + 1.0).await;
    }
    let answer = until_closed(&bridge, &format!("{}zz\r\n", begun("Transfer-Encoding: chunked"))).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("problem:incomplete"), "{answer}");
    let upgrade = delivery("/webhooks/BookingCreate", "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    let answer = until_closed(&bridge, &upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("problem:upgrade"), "{answer}");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    assert_eq!(
        (bridge.metric(&series("incomplete")).await, bridge.metric(&series("upgrade")).await),
        (3.0, 1.0)
    );
    assert!(bridge.topic("BookingCreate", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_like_get_without_a_body() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.wait_until_ready_is(200).await;
    for path in ["/readyz", "/healthz", "/metrics", "/", "/console/state"] {
        let url = format!("http://{}{path}", bridge.admin);
        let answer = crate::support::bridge::http_client().head(url).send().await.expect("answered");
        let got = bridge.admin(path).await;
        assert_eq!(answer.status(), got.status, "{path}");
        assert_eq!(answer.headers().get("content-type"), got.headers.get("content-type"), "{path}");
        assert!(answer.headers().contains_key("content-length"), "{path}: {answer:?}");
        assert!(answer.bytes().await.expect("it ends").is_empty(), "{path}");
    }
    bridge.broker().down();
    bridge.wait_until_ready_is(503).await;
    let url = format!("http://{}/readyz", bridge.admin);
    let answer = crate::support::bridge::http_client().head(url).send().await.expect("answered");
    assert_eq!(answer.status(), 503);
}
