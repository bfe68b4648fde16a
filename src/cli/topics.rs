//! `topics plan|apply`: compares the topics of the configuration with the cluster, and creates missing ones.

use std::path::Path;

use clap::Subcommand;

use super::client::{configuration, loaded};
use super::output::{self, ADDED, Exit, Output, WARNING, styled};
use crate::config::{Config, TopicSettings};
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

pub(super) async fn run(command: Command, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    match command {
        Command::Plan { detailed_exitcode, json } => {
            let (_, plan) = plan(configuration(file)?).await?;
            match json {
                true => out.json(&plan),
                false => print(out, &plan),
            }
            Ok(Exit::of_comparison(detailed_exitcode, !plan.create.is_empty()))
        }
        Command::Apply => {
            let (topics, plan) = plan(loaded(file)?).await?; // without a source it fails, so it writes only to a configured cluster
            print(out, &plan);
            let failed = topics.apply(&plan).await?;
            for (topic, error) in &failed {
                output::failed(format_args!("{topic}: {error}"));
            }
            let created = plan.create.len() - failed.len();
            out.line(format_args!("Applied: {created} created, {} failed.", failed.len()));
            Ok(Exit::of(failed.is_empty()))
        }
    }
}

async fn plan(config: Config) -> anyhow::Result<(Topics, Plan)> {
    reach(&config.kafka.bootstrap_servers).await?;
    let topics = Topics::new(&config)?;
    let plan = topics.plan().await?;
    Ok((topics, plan))
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
    plan.warnings.iter().for_each(output::warning);
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
