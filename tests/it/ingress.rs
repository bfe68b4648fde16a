//! The ingress: accepted and refused requests, and their answers.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use nexudus_bridge::action::catalogue::ENTRIES;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{MAX_WAIT, SECRET, TestBridge, sign};

const BOOKING: &str = r#"[{"Id":1,"CoworkerFullName":"José 😀","UpdatedOn":"2026-01-02T03:04:05.6Z"}]"#;
const RECORD: &str = r#"{"Id":1,"CoworkerFullName":"José 😀","UpdatedOn":"2026-01-02T03:04:05.6Z"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn both_url_forms_in_any_case_and_with_numbers_have_the_same_action() {
    let settings = [("sources.north.secrets", r#"["test-secret"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    for path in
        ["BookingCreate", "bookingcreate", "6", "default/BookingCreate", "north/BOOKINGCREATE", "north/6"]
    {
        let events = bridge.deliver(path, BOOKING).await.events("confirmed");
        assert_eq!(events.len(), 1, "{path}");
        assert_eq!(events[0]["topic"], "nexudus.BookingCreate", "{path}");
    }
    let messages = bridge.topic("BookingCreate", 6);
    assert!(messages.iter().all(|message| message.value == RECORD.as_bytes()));
    let sources =
        |name: &str| messages.iter().filter(|message| message.header("ce_source") == Some(name)).count();
    assert_eq!((sources("/nexudus/default"), sources("/nexudus/north")), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_89_actions_and_the_extra_ones_are_accepted() {
    let mut names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    names.push("SomethingNew");
    let settings = [("sources.default.extra_actions", r#"["SomethingNew"]"#)];
    let bridge = TestBridge::on_embedded(&names, &settings).await;
    for name in &names {
        assert_eq!(bridge.deliver(name, BOOKING).await.events("confirmed")[0]["topic"], bridge.name_of(name));
    }
    for name in names {
        let message = &bridge.topic(name, 1)[0];
        assert_eq!(message.value, RECORD.as_bytes(), "{name}");
        assert_eq!(message.header("ce_type"), Some(format!("com.nexudus.{name}").as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_signature_vector_is_accepted_and_published_byte_for_byte() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../data/signature-vectors.json")).expect("the vectors are JSON");
    let vectors = vectors.as_array().expect("a list");
    let text = |vector: &serde_json::Value, field: &str| vector[field].as_str().expect("a text").to_owned();
    // One source for each vector, since each vector has its own secret.
    let sources: Vec<(String, String)> = (0..vectors.len())
        .map(|place| {
            let secret =
                serde_json::to_string(&[text(&vectors[place], "secret")]).expect("a text can be written");
            (format!("sources.v{place}.secrets"), secret)
        })
        .collect();
    let settings: Vec<(&str, &str)> =
        sources.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let bridge = TestBridge::on_apache(&["BookingCreate"], &settings).await;
    let mut records = Vec::new();
    let mut kept = Vec::new();
    for (place, vector) in vectors.iter().enumerate() {
        let body = BASE64_STANDARD.decode(text(vector, "body_utf8_base64")).expect("base64");
        let path = format!("v{place}/BookingCreate");
        let headers = [("x-nexudus-hook-signature", text(vector, "signature"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let reply = bridge.post(&path, &headers, body.clone()).await;
        let name = text(vector, "name");
        match reply.json()["status"].as_str() {
            Some("confirmed") => records.extend(elements(&body)),
            Some("quarantined") => kept.push(body),
            Some("empty") => assert_eq!(body, b"[]", "{name}"),
            other => panic!("{name}: {} {other:?}", reply.status),
        }
        // A signature with one wrong bit is invalid.
        let wrong = flipped(&text(vector, "signature"));
        let body = BASE64_STANDARD.decode(text(vector, "body_utf8_base64")).expect("base64");
        bridge
            .post(&path, &[("x-nexudus-hook-signature", &wrong)], body)
            .await
            .problem(401, "invalid_signature");
    }
    let values = |action, expected| {
        let mut values: Vec<Vec<u8>> =
            bridge.topic(action, expected).into_iter().map(|message| message.value).collect();
        values.sort();
        values
    };
    records.sort();
    kept.sort();
    assert!(records.len() > 70 && !kept.is_empty(), "{} and {}", records.len(), kept.len());
    assert_eq!(values("BookingCreate", records.len()), records);
    assert_eq!(values("quarantine", kept.len()), kept);
}

/// Returns the elements of a JSON array of objects as text, by another parser than the bridge's.
fn elements(body: &[u8]) -> Vec<Vec<u8>> {
    let elements: Vec<&serde_json::value::RawValue> = serde_json::from_slice(body).expect("an array");
    elements.into_iter().map(|element| element.get().as_bytes().to_vec()).collect()
}

fn flipped(signature: &str) -> String {
    let last = if signature.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &signature[..63])
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_deliveries_are_refused_and_reach_no_topic() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let right = sign(BOOKING.as_bytes());
    bridge.post("BookingCreate", &[], BOOKING).await.problem(401, "missing_signature");
    for wrong in ["", "abc", &right[..63], &format!("{right}0"), &right.replace(|_: char| true, "g")] {
        let reply = bridge.post("BookingCreate", &[("X-Nexudus-Hook-Signature", wrong)], BOOKING).await;
        reply.problem(401, "invalid_signature");
        assert!(reply.header("www-authenticate").is_some());
    }
    let wrong = flipped(&right);
    let twice = [("X-Nexudus-Hook-Signature", right.as_str()), ("x-nexudus-hook-signature", &wrong)];
    bridge.post("BookingCreate", &twice, BOOKING).await.problem(401, "invalid_signature");
    let detail = bridge
        .post("BookingCreate", &[("X-Nexudus-Hook-Signature", &flipped(&right))], BOOKING)
        .await
        .problem(401, "invalid_signature");
    assert!(!detail.contains(&right) && !detail.contains(SECRET), "{detail}");
    let lower = right.to_lowercase();
    bridge.post("BookingCreate", &[("X-Nexudus-Hook-Signature", &lower)], BOOKING).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1).len(), 1);
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_sources_and_actions_are_404_and_only_actions_get_a_hint() {
    let settings = [("sources.north.secrets", r#"["test-secret"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let detail = bridge.deliver("nort/BookingCreate", BOOKING).await.problem(404, "unknown_source");
    assert!(!detail.contains("north"), "{detail}");
    let unsigned = bridge.post("BokingCreate", &[], BOOKING).await.problem(404, "unknown_action");
    assert!(unsigned.contains("did you mean BookingCreate?"), "{unsigned}");
    let label = bridge.post("Customer%20CREATED", &[], BOOKING).await.problem(404, "unknown_action");
    assert!(label.contains("did you mean CoworkerCreate?"), "{label}");
    let wrong = [("X-Nexudus-Hook-Signature", "0".repeat(64))];
    let wrong = wrong.each_ref().map(|(name, value)| (*name, value.as_str()));
    bridge.post("BokingCreate", &wrong, BOOKING).await.problem(404, "unknown_action");
    for path in ["1", "None", "91", "quarantine", &"x".repeat(4000)] {
        bridge.post(path, &[], BOOKING).await.problem(404, "unknown_action");
    }
    assert_eq!(bridge.metric(r#"nexudus_bridge_deliveries_total{action="unknown",outcome="unknown_action",source="default"}"#).await, 8.0);
    assert_eq!(bridge.metric(r#"nexudus_bridge_deliveries_total{action="unknown",outcome="unknown_source",source="unknown"}"#).await, 1.0);
    assert!(bridge.topic("quarantine", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bodies_without_records_are_kept_whole_on_the_quarantine_topic() {
    let bridge = TestBridge::on_apache(&["BookingCreate"], &[]).await;
    let cases: [(&str, &[u8], &str); 6] = [
        ("BokingCreate", BOOKING.as_bytes(), "unknown_action"),
        ("BookingCreate", b"not json \xFF at all", "not_json"),
        ("BookingCreate", b"", "not_json"),
        ("BookingCreate", b"[1,2]", "not_records"),
        ("BookingCreate", b"[{\"Id\":1},null]", "not_records"),
        ("BookingCreate", "[{\"Id\":\"é\"}] and more".as_bytes(), "not_json"),
    ];
    for (path, body, _) in cases {
        let events = bridge.deliver(path, body).await.events("quarantined");
        assert_eq!((events.len(), &events[0]["topic"]), (1, &bridge.name_of("quarantine").into()), "{path}");
    }
    let messages = bridge.topic("quarantine", cases.len());
    for (path, body, reason) in cases {
        let message = messages.iter().find(|message| message.value == body).expect("kept byte for byte");
        assert_eq!(message.header("quarantine-reason"), Some(reason));
        assert_eq!(message.header("nexudus-action"), Some(path));
        assert_eq!(message.key, None);
        assert_eq!(message.header("ce_id"), message.header("ce_nexudusfingerprint"));
    }
    for (reason, count) in
        [("unknown_action", 1.0), ("not_json", 3.0), ("not_records", 2.0), ("refused", 0.0)]
    {
        let series = format!(r#"nexudus_bridge_quarantined_total{{reason="{reason}",source="default"}}"#);
        assert_eq!(bridge.metric(&series).await, count, "{reason}");
    }
    assert!(bridge.topic("BookingCreate", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_more_than_1000_records_is_kept_whole_on_the_quarantine_topic() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let body = |count: usize| format!("[{}{{}}]", "{},".repeat(count - 1));
    assert_eq!(bridge.deliver("BookingCreate", body(1000)).await.events("confirmed").len(), 1000);
    // The last body has the maximum size.
    let too_many = [1001, 4 * 1024 * 1024 / 3].map(body);
    for body in &too_many {
        assert_eq!(bridge.deliver("BookingCreate", body.as_str()).await.events("quarantined").len(), 1);
    }
    for message in bridge.topic("quarantine", too_many.len()) {
        assert_eq!(message.header("quarantine-reason"), Some("too_many_records"));
        assert!(too_many.iter().any(|body| message.value == body.as_bytes()), "kept byte for byte");
    }
    assert_eq!(bridge.topic("BookingCreate", 1000).len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_array_is_200_without_an_event_and_a_bare_object_is_one_record() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    assert!(bridge.deliver("BookingCreate", "[ ]\n").await.events("empty").is_empty());
    assert!(bridge.topic("BookingCreate", 0).is_empty());
    assert_eq!(bridge.deliver("BookingCreate", RECORD).await.events("confirmed").len(), 1);
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn signature_warn_accepts_marks_and_counts_and_signature_off_does_not_check() {
    let settings = [
        ("sources.warns.secrets", r#"["test-secret"]"#),
        ("sources.warns.signature", "warn"),
        ("sources.blind.signature", "off"),
    ];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    let malformed = [("X-Nexudus-Hook-Signature", "abc")];
    let wrong = "0".repeat(64);
    let wrong = [("X-Nexudus-Hook-Signature", wrong.as_str())];
    for (path, headers) in
        [("warns/6", &[][..]), ("warns/6", &malformed), ("warns/6", &wrong), ("blind/6", &[])]
    {
        bridge.post(path, headers, BOOKING).await.events("confirmed");
    }
    bridge.deliver("warns/6", BOOKING).await.events("confirmed");
    bridge.post("blind/NoSuchThing", &[], BOOKING).await.events("quarantined");
    let mut marks: Vec<Option<String>> = bridge
        .topic("BookingCreate", 5)
        .iter()
        .map(|message| message.header("nexudus-signature").map(str::to_owned))
        .collect();
    marks.sort();
    let mark = |mark: &str| Some(mark.to_owned());
    assert_eq!(marks, [None, None, mark("invalid"), mark("invalid"), mark("missing")]);
    for (reason, count) in [("missing", 1.0), ("invalid", 2.0)] {
        let series =
            format!(r#"nexudus_bridge_signature_warnings_total{{reason="{reason}",source="warns"}}"#);
        assert_eq!(bridge.metric(&series).await, count, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_secrets_is_valid_during_a_rotation() {
    let bridge = TestBridge::on_embedded(
        &["BookingCreate"],
        &[("sources.default.secrets", r#"["new", "test-secret"]"#)],
    )
    .await;
    bridge.deliver("BookingCreate", BOOKING).await.events("confirmed");
    let new = nexudus_bridge::signature::SigningKey::new("new").expect("not empty").sign(BOOKING.as_bytes());
    bridge.post("BookingCreate", &[("X-Nexudus-Hook-Signature", &new)], BOOKING).await.events("confirmed");
    let series =
        |form| format!(r#"nexudus_bridge_signature_matches_total{{form="{form}",source="default"}}"#);
    assert_eq!((bridge.metric(&series("folded")).await, bridge.metric(&series("raw")).await), (2.0, 0.0));
    assert_eq!(bridge.topic("BookingCreate", 2).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_token_is_required_if_it_is_configured() {
    let settings = [("sources.default.url_tokens", r#"["old", "new one"]"#)];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    for path in [
        "BookingCreate",
        "BookingCreate?token=",
        "BookingCreate?token=ol",
        "BookingCreate?token=old&token=old",
    ] {
        let detail = bridge.deliver(path, BOOKING).await.problem(401, "invalid_token");
        assert!(!detail.contains("old"), "{detail}");
    }
    for path in ["BookingCreate?token=old", "BookingCreate?x=1&token=new%20one"] {
        bridge.deliver(path, BOOKING).await.events("confirmed");
    }
    assert_eq!(bridge.topic("BookingCreate", 2).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_405_and_other_paths_404() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer =
            raw(&bridge, &format!("{method} /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(answer.to_lowercase().contains("\r\nallow: post\r\n"), "{method}: {answer}");
    }
    for path in ["/", "/webhooks", "/webhooks/", "/webhooks/a/b/c", "/webhooks/BookingCreate/", "/metrics"] {
        let answer =
            raw(&bridge, &format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="method",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_or_encoded_is_refused_before_it_is_read() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[("ingress.max_body_bytes", "2000")]).await;
    let signature = sign(b"");
    let head = format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\n"
    );
    let answer = raw(&bridge, &format!("{head}Content-Length: 2001\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("too_large"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let answer =
        raw(&bridge, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}0\r\n\r\n"))
            .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = raw(&bridge, &format!("{head}Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("problem:encoded"), "{answer}");
    let most = format!(r#"[{{"Id":1,"Text":"{}"}}]"#, "x".repeat(2000 - 20));
    assert_eq!(most.len(), 2000);
    bridge.deliver("BookingCreate", most.clone()).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, &most.as_bytes()[1..1999]);
    for outcome in ["too_large", "encoded"] {
        let series = format!(
            r#"nexudus_bridge_deliveries_total{{action="BookingCreate",outcome="{outcome}",source="default"}}"#
        );
        assert!(bridge.metric(&series).await > 0.0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_in_many_pieces_is_one_delivery() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let signature = sign(BOOKING.as_bytes());
    let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    let head = format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Nexudus-Hook-Signature: {signature}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    for byte in BOOKING.as_bytes() {
        stream.write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).await.expect("written");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[("ingress.body_timeout", "300ms")]).await;
    let signature = sign(BOOKING.as_bytes());
    let head = format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\nContent-Length: 100\r\n\r\n[{{"
    );
    let answer = raw(&bridge, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("problem:too_slow"), "{answer}");
    assert_eq!(bridge.metric("nexudus_bridge_in_flight_deliveries").await, 0.0);
    assert_eq!(bridge.metric("nexudus_bridge_in_flight_bytes").await, 0.0);
    assert!(bridge.topic("BookingCreate", 0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_deliveries_or_bytes_than_allowed_are_refused_at_once_as_overloaded() {
    const SLOW: Duration = Duration::from_secs(5);
    let settings = [
        ("ingress.max_in_flight", "2"),
        ("ingress.max_body_bytes", "4000"),
        ("ingress.max_in_flight_bytes", "5000"),
        ("kafka.confirm_timeout", "30s"), // the second delivery also waits for the first's round trip
    ];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver("6", BOOKING).await.events("confirmed");
    bridge.broker().round_trip(SLOW);
    let large = format!(r#"[{{"Id":2,"Text":"{}"}}]"#, "x".repeat(3000));
    let (first, (overloaded, second)) = tokio::join!(bridge.deliver("6", large.clone()), async {
        bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", large.len() as f64).await;
        let overloaded = bridge.deliver("6", large.clone()).await;
        bridge.broker().clear_faults(); // the delivery in flight keeps its delay
        (overloaded, bridge.deliver("6", BOOKING).await)
    });
    overloaded.problem(503, "overloaded");
    assert_eq!(overloaded.header("retry-after"), Some("1"));
    first.events("confirmed");
    second.events("confirmed");
    bridge.broker().round_trip(SLOW);
    let (first, (second, third)) = tokio::join!(bridge.deliver("6", BOOKING), async {
        bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
        tokio::join!(bridge.deliver("6", BOOKING), async {
            bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 2.0).await;
            let third = bridge.deliver("6", BOOKING).await;
            bridge.broker().clear_faults();
            third
        })
    });
    third.problem(503, "overloaded");
    first.events("confirmed");
    second.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 5).len(), 5);
    bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", 0.0).await;
}

/// Sends bytes, and returns the answer up to the end of the connection or of its body.
async fn raw(bridge: &TestBridge, request: &str) -> String {
    let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            answer.extend_from_slice(&buffer[..read]);
            if read == 0 || is_whole(&answer) {
                return;
            }
        }
    };
    tokio::time::timeout(MAX_WAIT, reading).await.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}
