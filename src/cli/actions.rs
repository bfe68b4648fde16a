//! `actions`, `schema` and `asyncapi`: the actions of Nexudus, the JSON Schema of an action's record, and the AsyncAPI document
//! of all topics.

use std::path::Path;

use serde::Serialize;

use super::client::configuration;
use super::output::{self, Exit, Output, Usage, table};
use crate::action::catalogue::{ENTRIES, Entry};
use crate::action::{Action, Actions, schema};
use crate::asyncapi;
use crate::config::Topics;

/// Prints the catalogue, with the topics of the configuration. A configuration with mistakes is no error, because the operator may
/// need the right name of an action to correct them.
pub(super) fn run(json: bool, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let topics = configuration(file).ok().map(|config| config.topics);
    if topics.is_none() {
        output::note("the configuration has mistakes, so no topics are shown");
    }
    let rows = rows(topics.as_ref());
    match json {
        true => out.json_text(&serde_json::to_string_pretty(&rows)?),
        false => out.block(text(&rows)),
    }
    Ok(Exit::Done)
}

pub(super) fn print_schemas(action: &str, out: &mut Output) -> anyhow::Result<Exit> {
    match chosen(action)?.as_slice() {
        [entry] => out.json_text(&serde_json::to_string_pretty(&schema::of(entry))?),
        entries => entries.iter().for_each(|entry| out.json(&schema::of(entry))),
    }
    Ok(Exit::Done)
}

pub(super) fn print_asyncapi(file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    out.json_text(&serde_json::to_string_pretty(&asyncapi::document(&configuration(file)?))?);
    Ok(Exit::Done)
}

/// Returns the action of an argument `ACTION`, or all actions for `all`.
pub(super) fn chosen(action: &str) -> Result<Vec<&'static Entry>, Usage> {
    if action.eq_ignore_ascii_case("all") {
        return Ok(ENTRIES.iter().collect());
    }
    let entry = Action::known(action).ok_or_else(|| {
        let question = Actions::default().question(action);
        Usage(format!(
            "{action:?} is not an action of the catalogue{question}, expected a name, a number or all"
        ))
    })?;
    Ok(vec![entry])
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    entry: &'static Entry,
    /// The full name of the topic.
    topic: Option<String>,
}

fn rows(topics: Option<&Topics>) -> Vec<Row> {
    let topic = |entry| topics.map(|topics| topics.topic_of(&Action::Known(entry)));
    ENTRIES.iter().map(|entry| Row { entry, topic: topic(entry) }).collect()
}

fn text(rows: &[Row]) -> String {
    let columns = [">ID", "NAME", "ENTITY", "VERB", "KIND", "TOPIC", "HELP-CENTRE LABEL", "OLDER LABEL"];
    let cells = |Row { entry, topic }: &Row| {
        let Entry { id, name, entity, verb, kind, display, legacy, .. } = entry;
        let (id, topic) = (id.to_string(), topic.as_deref().unwrap_or("-"));
        [&*id, name, entity, verb, <&str>::from(kind), topic, display, legacy].map(str::to_owned)
    };
    table(columns, rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_action_under_its_heading() {
        let text = anstream::adapter::strip_str(&text(&rows(None))).to_string();
        assert_eq!(text.lines().count(), 90);
        assert!(text.lines().nth(1).unwrap().starts_with(" 2  CoworkerUpdate"), "{text}");
    }

    #[test]
    fn the_json_has_null_where_there_is_no_label() {
        let rows = serde_json::to_value(rows(None)).unwrap();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), 89);
        assert_eq!(rows[0]["name"], "CoworkerUpdate");
        assert_eq!(rows[0]["kind"], "change");
        assert!(rows.iter().any(|row| row["legacy_display"].is_null()));
        assert!(rows.iter().all(|row| row["display"] != "" && row["legacy_display"] != ""));
    }
}
