use std::time::Duration;

use actix_web::HttpResponse;
use clap::Parser;

use super::*;
use crate::action::catalogue::ENTRIES;
use crate::sender::double;
use crate::sender::load::AnswerCount;
use crate::sender::payloads::{payload, wire_body};
use crate::sender::post::{ConfirmedEvent, PostFailure, Receipt};
use crate::signature::{self, Signature};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    Line::try_parse_from(["send"].iter().chain(line)).map_err(|error| error.to_string()).unwrap().args
}

fn bodies(line: &[&str]) -> anyhow::Result<Bodies> {
    super::bodies(&args(line), &Actions::with_extras(["SomethingNew"]).unwrap())
}

/// A file whose use as the configuration would be an error.
fn no_configuration() -> Option<&'static Path> {
    Some(Path::new("/dev/null/not-used"))
}

fn delivery(bodies: &Bodies, number: u64) -> (String, String) {
    let delivery = bodies.delivery(number, &"default".into(), None);
    (delivery.action.to_string(), String::from_utf8(delivery.body.to_vec()).unwrap())
}

#[test]
fn an_action_is_sent_under_its_own_name_with_its_own_record_in_numbered_copies() {
    let bodies = bodies(&["6"]).unwrap();
    let (action, first) = delivery(&bodies, 0);
    assert_eq!((action.as_str(), first.as_bytes()), ("BookingCreate", &*wire_body(payload("6").unwrap())));
    assert_ne!(delivery(&bodies, 1).1, first);
}

#[test]
fn all_is_every_action_in_turn_and_then_the_next_copies() {
    let bodies = bodies(&["ALL"]).unwrap();
    assert_eq!(bodies.list.len(), ENTRIES.len());
    for (number, entry) in (0..).zip(&ENTRIES) {
        let (action, body) = delivery(&bodies, number);
        let (again, next) = delivery(&bodies, number + ENTRIES.len() as u64);
        assert_eq!((action.as_str(), again.as_str()), (entry.name, entry.name));
        assert_ne!(body, next);
    }
}

#[test]
fn an_unknown_action_without_a_payload_is_wrong_usage_with_the_nearest_name() {
    for (action, expected) in [
        ("BookingCreat", "(did you mean BookingCreate?), expected --payload FILE"),
        ("zzzz", "not an action of the catalogue, expected --payload FILE"),
        ("somethingnew", "there is no invented record for \"somethingnew\""),
    ] {
        let error = bodies(&[action]).err().expect("no payload");
        assert!(error.is::<Usage>() && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_payload_is_sent_byte_for_byte_under_any_action() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = " [ {\"Id\" : 7} ]\r\n";
    std::fs::write(file.path(), body).unwrap();
    let file = file.path().to_str().unwrap();
    for (action, name) in
        [("bookingcreate", "BookingCreate"), ("somethingnew", "SomethingNew"), ("What?", "What?")]
    {
        let bodies = bodies(&[action, "--payload", file]).unwrap();
        assert_eq!(delivery(&bodies, 0), (name.to_owned(), body.to_owned()));
        assert_eq!(delivery(&bodies, 5).1, " [ {\"Id\" : 12} ]\r\n");
    }
}

#[test]
fn the_parser_refuses_values_out_of_range_and_debug_output_has_no_secrets() {
    for line in [
        &["X", "--rate", "0"][..],
        &["X", "--rate", "inf"],
        &["X", "--count", "0"],
        &["X", "--concurrency", "0"],
    ] {
        assert!(Line::try_parse_from(["send"].iter().chain(line)).is_err(), "{line:?}");
    }
    let debug = format!("{:?}", args(&["X", "--secret", "s3cr3t", "--token", "t0k3n"]));
    assert!(!debug.contains("s3cr3t") && !debug.contains("t0k3n"), "{debug}");
}

#[tokio::test]
async fn the_exit_code_is_0_if_the_bridge_answers_every_delivery_2xx() {
    let key = SigningKey::new("s").unwrap();
    let url = double::start(move |number, request, body| {
        let signature = request.headers().get(signature::HEADER).unwrap().as_bytes();
        assert!(key.verify(body, &Signature::parse(signature).unwrap()).is_some());
        match number {
            1..=91 => HttpResponse::Ok().body(r#"{"status":"confirmed","events":[]}"#),
            _ => HttpResponse::ServiceUnavailable().body("{}"),
        }
    })
    .await;
    let send = async |line: &[&str]| {
        let line = [line, &["--url", &url, "--secret", "s", "--json"]].concat();
        let mut out = Output::to(Box::new(std::io::sink()));
        run(args(&line), no_configuration(), &mut out).await.unwrap()
    };
    assert_eq!(send(&["all", "--concurrency", "4"]).await, Exit::Done);
    assert_eq!(send(&["BookingCreate"]).await, Exit::Done);
    assert_eq!(send(&["BookingCreate", "--count", "2"]).await, Exit::Failed);
}

#[tokio::test]
async fn an_invalid_address_is_wrong_usage() {
    let args = args(&["X", "--url", "localhost:8080", "--secret", "s", "--payload", "/dev/null"]);
    let mut out = Output::to(Box::new(std::io::sink()));
    let error = run(args, no_configuration(), &mut out).await.unwrap_err();
    assert!(error.is::<Usage>() && error.to_string().contains("--url"), "{error}");
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn one_delivery_has_the_positions_of_its_events_or_its_refusal() {
    let event = |offset| ConfirmedEvent { id: "abc".into(), topic: "nexudus.X".into(), partition: 2, offset };
    let receipt = Receipt { status: "confirmed".into(), events: vec![event(Some(7)), event(None)] };
    let answer = |result, attempts| Answer { result, latency: Duration::from_micros(1234), attempts };
    assert_eq!(
        plain(&text_of_one(&answer(Ok(receipt), 1))),
        "confirmed in 1.23 ms\n  nexudus.X partition 2 offset 7  id abc\n  nexudus.X partition 2 offset unknown  id abc"
    );
    let refusal = PostFailure::NoAnswer("connection refused".into());
    assert_eq!(
        plain(&text_of_one(&answer(Err(refusal), 3))),
        "not confirmed: no answer: connection refused (1.23 ms, attempt 3)"
    );
}

fn summary() -> Summary {
    let mut latency = hdrhistogram::Histogram::new_with_max(1_000_000, 3).unwrap();
    latency.record_n(2_000, 1_499).unwrap();
    let tally = |count, accepted, example: Option<&str>| AnswerCount {
        count,
        accepted,
        example: example.map(str::to_owned),
    };
    let refused = tally(1, false, Some("BookingCreate: 503 Full: no room"));
    Summary {
        deliveries: 1_500,
        accepted: 1_499,
        events: 1_499,
        attempts: 1_502,
        answers: [("confirmed".to_owned(), tally(1_499, true, None)), ("503 queue_full".to_owned(), refused)]
            .into(),
        latency,
        longest: Some((Duration::from_millis(9), Duration::from_millis(250))),
        elapsed: Duration::from_millis(500),
    }
}

#[test]
fn many_deliveries_have_their_latencies_and_answers_with_an_example_of_each_refusal() {
    let text = plain(&text_of_all(&summary(), 1_501));
    assert_eq!(
        text,
        "interrupted after 1,500 of 1,501 deliveries\n\
         1,500 deliveries in 500 ms, 3,000/s; 1,499 events confirmed; 2 retries\n\
         \x20 latency  p50 2.00 ms  p90 2.00 ms  p99 2.00 ms  max 2.00 ms\n\
         \x20 longest  9.00 ms at 250 ms from the start\n\
         \x20         1  503 queue_full\n\
         \x20            such as BookingCreate: 503 Full: no room\n\
         \x20     1,499  confirmed"
    );
}

#[test]
fn the_json_has_the_same_numbers() {
    let document = summary().document(None);
    assert_eq!(document["accepted"], 1_499);
    assert!((document["latency_seconds"]["p99"].as_f64().unwrap() - 0.002).abs() < 1e-5);
    assert_eq!(document["answers"][0]["example"], "BookingCreate: 503 Full: no room");
    assert!(document.get("confirmed").is_none());
}
