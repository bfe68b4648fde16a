//! `schema`: the JSON Schema of an action's record.

use std::process::ExitCode;

use super::actions::chosen;
use super::output::Output;
use crate::action::schema;

/// The arguments of `schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or number of the action; `all` for one schema per line
    action: String,
}

/// Prints it.
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
