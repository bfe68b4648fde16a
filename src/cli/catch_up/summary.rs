//! The result of a run for people: events by action, records that were left out, failures.

use crate::catch_up::run::{Failed, Published, RunResult};
use crate::cli::output::{self, ADDED, ERROR, HEADING, Output, Table, WARNING, grouped, plural, styled};

/// Maximum number of failures that are printed one by one.
const FAILURES_SHOWN: usize = 20;

/// Maximum number of unreadable actions that are printed by name.
const NAMES_SHOWN: usize = 5;

/// Prints failures on standard error, and the command that resumes the run.
pub(super) fn print_failures(summary: &RunResult, command: impl FnOnce(&[String]) -> String) {
    for Failed { entity, id, event, error } in summary.failed.iter().take(FAILURES_SHOWN) {
        let event = event.as_deref().map(|event| format!(" ({event})")).unwrap_or_default();
        output::failed(format_args!("{entity} {id}{event}: {error}"));
    }
    let more = summary.failed.len().saturating_sub(FAILURES_SHOWN);
    if more > 0 {
        output::failed(format_args!("{} more", grouped(more as u64)));
    }
    if let Some(error) = &summary.error {
        output::error(format_args!("ended before its time: {error}"));
    }
    if !summary.go_on_since.is_empty() {
        let how = match (&summary.error, summary.dry_run) {
            (_, true) => "Not everything was looked at. To begin at the same moment again",
            (Some(_), _) => "Not everything is published. To go on",
            (None, _) => "Not everything is published. Once that is cured",
        };
        output::message(format_args!("{how}: {}", command(&summary.go_on_since)));
    }
}

/// Prints the result of a run.
pub(super) fn print(out: &mut Output, summary: &RunResult) {
    let total: usize = summary.published.iter().map(|published| published.events).sum();
    let events = plural(total as u64, "event");
    if total > 0 {
        let mut table = Table::new(["SOURCE", "ACTION", ">EVENTS"]);
        for Published { source, action, events } in &summary.published {
            table.row([source.clone(), action.clone(), grouped(*events as u64)]);
        }
        out.block(table);
    }
    if summary.dry_run {
        out.line(styled(HEADING, format!("Would publish {events}")));
    } else {
        let line = format!("Published {events}, marked ce_nexuduscatchup: {}", summary.run_id);
        out.line(styled(ADDED, line));
        if total > 0 {
            out.line("Running it again publishes the same events again, with the same ids");
        }
    }
    for (reason, kinds) in [
        ("changed, but no source wants the action for that change", &summary.uncovered),
        ("have no location that can be read", &summary.unplaced),
    ] {
        if !kinds.is_empty() {
            let kinds: Vec<String> = kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            out.line(styled(WARNING, format!("Left out: {} {reason}", kinds.join(", "))));
        }
    }
    for (number, reason) in [
        (summary.elsewhere, "of other locations: no source of this run has their business_id"),
        (summary.outside, "without a change in the window of a wanted action"),
        (summary.gone, "deleted since they were listed"),
    ] {
        if number > 0 {
            out.line(format_args!("Left out: {} {reason}", plural(number as u64, "record")));
        }
    }
    if !summary.failed.is_empty() {
        out.line(styled(ERROR, format!("Failed: {}", grouped(summary.failed.len() as u64))));
    }
    if !summary.unknown_since.is_empty() {
        let line = format!(
            "Not read, since no webhook gives a beginning: {}; give one with --since SOURCE/ACTION=TIME for each",
            summary.unknown_since.join(", ")
        );
        out.line(styled(ERROR, line));
    }
    let count = summary.unreadable.len();
    if count > 0 {
        let mut names = summary.unreadable.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if count > NAMES_SHOWN {
            names.push_str(&format!(" and {} more (--json lists all)", count - NAMES_SHOWN));
        }
        out.line(format_args!(
            "Not readable: {count} wanted actions for deletions, signals and transitions: {names}"
        ));
    }
}
