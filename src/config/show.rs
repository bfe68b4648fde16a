//! The settings in force, each as TOML with its origin.

use std::fmt;

use super::load::Loaded;

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key: `section.key`.
    pub key: String,
    /// The value as TOML; `***` for a secret.
    pub value: String,
    /// The origin of the value.
    pub origin: Origin,
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// A configuration file.
    File(String),
    /// An environment variable.
    Variable(String),
    /// The running command, or an argument of it.
    Program(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) | Self::Variable(name) => f.write_str(name),
            Self::Program(by) => f.write_str(by),
        }
    }
}

/// Returns the settings, one per line: `key = value  # origin`, with the origins in one column. Secrets are `***`.
pub fn show(loaded: &Loaded) -> String {
    const WIDEST: usize = 60; // a longer line moves only its own origin to the right
    let lines: Vec<(String, String)> = loaded
        .config
        .settings
        .iter()
        .map(|setting| (format!("{} = {}", setting.key, setting.value), setting.origin.to_string()))
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .filter(|&width| width <= WIDEST)
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (line, origin) in lines {
        let padding = " ".repeat(width.saturating_sub(line.chars().count()));
        text.push_str(&format!("{line}{padding}  # {origin}\n"));
    }
    text
}
