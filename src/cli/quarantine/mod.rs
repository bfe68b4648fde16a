//! `quarantine list|show|replay`: reads the quarantine topic, and publishes its messages again. Nothing here deletes a message
//! or writes to the quarantine topic.

mod list;
mod replay;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::Configuration;
use super::moment::moment;
use super::output::Usage;
use crate::config::{Config, brokers};
use crate::outcome::QuarantineReason;
use crate::quarantine::filters::Filters;
use crate::tail::patterns;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the messages: time, source, action, reason, size and position
    List(list::Args),
    /// Print the headers and the body of one message; the body can hold personal data
    Show(show::Args),
    /// Publish quarantined deliveries to the topics of their actions; deletes nothing
    Replay(replay::Args),
}

/// The filters; a message has to pass all that are given.
#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only deliveries with this reason; repeatable
    #[arg(long, value_parser = reasons())]
    reason: Vec<QuarantineReason>,
    /// Only deliveries received at or after this time: 2026-01-02T03:04:05Z, 2026-01-02 (UTC), or a duration before now: 90m, 2days
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only deliveries received before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only deliveries with this action in the URL, a name or a glob such as 'Booking*'; repeatable
    #[arg(long)]
    action: Vec<String>,
    /// Only deliveries for this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
}

impl FilterArgs {
    fn filters(self) -> anyhow::Result<Filters> {
        let Self { reason: reasons, since, until, action, source: sources } = self;
        let actions = if action.is_empty() { None } else { Some(patterns(&action).map_err(Usage::new)?) };
        Ok(Filters { reasons, since, until, actions, sources })
    }
}

fn reasons() -> impl TypedValueParser<Value = QuarantineReason> {
    PossibleValuesParser::new(QuarantineReason::ALL.map(QuarantineReason::label))
        .try_map(|label| label.parse::<QuarantineReason>())
}

#[derive(Debug, clap::Args)]
struct Cluster {
    /// Bootstrap brokers [default: those of the configuration]
    #[arg(long, value_name = "HOST:PORT", value_parser = brokers)]
    bootstrap: Option<String>,
}

impl Cluster {
    /// Returns the configuration with these brokers, and the name of the quarantine topic.
    fn of(self, mut config: Config) -> (Config, String) {
        config.kafka.bootstrap_servers = self.bootstrap.unwrap_or(config.kafka.bootstrap_servers);
        let topic = config.topics.quarantine();
        (config, topic)
    }
}

/// Runs `quarantine`.
pub(super) async fn run(command: Command, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list::run(args, configuration).await,
        Command::Show(args) => show::run(args, configuration).await,
        Command::Replay(args) => replay::run(args, configuration).await,
    }
}
