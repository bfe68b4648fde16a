//! The command line: one file a command, the argument types and the exit codes here.
//!
//! Exit codes: 0 done; 1 failed; 2 usage or configuration error. Data goes to standard output, everything else to
//! standard error.

mod actions;
mod catch_up;
mod client;
mod completions;
mod config;
mod demo;
mod dev;
mod health;
mod help;
mod man;
mod moment;
pub mod output;
mod quarantine;
mod sample;
mod schema;
mod send;
mod serve;
mod sign;
mod tail;
mod topics;
mod verify;
mod waits;
mod webhooks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{FromArgMatches as _, Parser, Subcommand};

pub use self::help::command;
use crate::app::{BuildError, dev as dev_configuration};
use crate::config::Config;
use crate::config::load::{Mistakes, process_environment};
use crate::kafka::settings::library_version;
use crate::webhooks::AccountError;

/// Maximum time that the end of the bridge waits for standard error to take the reason: a pipe that nobody reads must not
/// keep its supervisor from starting it again.
const LAST_LINE: Duration = Duration::from_secs(1);

/// The bridge between Nexudus and Kafka: verifies webhooks, publishes their events, answers once they are confirmed.
#[derive(Debug, Parser)]
#[command(name = "nexudus-bridge", version = version(), max_term_width = 100)]
pub struct Cli {
    /// Configuration file [default: $NEXUDUS_BRIDGE_CONFIG, ./nexudus-bridge.toml,
    /// /etc/nexudus-bridge/nexudus-bridge.toml, or none]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge
    Serve,
    /// Run the bridge with an embedded Kafka broker and a public secret; needs no installation and no configuration
    Dev(dev::Args),
    /// Post one delivery of every action to a bridge with an embedded broker, and compare the events
    Demo,
    /// Sign and post deliveries as Nexudus does, and measure the answers
    Send(send::Args),
    /// Print an invented delivery of an action, for tests of consumers
    Sample(sample::Args),
    /// Print events as they arrive
    Tail(tail::Args),
    /// List, print and replay the deliveries on the quarantine topic
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Print the signature of a body
    Sign(sign::Args),
    /// Verify the signature of a body
    Verify(verify::Args),
    /// List the actions of Nexudus
    Actions(actions::Args),
    /// Print the JSON Schema of an action's record
    Schema(schema::Args),
    /// Print an AsyncAPI 3 document of this configuration's topics and messages
    Asyncapi,
    /// Compare the topics with the cluster, and create missing ones
    #[command(subcommand)]
    Topics(topics::Command),
    /// Compare the webhooks in Nexudus with the configuration, write the differences, show their state
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Read changed records from Nexudus after an outage, and publish them with a mark
    CatchUp(catch_up::Args),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Query the readiness of a running bridge, for container health checks
    Health(health::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Write man pages of all commands into a folder
    Man(man::Args),
}

/// Loads the configuration, for the commands that need it only sometimes.
trait Configuration: FnOnce() -> anyhow::Result<Config> {}

impl<F: FnOnce() -> anyhow::Result<Config>> Configuration for F {}

/// Parses the arguments, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&help::command().get_matches()).unwrap_or_else(|error| error.exit());
    let has_supervisor = matches!(cli.command, Command::Serve | Command::Dev(_));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            runtime.shutdown_background(); // a blocking call to a hanging broker must not hold the process
            result
        }
        Err(error) => Err(error).context("the asynchronous runtime cannot be started"),
    };
    result.unwrap_or_else(|error| {
        let code = exit_code(&error);
        let print = move || match is_usage(&error) {
            true => output::error_lines(format_args!("{error:#}")),
            false => output::error(format_args!("{error:#}")),
        };
        if has_supervisor {
            print_in_time(print)
        } else {
            print()
        }
        code
    })
}

/// Runs `print` and waits for it, but not longer than [`LAST_LINE`].
fn print_in_time(print: impl FnOnce() + Send + 'static) {
    let (printing, printed) = mpsc::channel::<()>();
    let thread = thread::Builder::new().spawn(move || {
        print();
        drop(printing);
    });
    if thread.is_ok() {
        printed.recv_timeout(LAST_LINE).ok(); // nothing comes but the end
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let file = cli.config.as_deref();
    let configuration = || client::configuration(file);
    let configured = || Ok(loaded(file)?);
    match cli.command {
        Command::Serve => serve::run(file).await,
        Command::Dev(args) => dev::run(args, file).await,
        Command::Demo => demo::run(file).await,
        Command::Send(args) => send::run(args, configuration).await,
        Command::Sample(args) => sample::run(&args, configuration),
        Command::Tail(args) => tail::run(args, configuration).await,
        Command::Quarantine(command) => quarantine::run(command, configuration).await,
        Command::Sign(args) => sign::run(&args, configured),
        Command::Verify(args) => verify::run(&args, configured),
        Command::Actions(args) => actions::run(&args, configuration),
        Command::Schema(args) => schema::run(&args),
        Command::Asyncapi => schema::run_asyncapi(configuration),
        Command::Topics(command) => topics::run(command, file).await,
        Command::Webhooks(command) => webhooks::run(command, file).await,
        Command::CatchUp(args) => catch_up::run(args, file).await,
        Command::Config(command) => config::run(&command, file),
        Command::Health(args) => health::run(args, file).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The version, the commit that it was built from as its builder named it, and the version of librdkafka.
fn version() -> String {
    let commit =
        option_env!("NEXUDUS_BRIDGE_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    format!("{} (commit {commit}, librdkafka {})", env!("CARGO_PKG_VERSION"), library_version())
}

/// Loads the configuration from the file and the environment of the process.
fn loaded(file: Option<&Path>) -> Result<Config, Mistakes> {
    dev_configuration::loaded(file, &process_environment())
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

/// Returns true if the arguments or the configuration are at fault.
fn is_usage(error: &anyhow::Error) -> bool {
    let configuration = error.is::<Mistakes>()
        || matches!(
            error.downcast_ref(),
            Some(BuildError::Kafka(_) | BuildError::Tls(_) | BuildError::Telemetry(_) | BuildError::Token(_))
        )
        || error.downcast_ref().is_some_and(AccountError::is_configuration);
    configuration || error.is::<output::Usage>()
}
