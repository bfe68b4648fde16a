//! `config check|show`: is the configuration right, and what is in force.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{self, Output};
use super::{exit_code, loaded};
use crate::app::check;
use crate::config::load::Mistakes;
use crate::config::{Config, Setting};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration, and list every mistake
    Check(Args),
    /// Print every setting in force with its origin; secrets are redacted
    Show(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `config`.
pub(super) fn run(command: &Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let checked = checked(file);
    let mut out = Output::stdout();
    match command {
        Command::Check(Args { json: true }) => {
            out.json(&verdict(&checked));
            return out.end(checked.map_or_else(|error| exit_code(&error), |_| ExitCode::SUCCESS));
        }
        Command::Check(_) => {
            let (config, warnings) = checked?;
            warnings.iter().for_each(output::warning);
            let from = config.file.as_ref();
            let from = from.map_or("the environment alone".into(), |path| path.display().to_string());
            out.line(format_args!("The configuration is valid ({from})."));
        }
        Command::Show(Args { json: true }) => out.json(&settings(&checked?.0)),
        Command::Show(_) => out.block(checked?.0.show().trim_end()),
    }
    out.end(ExitCode::SUCCESS)
}

/// The configuration, once it is known to be usable, and all warnings about it.
fn checked(file: Option<&Path>) -> anyhow::Result<(Config, Vec<String>)> {
    let config = loaded(file)?;
    let more = check(&config)?;
    let warnings = config.warnings.iter().cloned().chain(more).collect();
    Ok((config, warnings))
}

fn verdict(checked: &anyhow::Result<(Config, Vec<String>)>) -> Value {
    let none = Vec::new();
    let (file, warnings, mistakes) = match checked {
        Ok((config, warnings)) => (config.file.as_deref(), warnings, Vec::new()),
        Err(error) => {
            let mistakes = error.downcast_ref().map(|Mistakes(mistakes)| mistakes.clone());
            (None, &none, mistakes.unwrap_or_else(|| vec![format!("{error:#}")]))
        }
    };
    json!({"valid": checked.is_ok(), "file": file, "warnings": warnings, "mistakes": mistakes})
}

fn settings(config: &Config) -> Value {
    let setting = |setting: &Setting| {
        // TOML writes most values as JSON does; others stay text.
        let value = serde_json::from_str(&setting.value).unwrap_or_else(|_| json!(setting.value));
        json!({"key": setting.key, "value": value, "origin": setting.origin})
    };
    json!({"file": config.file, "settings": config.settings.iter().map(setting).collect::<Vec<_>>()})
}
