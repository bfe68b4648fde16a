//! The five-minute tour: the bridge, an embedded Kafka broker and the double in one process. Events occur in the double
//! all the time, and two levers take Kafka away and bring it back.
//!
//! The tour reads no configuration file and no environment, so that none of its requests can reach a real account.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nexudus_bridge::app::embedded::embed;
use nexudus_bridge::app::{App, Ended};
use nexudus_bridge::cli::DEV_SECRET;
use nexudus_bridge::config::Config;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::sender::post::Retry;
use parking_lot::Mutex;

use crate::{Lever, Limits, Nexudus, Options, Sending, World, demo};

/// Retries of deliveries. Nexudus's own schedule is not published and surely longer; with this one, ten failures in a row
/// take half a minute.
const RETRY: Retry =
    Retry { limit: 10, shortest: Duration::from_millis(250), longest: Duration::from_secs(2) };

/// The business whose events the bridge receives.
const BUSINESS: i64 = demo::LOCATIONS[0];

/// Ports on 127.0.0.1, and the rate of events.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The bridge's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// The embedded broker's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    pub kafka_port: u16,
    /// The admin listener's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9464)]
    pub admin_port: u16,
    /// The double's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub nexudus_port: u16,
    /// Number of events in the double each second, 0.01 to 100
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = rate)]
    pub rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.01..=100.0).contains(rate)).ok_or_else(|| "expected 0.01 to 100".to_owned())
}

impl Args {
    /// Returns the settings of the bridge and of the commands, by their keys.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        vec![
            ("ingress.listen", local(self.port)),
            ("admin.listen", local(self.admin_port)),
            ("kafka.bootstrap_servers", local(self.kafka_port)),
            ("kafka.confirm_timeout", "1s".to_owned()), // attempts during the outage fail soon
            ("sources.default.secrets", format!("[{DEV_SECRET:?}]")),
            ("sources.default.business_id", BUSINESS.to_string()),
            ("nexudus.base_url", format!("http://{}", local(self.nexudus_port))),
            ("nexudus.username", demo::EMAIL.to_owned()),
            ("nexudus.password", demo::PASSWORD.to_owned()),
            ("nexudus.public_url", format!("http://{}", local(self.port))),
            // The double has no limits.
            ("nexudus.requests_per_minute", "100000".to_owned()),
            ("nexudus.writes_per_minute", "100000".to_owned()),
            ("nexudus.requests_per_hour", "1000000".to_owned()),
            ("nexudus.request_spacing", "0s".to_owned()),
            ("nexudus.guardian.interval", "5s".to_owned()),
        ]
    }

    fn environment(&self) -> Environment {
        let name = |key: &str| format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_ascii_uppercase());
        self.settings().into_iter().map(|(key, value)| (name(key), value)).collect()
    }

    /// Returns the configuration of the bridge.
    ///
    /// # Errors
    /// A setting is out of bounds.
    pub fn configuration(&self) -> anyhow::Result<Config> {
        Ok(load(None, &self.environment(), check_property)?.config)
    }

    /// Returns the text that tells what runs and which commands to type in a second terminal.
    pub fn banner(&self) -> String {
        // The variable keeps commands from reading a file that lies in the folder.
        let mut export = "export NEXUDUS_BRIDGE_CONFIG=/dev/null".to_owned();
        for (name, value) in self.environment() {
            write!(export, " {name}='{value}'").expect("text takes text");
        }
        let Self { port, kafka_port, admin_port, nexudus_port, rate: _ } = self;
        let mut text = format!(
            "The bridge is running, with a Kafka broker and a double of Nexudus in its process.\n  \
             webhooks   http://127.0.0.1:{port}/webhooks/{{action}}\n  \
             console    http://127.0.0.1:{admin_port}/\n  \
             Kafka      127.0.0.1:{kafka_port}\n  \
             Nexudus    http://127.0.0.1:{nexudus_port}   a double: no account, no real data, no limits\n\n\
             In a second terminal:\n  {export}\n"
        );
        let pull = |lever| format!("curl -X POST http://127.0.0.1:{nexudus_port}/double/kafka/{lever}");
        let run = |command| format!("cargo run -- {command}");
        for (command, comment) in [
            (run("webhooks plan"), "lists the webhooks that Nexudus lacks"),
            (run("webhooks apply"), "creates them; from now on events flow"),
            (run("tail"), "prints events; Ctrl-C ends it"),
            (pull("stop"), "starts an outage: Kafka is unreachable, its data is kept"),
            (run("webhooks status"), "after half a minute Nexudus has disabled webhooks"),
            (pull("start"), "ends the outage; the guardian re-enables the webhooks"),
            (run("catch-up --since last-outage"), "publishes the missed events"),
        ] {
            writeln!(text, "  {command:<57}  # {comment}").expect("text takes text");
        }
        text.push_str("\nEvents live in this process only. Ctrl-C ends it.\n");
        text
    }
}

/// A bridge, a broker and a double that run.
pub struct Tour {
    double: Nexudus,
    broker: Arc<Mutex<EmbeddedBroker>>,
    app: App,
    rate: f64,
}

impl Tour {
    /// Starts the double and the broker, and binds the bridge's addresses. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// A port is taken.
    pub fn start(args: &Args, mut config: Config) -> anyhow::Result<Self> {
        let port = args.nexudus_port;
        let sending = Sending { retry: RETRY, ..Sending::default() };
        let double = Nexudus::start(Options { port, limits: Limits::NONE, sending, ..Options::default() })
            .with_context(|| {
                format!("cannot listen on 127.0.0.1:{port}; --nexudus-port chooses another port")
            })?;
        // Else a success after the disabling would reset the error count, and the webhook would look disabled by hand.
        double.adjust(|manners| manners.late_success_resets_errors = false);
        double.populate(Some(DEV_SECRET));
        let broker = embed(&mut config, Some(args.kafka_port))
            .map_err(|error| anyhow!(error).context("--kafka-port chooses another port"))?;
        let broker = Arc::new(Mutex::new(broker));
        let app = App::build(config).context("--port and --admin-port choose other ports")?;
        for lever in levers(&broker) {
            double.add_lever(lever);
        }
        Ok(Self { double, broker, app, rate: args.rate })
    }

    /// The bridge.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs until `stop` completes, then drains; `at_once` ends the draining.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        at_once: impl Future<Output = ()> + Send,
    ) -> Ended {
        let events = tokio::spawn(events(self.double.world(), self.rate));
        let ended = self.app.run(stop, at_once).await;
        events.abort();
        self.double.stop().await;
        drop(self.broker);
        ended
    }
}

fn levers(broker: &Arc<Mutex<EmbeddedBroker>>) -> [Lever; 2] {
    let lever = |name, answer: &'static str, act: fn(&EmbeddedBroker)| {
        let broker: Weak<Mutex<EmbeddedBroker>> = Arc::downgrade(broker);
        let act = move || {
            if let Some(broker) = broker.upgrade() {
                act(&broker.lock());
            }
            tracing::warn!("{answer}");
            answer.to_owned()
        };
        Lever { name, act: Arc::new(act) }
    };
    [
        lever(
            "kafka/stop",
            "Kafka is unreachable: Nexudus gets 503, and disables webhooks after ten failures in a row. \
             See: cargo run -- webhooks status",
            EmbeddedBroker::down,
        ),
        lever(
            "kafka/start",
            "Kafka is reachable: the guardian re-enables webhooks. \
             To publish the missed events: cargo run -- catch-up --since last-outage",
            EmbeddedBroker::up,
        ),
    ]
}

/// Lets events occur at the business of the tour.
async fn events(world: Arc<World>, rate: f64) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    loop {
        ticks.tick().await;
        if let Err(error) = world.something_happens(BUSINESS) {
            tracing::error!("no event can occur in the double of Nexudus: {error}");
        }
    }
}
