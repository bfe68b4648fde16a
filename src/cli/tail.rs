//! `tail`: prints events as they arrive.
//!
//! Without `--json`, prints one line per event, shortened to the width of the terminal. With `--json`, prints one complete object per
//! event, with the record in its own text. Reading joins no group and commits nothing.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use console::{measure_text_width, truncate_str};
use jiff::Timestamp;

use super::client::Cluster;
use super::moment::moment;
use super::output::{self, Exit, FAINT, HEADING, Output, Usage, WARNING, one_line, styled};
use crate::action::{Actions, QUARANTINE};
use crate::config::Config;
use crate::event::TOMBSTONE;
use crate::kafka::consumer::{Message, Reader, Selection, Start, Stop};
use crate::tail::{Chosen, Filter, action_of, json, without_prefix};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names, numbers or globs such as 'Booking*' of actions, names or globs of topics without the prefix, or `quarantine`
    /// [default: all]
    action: Vec<String>,
    /// First event
    #[arg(long, value_enum, default_value_t = Begin::End)]
    from: Begin,
    /// Time of the first event: 2026-01-02T03:04:05Z, 2026-01-02 (UTC), or a duration before now: 90m, 2days
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "from")]
    since: Option<Timestamp>,
    /// Only events of this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only events with this key, the record's Id; repeatable
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Print one JSON object per event, complete
    #[arg(long)]
    json: bool,
    /// Number of events after which the command ends
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Begin {
    /// The oldest event on the topics
    Beginning,
    /// The next event that arrives
    End,
}

/// Prints events until Ctrl-C, until `--count`, or until the reader of standard output ends. The exit code is 0 in each case.
pub(super) async fn run(args: Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let Config { kafka, topics, sources, .. } = args.cluster.configuration(file)?;
    let lists: Vec<&Actions> = sources.values().map(|source| &source.actions).collect();
    let chosen = Arc::new(Chosen::new(&args.action, &topics, &lists).map_err(Usage)?);
    let filter = Filter { sources: args.source, keys: args.key };
    args.action.iter().filter_map(|name| chosen.hint(name, &lists)).for_each(output::note);
    let selection = {
        let chosen = Arc::clone(&chosen);
        Selection::Matching(Box::new(move |topic| chosen.has_topic(topic)))
    };
    let start = match (args.since, args.from) {
        (Some(time), _) => Start::Since(time),
        (None, Begin::Beginning) => Start::Beginning,
        (None, Begin::End) => Start::End,
    };
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut reader = tokio::select! {
        reader = Reader::open(&kafka, selection, start, Stop::Never) => reader?,
        _ = &mut interrupted => return Ok(Exit::Done),
    };
    let servers = &kafka.bootstrap_servers;
    if reader.partitions == 0 {
        output::note(format_args!(
            "no topic to read on {servers} yet, or no right to see it; waiting for one"
        ));
    } else {
        let what = match start {
            Start::Beginning => "reading all events".to_owned(),
            Start::Since(time) => format!("reading events since {time}"),
            Start::End => "waiting for new events (--from beginning shows earlier ones)".to_owned(),
        };
        let text = format_args!("{what} on {}* at {servers}; Ctrl-C ends", topics.prefix);
        output::message(styled(FAINT, text));
    }
    let width = output::columns();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 && out.is_open() {
        let message = tokio::select! {
            message = reader.next() => message?,
            _ = &mut interrupted => break,
        };
        let message = message.context("a reader without an end has ended")?;
        if !chosen.has(&message) || !filter.accepts(&message) {
            continue;
        }
        match args.json {
            true => out.json_text(&json::object(&message)?),
            false => out.line(line(&message, &topics.prefix, width)),
        }
        left -= 1;
    }
    Ok(Exit::Done)
}

/// Returns a line for people: time, action, key, position, id and value. The value is shortened to `width` columns; in a pipe
/// (`None`) it is complete. The position contains the topic if the topic does not have the name of the action.
fn line(message: &Message, prefix: &str, width: Option<usize>) -> String {
    const MIN_VALUE_COLUMNS: usize = 8; // with less room, the value is left out
    let topic = without_prefix(&message.topic, prefix).unwrap_or(&message.topic);
    let action = action_of(message).filter(|_| topic != QUARANTINE);
    let shared = action.filter(|action| *action != topic).map(|_| format!("{topic} ")).unwrap_or_default();
    let action = one_line(action.unwrap_or(topic));
    let time = message.timestamp.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"));
    let key = message.key.as_deref().map_or_else(|| "-".to_owned(), one_line);
    let id = message.header("ce_id").map(one_line);
    let id =
        id.map(|id| format!("  id {}", if width.is_some() { short(&id) } else { id })).unwrap_or_default();
    let position = format!("{shared}{}@{}{id}", message.partition, message.offset);
    let mut line =
        format!("{}  {}  {key}  {}", styled(FAINT, time), styled(HEADING, action), styled(FAINT, position));
    for mark in marks(message) {
        line.push_str("  ");
        line.push_str(&styled(WARNING, mark));
    }
    let value = message.value.as_deref().map_or_else(|| "(null)".to_owned(), one_line);
    let Some(width) = width else { return format!("{line}  {value}") };
    let left = width.saturating_sub(measure_text_width(&line) + 2);
    if left < MIN_VALUE_COLUMNS {
        return line;
    }
    format!("{line}  {}", truncate_str(&value, left, "…"))
}

/// Returns the marks of an event: the reason of its quarantine, the result of a signature that was not right, and `tombstone`.
fn marks(message: &Message) -> impl Iterator<Item = String> {
    let header = |name: &str| message.header(name).map(one_line);
    let quarantined = header("quarantine-reason").map(|reason| {
        format!("{reason} ({})", header("nexudus-action").unwrap_or_else(|| "no action".to_owned()))
    });
    let signature = header("nexudus-signature").map(|warning| format!("signature {warning}"));
    let tombstone = message.header(TOMBSTONE).map(|_| "tombstone".to_owned());
    quarantined.into_iter().chain(signature).chain(tombstone)
}

/// Returns the part of an id that distinguishes it: the first digits of a hash, or the last digits of a UUID. A UUID begins with the
/// time.
pub(super) fn short(id: &str) -> String {
    const SHOWN: usize = 8;
    match id.len() {
        36 if id.is_ascii() => format!("…{}", &id[36 - SHOWN..]),
        64 if id.is_ascii() => format!("{}…", &id[..SHOWN]),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests;
