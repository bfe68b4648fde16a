//! `dev`: the bridge with an embedded broker and a public secret, and examples of its use.

use std::path::Path;

use anyhow::anyhow;

use super::client::program;
use super::output::{Exit, HEADING, Output, styled};
use crate::action::Action;
use crate::app::dev;
use crate::app::embedded::embed;
use crate::app::signals::{Signals, until_signal};
use crate::app::{App, BuildError, Ended};
use crate::config::load::process_environment;
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
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let mut config = dev::configuration(file, process_environment())?;
    if let Some(port) = args.port {
        config.ingress.listen.set_port(port);
        config.overrule("ingress.listen", format!("{:?}", config.ingress.listen.to_string()), "--port");
    }
    if let Some(port) = args.admin_port {
        config.admin.listen.set_port(port);
        config.overrule("admin.listen", format!("{:?}", config.admin.listen.to_string()), "--admin-port");
    }
    let log = log::start(&config.log)?;
    let signals = Signals::listen()?;
    let broker = embed(&mut config, Some(args.kafka_port)).map_err(|error| with_option(error.into()))?;
    let kafka = broker.bootstrap_servers().to_owned();
    let app = App::build(config.clone()).map_err(|error| with_option(error.into()))?;
    app.count_dropped_lines(log.dropped_lines());
    print_banner(&config, &app, &kafka);
    let ended = until_signal(app, signals).await;
    drop(broker);
    Ok(Exit::of(ended == Ended::Drained))
}

/// Adds the option that chooses another port to the error about an address that cannot be listened on.
fn with_option(error: anyhow::Error) -> anyhow::Error {
    let (address, reason, option) = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(BuildError::Listen { key: "admin.listen", address, error }), _) => {
            (address, error, "--admin-port")
        }
        (Some(BuildError::Listen { address, error, .. }), _) => (address, error, "--port"),
        (_, Some(EmbeddedError::Listen { address, source })) => (address, source, "--kafka-port"),
        _ => return error,
    };
    anyhow!("cannot listen on {address}: {reason}; {option} chooses another port")
}

/// A short record with non-ASCII text, for which a plain HMAC is not the signature.
const EXAMPLE: &str = r#"[{"Id":42,"FullName":"José Ñandú 😀","UpdatedOn":"2026-01-02T03:04:05Z"}]"#;

const EXAMPLE_ACTION: &str = "CoworkerCreate";

/// Prints the addresses of the bridge, and examples. The bridge also runs if standard output cannot be written.
fn print_banner(config: &Config, app: &App, kafka: &str) {
    let source = config.sources.get(Source::DEFAULT).or_else(|| config.sources.values().next());
    let (name, signature, token) = source.map_or(("", None, ""), |source| {
        let token = if source.accepts_token(None) { "" } else { "?token=…" };
        (&*source.name, source.keys.first().map(|key| key.sign(EXAMPLE.as_bytes())), token)
    });
    let source = if name == Source::DEFAULT { String::new() } else { format!("{name}/") };
    let Topics { prefix, layout, .. } = &config.topics;
    let events = match layout.is_default() {
        true => format!("{prefix}{{action}}"),
        false => format!("{prefix}* ({} of topics.layout)", config.topics.list(&config.sources).len()),
    };
    let (topics, program) = (format!("{events}, {}", config.topics.quarantine()), program());
    let entry = Action::known(EXAMPLE_ACTION).expect("the catalogue has it");
    let topic = config.topics.topic_of(&Action::Known(entry));
    let (ingress, admin) = (app.ingress_address(), app.admin_address());
    let header = |signature| format!("    -H 'X-Nexudus-Hook-Signature: {signature}' \\\n");
    let header = signature.map(header).unwrap_or_default();
    let [running, send, watch, clients] = [
        "The bridge is running, with a Kafka broker inside.",
        "Send a delivery, signed as Nexudus signs:",
        "Watch events, and send many:",
        "Point kcat, or a client built on librdkafka (Python, Go, .NET, Node.js), at it:",
    ]
    .map(|text| styled(HEADING, text));
    Output::stdout().block(format_args!(
        "
{running}
  webhooks   http://{ingress}/webhooks/{source}{{action}}{token}
  console    http://{admin}/
  admin      http://{admin}/metrics   /healthz   /readyz
  Kafka      {kafka}   topics {topics}

{send}
  curl -sS 'http://{ingress}/webhooks/{source}{EXAMPLE_ACTION}{token}' \\
{header}    -H 'Content-Type: application/json' --data-binary '{EXAMPLE}'

{watch}
  {program} tail --bootstrap {kafka}
  {program} send BookingCreate --count 1000 --concurrency 64 --url http://{ingress}

{clients}
  kcat -b {kafka} -C -t {topic} -f '%k %h\\n%s\\n'

Events live in this process only, about the last 5 MiB of each partition. Ctrl-C ends it.
"
    ));
}
