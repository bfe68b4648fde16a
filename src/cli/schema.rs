//! `schema` and `asyncapi`: the JSON Schema of an action's record, and the AsyncAPI document of all topics.

use std::process::ExitCode;

use super::Configuration;
use super::actions::chosen;
use super::output::Output;
use crate::action::schema;
use crate::asyncapi;

/// The arguments of `schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or number of the action; `all` for one schema per line
    action: String,
}

/// Prints the schemas.
///
/// # Errors
/// [`super::output::Usage`] for an action outside the catalogue; otherwise the system's.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    match chosen(&args.action)?.as_slice() {
        [entry] => out.json_text(&serde_json::to_string_pretty(&schema::of(entry))?),
        entries => entries.iter().for_each(|entry| out.json(&schema::of(entry))),
    }
    out.end(ExitCode::SUCCESS)
}

/// Runs `asyncapi`.
pub(super) fn run_asyncapi(configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    out.json_text(&serde_json::to_string_pretty(&asyncapi::document(&configuration()?))?);
    out.end(ExitCode::SUCCESS)
}
