//! Shows the effective configuration: each setting as TOML, with its origin.

use super::load::Loaded;

/// One line a setting: `key = value  # origin`, origins lined up. Secrets are `***`.
pub fn show(loaded: &Loaded) -> String {
    const WIDEST: usize = 60; // longer ones push their own origin aside only
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
