//! `dev`: the bridge with an embedded broker and a known secret, and what to try with it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, ensure};

use super::output::{self, Output};
use super::serve::{Signals, until_signal};
use super::{DEV_SECRET, loaded_from};
use crate::action::Action;
use crate::app::embedded::embed;
use crate::app::{App, BuildError};
use crate::config::load::{Environment, process_environment};
use crate::config::{Config, Source, Topics};
use crate::kafka::embedded::EmbeddedError;
use crate::telemetry::log;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Port of the ingress on 127.0.0.1 [default: 8080, or the configured one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Port of the embedded broker on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    kafka_port: u16,
    /// Port of the admin listener on 127.0.0.1 [default: 9464, or the configured one]
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut config = configured(&args, file)?;
    leave_nexudus_alone(&mut config);
    let log = log::start(&config.log)?;
    let signals = Signals::listen()?;
    let broker = embed(&mut config, Some(args.kafka_port)).map_err(|error| with_option(error.into()))?;
    let kafka = broker.bootstrap_servers().to_owned();
    let banner = Banner::new(&config);
    let app = App::build(config).map_err(|error| with_option(error.into()))?;
    app.count_dropped_lines(log.dropped_lines());
    banner.print(&app, &kafka)?;
    let code = until_signal(app, signals).await;
    drop(broker);
    Ok(code)
}

/// Adds the option that chooses another port to the error about an address that cannot be listened on.
fn with_option(error: anyhow::Error) -> anyhow::Error {
    let (address, reason, option) =
        if let Some(BuildError::Listen { key, address, error }) = error.downcast_ref() {
            (address, error, if *key == "admin.listen" { "--admin-port" } else { "--port" })
        } else if let Some(EmbeddedError::Listen { address, source }) = error.downcast_ref() {
            (address, source, "--kafka-port")
        } else {
            return error;
        };
    anyhow!("cannot listen on {address}: {reason}; {option} chooses another port")
}

/// Returns the configuration with the ports of the arguments.
fn configured(args: &Args, file: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = configuration(file)?;
    if let Some(port) = args.port {
        config.ingress.listen.set_port(port);
        config.overrule("ingress.listen", format!("{:?}", config.ingress.listen.to_string()), "--port");
    }
    if let Some(port) = args.admin_port {
        config.admin.listen.set_port(port);
        config.overrule("admin.listen", format!("{:?}", config.admin.listen.to_string()), "--admin-port");
    }
    Ok(config)
}

/// Returns the configuration of `dev` and `demo`: `file` if the user names one, the environment, and defaults that let
/// the bridge run at once. Listens on loopback only, since everybody knows the secret.
pub(super) fn configuration(file: Option<&Path>) -> anyhow::Result<Config> {
    const SECRETS: &str = "NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS";
    let mut environment = process_environment();
    // Files that lie around are for `serve`; only one that is named is meant.
    environment.remove("NEXUDUS_BRIDGE_CONFIG");
    if !has_sources(file, &environment) {
        environment.insert(SECRETS.to_owned(), format!("[{DEV_SECRET:?}]"));
    }
    let loopback = [("NEXUDUS_BRIDGE__INGRESS__LISTEN", "127.0.0.1:8080")];
    if file.is_none() {
        for (name, value) in loopback {
            environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    let config = match file {
        Some(file) => loaded_from(Some(file), &environment)?.config,
        None => crate::config::load::load(None, &environment, crate::kafka::settings::check_property)?.config,
    };
    for (key, address) in [("ingress.listen", config.ingress.listen), ("admin.listen", config.admin.listen)] {
        ensure!(
            address.ip().is_loopback(),
            output::Usage::new(format!(
                "{key} = {address} is not on loopback, expected 127.0.0.1: the secret of dev and demo is known to everybody"
            ))
        );
    }
    Ok(config)
}

/// Whether the user has sources of his own.
fn has_sources(file: Option<&Path>, environment: &Environment) -> bool {
    file.is_some() || environment.keys().any(|name| name.starts_with("NEXUDUS_BRIDGE__SOURCES__"))
}

/// Forgets a real account: its webhooks lead elsewhere, and switching them on because *this* bridge is ready would be wrong.
pub(super) fn leave_nexudus_alone(config: &mut Config) {
    config.nexudus = None;
    config.settings.retain(|setting| !setting.key.starts_with("nexudus."));
}

struct Banner {
    source: String,
    signature: Option<String>,
    token: String,
    /// The topics in words, and the one of the example.
    topics: String,
    topic: String,
}

/// A record that a person can read in a command line, with text that a plain HMAC would get wrong.
const EXAMPLE: &str = r#"[{"Id":42,"FullName":"José Ñandú 😀","UpdatedOn":"2026-01-02T03:04:05Z"}]"#;

const EXAMPLE_ACTION: &str = "CoworkerCreate";

fn topics(config: &Config) -> String {
    let Topics { prefix, layout, .. } = &config.topics;
    let events = match layout.is_default() {
        true => format!("{prefix}{{action}}"),
        false => format!("{prefix}* ({} of topics.layout)", config.topics.list(&config.sources).len()),
    };
    format!("{events}, {}", config.topics.quarantine())
}

impl Banner {
    fn new(config: &Config) -> Self {
        let source = config.sources.get(Source::DEFAULT).or_else(|| config.sources.values().next());
        let name = source.map_or("", |source| &source.name);
        Self {
            source: if name == Source::DEFAULT { String::new() } else { format!("{name}/") },
            signature: source.and_then(|source| Some(source.keys.first()?.sign(EXAMPLE.as_bytes()))),
            token: if source.is_some_and(|source| !source.accepts_token(None)) {
                "?token=…".into()
            } else {
                String::new()
            },
            topics: topics(config),
            topic: Action::known(EXAMPLE_ACTION)
                .map(|entry| config.topics.topic_of(&Action::Known(entry)))
                .unwrap_or_default(),
        }
    }

    fn print(&self, app: &App, kafka: &str) -> std::io::Result<()> {
        let mut out = Output::stdout();
        let (ingress, admin) = (app.ingress_address(), app.admin_address());
        let program = program();
        let Self { source, token, topics, topic, .. } = self;
        let bold = output::HEADING;
        let head = |text: &str| format!("{}{text}{}", bold.render(), bold.render_reset());
        writeln!(out, "\n{}", head("The bridge is running, with a Kafka broker inside."))?;
        writeln!(out, "  webhooks   http://{ingress}/webhooks/{source}{{action}}{token}")?;
        writeln!(out, "  console    http://{admin}/")?;
        writeln!(out, "  admin      http://{admin}/metrics   /healthz   /readyz")?;
        writeln!(out, "  Kafka      {kafka}   topics {topics}")?;
        writeln!(out, "\n{}", head("Send a delivery, signed as Nexudus signs:"))?;
        writeln!(out, "  curl -sS 'http://{ingress}/webhooks/{source}{EXAMPLE_ACTION}{token}' \\")?;
        if let Some(signature) = &self.signature {
            writeln!(out, "    -H 'X-Nexudus-Hook-Signature: {signature}' \\")?;
        }
        writeln!(out, "    -H 'Content-Type: application/json' --data-binary '{EXAMPLE}'")?;
        writeln!(out, "\n{}", head("Watch events, and send many:"))?;
        writeln!(out, "  {program} tail --bootstrap {kafka}")?;
        writeln!(out, "  {program} send BookingCreate --count 1000 --concurrency 64 --url http://{ingress}")?;
        writeln!(
            out,
            "\n{}",
            head("Point kcat, or a client built on librdkafka (Python, Go, .NET, Node.js), at it:")
        )?;
        writeln!(out, "  kcat -b {kafka} -C -t {topic} -f '%k %h\\n%s\\n'")?;
        writeln!(
            out,
            "\nEvents live in this process only, about the last 5 MiB of each partition. Ctrl-C ends it.\n"
        )?;
        out.flush()
    }
}

/// How this program was called, as it can be called again.
pub(super) fn program() -> &'static str {
    if process_environment().contains_key("CARGO") { "cargo run --" } else { "nexudus-bridge" }
}

/// The address of loopback with a port that the system chooses.
pub(super) const ANY_PORT: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
