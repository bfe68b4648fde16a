//! The result of a run for people: events by action, records that were left out, failures.

use std::io::{self, Write as _};

use crate::catch_up::run::{Failed, Published, Summary};
use crate::cli::output::{self, ADDED, ERROR, HEADING, Output, Table, WARNING, grouped, styled};

/// Maximum number of failures that are printed one by one.
const FAILURES_SHOWN: usize = 20;

/// Maximum number of actions that are printed by name, where their names are not the point.
const NAMES_SHOWN: usize = 5;

/// Prints failures on standard error, and the command that resumes the run.
pub(super) fn complain(summary: &Summary, command: impl FnOnce(&[String]) -> String) {
    for Failed { entity, id, event, error } in summary.failed.iter().take(FAILURES_SHOWN) {
        let event = event.as_deref().map(|event| format!(" ({event})")).unwrap_or_default();
        output::failed(format_args!("{entity} {id}{event}: {error}"));
    }
    if let Some(more) = summary.failed.len().checked_sub(FAILURES_SHOWN).filter(|more| *more > 0) {
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
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print(out: &mut Output, summary: &Summary) -> io::Result<()> {
    let Summary { uncovered, unplaced, elsewhere, outside, gone, failed, unreadable, unknown_since, .. } =
        summary;
    print_published(out, summary)?;
    for (what, kinds) in [
        ("changed, but no source wants the action for that change", uncovered),
        ("have no location that can be read", unplaced),
    ] {
        if !kinds.is_empty() {
            let kinds: Vec<String> = kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            writeln!(out, "{}", styled(WARNING, format!("Left out: {} {what}", kinds.join(", "))))?;
        }
    }
    for (number, what) in [
        (*elsewhere, "of other locations: no source of this run has their business_id"),
        (*outside, "without a change in the window of a wanted action"),
        (*gone, "deleted since they were listed"),
    ] {
        if number > 0 {
            let records = if number == 1 { "record" } else { "records" };
            writeln!(out, "Left out: {} {records} {what}", grouped(number as u64))?;
        }
    }
    if !failed.is_empty() {
        let line = format!("Failed: {}", grouped(failed.len() as u64));
        writeln!(out, "{}", styled(ERROR, line))?;
    }
    if !unknown_since.is_empty() {
        let line = format!(
            "Not read, since no webhook gives a beginning: {}; give one with --since SOURCE/ACTION=TIME for each",
            unknown_since.join(", ")
        );
        writeln!(out, "{}", styled(ERROR, line))?;
    }
    if !unreadable.is_empty() {
        let names = match unreadable.split_at_checked(NAMES_SHOWN) {
            Some((first, rest)) if !rest.is_empty() => {
                format!("{} and {} more (--json lists all)", first.join(", "), rest.len())
            }
            _ => unreadable.join(", "),
        };
        let count = unreadable.len();
        writeln!(
            out,
            "Not readable: {count} wanted actions for deletions, signals and transitions: {names}"
        )?;
    }
    Ok(())
}

fn print_published(out: &mut Output, summary: &Summary) -> io::Result<()> {
    let Summary { run_id, dry_run, published, .. } = summary;
    if !published.is_empty() {
        let mut table = Table::new(["SOURCE", "ACTION", "EVENTS"]);
        table.align_right(2);
        for Published { source, action, events } in published {
            table.row([source.clone(), action.clone(), grouped(*events as u64)]);
        }
        writeln!(out, "{table}")?;
    }
    let total: usize = published.iter().map(|published| published.events).sum();
    let verb = if *dry_run { "Would publish" } else { "Published" };
    let events = if total == 1 { "event" } else { "events" };
    let mark = if *dry_run { String::new() } else { format!(", marked ce_nexuduscatchup: {run_id}") };
    let line = format!("{verb} {} {events}{mark}", grouped(total as u64));
    writeln!(out, "{}", styled(if *dry_run { HEADING } else { ADDED }, line))?;
    if total > 0 && !*dry_run {
        writeln!(out, "Running it again publishes the same events again, with the same ids")?;
    }
    Ok(())
}
