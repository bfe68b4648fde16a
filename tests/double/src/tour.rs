//! The five-minute tour: the bridge, an embedded Kafka broker and the double in one process. Random events occur in the
//! double, and two levers make Kafka unreachable and reachable.
//!
//! The tour reads no configuration file and no environment, so that none of its requests can reach a real account.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use jiff::SignedDuration;
use nexudus_bridge::app::dev::SECRET as DEV_SECRET;
use nexudus_bridge::app::embedded::embed;
use nexudus_bridge::app::{App, Ended};
use nexudus_bridge::config::Config;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::sender::post::Retry;
use parking_lot::Mutex;
use serde_json::json;

use crate::state::Lever;
use crate::{Limits, Nexudus, Options, World, demo};

/// Retries of deliveries. With these delays, ten failures in a row take half a minute. Nexudus's own schedule is not
/// published and probably longer.
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
    /// Returns the settings of the bridge and of the commands.
    fn environment(&self) -> Environment {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let settings = [
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
        ];
        let name = |key: &str| format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_ascii_uppercase());
        settings.into_iter().map(|(key, value)| (name(key), value)).collect()
    }

    /// Returns the configuration of the bridge.
    pub fn configuration(&self) -> Result<Config> {
        Ok(load(None, &self.environment(), check_property)?)
    }

    /// Returns the text with the addresses of all parts, and the commands for a second terminal.
    pub fn banner(&self) -> String {
        // With this variable, commands do not read a configuration file of the working directory.
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

/// A running bridge, broker and double.
pub struct Tour {
    double: Nexudus,
    broker: Arc<Mutex<EmbeddedBroker>>,
    app: App,
    rate: f64,
}

impl Tour {
    /// Starts the double and the broker, and binds the bridge's addresses. Call it inside a tokio runtime.
    pub fn start(args: &Args, mut config: Config) -> Result<Self> {
        let port = args.nexudus_port;
        let double =
            Nexudus::start(Options { port, limits: Limits::NONE, retry: RETRY }).with_context(|| {
                format!("cannot listen on 127.0.0.1:{port}; --nexudus-port chooses another port")
            })?;
        // A late success could reset the error count. Then the guardian would assume that a person has disabled the webhook.
        double.adjust(|behaviour| behaviour.late_success_resets_errors = false);
        double.populate(Some(DEV_SECRET));
        let broker = embed(&mut config, Some(args.kafka_port))
            .map_err(|error| anyhow!(error).context("--kafka-port chooses another port"))?;
        let broker = Arc::new(Mutex::new(broker));
        let app = App::build(config).context("--port and --admin-port choose other ports")?;
        double.lock().levers.extend(levers(&broker));
        Ok(Self { double, broker, app, rate: args.rate })
    }

    /// Returns the bridge.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs until `stop` completes, then drains the bridge until `at_once` completes.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        at_once: impl Future<Output = ()> + Send,
    ) -> Ended {
        let events = tokio::spawn(events(self.double.world(), self.rate));
        let ended = self.app.run(stop, at_once).await;
        events.abort();
        drop(self.double);
        drop(self.broker);
        ended
    }
}

fn levers(broker: &Arc<Mutex<EmbeddedBroker>>) -> [Lever; 2] {
    let lever = |name, answer: &'static str, act: fn(&EmbeddedBroker)| -> Lever {
        let broker: Weak<Mutex<EmbeddedBroker>> = Arc::downgrade(broker);
        let act = move || {
            if let Some(broker) = broker.upgrade() {
                act(&broker.lock());
            }
            tracing::warn!("{answer}");
            answer.to_owned()
        };
        (name, Arc::new(act))
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

/// Makes random events at the location of the tour.
async fn events(world: Arc<World>, rate: f64) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    loop {
        ticks.tick().await;
        if let Err(error) = random_event(&world, BUSINESS) {
            tracing::error!("cannot make an event in the double of Nexudus: {error}");
        }
    }
}

/// Maximum number of records of a kind at a location. The oldest is deleted instead of creating one more.
const MAX_RECORDS: usize = 30;

const GUESTS: [&str; 6] =
    ["Zoë Ünsal-Exemple", "Łukasz Przykład", "Пример Примеров", "王示例", "Ana Exemplo 😀", "Sam Sample"];

const NOTES: [&str; 4] =
    ["Teeküche bitte mit 🍵", "Needs the projector", "Réunion d’équipe", "Sin proyector, por favor"];

const POSITIONS: [&str; 4] = ["Diseñador", "Geschäftsführerin", "Développeuse", "Accountant"];

/// The name of an event's action, if its kind of record has one.
type Action = Option<&'static str>;

/// Makes one random event at a location and returns its action. Most events create or update a booking. Others register a
/// visitor, update a coworker, check somebody in, or delete a booking.
fn random_event(world: &World, business_id: i64) -> Result<Action> {
    let in_hours = |hours| format!("{:.0}", world.now() + SignedDuration::from_hours(hours));
    match fastrand::u32(0..100) {
        0..32 => {
            let begin = fastrand::i64(1..72);
            let times = [("FromTime", in_hours(begin)), ("ToTime", in_hours(begin + 1))];
            create(world, "Booking", business_id, &times)
        }
        32..58 => update(world, "Booking", business_id, ("Notes", &NOTES)),
        58..73 => update(world, "Coworker", business_id, ("Position", &POSITIONS)),
        73..87 => {
            let (name, arrival) = (one_of(&GUESTS).to_owned(), in_hours(fastrand::i64(1..48)));
            let fields = [("FullName", name.clone()), ("ToStringText", name), ("ExpectedArrival", arrival)];
            create(world, "Visitor", business_id, &fields)
        }
        87..96 => create(world, "Checkin", business_id, &[("FromTime", in_hours(0))]),
        _ => delete_oldest(world, "Booking", business_id),
    }
}

fn create(world: &World, kind: &str, business_id: i64, fields: &[(&str, String)]) -> Result<Action> {
    if world.lock().ids_at(kind, business_id).len() >= MAX_RECORDS {
        return delete_oldest(world, kind, business_id);
    }
    let mut record = world.example(kind, business_id)?;
    fields.iter().for_each(|(field, text)| record.set(field, text));
    world.create(kind, business_id, record)
}

/// Sets a field of a random record to a random text, or creates a record if there is none.
fn update(world: &World, kind: &str, business_id: i64, (field, texts): (&str, &[&str])) -> Result<Action> {
    let ids = world.lock().ids_at(kind, business_id);
    match fastrand::choice(ids) {
        Some(id) => world.update(kind, id, &[(field, &json!(one_of(texts)).to_string())]),
        None => create(world, kind, business_id, &[]),
    }
}

/// Deletes the oldest record, or creates the first one.
fn delete_oldest(world: &World, kind: &str, business_id: i64) -> Result<Action> {
    let oldest = world.lock().ids_at(kind, business_id).first().copied();
    match oldest {
        Some(oldest) => world.delete(kind, oldest),
        None => create(world, kind, business_id, &[]),
    }
}

fn one_of<'a>(texts: &[&'a str]) -> &'a str {
    texts[fastrand::usize(..texts.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn nexudus() -> Nexudus {
        let nexudus = Nexudus::start(Options::default()).unwrap();
        nexudus.populate(None);
        nexudus
    }

    #[test]
    fn random_events_are_of_several_actions_at_one_location_and_keep_the_number_of_records_bounded() {
        let nexudus = nexudus();
        let [here, other] = demo::LOCATIONS;
        let before = nexudus.lock().ids_at("Booking", other);
        let actions: BTreeSet<&str> =
            (0..2000).filter_map(|_| random_event(&nexudus, here).unwrap()).collect();
        for action in [
            "BookingCreate",
            "BookingUpdate",
            "BookingDelete",
            "CoworkerUpdate",
            "VisitorRegistered",
            "CheckinCreated",
        ] {
            assert!(actions.contains(action), "{action} in {actions:?}");
        }
        let state = nexudus.lock();
        assert_eq!(state.ids_at("Booking", other), before);
        for kind in ["Booking", "Visitor", "Checkin"] {
            let count = state.ids_at(kind, here).len();
            assert!((1..=MAX_RECORDS).contains(&count), "{count} {kind}");
        }
    }

    #[test]
    fn a_booking_is_of_a_room_at_its_location() {
        let nexudus = nexudus();
        for business_id in demo::LOCATIONS {
            let booking = nexudus.example("Booking", business_id).unwrap();
            let room = nexudus.record("Resource", booking.integer("ResourceId").unwrap()).unwrap();
            assert_eq!(room.integer("BusinessId"), Some(business_id));
        }
    }
}
