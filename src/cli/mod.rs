//! The command line: the commands, each in a file of its own, and the end of the program by their result.
//!
//! Data goes to standard output, everything else to standard error.

mod actions;
mod catch_up;
mod client;
mod config;
mod demo;
mod dev;
mod health;
mod help;
mod moment;
pub mod output;
mod quarantine;
mod sample;
mod send;
mod serve;
mod sign;
mod tail;
mod topics;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

pub use self::help::command;
use self::output::{Exit, Output, Usage};
use crate::app::BuildError;
use crate::config::load::Mistakes;
use crate::kafka::settings::library_version;
use crate::webhooks::AccountError;

/// Maximum time for writing the last error of the bridge to standard error. If nothing reads the pipe, the process still has to end,
/// so that its supervisor starts it again.
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
    Verify(sign::VerifyArgs),
    /// List the actions of Nexudus
    Actions {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of an action's record
    Schema {
        /// Name or number of the action; `all` for one schema per line
        action: String,
    },
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
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages of all commands into a folder
    Man {
        /// Directory, such as /usr/local/share/man/man1; created if it is missing
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Parses the arguments, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&help::command().get_matches()).unwrap_or_else(|error| error.exit());
    let has_supervisor = matches!(cli.command, Command::Serve | Command::Dev(_));
    let exit = end(cli).unwrap_or_else(|error| {
        let exit = exit_of(&error);
        let print = move || match exit {
            Exit::Usage => output::error_lines(format_args!("{error:#}")),
            _ => output::error(format_args!("{error:#}")),
        };
        match has_supervisor {
            true => print_in_time(print),
            false => print(),
        }
        exit
    });
    exit.into()
}

/// Runs `print` and waits for it, but not longer than [`LAST_LINE`].
fn print_in_time(print: impl FnOnce() + Send + 'static) {
    let (printing, printed) = mpsc::channel::<()>();
    let print = move || {
        print();
        drop(printing);
    };
    thread::Builder::new().spawn(print).ok();
    printed.recv_timeout(LAST_LINE).ok(); // returns when the thread ends
}

/// Runs a command to its end.
fn end(cli: Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the asynchronous runtime cannot be started")?;
    let mut out = Output::stdout();
    let code = runtime.block_on(run(cli, &mut out));
    runtime.shutdown_background(); // a blocking call to a broker that does not answer must not delay the exit
    out.end(code?)
}

async fn run(cli: Cli, out: &mut Output) -> anyhow::Result<Exit> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Serve => serve::run(file).await,
        Command::Dev(args) => dev::run(args, file).await,
        Command::Demo => demo::run(file, out).await,
        Command::Send(args) => send::run(args, file, out).await,
        Command::Sample(args) => sample::run(&args, file, out),
        Command::Tail(args) => tail::run(args, file, out).await,
        Command::Quarantine(quarantine::Command::List(args)) => quarantine::list(args, file, out).await,
        Command::Quarantine(quarantine::Command::Show(args)) => quarantine::show(args, file, out).await,
        Command::Quarantine(quarantine::Command::Replay(args)) => quarantine::replay(args, file, out).await,
        Command::Sign(args) => sign::run(&args, file, out),
        Command::Verify(args) => sign::run_verify(&args, file, out),
        Command::Actions { json } => actions::run(json, file, out),
        Command::Schema { action } => actions::print_schemas(&action, out),
        Command::Asyncapi => actions::print_asyncapi(file, out),
        Command::Topics(command) => topics::run(command, file, out).await,
        Command::Webhooks(webhooks::Command::Plan(args)) => webhooks::plan(args, file, out).await,
        Command::Webhooks(webhooks::Command::Apply(args)) => webhooks::apply(args, file, out).await,
        Command::Webhooks(webhooks::Command::Status(args)) => webhooks::status(args, file, out).await,
        Command::Webhooks(webhooks::Command::Enable(args)) => webhooks::enable(args, file, out).await,
        Command::CatchUp(args) => catch_up::run(args, file, out).await,
        Command::Config(command) => config::run(&command, file, out),
        Command::Health(args) => health::run(args, file, out).await,
        Command::Completions { shell } => help::print_completions(shell, out),
        Command::Man { folder } => help::write_man_pages(&folder),
    }
}

/// Returns the version, the commit in `NEXUDUS_BRIDGE_COMMIT` at build time, and the version of librdkafka.
fn version() -> String {
    let commit =
        option_env!("NEXUDUS_BRIDGE_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    format!("{} (commit {commit}, librdkafka {})", env!("CARGO_PKG_VERSION"), library_version())
}

/// Returns [`Exit::Usage`] if the arguments or the configuration are at fault, else [`Exit::Failed`].
fn exit_of(error: &anyhow::Error) -> Exit {
    use BuildError::{Kafka, Telemetry, Tls, Token};
    let is_usage = error.is::<Usage>()
        || error.is::<Mistakes>()
        || matches!(error.downcast_ref(), Some(Kafka(_) | Tls(_) | Telemetry(_) | Token(_)))
        || error.downcast_ref().is_some_and(AccountError::is_configuration);
    if is_usage { Exit::Usage } else { Exit::Failed }
}
