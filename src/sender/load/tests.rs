use std::future::pending;

use actix_web::{HttpRequest, HttpResponse};
use tokio::sync::Notify;

use super::*;
use crate::sender::delivery::Target;
use crate::sender::double;
use crate::sender::payloads::{Template, payload, wire_body};
use crate::sender::post::Retry;

/// Confirms records with an even id, and has no room for the others.
async fn bridge() -> Poster {
    let confirmed = r#"{"status":"confirmed","events":[{"id":"1","topic":"t","partition":0,"offset":0}]}"#;
    let full = r#"{"title":"Full","detail":"no room","cause":"queue_full"}"#;
    let answer = move |_, _: &HttpRequest, body: &[u8]| {
        let records: Vec<serde_json::Value> = serde_json::from_slice(body).unwrap();
        match records[0]["Id"].as_u64().unwrap() % 2 {
            0 => HttpResponse::Ok().body(confirmed),
            _ => HttpResponse::ServiceUnavailable().body(full),
        }
    };
    let target = Target::parse(&double::start(answer).await, None).unwrap();
    Poster::new(target, Retry::NEVER, 8).unwrap()
}

fn plan(count: u64, concurrency: usize, rate: Option<f64>) -> Load {
    Load { count, concurrency: NonZeroUsize::new(concurrency).unwrap(), rate }
}

fn numbered() -> impl Fn(u64) -> Delivery + Send + Sync + 'static {
    let template = Template::new(wire_body(payload("BookingCreate").unwrap()));
    move |number| Delivery::new("default".into(), "BookingCreate".into(), template.copy(number), None)
}

#[tokio::test]
async fn every_delivery_is_sent_once_and_counted_by_its_answer() {
    let poster = bridge().await;
    let mut numbers = Vec::new();
    let summary =
        run(&poster, plan(101, 8, None), numbered(), pending(), |done| numbers.push(done.number)).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..101).collect::<Vec<_>>());
    assert_eq!((summary.deliveries, summary.attempts), (101, 101));
    assert_eq!(summary.accepted, summary.events);
    assert_eq!(summary.latency.len(), summary.accepted);
    let [confirmed, full] = ["confirmed", "503 queue_full"].map(|kind| summary.answers[kind].clone());
    assert_eq!((confirmed.count + full.count, confirmed.count.abs_diff(full.count)), (101, 1));
    assert!(confirmed.accepted && !full.accepted);
    assert_eq!(full.example.as_deref(), Some("BookingCreate: 503 Full: no room"));
    assert!(summary.quantile(0.5) <= summary.quantile(1.0) && summary.quantile(0.5) > Duration::ZERO);
    assert!(summary.longest.unwrap().1 <= summary.elapsed);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let poster = bridge().await;
    let mut shortest = Duration::MAX; // of three, as a machine may stall
    for _ in 0..3 {
        let summary = run(&poster, plan(51, 4, Some(100.0)), numbered(), pending(), |_| {}).await;
        assert!(summary.elapsed >= Duration::from_millis(500), "{:?}", summary.elapsed);
        shortest = shortest.min(summary.elapsed);
    }
    assert!(shortest < Duration::from_millis(1500), "{shortest:?}");
}

#[tokio::test]
async fn with_a_rate_the_wait_that_a_slow_bridge_causes_is_part_of_the_latency() {
    let slow = |_, _: &HttpRequest, _: &[u8]| {
        std::thread::park_timeout(Duration::from_millis(50));
        HttpResponse::Ok().body(r#"{"status":"empty","events":[]}"#)
    };
    let target = Target::parse(&double::start(slow).await, None).unwrap();
    let poster = Poster::new(target, Retry::NEVER, 1).unwrap();
    let summary = run(&poster, plan(10, 1, Some(1000.0)), numbered(), pending(), |_| {}).await;
    assert!(summary.quantile(1.0) >= Duration::from_millis(400), "{:?}", summary.quantile(1.0));
    assert!(summary.answers["empty"].accepted);
}

#[tokio::test]
async fn a_stop_ends_it_with_what_is_done_so_far() {
    let poster = bridge().await;
    let first = Notify::new();
    let stop = async {
        first.notified().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let on_answer = |_: &SentDelivery| first.notify_one();
    let summary = run(&poster, plan(1_000_000, 2, Some(100.0)), numbered(), stop, on_answer).await;
    assert!((1..10_000).contains(&summary.deliveries), "{}", summary.deliveries);
    assert!(summary.elapsed < Duration::from_secs(30));
}
