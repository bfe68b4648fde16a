//! Back-pressure: far more deliveries than may be in flight, while Kafka does not answer. Memory is bounded, refusals are immediate
//! and name the cause, and deliveries are confirmed again when Kafka continues.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::bridge::{MAX_WAIT, Reply, SECRET, http_client};
use crate::support::kafka::OwnBroker;
use crate::support::program::{Running, field};
use crate::support::say;
use crate::support::wire::{Wire, delivery};

/// Maximum resident memory during a flood of ordinary deliveries.
const MOST_RESIDENT_BYTES: u64 = 150_000_000;

/// Maximum resident memory with bodies near the limit. `max_in_flight_bytes` (32 MiB) counts three times: for the bodies, for the
/// Kafka client's copies, and for memory that growing buffers leave unused. The rest is for the process and 20 connections.
const MOST_WITH_LARGE_BODIES: u64 = 200_000_000;

/// Bound on the median of refusals, which distinguishes an immediate refusal from one that waited for Kafka. The documented 50 ms are
/// measured elsewhere, since here an unoptimized program shares its cores with tests.
const MEDIAN_REFUSAL: Duration = Duration::from_secs(1);

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for which a large body may wait in the system's buffers.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Tolerance beside the documented second, since the senders of the flood keep both cores busy.
const LATENESS: Duration = Duration::from_secs(6);

/// Floods measure times, so only one runs at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The program with its own broker.
struct Scene {
    broker: OwnBroker,
    program: Running,
    ingress: SocketAddr,
    admin: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// One answer, with the times that the sender measured.
struct Answered {
    reply: Reply,
    /// Time from before the connection, so that a new connection counts.
    took: Duration,
    /// Time from the last byte sent, from which deadlines count.
    waited: Duration,
}

impl Scene {
    /// `ingress` is the lines of that section.
    async fn start(ingress: &str) -> Self {
        let broker = OwnBroker::start();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "[ingress]\nlisten = \"127.0.0.1:0\"\n{ingress}\n[admin]\nlisten = \"127.0.0.1:0\"\n[kafka]\n\
             bootstrap_servers = {:?}\nconfirm_timeout = \"{}s\"\n[topics]\nreplication_factor = 1\n\
             [sources.default]\nsecrets = [{SECRET:?}]\n",
            broker.bootstrap(),
            CONFIRM_TIMEOUT.as_secs(),
        );
        std::fs::write(&file, text).expect("written");
        let program = Running::serve(&file);
        let line = program.line_with("the bridge is listening");
        let ingress = field(&line, "ingress").parse().expect("an address");
        let admin = field(&line, "admin").to_owned();
        program.line_with("topics were created");
        let scene = Self { broker, program, ingress, admin, http: http_client(), _folder: folder };
        scene.confirmed().await; // the broker needs some time for new topics
        scene
    }

    /// Returns the values of `/metrics`, by series without the prefix.
    async fn metrics(&self) -> BTreeMap<String, f64> {
        let url = format!("http://{}/metrics", self.admin);
        let text = self.http.get(url).send().await.expect("answered").text().await.expect("text");
        let series = |line: &str| {
            let (name, value) = line.strip_prefix("nexudus_bridge_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(series).collect()
    }

    /// Returns the number of deliveries with this outcome.
    async fn outcome(&self, outcome: &str) -> usize {
        let wanted = format!("outcome=\"{outcome}\"");
        let metrics = self.metrics().await;
        let ours = |name: &str| name.starts_with("deliveries_total") && name.contains(&wanted);
        metrics.iter().filter(|(name, _)| ours(name)).map(|(_, value)| *value as usize).sum()
    }

    /// Sends this number of deliveries over this number of connections, which stay open until the bridge closes them.
    async fn throw(&self, deliveries: usize, connections: usize, text_bytes: usize) -> Vec<Answered> {
        let next = Arc::new(AtomicUsize::new(0));
        let requests: Arc<[Vec<u8>]> = requests(deliveries, text_bytes).into();
        let client = || {
            let (next, requests, address) = (Arc::clone(&next), Arc::clone(&requests), self.ingress);
            tokio::spawn(async move {
                let (mut kept, mut answers) = (None, Vec::new());
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= deliveries {
                        return answers;
                    }
                    let begun = Instant::now();
                    let mut wire = match kept.take() {
                        Some(wire) => wire,
                        None => Wire::connect(address).await.expect("the bridge takes connections"),
                    };
                    // The bridge may refuse before the whole body is sent. The client must still be able to read the answer.
                    wire.send(&requests[id % requests.len()]).await.ok();
                    let sent = Instant::now();
                    let reply = wire.reply().await.expect("each delivery is answered");
                    let closes = reply.header("connection") == Some("close");
                    kept = (!closes).then_some(wire);
                    answers.push(Answered { reply, took: begun.elapsed(), waited: sent.elapsed() });
                }
            })
        };
        let clients: Vec<_> = (0..connections).map(|_| client()).collect();
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.await.expect("a client does not fail"));
        }
        answers
    }

    /// Waits for the first confirmed delivery, and returns the time until then.
    async fn confirmed(&self) -> Duration {
        let begun = Instant::now();
        loop {
            let answers = self.throw(1, 1, 10).await;
            if answers[0].reply.status == 200 {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < MAX_WAIT, "nothing is confirmed: {}", answers[0].reply.json());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing is in flight.
    async fn settled(&self) {
        let begun = Instant::now();
        loop {
            let metrics = self.metrics().await;
            if metrics["in_flight_deliveries"] == 0.0 && metrics["in_flight_bytes"] == 0.0 {
                return;
            }
            assert!(begun.elapsed() < CONFIRM_TIMEOUT + MAX_WAIT, "still in flight: {metrics:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Makes deliveries before they are sent, since signing is slow in a test and would be measured. Some are sent several times.
fn requests(deliveries: usize, text_bytes: usize) -> Vec<Vec<u8>> {
    const MOST_BYTES: usize = 20_000_000;
    let text = "x".repeat(text_bytes);
    let request = |id| delivery("BookingCreate", format!(r#"[{{"Id":{id},"Text":"{text}"}}]"#).as_bytes());
    (0..deliveries.min(MOST_BYTES / text_bytes)).map(request).collect()
}

/// Asserts that each answer is a refusal with its cause and `Retry-After`, in time. Returns the number of answers with this cause,
/// and their median time.
fn refused(answers: &[Answered], cause: &str, within: Duration) -> (usize, Duration) {
    let (mut times, mut longest) = (Vec::new(), Duration::ZERO);
    for Answered { reply, took, waited } in answers {
        let why = reply.json()["cause"].as_str().unwrap_or("none").to_owned();
        reply.problem(503, &why); // also checks Retry-After
        assert!(["overloaded", "timeout", "broker"].contains(&why.as_str()), "{}", reply.json());
        assert!(*waited <= within, "{waited:?} until {why}");
        longest = longest.max(*waited);
        if why == cause {
            times.push(*took);
        }
    }
    say(&format!("the longest waited {longest:?}"));
    times.sort();
    (times.len(), times.get(times.len() / 2).copied().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_deliveries_without_kafka_are_refused_at_once_in_bounded_memory() {
    const DELIVERIES: usize = 20_000;
    let _alone = ALONE.lock().await;
    let scene = Scene::start("max_in_flight = 128").await;
    assert_eq!(scene.throw(256, 16, 10).await.iter().filter(|one| one.reply.status != 200).count(), 0);
    let idle = scene.program.peak_bytes();
    scene.broker.stop_process();
    let begun = Instant::now();
    let answers = scene.throw(DELIVERIES, 500, 4000).await;
    let took = begun.elapsed();
    assert_eq!(answers.len(), DELIVERIES);
    let (overloaded, median) = refused(&answers, "overloaded", CONFIRM_TIMEOUT + LATENESS);
    say(&format!("{overloaded} of {DELIVERIES} refused as overloaded, median {median:?}, all in {took:?}"));
    assert!(DELIVERIES - overloaded >= 128, "as many as allowed are in flight");
    assert!(median <= MEDIAN_REFUSAL, "{median:?}");
    scene.settled().await;
    assert_eq!(scene.outcome("overloaded").await, overloaded);
    assert_eq!(scene.outcome("timeout").await + scene.outcome("broker").await, DELIVERIES - overloaded);
    let peak = scene.program.peak_bytes();
    say(&format!("resident at most: {idle} bytes before, {peak} after"));
    assert!(peak < MOST_RESIDENT_BYTES, "{peak}");
    scene.broker.continue_process();
    let recovery = scene.confirmed().await;
    say(&format!("confirmed {recovery:?} after the broker went on"));
    let answers = scene.throw(1000, 50, 4000).await;
    let refused = answers.iter().find(|one| one.reply.status != 200);
    assert!(refused.is_none(), "{:?}", refused.map(|one| one.reply.json()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_near_the_maximum_size_are_bounded_by_their_bytes() {
    let _alone = ALONE.lock().await;
    let scene = Scene::start("").await;
    assert_eq!(scene.throw(16, 2, 4_100_000).await.iter().filter(|one| one.reply.status != 200).count(), 0);
    let idle = scene.program.peak_bytes();
    scene.broker.stop_process();
    let answers = scene.throw(100, 20, 4_100_000).await;
    let (overloaded, median) = refused(&answers, "overloaded", BODY_TIMEOUT + CONFIRM_TIMEOUT + LATENESS);
    say(&format!("{overloaded} of {} refused as overloaded, median {median:?}", answers.len()));
    assert!(overloaded > 0 && overloaded < answers.len(), "{overloaded}");
    scene.settled().await;
    let peak = scene.program.peak_bytes();
    say(&format!("resident at most: {idle} bytes before, {peak} after"));
    assert!(peak < MOST_WITH_LARGE_BODIES, "{peak}");
    scene.broker.continue_process();
    say(&format!("confirmed {:?} after the broker went on", scene.confirmed().await));
}
