//! `actions`: the catalogue of Nexudus's webhook actions.

use std::process::ExitCode;

use serde::Serialize;

use super::Configuration;
use super::output::{self, Output, Table, Usage};
use crate::action::catalogue::{ENTRIES, Entry};
use crate::action::{Action, Actions};
use crate::config::Topics;

/// The arguments of `actions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Prints the catalogue, with the topics of the configuration.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn run(args: &Args, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    // The mistakes of a configuration can lead here, to look up a name.
    let topics = configuration().map(|config| config.topics);
    if topics.is_err() {
        output::note("the configuration has mistakes, so no topics are shown");
    }
    let topics = topics.ok();
    if args.json {
        out.json_text(&json(topics.as_ref())?)
    } else {
        out.block(table(topics.as_ref()))
    }
    out.end(ExitCode::SUCCESS)
}

/// Returns the actions that an argument `ACTION|all` names.
///
/// # Errors
/// [`Usage`] for an action outside the catalogue.
pub(super) fn chosen(action: &str) -> anyhow::Result<Vec<&'static Entry>> {
    if action.eq_ignore_ascii_case("all") {
        return Ok(ENTRIES.iter().collect());
    }
    match Action::known(action) {
        Some(entry) => Ok(vec![entry]),
        None => {
            let meant = meant(action, &Actions::default());
            Err(Usage::new(format!(
                "{action:?} is not an action of the catalogue{meant}, expected a name, a number or all"
            ))
            .into())
        }
    }
}

/// Returns the nearest action's name as a question in brackets, or nothing.
pub(super) fn meant(action: &str, actions: &Actions) -> String {
    actions.nearest(action).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// Returns the nearest name as a question, else the advice.
pub(super) fn question(nearest: Option<&str>, advice: &str) -> String {
    nearest.map_or_else(|| advice.to_owned(), |name| format!("did you mean {name}?"))
}

fn table(topics: Option<&Topics>) -> Table {
    let columns = [">ID", "NAME", "ENTITY", "VERB", "KIND", "TOPIC", "HELP-CENTRE LABEL", "OLDER LABEL"];
    let mut table = Table::new(columns);
    for entry in &ENTRIES {
        let Entry { id, name, entity, verb, kind, display, legacy, .. } = entry;
        let (id, topic) = (id.to_string(), topic(entry, topics).unwrap_or_else(|| "-".to_owned()));
        table.row([&id, *name, entity, verb, <&str>::from(kind), &topic, display, legacy].map(str::to_owned));
    }
    table
}

/// Returns the full name of the topic of an action.
fn topic(entry: &'static Entry, topics: Option<&Topics>) -> Option<String> {
    topics.map(|topics| topics.topic_of(&Action::Known(entry)))
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    entry: &'static Entry,
    topic: Option<String>,
}

fn json(topics: Option<&Topics>) -> serde_json::Result<String> {
    let row = |entry| Row { entry, topic: topic(entry, topics) };
    serde_json::to_string_pretty(&ENTRIES.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_action_under_its_heading() {
        let text = anstream::adapter::strip_str(&table(None).to_string()).to_string();
        assert_eq!(text.lines().count(), 90);
        assert!(text.lines().nth(1).unwrap().starts_with(" 2  CoworkerUpdate"), "{text}");
    }

    #[test]
    fn the_json_has_null_where_there_is_no_label() {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json(None).unwrap()).unwrap();
        assert_eq!(rows.len(), 89);
        assert_eq!(rows[0]["name"], "CoworkerUpdate");
        assert_eq!(rows[0]["kind"], "change");
        assert!(rows.iter().any(|row| row["legacy_display"].is_null()));
        assert!(rows.iter().all(|row| row["display"] != "" && row["legacy_display"] != ""));
    }
}
