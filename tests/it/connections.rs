//! Connections: whatever a client does, its connection and its permit are free again in bounded time.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use nexudus_bridge::recent::MAX_VIEWERS;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::bridge::{TestBridge, sign};
use crate::support::say;
use crate::support::wire::{Wire, delivery};
use crate::tls::{certificate, connect};

const RECORD: &str = r#"{"Id":1}"#;

const BODY_TIMEOUT: Duration = Duration::from_secs(2);
const SETTING: (&str, &str) = ("ingress.body_timeout", "2s");

/// Limits of a connection, as `docs/deployment.md` names them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const LONGEST_IDLE: Duration = Duration::from_secs(80);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Tolerance: the server's clock has steps of half a second, and the machine can be busy.
const SLACK: Duration = Duration::from_secs(10);

/// Longer than any limit of a connection.
const EVER: Duration = Duration::from_secs(120);

fn within(took: Duration, least: Duration, most: Duration, what: &str) {
    say(&format!("{what}: {took:?}"));
    // The measured time may have begun long before this process read its clock.
    assert!(took >= least / 2 && took <= most + SLACK, "{what}: {took:?}");
}

/// Asserts that all permits are free, and that the bridge works.
async fn all_is_free(bridge: &TestBridge) {
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 0.0).await;
    bridge.wait_for_metric("nexudus_bridge_in_flight_bytes", 0.0).await;
    bridge.wait_until_ready_is(200).await;
}

/// A request's head that announces a body in this way.
fn head(framing: &str) -> Vec<u8> {
    let signature = sign(RECORD.as_bytes());
    format!(
        "POST /webhooks/BookingCreate HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {signature}\r\n{framing}\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dribbled_body_is_408_at_body_timeout_and_its_permit_is_free() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[SETTING]).await;
    let clients = ["Content-Length: 1000", "Transfer-Encoding: chunked"].map(|framing| async {
        let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
        let begun = Instant::now();
        wire.send(&head(framing)).await.expect("written");
        let pieces = "1\r\n[\r\n".repeat(1000);
        let reply = wire.dribble(pieces.as_bytes(), Duration::from_millis(20)).await.expect("an answer");
        reply.problem(408, "too_slow");
        within(begun.elapsed(), BODY_TIMEOUT, BODY_TIMEOUT, framing);
    });
    join_all(clients).await;
    all_is_free(&bridge).await;
    let series =
        r#"nexudus_bridge_deliveries_total{action="BookingCreate",outcome="too_slow",source="default"}"#;
    assert_eq!(bridge.metric(series).await, 2.0);
}

/// Round trip of the broker in tests in which a delivery has to wait.
const SLOW: Duration = Duration::from_secs(8);

/// Posts a delivery, and closes the client's side while Kafka is slow.
async fn sends_no_more<S: AsyncRead + AsyncWrite + Unpin>(bridge: &TestBridge, wire: &mut Wire<S>) {
    let begun = Instant::now();
    wire.send(&delivery("BookingCreate", RECORD.as_bytes())).await.expect("written");
    bridge.wait_for_metric("nexudus_bridge_in_flight_deliveries", 1.0).await;
    wire.shut().await.expect("shut");
    wire.ended().await;
    assert!(begun.elapsed() < SLOW, "it waits for the confirmation: {:?}", begun.elapsed());
    bridge.broker().clear_faults(); // the delivery in flight keeps its delay
    let series = r#"nexudus_bridge_events_confirmed_total{action="BookingCreate",source="default"}"#;
    bridge.wait_for_metric(series, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_is_closed_and_its_delivery_is_confirmed() {
    let settings = [("kafka.confirm_timeout", "30s")];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed"); // the leader is connected
    bridge.broker().round_trip(SLOW);
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    sends_no_more(&bridge, &mut wire).await;
    all_is_free(&bridge).await;
}

/// Sends a head that never ends, on a new connection.
async fn dribbles_its_head(bridge: &TestBridge) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    let begun = Instant::now();
    let reply = wire.dribble(&[b'G'; 1000], Duration::from_millis(200)).await.expect("an answer");
    assert_eq!(reply.status, 408);
    wire.ended().await;
    within(begun.elapsed(), HEAD_TIMEOUT, HEAD_TIMEOUT, "a dribbled head");
}

/// Sends a head that never ends, after a delivery on the same connection.
async fn dribbles_its_second_head(bridge: &TestBridge) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    wire.send(&delivery("BookingCreate", RECORD.as_bytes())).await.expect("written");
    wire.reply().await.expect("an answer").events("confirmed");
    let begun = Instant::now();
    let dribbling = wire.dribble(&[b'G'; 1000], Duration::from_millis(500));
    let ended = tokio::time::timeout(EVER, dribbling).await;
    assert!(ended.is_ok(), "a dribbled second head holds its connection");
    within(begun.elapsed(), Duration::ZERO, LONGEST_IDLE, "a dribbled second head");
}

/// Sends nothing after a delivery.
async fn idles(bridge: &TestBridge) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    wire.send(&delivery("BookingCreate", RECORD.as_bytes())).await.expect("written");
    wire.reply().await.expect("an answer").events("confirmed");
    within(wire.ended().await, KEEP_ALIVE, KEEP_ALIVE, "an idle connection");
}

/// Sends a refused request whose chunked body never ends.
async fn leaves_its_body_open(bridge: &TestBridge) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    let request =
        "POST /webhooks/NoSuchAction HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    wire.send(request.as_bytes()).await.expect("written");
    wire.reply().await.expect("an answer").problem(404, "unknown_action");
    within(wire.ended().await, Duration::ZERO, LONGEST_IDLE, "a body left open");
}

/// Sends requests without pause, and never reads the answers.
async fn never_reads(bridge: &TestBridge) {
    let wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    let requests = delivery("BookingCreate", RECORD.as_bytes()).repeat(100);
    let (begun, mut written, mut stuck) = (Instant::now(), 0, Instant::now());
    let error = loop {
        match wire.try_write(&requests[written % requests.len()..]) {
            Ok(length) => {
                written += length;
                stuck = Instant::now();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(stuck.elapsed() < EVER, "a client that never reads holds its connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => break error,
        }
    };
    say(&format!("never reads: {error} after {written} bytes and {:?}", begun.elapsed()));
    // The requests that were sent before are processed for a while.
    within(stuck.elapsed(), Duration::ZERO, LONGEST_IDLE + SLACK, "a client that never reads");
}

/// Opens the maximum of viewers of the console, which never read, while events are confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_do_not_read_are_disconnected() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let mut suspended = Vec::new();
    for _ in 0..MAX_VIEWERS {
        let mut wire = Wire::connect(bridge.admin).await.expect("the bridge listens");
        wire.send(b"GET /console/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
        suspended.push(wire);
    }
    let viewers = async || bridge.admin("/console/state").await.json()["viewers"].as_u64().expect("a number");
    let begun = Instant::now();
    while viewers().await < MAX_VIEWERS as u64 {
        assert!(begun.elapsed() < LONGEST_IDLE, "not all viewers are connected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    while viewers().await > 0 {
        assert!(begun.elapsed() < LONGEST_IDLE + SLACK, "{} viewers are still connected", viewers().await);
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    say(&format!("viewers that do not read: {:?}", begun.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_keeps_a_connection_without_progress() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    let early = join(dribbles_its_head(&bridge), dribbles_its_second_head(&bridge));
    let late = join(idles(&bridge), leaves_its_body_open(&bridge));
    join(join(early, late), never_reads(&bridge)).await;
    all_is_free(&bridge).await;
}

/// Connects without a TLS handshake.
async fn never_shakes_hands(bridge: &TestBridge) {
    let mut wire = Wire::connect(bridge.ingress).await.expect("the bridge listens");
    within(wire.ended().await, HANDSHAKE_TIMEOUT, HANDSHAKE_TIMEOUT, "no handshake");
}

/// Sends a head without its body, over TLS.
async fn never_sends_its_body(bridge: &TestBridge, certificate: &str) {
    let mut wire =
        Wire::over(connect(bridge.ingress, certificate, &["http/1.1"]).await.expect("a handshake"));
    let begun = Instant::now();
    wire.send(&head("Content-Length: 100")).await.expect("written");
    wire.reply().await.expect("an answer").problem(408, "too_slow");
    within(begun.elapsed(), BODY_TIMEOUT, BODY_TIMEOUT, "a body that is not sent");
    wire.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_keeps_a_tls_connection_without_progress() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = certificate(2100);
    let [chain_file, key_file] = [("tls.crt", &chain), ("tls.key", &key)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a temporary folder's name is text").to_owned()
    });
    let settings = [
        ("ingress.tls_cert", chain_file.as_str()),
        ("ingress.tls_key", &key_file),
        ("kafka.confirm_timeout", "30s"),
        SETTING,
    ];
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
    join(never_shakes_hands(&bridge), never_sends_its_body(&bridge, &chain)).await;
    // Over TLS too, the bridge detects that a client has disconnected while its delivery waits for Kafka.
    let mut wire = Wire::over(connect(bridge.ingress, &chain, &["http/1.1"]).await.expect("a handshake"));
    wire.send(&delivery("BookingCreate", RECORD.as_bytes())).await.expect("written");
    wire.reply().await.expect("an answer").events("confirmed"); // the leader is connected
    bridge.broker().round_trip(SLOW);
    sends_no_more(&bridge, &mut wire).await;
    all_is_free(&bridge).await;
}
