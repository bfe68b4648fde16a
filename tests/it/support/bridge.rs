//! A bridge for one test: in the test process, on ports that the system chooses, with topics of its own.
//!
//! A setting such as `("ingress.max_in_flight", "1")` reaches the bridge as the environment variable that a user would set,
//! through the program's own loader. A test ends with a check of the topic ([`TestBridge::topic`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nexudus_bridge::app::{App, Ended};
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::outgoing::use_ring;
use nexudus_bridge::signature::SigningKey;
use reqwest::header::HeaderMap;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::kafka::{Client, Consumed, plain, unique};

/// The shared secret of the source `default`.
pub(crate) const SECRET: &str = "test-secret";

/// Time-out of every wait of a test; long, since the machine can be busy.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);

/// A running bridge.
pub(crate) struct TestBridge {
    pub(crate) ingress: SocketAddr,
    pub(crate) admin: SocketAddr,
    prefix: String,
    kafka: Client,
    http: reqwest::Client,
    embedded: Option<EmbeddedBroker>,
    stopper: Stopper,
    run: Option<JoinHandle<Ended>>,
}

/// Stops a bridge as signals do. The second signal ends it at once.
#[derive(Clone)]
pub(crate) struct Stopper {
    signals: Arc<Semaphore>,
}

impl Stopper {
    /// Sends the next signal.
    pub(crate) fn stop(&self) {
        self.signals.add_permits(1);
    }

    fn next(&self) -> impl Future<Output = ()> + Send + 'static {
        let signals = Arc::clone(&self.signals);
        async move { signals.acquire_owned().await.expect("never closed").forget() }
    }
}

/// An answer of the bridge.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {text}", self.status))
    }

    /// Returns a header's value, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("our headers are ASCII"))
    }

    /// Asserts a 200 with this `status`, and returns its events.
    #[track_caller]
    pub(crate) fn events(&self, status: &str) -> Vec<serde_json::Value> {
        let json = self.json();
        assert_eq!((self.status, json["status"].as_str()), (200, Some(status)), "{json}");
        json["events"].as_array().expect("a list of events").clone()
    }

    /// Asserts a problem document of this status and kind, and returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> String {
        let json = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{json}");
        assert_eq!(self.status, status, "{json}");
        assert_eq!(json["type"], format!("urn:nexudus-bridge:problem:{kind}"), "{json}");
        assert_eq!(json["status"], status, "{json}");
        assert_eq!(json["cause"].as_str(), (status == 503).then_some(kind), "{json}");
        assert_eq!(self.header("retry-after").is_some(), status == 503, "{json}");
        json["detail"].as_str().expect("a detail").to_owned()
    }
}

impl TestBridge {
    /// Starts a bridge on the shared Apache Kafka, with topics for these actions and the quarantine.
    pub(crate) async fn on_apache(actions: &[&str], settings: &[(&str, &str)]) -> Self {
        let prefix = format!("{}.", unique("it"));
        let client = plain().client();
        for action in actions.iter().chain(&["quarantine"]) {
            client.create_topic(&format!("{prefix}{action}"), 3, &[]);
        }
        Self::on(plain().bootstrap(), client, prefix, settings).await
    }

    /// Starts a bridge on an embedded broker of its own, whose faults a test can control.
    pub(crate) async fn on_embedded(actions: &[&str], settings: &[(&str, &str)]) -> Self {
        let prefix = "nexudus.".to_owned();
        let topics =
            actions.iter().chain(&["quarantine"]).map(|action| (format!("{prefix}{action}"), 3)).collect();
        let broker = EmbeddedBroker::start(None, topics).expect("an embedded broker starts");
        let bootstrap = broker.bootstrap_servers().to_owned();
        let mut bridge = Self::on(&bootstrap, Client::new(&bootstrap), prefix, settings).await;
        bridge.embedded = Some(broker);
        bridge
    }

    /// Starts a bridge on a cluster that the test has prepared.
    pub(crate) async fn on(
        bootstrap: &str,
        kafka: Client,
        prefix: String,
        settings: &[(&str, &str)],
    ) -> Self {
        let app = App::build(config(bootstrap, &prefix, settings)).expect("the bridge can be built");
        let (ingress, admin) = (app.ingress_address(), app.admin_address());
        let stopper = Stopper { signals: Arc::new(Semaphore::new(0)) };
        let run = tokio::spawn(app.run(stopper.next(), stopper.next()));
        Self { ingress, admin, prefix, kafka, http: http_client(), embedded: None, stopper, run: Some(run) }
    }

    /// Returns the embedded broker, to control its faults.
    pub(crate) fn broker(&self) -> &EmbeddedBroker {
        self.embedded.as_ref().expect("made by on_embedded")
    }

    /// Returns the full name of an action's topic.
    pub(crate) fn name_of(&self, action: &str) -> String {
        format!("{}{action}", self.prefix)
    }

    /// Returns a client of the bridge's cluster.
    pub(crate) fn kafka(&self) -> &Client {
        &self.kafka
    }

    /// Returns all messages of an action's topic, once there are `expected`; more are a failure.
    #[track_caller]
    pub(crate) fn topic(&self, action: &str, expected: usize) -> Vec<Consumed> {
        self.kafka.consume_all(&self.name_of(action), expected, MAX_WAIT)
    }

    /// Posts a body with a right signature to `/webhooks/{path}`.
    pub(crate) async fn deliver(&self, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        let body = body.into();
        self.post(path, &[("X-Nexudus-Hook-Signature", &sign(&body))], body).await
    }

    /// Posts a body again and again until it is confirmed, as Nexudus would. A broker that has just started can need more than
    /// one attempt.
    pub(crate) async fn deliver_until_confirmed(&self, path: &str, body: &str) {
        let begun = std::time::Instant::now();
        loop {
            let reply = self.deliver(path, body).await;
            if reply.status == 200 {
                reply.events("confirmed");
                return;
            }
            let json = reply.json();
            assert!(matches!(json["cause"].as_str(), Some("broker" | "timeout")), "{json}");
            assert!(begun.elapsed() < 2 * MAX_WAIT, "nothing is confirmed: {json}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Posts a body with these headers to `/webhooks/{path}`.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
        let url = format!("http://{}/webhooks/{path}", self.ingress);
        let request = self.http.post(url).body(body.into());
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    /// Sends a GET request to the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Reply {
        send(self.http.get(format!("http://{}{path}", self.admin))).await
    }

    /// Returns the value of a series, which is named as in the text format; 0 if the series does not exist.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.admin("/metrics").await.body).expect("the text format is UTF-8");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until `/readyz` answers with this status.
    pub(crate) async fn wait_until_ready_is(&self, status: u16) -> Reply {
        self.wait_until_admin("/readyz", |reply| reply.status == status).await
    }

    /// Waits until `wanted` is true for the answer of the admin listener.
    pub(crate) async fn wait_until_admin(&self, path: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        loop {
            let reply = self.admin(path).await;
            if wanted(&reply) {
                return reply;
            }
            let shown = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(tokio::time::Instant::now() < deadline, "{path} still answers {} {shown}", reply.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a series has this value.
    pub(crate) async fn wait_for_metric(&self, series: &str, value: f64) {
        let line = format!("{series} {value}\n");
        self.wait_until_admin("/metrics", |reply| String::from_utf8_lossy(&reply.body).contains(&line)).await;
    }

    /// Returns the handle that stops the bridge.
    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the end of a bridge that was stopped.
    pub(crate) async fn ended(&mut self) -> Ended {
        let run = self.run.take().expect("waited for once");
        tokio::time::timeout(MAX_WAIT, run).await.expect("it ends in time").expect("it does not panic")
    }
}

/// Returns the signature that Nexudus sends with a body.
pub(crate) fn sign(body: &[u8]) -> String {
    SigningKey::new(SECRET).expect("not empty").sign(body)
}

/// Returns a client for the tests' own requests: no proxy, with keep-alive.
pub(crate) fn http_client() -> reqwest::Client {
    use_ring();
    let client = reqwest::Client::builder().no_proxy().timeout(2 * MAX_WAIT).tls_certs_only([]);
    client.build().expect("a client can be made")
}

/// Returns the configuration of a test's bridge.
pub(crate) fn config(
    bootstrap: &str,
    prefix: &str,
    settings: &[(&str, &str)],
) -> nexudus_bridge::config::Config {
    let secrets = format!("[{SECRET:?}]");
    let mut all = BTreeMap::from([
        ("ingress.listen", "127.0.0.1:0"),
        ("admin.listen", "127.0.0.1:0"),
        ("kafka.bootstrap_servers", bootstrap),
        ("topics.prefix", prefix),
        ("topics.create", "false"),
        ("sources.default.secrets", &secrets),
    ]);
    all.extend(settings.iter().copied());
    all.retain(|_, value| !value.is_empty());
    let variable = |key: &str| format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_uppercase());
    let environment: Environment =
        all.into_iter().map(|(key, value)| (variable(key), value.to_owned())).collect();
    load(None, &environment, check_property).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("the bridge answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.expect("the answer arrives whole").to_vec();
    Reply { status, headers, body }
}
