//! `config check|show`: the mistakes of the configuration, and the settings in force.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::loaded;
use super::exit_of;
use super::output::{self, Exit, Output};
use crate::app::check;
use crate::config::load::Mistakes;
use crate::config::{Config, Setting};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration, and list every mistake
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print every setting in force with its origin; secrets are redacted
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Command, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let checked = checked(file);
    match command {
        Command::Check { json: true } => {
            let exit = checked.as_ref().map_or_else(exit_of, |_| Exit::Done);
            out.json(&verdict(checked));
            return Ok(exit);
        }
        Command::Check { .. } => {
            let (config, warnings) = checked?;
            warnings.iter().for_each(output::warning);
            let from = config.file.as_ref();
            let from = from.map_or("the environment alone".into(), |path| path.display().to_string());
            out.line(format_args!("The configuration is valid ({from})."));
        }
        Command::Show { json: true } => out.json(&settings(&checked?.0)),
        Command::Show { .. } => out.block(checked?.0.show().trim_end()),
    }
    Ok(Exit::Done)
}

/// Loads and checks the configuration, and returns it with all warnings.
fn checked(file: Option<&Path>) -> anyhow::Result<(Config, Vec<String>)> {
    let config = loaded(file)?;
    let more = check(&config)?;
    let warnings = config.warnings.iter().cloned().chain(more).collect();
    Ok((config, warnings))
}

fn verdict(checked: anyhow::Result<(Config, Vec<String>)>) -> Value {
    let (file, warnings, mistakes) = match checked {
        Ok((config, warnings)) => (config.file, warnings, Vec::new()),
        Err(error) => {
            let mistakes = error.downcast().map(|Mistakes(mistakes)| mistakes);
            (None, Vec::new(), mistakes.unwrap_or_else(|error| vec![format!("{error:#}")]))
        }
    };
    json!({"valid": mistakes.is_empty(), "file": file, "warnings": warnings, "mistakes": mistakes})
}

fn settings(config: &Config) -> Value {
    let setting = |setting: &Setting| {
        // Most values have the same text in TOML and JSON; others stay text.
        let value = serde_json::from_str(&setting.value).unwrap_or_else(|_| json!(setting.value));
        json!({"key": setting.key, "value": value, "origin": setting.origin})
    };
    json!({"file": config.file, "settings": config.settings.iter().map(setting).collect::<Vec<_>>()})
}
