//! `quarantine list|show|replay`: what was kept on the quarantine topic, read and published again.
//!
//! [`crate::quarantine`] has the logic that the three share. Nothing here deletes a message or writes to the quarantine topic.

mod filters;
mod list;
mod replay;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::duration;
use crate::config::{Config, brokers};
use crate::kafka::consumer::{Message, Reader};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the messages: time, source, action, reason, size and position
    List(list::Args),
    /// Print the headers and the body of one message; the body can hold personal data
    Show(show::Args),
    /// Publish quarantined deliveries to the topics of their actions; deletes nothing
    Replay(replay::Args),
}

/// Where the cluster is, for all three.
#[derive(Debug, clap::Args)]
struct Cluster {
    /// Bootstrap brokers [default: those of the configuration]
    #[arg(long, value_name = "HOST:PORT", value_parser = brokers)]
    bootstrap: Option<String>,
}

impl Cluster {
    /// The configuration with these brokers, and the quarantine topic's name.
    fn of(self, mut config: Config) -> (Config, String) {
        config.kafka.bootstrap_servers = self.bootstrap.unwrap_or(config.kafka.bootstrap_servers);
        let topic = config.topics.quarantine();
        (config, topic)
    }
}

/// How long the cluster may take to hand out the next message of those that are there.
const NEXT_WITHIN: Duration = Duration::from_secs(60);

/// The next message; none at the end. A cluster that falls silent meanwhile is an error, not a wait without an end.
async fn next(reader: &mut Reader) -> anyhow::Result<Option<Message>> {
    let next = tokio::time::timeout(NEXT_WITHIN, reader.next()).await;
    let within = duration::show(NEXT_WITHIN);
    Ok(next.with_context(|| format!("Kafka has handed out no further message within {within}"))??)
}

/// Runs `quarantine`.
pub(super) async fn run(
    command: Command,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list::run(args, configuration).await,
        Command::Show(args) => show::run(args, configuration).await,
        Command::Replay(args) => replay::run(args, configuration).await,
    }
}
