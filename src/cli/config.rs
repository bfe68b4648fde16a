//! `config check|show`: is the configuration right, and what is in force.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::loaded;
use super::output::{self, Output};
use crate::app::check;
use crate::config::show::show;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration; every mistake is listed
    Check,
    /// Print every setting in force and where it came from, secrets redacted
    Show,
}

/// Runs `config`.
pub(super) fn run(command: &Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(file)?;
    let warnings = check(&loaded.config)?;
    let mut out = Output::stdout();
    match command {
        Command::Check => {
            for warning in loaded.config.warnings.iter().chain(&warnings) {
                output::warning(warning);
            }
            let from = loaded
                .file
                .as_ref()
                .map_or("the environment alone".into(), |path| path.display().to_string());
            out.line(format_args!("The configuration is valid ({from})."));
        }
        Command::Show => out.block(show(&loaded).trim_end()),
    }
    out.end(ExitCode::SUCCESS)
}
