//! The table of settings. Meaning and order come from the comments of `deploy/nexudus-bridge.example.toml`; defaults and
//! allowed values come from the program, which reads each setting once with wrong values.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use indicatif::HumanCount;
use nexudus_bridge::config::load::{self, Environment, Mistakes};
use nexudus_bridge::config::{DEFAULT, Setting};
use nexudus_bridge::kafka::settings::check_property;

use super::page::{Page, repository};

/// Sections whose keys the user chooses. Such a section counts as one setting.
const TABLES: [&str; 5] =
    ["kafka.properties", "kafka.property_files", "topics.config", "topics.quarantine_config", LAYOUT];

/// A table whose keys are globs. The name of a variable cannot contain a glob.
const LAYOUT: &str = "topics.layout";

/// A section whose subsections are named by globs, and the name of its subsection in the example.
const OVERRIDES: (&str, &str) = ("topics.overrides", "topics.overrides.GLOB");

/// Returns the section that is read for a section of the example; its glob must match a topic.
fn real(section: &str) -> &str {
    if section == OVERRIDES.1 { "topics.overrides.BookingCreate" } else { section }
}

/// A section of the example file.
#[derive(Default)]
struct Section {
    name: String,
    about: String,
    /// Keys with their comments, in order.
    keys: Vec<(String, String)>,
}

/// Reads the sections of the example, including settings that are commented out. The source `default` represents all sources.
fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = String::new();
    for line in text.lines() {
        let plain = line.strip_prefix("# ").unwrap_or(line).trim();
        let name = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let key = plain
            .split_once(" = ")
            .map(|(key, _)| key)
            .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '"' || c == '.'));
        if let Some(name) = name {
            let about = std::mem::take(&mut comment);
            sections.push(Section { name: name.to_owned(), about, keys: Vec::new() });
        } else if let Some(key) = key {
            let section = sections.last_mut().unwrap_or_else(|| panic!("no section before {line}"));
            section.keys.push((key.to_owned(), std::mem::take(&mut comment)));
        } else if line.starts_with('#') {
            comment.push_str(plain.trim_start_matches('#'));
            comment.push(' ');
        } else {
            comment.clear();
        }
    }
    sections.retain(|section| !section.name.starts_with("sources.") || section.name == "sources.default");
    sections
}

fn example() -> Vec<Section> {
    sections(&Page::read(&repository().join("deploy/nexudus-bridge.example.toml")).text)
}

/// Returns the smallest environment with which a configuration is valid.
fn environment() -> Environment {
    let variables = [
        ("SOURCES__DEFAULT__SECRETS", "[\"secret\"]"),
        ("SOURCES__DEFAULT__BUSINESS_ID", "1"),
        ("NEXUDUS__PUBLIC_URL", "https://hooks.example.com"),
        ("NEXUDUS__TOKEN", "token"),
    ];
    variables.map(|(name, value)| (format!("NEXUDUS_BRIDGE__{name}"), value.to_owned())).into()
}

/// Reads a file with this text, and the smallest environment.
fn read(text: &str, without: &str) -> Result<Vec<Setting>, Vec<String>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let mut environment = environment();
    environment.remove(without);
    let config = load::load(Some(file.path()), &environment, check_property);
    config.map(|config| config.settings).map_err(|Mistakes(mistakes)| mistakes)
}

fn variable(path: &str) -> String {
    format!("NEXUDUS_BRIDGE__{}", path.replace('.', "__").to_uppercase())
}

/// Returns the mistake that the program reports for a value of a setting, if any.
fn objection(section: &str, key: &str, value: &str) -> Option<String> {
    // Another source, since variables for the source `default` take precedence over the file.
    let section = if section == "sources.default" { "sources.probe" } else { real(section) };
    let path = format!("{section}.{key}");
    let mistakes = read(&format!("[{section}]\n{key} = {value}\n"), &variable(&path)).err()?;
    let own = mistakes
        .into_iter()
        .find(|mistake| mistake.starts_with(&format!("{path} ")) || mistake.starts_with(&format!("{path}[")));
    let (text, _) = own.as_deref()?.rsplit_once(" (from ").expect("each mistake names its origin");
    Some(text.to_owned())
}

/// Returns the allowed values of a setting, from the mistakes that the program reports for wrong values.
fn allowed(section: &str, key: &str) -> String {
    let path = format!("{section}.{key}");
    let wrong = ["{}", "\"\\u0001\"", "\"99999999h\"", "[\"\"]", "\"1ms\""];
    let objections: Vec<String> = wrong.iter().filter_map(|value| objection(section, key, value)).collect();
    let (after, last) = ("expected ", |find: &str| objections.iter().rev().find(|text| text.contains(find)));
    if let Some(text) = last("is out of bounds").or(last("is not a number in bounds")) {
        let (_, bounds) = text.rsplit_once(after).expect("the bounds");
        let unbounded = format!(" to {}", i64::MAX);
        return grouped(&bounds.replace(&unbounded, " or more"));
    }
    if let Some((_, words)) = last("is not one of ").and_then(|text| text.split_once("is not one of ")) {
        return words.replace('"', "`");
    }
    if last("is not true or false").is_some() {
        return "`true`, `false`".to_owned();
    }
    if last("is not a list of texts").is_some() {
        return if key.ends_with("_files") { "list of paths" } else { "list of texts" }.to_owned();
    }
    if key == "config" {
        return "table of texts".to_owned();
    }
    let special = objections.iter().rev().find(|text| text.contains(after) && !text.contains("in quotes"));
    match special.and_then(|text| text.split_once(after)) {
        Some((_, expected)) if expected != "both or neither" => expected.replace("one such as", "such as"),
        _ if objections.is_empty() => panic!("{path} takes every value"),
        _ if key.ends_with("_file") => "path".to_owned(),
        _ => "text".to_owned(),
    }
}

/// Returns the text with the digits of long numbers in groups.
fn grouped(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.parse() {
        Ok(number) if number >= 1_000 => HumanCount(number).to_string(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the keys of a section, from the mistake that the program reports for an unknown key.
fn known(section: &str) -> BTreeSet<String> {
    let objection = read(&format!("[{section}]\nzzzzzzzzzzzzzzzz = 1\n"), "").expect_err("an unknown key");
    let (_, names) = objection
        .iter()
        .find_map(|text| text.split_once("is not a setting, expected one of "))
        .unwrap_or_else(|| panic!("{section}: {objection:?}"));
    let (names, _) = names.rsplit_once(" (from ").expect("the origin");
    names.split(", ").map(str::to_owned).collect()
}

/// Returns the table of each section.
pub(super) fn table() -> String {
    let defaults = read("", "").expect("valid");
    let default = |path: &str| {
        let found = defaults.iter().find(|setting| setting.key == path && setting.origin == DEFAULT);
        found.map_or("none".into(), |s| format!("`{}`", s.value))
    };
    let mut text = String::new();
    for Section { name, about, keys } in example() {
        let shown = name.replace("sources.default", "sources.NAME");
        write!(text, "\n### `[{shown}]`\n\n{}\n", about.trim()).expect("written");
        if TABLES.contains(&name.as_str()) {
            let variable = variable(&name);
            let environment = match name == LAYOUT {
                true => format!("`{variable}`, a JSON object such as `{{\"*\": \"{{entity}}\"}}`"),
                false => format!("`{variable}__PROPERTY`, with underscores for dots"),
            };
            writeln!(text, "\nEnvironment: {environment}.").expect("written");
            continue;
        }
        writeln!(
            text,
            "\n| key, environment variable | default | values | meaning |\n| --- | --- | --- | --- |"
        )
        .expect("written");
        for (key, meaning) in keys {
            let path = format!("{name}.{key}");
            let values = allowed(&name, &key).replace('|', "\\|");
            let variable = match name == OVERRIDES.1 {
                true => variable(OVERRIDES.0) + ", JSON",
                false => variable(&format!("{shown}.{key}")),
            };
            writeln!(
                text,
                "| `{key}`<br>`{variable}` | {} | {values} | {} |",
                default(&path),
                meaning.trim()
            )
            .expect("written");
        }
    }
    text
}

#[test]
fn the_example_has_every_setting_with_a_comment_and_its_default() {
    let sections = example();
    let defaults = read("", "").expect("valid");
    for Section { name, about, keys } in &sections {
        assert!(!about.is_empty(), "[{name}] has no comment");
        if TABLES.contains(&name.as_str()) {
            continue;
        }
        for (key, meaning) in keys {
            assert!(!meaning.is_empty(), "{name}.{key} has no comment");
        }
        let below = |other: &Section| {
            let other = other.name.strip_suffix(".GLOB").unwrap_or(&other.name);
            other.strip_prefix(&format!("{name}.")).map(str::to_owned)
        };
        let mut in_the_example: BTreeSet<String> = keys.iter().map(|(key, _)| key.clone()).collect();
        in_the_example.extend(sections.iter().filter_map(below));
        assert_eq!(in_the_example, known(real(name)), "keys of [{name}]: in the example, and in the program");
    }
    let path = repository().join("deploy/nexudus-bridge.example.toml");
    let text = Page::read(&path).text;
    for setting in defaults.iter().filter(|setting| setting.origin == DEFAULT) {
        let (_, key) = setting.key.rsplit_once('.').expect("a section");
        let written = |line: &str| {
            let line = line.trim_start_matches("# ");
            line.strip_prefix(key)
                .and_then(|rest| rest.strip_prefix(" = "))
                .map(|value| value.replace('_', ""))
        };
        let values: Vec<String> = text.lines().filter_map(written).collect();
        assert_ne!(setting.value, "\"\"", "{} has no default and is shown", setting.key);
        assert!(values.contains(&setting.value.replace('_', "")), "{setting:?}: {values:?}");
    }
}

#[test]
fn comments_belong_to_the_key_below_them() {
    let found = sections("# About.\n[a]\n# One\n# two.\nx = 1\ny = 2\n\n# Lost.\n\n# Three.\n# z = \"1\"\n");
    let keys: Vec<(&str, &str)> = found[0].keys.iter().map(|(k, c)| (k.as_str(), c.trim())).collect();
    assert_eq!((found[0].name.as_str(), found[0].about.trim()), ("a", "About."));
    assert_eq!(keys, [("x", "One two."), ("y", ""), ("z", "Three.")]);
}
