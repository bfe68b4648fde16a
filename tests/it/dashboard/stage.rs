//! The bridge of the dashboard's test: the real program with TLS on a broker behind a proxy, its load and its faults.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nexudus_double::{Limits, Nexudus, Options, demo};
use tokio::task::{JoinHandle, JoinSet};

use super::SCRAPED_EVERY;
use crate::support::bridge::{MAX_WAIT, SECRET, http_client, sign};
use crate::support::kafka::{OwnBroker, free_port};
use crate::support::nexudus::PUBLIC;
use crate::support::program::Running;
use crate::support::proxy::Proxy;
use crate::tls::{certificate, client};

/// Maximum number of deliveries in flight; small, so that an outage reaches it.
const MAX_IN_FLIGHT: usize = 8;

/// Interval between two deliveries of the load.
const PACE: Duration = Duration::from_millis(40);

/// The real bridge, with TLS, on a broker behind a proxy.
pub(super) struct Stage {
    _broker: OwnBroker,
    network: Proxy,
    pub(super) folder: tempfile::TempDir,
    /// `None` during a restart.
    bridge: Option<Running>,
    ingress: u16,
    pub(super) admin: u16,
    client: reqwest::Client,
    nexudus: Nexudus,
    /// A webhook of the source `default`.
    webhook: i64,
}

impl Stage {
    pub(super) fn start() -> Self {
        let network = Proxy::start(([127, 0, 0, 1], free_port()).into());
        let broker = OwnBroker::start_behind(network.address(), &[]);
        network.retarget(broker.behind_proxy());
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = certificate(2040);
        fs::write(folder.path().join("tls.crt"), &chain).expect("written");
        fs::write(folder.path().join("tls.key"), &key).expect("written");
        let (ingress, admin) = (free_port(), free_port());
        let nexudus =
            Nexudus::start(Options { limits: Limits::NONE, ..Options::default() }).expect("free ports");
        nexudus.populate(Some(SECRET));
        let url = format!("{PUBLIC}/webhooks/BookingCreate");
        let webhook = nexudus.add_webhook(demo::LOCATIONS[0], "BookingCreate", &url, true).expect("known");
        let triggered = [("LastTrigger", "\"2026-01-02T03:04:05Z\"")];
        nexudus.change_webhook(webhook, &triggered).expect("exists");
        // A person has disabled this webhook, and the webhook for BookingDelete is missing.
        let url = format!("{PUBLIC}/webhooks/BookingUpdate");
        nexudus.add_webhook(demo::LOCATIONS[0], "BookingUpdate", &url, false).expect("known");
        let file = folder.path().join("bridge.toml");
        let sources = settings(folder.path(), ingress, admin, &network);
        fs::write(&file, format!("{sources}{}", watched(&nexudus))).expect("written");
        let bridge = Running::serve(&file);
        bridge.line_with("topics were created");
        // No keep-alive: after a restart of the bridge, no request may use a closed connection.
        let client = client(&chain).http1_only().pool_max_idle_per_host(0).build().expect("a client");
        Self {
            _broker: broker,
            network,
            folder,
            bridge: Some(bridge),
            ingress,
            admin,
            client,
            nexudus,
            webhook,
        }
    }

    /// Nexudus disables the webhook; waits until the bridge has re-enabled it.
    async fn disable_webhook(&self) {
        let off = [("Active", "false"), ("ErrorCount", "10")];
        self.nexudus.change_webhook(self.webhook, &off).expect("exists");
        let begun = Instant::now();
        while !self.nexudus.webhook(self.webhook).expect("exists").active {
            assert!(begun.elapsed() < MAX_WAIT, "the guardian does not re-enable the webhook");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("bridge.toml")
    }

    /// Posts a record, and disconnects before the answer.
    async fn disconnect(&self, body: &str) {
        let url = format!("https://localhost:{}/webhooks/BookingCreate", self.ingress);
        let request = self.client.post(url).header("X-Nexudus-Hook-Signature", sign(body.as_bytes()));
        // An answer within this time is a refusal because of overload.
        request.body(body.to_owned()).timeout(Duration::from_millis(300)).send().await.ok();
    }

    /// Posts a record until it is confirmed, as Nexudus would.
    async fn retry(&self, body: &str) {
        let begun = Instant::now();
        loop {
            let again = signed(&self.client, self.ingress, "BookingCreate", body.to_owned()).send().await;
            let status = again.expect("answered").status();
            if status == 200 {
                return;
            }
            assert!(status == 503 && begun.elapsed() < MAX_WAIT, "the retry: {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the number of retries that were answered with the confirmation of an earlier attempt.
    async fn suppressed(&self) -> f64 {
        let metrics = http_client().get(format!("http://127.0.0.1:{}/metrics", self.admin)).send().await;
        let metrics = metrics.expect("answered").text().await.expect("text");
        let series =
            metrics.lines().filter(|line| line.starts_with("nexudus_bridge_redeliveries_suppressed_total"));
        let values = series.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
        values.map(|value| value.expect("a number")).sum()
    }

    /// Ends the process and starts it again at the same addresses.
    fn restart(&mut self) {
        drop(self.bridge.take());
        let bridge = Running::serve(&self.file());
        bridge.line_with("the bridge is listening");
        self.bridge = Some(bridge);
    }

    fn reload(&self, settings: &str, answer: &str) {
        fs::write(self.file(), settings).expect("written");
        let bridge = self.bridge.as_ref().expect("it runs");
        bridge.signal("HUP");
        bridge.line_with(answer);
    }
}

fn settings(folder: &Path, ingress: u16, admin: u16, network: &Proxy) -> String {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.join(name).display().to_string());
    format!(
        "[ingress]\nlisten = \"127.0.0.1:{ingress}\"\nmax_in_flight = {MAX_IN_FLIGHT}\ntls_cert = {certificate:?}\n\
         tls_key = {key:?}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[kafka]\nbootstrap_servers = \"{}\"\n\
         confirm_timeout = \"1s\"\n[topics]\npartitions = 1\n[sources.default]\nsecrets = [{SECRET:?}]\nbusiness_id = {}\nactions = [\"Booking*\"]\n\
         [sources.north]\nsecrets = [{SECRET:?}]\n[sources.careful]\nsignature = \"warn\"\nsecrets = [{SECRET:?}]\n",
        network.address(),
        demo::LOCATIONS[0],
    )
}

/// Returns `[nexudus]` with the interval of the scrapes for the guardian.
fn watched(nexudus: &Nexudus) -> String {
    format!(
        "[nexudus]\nbase_url = {:?}\nusername = {:?}\npassword = {:?}\npublic_url = {PUBLIC:?}\n\
         requests_per_minute = 100000\nguardian = {{ interval = \"1s\" }}\n",
        nexudus.base_url(),
        demo::EMAIL,
        demo::PASSWORD,
    )
}

/// Sends deliveries of each kind in turn, at a constant rate, until it is stopped.
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    sending: JoinHandle<BTreeMap<u16, usize>>,
}

impl Load {
    pub(super) fn start(stage: &Stage) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (client, port, is_ended) = (stage.client.clone(), stage.ingress, Arc::clone(&ended));
        let sending = tokio::spawn(async move {
            let mut deliveries = JoinSet::new();
            for number in 0_usize.. {
                if is_ended.load(Ordering::Acquire) {
                    break;
                }
                let request = KINDS[number % KINDS.len()](&client, port, number);
                // `None` during a restart of the bridge; the load does not retry.
                deliveries.spawn(async { request.send().await.ok().map(|reply| reply.status().as_u16()) });
                tokio::time::sleep(PACE).await;
            }
            let mut answers = BTreeMap::new();
            for status in deliveries.join_all().await.into_iter().flatten() {
                *answers.entry(status).or_default() += 1;
            }
            answers
        });
        Self { ended, sending }
    }

    /// Stops the load, and returns the number of answers by status.
    pub(super) async fn end(self) -> BTreeMap<u16, usize> {
        self.ended.store(true, Ordering::Release);
        self.sending.await.expect("it does not panic")
    }
}

type Kind = fn(&reqwest::Client, u16, usize) -> reqwest::RequestBuilder;

/// The kinds of deliveries of the load.
const KINDS: [Kind; 10] = [
    |client, port, number| signed(client, port, "BookingCreate", record(number)),
    |client, port, number| signed(client, port, "north/CoworkerUpdate", record(number)),
    |client, port, number| signed(client, port, "default/BookingUpdate", record(number)),
    |client, port, number| unsigned(client, port, "BookingCreate", record(number)),
    |client, port, number| wrong(client, port, "north/BookingCreate", record(number)),
    |client, port, number| wrong(client, port, "careful/BookingCreate", record(number)),
    |client, port, number| signed(client, port, "north/BookingCreate", format!("not json {number}")),
    |client, port, number| signed(client, port, "BokingCreate", record(number)),
    |client, port, number| signed(client, port, "nowhere/BookingCreate", record(number)),
    |client, port, number| {
        signed(client, port, "BookingCreate", record(number)).header("Content-Encoding", "gzip")
    },
];

fn record(number: usize) -> String {
    format!(r#"{{"Id":{number},"FullName":"José Ñandú","UpdatedOn":"2026-01-02T03:04:05Z"}}"#)
}

fn unsigned(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    client.post(format!("https://localhost:{port}/webhooks/{path}")).body(body)
}

fn signed(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    let signature = sign(body.as_bytes());
    unsigned(client, port, path, body).header("X-Nexudus-Hook-Signature", signature)
}

fn wrong(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    unsigned(client, port, path, body).header("X-Nexudus-Hook-Signature", sign(b"another body"))
}

/// Causes every event and fault that a panel shows.
pub(super) async fn cause_faults(stage: &mut Stage) {
    let calm = || tokio::time::sleep(4 * SCRAPED_EVERY);
    calm().await;
    stage.restart();
    calm().await;
    stage.disable_webhook().await;
    // First the broker does not answer, then it refuses connections.
    stage.network.stall();
    tokio::time::sleep(3 * SCRAPED_EVERY).await;
    stage.network.cut();
    tokio::time::sleep(3 * SCRAPED_EVERY).await;
    stage.network.restore();
    calm().await;
    // A delivery is confirmed after its client has disconnected, and the retry gets the answer. On a busy machine the client may
    // disconnect too early or too late.
    let mut attempts = 0;
    while stage.suppressed().await == 0.0 {
        attempts += 1;
        assert!(attempts < 10, "no retry was recognised");
        let body = format!(r#"{{"Id":{}}}"#, 1_000_000 + attempts);
        stage.network.hold_answers();
        stage.disconnect(&body).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.network.restore();
        tokio::time::sleep(2 * SCRAPED_EVERY).await;
        stage.retry(&body).await;
    }
    let right = fs::read_to_string(stage.file()).expect("readable");
    stage.reload("[sources.default]\nsecret = 1\n", "not reloaded");
    stage.reload(&right, "sources and secrets were taken over");
    calm().await;
}
