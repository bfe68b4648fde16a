//! `topics plan|apply`: the configuration's topics and the cluster's, as a diff.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::loaded;
use super::output;
use crate::kafka::topics::{Plan, Topics, Wanted};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is missing on the cluster, and what differs
    Plan {
        /// Exit with 3 when topics would be created
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Create what is missing; nothing is changed or deleted
    Apply,
}

/// Exit code of `plan --detailed-exitcode` when topics would be created.
const PENDING: u8 = 3;

/// Runs `topics`.
pub(super) async fn run(command: Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = loaded(file)?.config;
    let topics = Topics::new(&config)?;
    let plan = topics.plan().await?;
    print(&plan)?;
    match command {
        Command::Plan { detailed_exitcode: true } if !plan.create.is_empty() => Ok(ExitCode::from(PENDING)),
        Command::Plan { .. } => Ok(ExitCode::SUCCESS),
        Command::Apply => apply(&topics, &plan).await,
    }
}

async fn apply(topics: &Topics, plan: &Plan) -> anyhow::Result<ExitCode> {
    let failed = topics.apply(plan).await?;
    for failure in &failed {
        anstream::eprintln!("{}failed:{} {failure}", output::ERROR.render(), output::ERROR.render_reset());
    }
    let created = plan.create.len() - failed.len();
    writeln!(anstream::stdout(), "Applied: {created} created, {} failed.", failed.len())?;
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(plan: &Plan) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    for wanted in &plan.create {
        writeln!(
            out,
            "{}+ {}{}  {}",
            output::ADDED.render(),
            wanted.name,
            output::ADDED.render_reset(),
            settings(wanted)
        )?;
    }
    for difference in &plan.differences {
        let crate::kafka::topics::Difference { topic, field, have, want } = difference;
        writeln!(
            out,
            "{}! {topic}{}  {field}: {have}, configured {want} (left as it is)",
            output::WARNING.render(),
            output::WARNING.render_reset()
        )?;
    }
    for warning in &plan.warnings {
        anstream::eprintln!(
            "{}warning:{} {warning}",
            output::WARNING.render(),
            output::WARNING.render_reset()
        );
    }
    if plan.create.is_empty() && plan.differences.is_empty() {
        return writeln!(out, "No changes. {} topics match the configuration.", plan.unchanged);
    }
    let mut differing: Vec<&str> =
        plan.differences.iter().map(|difference| difference.topic.as_str()).collect();
    differing.dedup();
    let (create, differ) = (plan.create.len(), differing.len());
    writeln!(out, "Plan: {create} to create, {differ} differ, {} unchanged.", plan.unchanged)
}

fn settings(wanted: &Wanted) -> String {
    let number = |number: i32| if number < 0 { "default".to_owned() } else { number.to_string() };
    let (partitions, replicas) = (number(wanted.partitions), number(wanted.replication_factor));
    let config: Vec<String> = wanted.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("partitions={partitions} replication-factor={replicas} {}", config.join(" "))
}
