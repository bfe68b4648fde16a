//! `quarantine list`: what is there, a line each, without bodies.
//!
//! The table has the youngest messages, the oldest of them first, so that the last line is the last to come, as in a log. It
//! is made at the end, since partitions are read side by side; `--limit` bounds it, and with it the memory. `--json`
//! without a limit prints each message as it is read and keeps none.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;

use super::filters::FilterArgs;
use super::{Cluster, next};
use crate::cli::output::{self, Output, Table, grouped};
use crate::config::Config;
use crate::kafka::consumer::{Reader, Selection, Start, Stop};
use crate::quarantine::position::Position;
use crate::quarantine::row::{Row, shown};

/// Enough for a look, and a few hundred kilobytes.
const TABLE_ROWS: usize = 1_000;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filters: FilterArgs,
    /// Maximum number of messages; the newest are listed [default: 1000; with --json all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print one JSON object per message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: Cluster,
}

/// Lists what is there when it starts.
pub(super) async fn run(
    args: Args,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    let filters = args.filters.filters()?;
    let (config, topic) = args.cluster.of(configuration()?);
    let selection = Selection::Named(vec![topic.clone()]);
    let mut reader = Reader::open(&config.kafka, selection, Start::Beginning, Stop::End).await?;
    let limit = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut youngest = Youngest::new(limit.unwrap_or(TABLE_ROWS));
    let mut out = Output::stdout();
    let (mut read, mut taken) = (0_u64, 0_u64);
    while let Some(message) = next(&mut reader).await? {
        read += 1;
        let row = Row::of(&message);
        drop(message); // it can be large, and printing can wait
        if !filters.accept(&row) {
            continue;
        }
        taken += 1;
        if args.json && limit.is_none() {
            out.json(&row);
            if !out.is_open() {
                break;
            }
        } else {
            youngest.take(row);
        }
    }
    let shown = youngest.in_order();
    let left_out = if args.json && limit.is_none() { 0 } else { taken - shown.len() as u64 };
    if args.json {
        shown.iter().for_each(|row| out.json(row));
    } else if !shown.is_empty() {
        out.block(table(&shown));
    }
    if let Some(note) = note(&topic, read, taken, left_out) {
        output::note(note);
    }
    out.end(ExitCode::SUCCESS)
}

/// What the lines themselves do not say.
fn note(topic: &str, read: u64, taken: u64, left_out: u64) -> Option<String> {
    match (read, taken, left_out) {
        (0, ..) => Some(format!("{topic} is empty")),
        (_, 0, _) => Some(format!("none of the {} messages on {topic} is of that kind", grouped(read))),
        (.., 0) => None,
        _ => Some(format!("{} older ones are not shown; --limit shows more", grouped(left_out))),
    }
}

/// The youngest rows of those that it was given.
struct Youngest {
    most: usize,
    /// By age, the oldest first.
    rows: BTreeMap<(Option<Timestamp>, Position), Row>,
}

impl Youngest {
    fn new(most: usize) -> Self {
        Self { most, rows: BTreeMap::new() }
    }

    fn take(&mut self, row: Row) {
        self.rows.insert((row.received, row.place), row);
        if self.rows.len() > self.most {
            self.rows.pop_first();
        }
    }

    fn in_order(self) -> Vec<Row> {
        self.rows.into_values().collect()
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["RECEIVED", "SOURCE", "ACTION", "REASON", "BYTES", "PLACE"]);
    table.align_right(4);
    for row in rows {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut reason = text(&row.reason);
        if let Some(signature) = &row.signature {
            reason.push_str(&format!(" (signature {signature})"));
        }
        table.row([
            row.received.map_or("-".to_owned(), shown),
            text(&row.source),
            text(&row.action),
            reason,
            grouped(row.bytes as u64),
            row.place.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_are_kept_and_shown_oldest_first() {
        let mut youngest = Youngest::new(3);
        for (offset, second) in [(0, 5), (1, 1), (2, 9), (3, 7), (4, 3)] {
            let received = Some(Timestamp::from_second(second).unwrap());
            youngest.take(Row { offset, received, ..Row::default() });
        }
        let offsets: Vec<i64> = youngest.in_order().iter().map(|row| row.offset).collect();
        assert_eq!(offsets, [0, 3, 2]);
    }

    #[test]
    fn nothing_and_too_much_are_said() {
        assert_eq!(note("q", 0, 0, 0).unwrap(), "q is empty");
        assert_eq!(note("q", 1_200, 0, 0).unwrap(), "none of the 1,200 messages on q is of that kind");
        assert_eq!(note("q", 9, 5, 2).unwrap(), "2 older ones are not shown; --limit shows more");
        assert_eq!(note("q", 9, 5, 0), None);
    }
}
