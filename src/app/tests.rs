use std::collections::BTreeMap;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::reload::Reloader;
use super::*;
use crate::config::load::{Environment, Mistakes, load};
use crate::kafka::embedded::EmbeddedBroker;
use crate::kafka::settings::check_property;
use crate::outgoing::use_ring;
use crate::signature::SigningKey;

const BODY: &str = "[{}]";

/// Upper bound of the wait for a state, on a machine that may stall.
const WITHIN: Duration = Duration::from_secs(60);

/// A bridge on an embedded broker, before it runs.
struct Prepared {
    app: App,
    broker: EmbeddedBroker,
}

/// A running bridge.
struct Bridge {
    broker: EmbeddedBroker,
    vital: Vital,
    ingress: SocketAddr,
    admin: SocketAddr,
    http: Client,
    run: JoinHandle<Ended>,
}

fn config(settings: &[(&str, &str)]) -> Config {
    let mut all = BTreeMap::from([
        ("INGRESS__LISTEN", "127.0.0.1:0"),
        ("INGRESS__SHUTDOWN_DELAY", "2s"),
        ("ADMIN__LISTEN", "127.0.0.1:0"),
        ("TOPICS__CREATE", "false"),
        ("SOURCES__DEFAULT__SECRETS", "[\"s\"]"),
    ]);
    all.extend(settings.iter().copied());
    let variables = all.into_iter();
    let variables: Environment =
        variables.map(|(name, value)| (format!("NEXUDUS_BRIDGE__{name}"), value.to_owned())).collect();
    load(None, &variables, check_property).unwrap()
}

fn prepare() -> Prepared {
    use_ring();
    let topics = ["BookingCreate", "quarantine"].map(|name| (format!("nexudus.{name}"), 1)).into();
    let broker = EmbeddedBroker::start(None, topics).unwrap();
    let app = App::build(config(&[("KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers())])).unwrap();
    Prepared { app, broker }
}

impl Prepared {
    /// Runs the bridge without a stop signal, and waits until it is ready.
    async fn run(self) -> Bridge {
        let Self { app, broker } = self;
        let (vital, ingress, admin) = (app.state.vital.clone(), app.ingress_address(), app.admin_address());
        let http = Client::builder().no_proxy().timeout(WITHIN).tls_certs_only([]).build().unwrap();
        let run = tokio::spawn(app.run(std::future::pending(), std::future::pending()));
        let bridge = Bridge { broker, vital, ingress, admin, http, run };
        bridge.wait_until("/readyz", |status, _| status == StatusCode::OK).await;
        bridge
    }
}

impl Bridge {
    async fn wait_until(&self, path: &str, holds: impl Fn(StatusCode, &str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            if holds(status, &text) {
                return text;
            }
            assert!(begun.elapsed() < WITHIN, "{path} still answers {status}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts a delivery in a task of its own, which returns the status.
    fn deliver(&self) -> JoinHandle<StatusCode> {
        let signature = SigningKey::new("s").unwrap().sign(BODY.as_bytes());
        let request = self.http.post(format!("http://{}/webhooks/BookingCreate", self.ingress));
        let request = request.header("X-Nexudus-Hook-Signature", signature).body(BODY);
        tokio::spawn(async { request.send().await.unwrap().status() })
    }

    async fn ended(self) -> Ended {
        tokio::time::timeout(WITHIN, self.run).await.expect("it ends").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_in_a_vital_thread_readyz_names_it_and_deliveries_in_flight_are_confirmed() {
    let bridge = prepare().run().await;
    bridge.broker.round_trip(Duration::from_secs(5));
    let in_flight = bridge.deliver();
    bridge.wait_until("/metrics", |_, text| text.contains("nexudus_bridge_in_flight_deliveries 1\n")).await;
    bridge.vital.part("a thread of the test").spawn("on-purpose", || panic!("on purpose")).unwrap();
    let text = bridge.wait_until("/readyz", |status, _| status == StatusCode::SERVICE_UNAVAILABLE).await;
    let reasons: Value = serde_json::from_str(&text).unwrap();
    let reasons = reasons["reasons"].as_array().unwrap();
    assert!(reasons.contains(&"a thread of the test has panicked".into()), "{reasons:?}");
    assert_eq!(in_flight.await.unwrap(), StatusCode::OK);
    assert_eq!(bridge.ended().await, Ended::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_panics_ends_the_bridge() {
    let prepared = prepare();
    let reloader = Reloader::new(&prepared.app);
    let bridge = prepared.run().await;
    let reload = reloader.run(|| Err(Mistakes(Vec::new())), async || panic!("on purpose"));
    assert!(tokio::spawn(reload).await.unwrap_err().is_panic());
    assert_eq!(bridge.vital.failure().as_deref(), Some("the reload has panicked"));
    assert_eq!(bridge.ended().await, Ended::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_listener_that_ends_ends_the_bridge() {
    let Prepared { app, broker: _broker } = prepare();
    app.admin.stop(false).await;
    let run = app.run(std::future::pending(), std::future::pending());
    assert_eq!(tokio::time::timeout(WITHIN, run).await.expect("it ends"), Ended::Failed);
}

/// The guardian's task drops the closure that holds its part.
#[tokio::test(flavor = "multi_thread")]
async fn a_guardian_that_panics_is_reported() {
    let nexudus = [
        ("NEXUDUS__TOKEN", "abc"),
        ("NEXUDUS__PUBLIC_URL", "https://example.com"),
        ("SOURCES__DEFAULT__BUSINESS_ID", "7"),
    ];
    let vital = Vital::default();
    let part = vital.part("the guardian");
    let ready = move || {
        let _held = &part;
        panic!("on purpose")
    };
    let _guardian = Guardian::start(&config(&nexudus), Arc::new(Metrics::new("")), Arc::default(), ready);
    let reason = tokio::time::timeout(WITHIN, vital.failed()).await.expect("it is reported");
    assert_eq!(reason, "the guardian has panicked");
}
