//! `dev --nexudus`: a double of Nexudus beside the bridge, with a life of its own and a way to take Kafka from the bridge;
//! and the settings with which bridge and commands find it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::AbortHandle;

use super::super::DEV_SECRET;
use super::super::output::{HEADING, Usage, styled};
use crate::config::load::{Environment, find, process_environment};
use crate::config::{Config, Origin, Source};
use crate::double::{Lever, Limits, Nexudus, Options, Sending, demo};
use crate::kafka::embedded::EmbeddedBroker;
use crate::sender::post::Retry;

/// The double's port, unless another is asked for.
const PORT: u16 = 8081;

/// How deliveries are tried again. Nexudus's own schedule is not known and surely longer; after this one ten failures in
/// a row take half a minute.
const RETRY: Retry =
    Retry { limit: 10, shortest: Duration::from_millis(250), longest: Duration::from_secs(2) };

/// How long the broker may take to confirm, where nobody set it: an attempt during the outage should fail soon.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// Who decides on the settings of the tour.
const BY: &str = "dev --nexudus";

#[derive(Debug, clap::Args)]
pub(super) struct Double {
    /// Also run a double of Nexudus in which something happens all the time: for `webhooks`, `catch-up` and an outage
    #[arg(long)]
    nexudus: bool,
    /// The double's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = PORT, requires = "nexudus")]
    nexudus_port: u16,
    /// How many events happen in the double each second
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = rate, requires = "nexudus")]
    nexudus_rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.01..=100.0).contains(rate)).ok_or_else(|| "expected 0.01 to 100".to_owned())
}

/// Settings by their keys, with values as environment variables have them.
type Settings = BTreeMap<String, String>;

/// Where a `dev --nexudus` is.
struct Place {
    double: SocketAddr,
    ingress: SocketAddr,
    kafka: String,
}

impl Place {
    fn base_url(&self) -> String {
        format!("http://{}", self.double)
    }

    /// `[nexudus]`: the demo's administrator, in no hurry to be slow, since the double has no limits.
    fn nexudus(&self) -> Settings {
        let settings = [
            ("base_url", self.base_url()),
            ("username", demo::EMAIL.to_owned()),
            ("password", demo::PASSWORD.to_owned()),
            ("public_url", format!("http://{}", self.ingress)),
            ("requests_per_minute", "100000".to_owned()),
            ("writes_per_minute", "100000".to_owned()),
            ("requests_per_hour", "1000000".to_owned()),
            ("request_spacing", "0s".to_owned()),
        ];
        settings.into_iter().map(|(key, value)| (format!("nexudus.{key}"), value)).collect()
    }

    /// The source of `dev` where there is no other.
    fn source() -> Settings {
        let key = |key: &str| format!("sources.{}.{key}", Source::DEFAULT);
        Settings::from([
            (key("secrets"), format!("[{DEV_SECRET:?}]")),
            (key("business_id"), demo::LOCATIONS[0].to_string()),
        ])
    }
}

/// The environment that settings make.
fn environment(settings: &Settings) -> impl Iterator<Item = (String, String)> {
    let name = |key: &str| format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_ascii_uppercase());
    settings.iter().map(move |(key, value)| (name(key), value.clone()))
}

/// A double that runs beside the bridge.
pub(super) struct Beside {
    double: Nexudus,
    place: Place,
    /// The locations of the sources.
    locations: Vec<i64>,
    /// What the program decides.
    settings: Settings,
    life: Option<AbortHandle>,
}

impl Beside {
    /// Starts it, if it is asked for, with a location for each source.
    ///
    /// # Errors
    /// [`Usage`] where the configuration is one for another Nexudus; the system's, where the port is taken.
    pub(super) fn start(args: &super::Args, config: &Config) -> anyhow::Result<Option<Self>> {
        if !args.double.nexudus {
            return Ok(None);
        }
        let usable = |fine: bool, wrong: &str| {
            ensure!(fine, Usage::new(format!("{BY}: {wrong}")));
            Ok(())
        };
        usable(
            config.nexudus.is_none(),
            "[nexudus] is configured, and commands would write there; expected a configuration without it",
        )?;
        usable(config.ingress.tls.is_none(), "the double speaks plain HTTP, expected no ingress.tls_cert")?;
        usable(
            config.ingress.listen.port() != 0 && args.kafka_port != 0,
            "expected fixed ports for --port and --kafka-port, so that webhooks and commands can name them",
        )?;
        let settings = locations(config);
        usable(
            !settings.is_empty() || config.sources.values().any(|source| source.business_id.is_some()),
            "no source can be given a location, expected one with a business_id",
        )?;
        let port = args.double.nexudus_port;
        let sending = Sending { retry: RETRY, ..Sending::default() };
        let double = Nexudus::start(Options { port, limits: Limits::NONE, sending, ..Options::default() })
            .with_context(|| {
                format!("cannot listen on 127.0.0.1:{port} for the double of Nexudus; --nexudus-port chooses another port")
            })?;
        // Else a webhook that is switched off while a delivery is on its way could look as if it was done by hand.
        double.adjust(|manners| manners.late_success_resets_errors = false);
        double.populate(None);
        let mut beside = Self {
            place: Place {
                double: double.address(),
                ingress: config.ingress.listen,
                kafka: SocketAddr::from((Ipv4Addr::LOCALHOST, args.kafka_port)).to_string(),
            },
            double,
            locations: Vec::new(),
            settings,
            life: None,
        };
        beside.settings.extend(beside.place.nexudus());
        beside.settings.insert("nexudus.guardian.interval".to_owned(), "5s".to_owned());
        Ok(Some(beside))
    }

    /// What the bridge's environment lacks to find the double.
    pub(super) fn environment(&self) -> Environment {
        environment(&self.settings).collect()
    }

    /// Notes in the configuration that was read with [`Beside::environment`] who decided, and makes the double know its
    /// locations and their secrets.
    pub(super) fn settle(&mut self, config: &mut Config) {
        for key in self.settings.keys() {
            let shown = config.settings.iter().find(|setting| setting.key == *key);
            if let Some(value) = shown.map(|setting| setting.value.clone()) {
                config.overrule(key, value, BY);
            }
        }
        const TIMEOUT: &str = "kafka.confirm_timeout";
        let is_default =
            |setting: &crate::config::Setting| setting.key == TIMEOUT && setting.origin == Origin::Default;
        if config.settings.iter().any(is_default) {
            config.kafka.confirm_timeout = CONFIRM_TIMEOUT;
            config.overrule(
                TIMEOUT,
                format!("{:?}", humantime::format_duration(CONFIRM_TIMEOUT).to_string()),
                BY,
            );
        }
        for source in config.sources.values() {
            let Some(id) = source.business_id else { continue };
            if !self.locations.contains(&id) {
                if !demo::LOCATIONS.contains(&id) {
                    self.double.add_location(id, &format!("Example {}", source.name));
                }
                self.double.set_key(id, source.keys.first().cloned());
                self.locations.push(id);
            }
        }
    }

    /// Lets things happen, and gives a way to take Kafka away.
    pub(super) fn live(&mut self, args: &super::Args, broker: &Arc<Mutex<EmbeddedBroker>>) {
        let lever = |name, say: String, act: fn(&EmbeddedBroker)| {
            let broker: Weak<Mutex<EmbeddedBroker>> = Arc::downgrade(broker);
            let act = move || {
                if let Some(broker) = broker.upgrade() {
                    act(&broker.lock().unwrap_or_else(PoisonError::into_inner));
                }
                tracing::warn!("{say}");
                say.clone()
            };
            Lever { name, act: Arc::new(act) }
        };
        let program = super::program();
        let away = format!(
            "Kafka is away: Nexudus gets 503, and after ten failures in a row it switches webhooks off. Look: {program} webhooks status"
        );
        let back = format!(
            "Kafka is back: the guardian switches webhooks on again. What was missed: {program} catch-up --since last-trigger"
        );
        self.double.add_lever(lever("kafka/stop", away, EmbeddedBroker::down));
        self.double.add_lever(lever("kafka/start", back, EmbeddedBroker::up));
        let (world, locations) = (self.double.world(), self.locations.clone());
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / args.double.nexudus_rate));
        let life = async move {
            loop {
                ticks.tick().await;
                if let Some(location) = fastrand::choice(&locations)
                    && let Err(error) = world.something_happens(*location)
                {
                    tracing::error!("nothing can happen in the double of Nexudus: {error}");
                }
            }
        };
        self.life = Some(tokio::spawn(life).abort_handle());
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        if let Some(life) = self.life {
            life.abort();
        }
        self.double.stop().await;
    }

    /// Where it listens, for the banner.
    pub(super) fn base_url(&self) -> String {
        self.place.base_url()
    }

    /// What to type in a second terminal. `own` are the sources if they are not `dev`'s, `file` is what they were read from.
    pub(super) fn tour(&self, out: &mut impl Write, own: bool, file: Option<&Path>) -> std::io::Result<()> {
        let (program, base_url) = (super::program(), self.place.base_url());
        writeln!(out, "\n{}", styled(HEADING, "In a second terminal:"))?;
        writeln!(out, "  export {}", self.exports(own, file))?;
        if let Some(stray) = find(None, &process_environment()).filter(|_| file.is_none()) {
            let stray = stray.display();
            writeln!(out, "  # in another folder or without {stray}: commands would read it, dev does not")?;
        }
        let pull = |lever: &str| format!("curl -X POST {base_url}/double/kafka/{lever}");
        for (command, what) in [
            (format!("{program} webhooks plan"), "what is missing in Nexudus"),
            (format!("{program} webhooks apply"), "creates it: now events flow"),
            (format!("{program} tail"), "shows them; Ctrl-C ends it"),
            (pull("stop"), "an outage: Kafka is away, with what it holds"),
            (format!("{program} webhooks status"), "in half a minute Nexudus has switched webhooks off"),
            (pull("start"), "Kafka is back, and the guardian switches them on again"),
            (format!("{program} catch-up --since last-trigger"), "publishes what was missed"),
        ] {
            writeln!(out, "  {command:<55}  # {what}")?;
        }
        Ok(())
    }

    /// The variables with which commands find it, for a shell.
    fn exports(&self, own: bool, file: Option<&Path>) -> String {
        let mut settings = self.settings.clone();
        settings.insert("kafka.bootstrap_servers".to_owned(), self.place.kafka.clone());
        if !own {
            settings.extend(Place::source());
        }
        let file = file.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        let config = file.map(|file| ("NEXUDUS_BRIDGE_CONFIG".to_owned(), file.display().to_string()));
        let variables = environment(&settings).chain(config);
        let quoted = |value: &str| value.replace('\'', r"'\''");
        let all: Vec<String> =
            variables.map(|(name, value)| format!("{name}='{}'", quoted(&value))).collect();
        all.join(" ")
    }
}

/// A location for each source, if none has one. A name with a hyphen is none that a variable can hold.
fn locations(config: &Config) -> Settings {
    if config.sources.values().any(|source| source.business_id.is_some()) {
        return Settings::new();
    }
    let names = config.sources.keys().filter(|name| !name.contains('-'));
    names
        .zip(demo::LOCATIONS[0]..)
        .map(|(name, id)| (format!("sources.{name}.business_id"), id.to_string()))
        .collect()
}
