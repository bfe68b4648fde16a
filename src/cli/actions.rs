//! `actions`: the catalogue of Nexudus's webhook actions.

use std::process::ExitCode;

use serde::Serialize;

use super::output::{Output, Table, Usage};
use crate::action::catalogue::{ENTRIES, Entry};
use crate::action::{Action, Actions, Kind};

/// The arguments of `actions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Prints it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    if args.json {
        out.json_text(&json()?)
    } else {
        out.block(table())
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

fn table() -> Table {
    let mut table = Table::new(["ID", "NAME", "ENTITY", "VERB", "KIND", "HELP-CENTRE LABEL", "OLDER LABEL"]);
    table.align_right(0);
    for entry in &ENTRIES {
        let Entry { id, name, entity, verb, kind, display, legacy, .. } = entry;
        let id = id.to_string();
        table.row([&id, *name, entity, verb, label(*kind), display, legacy].map(str::to_owned));
    }
    table
}

/// One action, under the names that the API and its documentation use.
#[derive(Serialize)]
struct Row {
    id: u16,
    name: &'static str,
    entity: &'static str,
    verb: &'static str,
    kind: &'static str,
    display: Option<&'static str>,
    legacy_display: Option<&'static str>,
    api_path: &'static str,
}

fn json() -> serde_json::Result<String> {
    let given = |label: &'static str| Some(label).filter(|label| !label.is_empty());
    let row = |entry: &'static Entry| Row {
        id: entry.id,
        name: entry.name,
        entity: entry.entity,
        verb: entry.verb,
        kind: label(entry.kind),
        display: given(entry.display),
        legacy_display: given(entry.legacy),
        api_path: entry.api_path,
    };
    serde_json::to_string_pretty(&ENTRIES.iter().map(row).collect::<Vec<_>>())
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Change => "change",
        Kind::Signal => "signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_action_under_its_heading() {
        let text = anstream::adapter::strip_str(&table().to_string()).to_string();
        assert_eq!(text.lines().count(), 90);
        assert!(text.lines().nth(1).unwrap().starts_with(" 2  CoworkerUpdate"), "{text}");
    }

    #[test]
    fn the_json_has_null_where_there_is_no_label() {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json().unwrap()).unwrap();
        assert_eq!(rows.len(), 89);
        assert_eq!(rows[0]["name"], "CoworkerUpdate");
        assert_eq!(rows[0]["kind"], "change");
        assert!(rows.iter().any(|row| row["legacy_display"].is_null()));
        assert!(rows.iter().all(|row| row["display"] != "" && row["legacy_display"] != ""));
    }
}
