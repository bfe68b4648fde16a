//! Graceful shutdown: accepted deliveries are confirmed and answered, and no wait is unbounded.

use std::time::{Duration, Instant};

use nexudus_bridge::app::Ended;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::bridge::TestBridge;

const RECORD: &str = r#"{"Id":1}"#;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_flight_are_confirmed_and_answered_before_the_end() {
    let settings = [("kafka.confirm_timeout", "30s")];
    let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed"); // leaves an idle connection behind
    bridge.broker().round_trip(Duration::from_secs(5));
    let (reply, ()) = tokio::join!(bridge.deliver("BookingCreate", RECORD), async {
        bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
        bridge.stopper().stop();
        bridge.broker().clear_faults(); // the delivery in flight keeps its delay
    });
    reply.events("confirmed");
    let begun = Instant::now();
    assert_eq!(bridge.ended().await, Ended::Drained);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "idle connections delay the shutdown: {:?}",
        begun.elapsed()
    );
    assert_eq!(bridge.topic("BookingCreate", 2).len(), 2);
    assert!(TcpStream::connect(bridge.ingress).await.is_err(), "the listener is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_shutdown_delay_the_bridge_is_not_ready_and_accepts_deliveries() {
    let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &[("ingress.shutdown_delay", "8s")]).await;
    bridge.wait_until_ready_is(200).await;
    bridge.stopper().stop();
    let not_ready = bridge.wait_until_ready_is(503).await.json();
    assert_eq!(not_ready["reasons"][0], "shutting down");
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.ended().await, Ended::Drained);
    assert_eq!(bridge.topic("BookingCreate", 1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_grace_period_unconfirmed_deliveries_are_left_and_logged() {
    let settings = [("ingress.shutdown_grace", "1s"), ("kafka.confirm_timeout", "20s")];
    let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge.broker().round_trip(Duration::from_secs(15));
    let (signature, length) = (crate::support::bridge::sign(RECORD.as_bytes()), RECORD.len());
    let mut stream = TcpStream::connect(bridge.ingress).await.expect("the bridge listens");
    let request = format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{RECORD}"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("written");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
    let begun = Instant::now();
    bridge.stopper().stop();
    assert_eq!(bridge.ended().await, Ended::Left(1));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    assert!(read.is_err() || !answer.starts_with(b"HTTP/1.1 200"), "a 200 without a confirmation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_the_bridge_at_once() {
    let settings = [("ingress.shutdown_delay", "60s")];
    let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.wait_until_ready_is(200).await;
    let begun = Instant::now();
    let stopper = bridge.stopper();
    stopper.stop();
    bridge.wait_until_ready_is(503).await;
    stopper.stop();
    assert_eq!(bridge.ended().await, Ended::Left(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
