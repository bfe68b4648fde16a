//! `topics plan|apply`: the configuration's topics and the cluster's, as a diff.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::client::configuration;
use super::loaded;
use super::output::{self, ADDED, Output, WARNING, styled};
use crate::config::TopicSettings;
use crate::kafka::contact::reach;
use crate::kafka::topics::{Difference, Plan, Topics};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print missing topics, and topics that differ from the configuration
    Plan {
        /// Exit with code 3 if topics are missing
        #[arg(long)]
        detailed_exitcode: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Create missing topics; changes and deletes nothing
    Apply,
}

/// Exit code of `plan --detailed-exitcode` when topics would be created.
const PENDING: u8 = 3;

/// Runs `topics`.
pub(super) async fn run(command: Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = match command {
        Command::Plan { .. } => configuration(file)?,
        Command::Apply => loaded(file)?, // never writes to a cluster that nobody configured
    };
    reach(&config.kafka.bootstrap_servers).await?;
    let topics = Topics::new(&config)?;
    let plan = topics.plan().await?;
    let mut out = Output::stdout();
    match command {
        Command::Plan { json: true, .. } => out.json(&plan),
        _ => print(&mut out, &plan),
    }
    let code = match command {
        Command::Plan { detailed_exitcode: true, .. } if !plan.create.is_empty() => ExitCode::from(PENDING),
        Command::Plan { .. } => ExitCode::SUCCESS,
        Command::Apply => apply(&mut out, &topics, &plan).await?,
    };
    out.end(code)
}

async fn apply(out: &mut Output, topics: &Topics, plan: &Plan) -> anyhow::Result<ExitCode> {
    let failed = topics.apply(plan).await?;
    for failure in &failed {
        output::failed(failure);
    }
    let created = plan.create.len() - failed.len();
    out.line(format_args!("Applied: {created} created, {} failed.", failed.len()));
    Ok(output::exit(failed.is_empty()))
}

fn print(out: &mut Output, plan: &Plan) {
    for wanted in &plan.create {
        let name = styled(ADDED, format_args!("+ {}", wanted.name));
        out.line(format_args!("{name}  {}", settings(&wanted.settings)));
    }
    for difference in &plan.differences {
        let Difference { topic, field, have, want } = difference;
        let topic = styled(WARNING, format_args!("! {topic}"));
        out.line(format_args!("{topic}  {field}: {have}, configured {want} (left as it is)"));
    }
    for warning in &plan.warnings {
        output::warning(warning);
    }
    if plan.create.is_empty() && plan.differences.is_empty() {
        return out.line(format_args!("No changes. {} topics match the configuration.", plan.unchanged));
    }
    let mut differing: Vec<&str> =
        plan.differences.iter().map(|difference| difference.topic.as_str()).collect();
    differing.dedup();
    let (create, differ) = (plan.create.len(), differing.len());
    out.line(format_args!("Plan: {create} to create, {differ} differ, {} unchanged.", plan.unchanged));
}

fn settings(TopicSettings { partitions, replication_factor, config }: &TopicSettings) -> String {
    let number = |number: i32| if number < 0 { "default".to_owned() } else { number.to_string() };
    let (partitions, replicas) = (number(*partitions), number(*replication_factor));
    let config: Vec<String> = config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("partitions={partitions} replication-factor={replicas} {}", config.join(" "))
}
