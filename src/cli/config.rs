//! `config check|show`: is the configuration right, and what is in force.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::loaded;
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
    check(&loaded.config)?;
    match command {
        Command::Check => {
            for warning in &loaded.config.warnings {
                anstream::eprintln!("warning: {warning}");
            }
            let from = loaded
                .file
                .as_ref()
                .map_or("the environment alone".into(), |path| path.display().to_string());
            writeln!(anstream::stdout(), "The configuration is valid ({from}).")?;
        }
        Command::Show => write!(anstream::stdout(), "{}", show(&loaded))?,
    }
    Ok(ExitCode::SUCCESS)
}
