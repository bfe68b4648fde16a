//! `quarantine list`: prints a line for each message, without bodies.
//!
//! The table has the newest messages, the oldest of them first, as a log has. It is printed at the end, since partitions are
//! read side by side. `--json` without `--limit` prints each message as it is read and keeps none.

use std::process::ExitCode;

use super::{Cluster, FilterArgs};
use crate::cli::Configuration;
use crate::cli::output::{self, Output, Table, grouped};
use crate::quarantine::messages::{Messages, Newest};
use crate::quarantine::row::{Row, shown};

/// Default of `--limit`.
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

/// Lists the messages that exist when it starts.
pub(super) async fn run(args: Args, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let filters = args.filters.filters()?;
    let (config, topic) = args.cluster.of(configuration()?);
    let mut messages = Messages::open(&config.kafka, &topic, &[]).await?;
    let prints_each = args.json && args.limit.is_none();
    let limit = args.limit.map_or(TABLE_ROWS, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut newest, mut accepted) = (Newest::new(limit), 0);
    let mut out = Output::stdout();
    while out.is_open()
        && let Some(row) = messages.next_row(&filters).await?
    {
        accepted += 1;
        match prints_each {
            true => out.json(&row),
            false => newest.add(row),
        }
    }
    let rows = newest.into_rows();
    let left_out = if prints_each { 0 } else { accepted - rows.len() as u64 };
    if args.json {
        rows.iter().for_each(|row| out.json(row));
    } else if !rows.is_empty() {
        out.block(table(&rows));
    }
    note(&topic, messages.read, accepted, left_out).iter().for_each(output::note);
    out.end(ExitCode::SUCCESS)
}

/// Returns a note on messages that are not listed.
fn note(topic: &str, read: u64, accepted: u64, left_out: u64) -> Option<String> {
    match (read, accepted, left_out) {
        (0, ..) => Some(format!("{topic} is empty")),
        (_, 0, _) => Some(format!("none of the {} messages on {topic} passes the filters", grouped(read))),
        (.., 0) => None,
        _ => Some(format!("{} older ones are not shown; --limit shows more", grouped(left_out))),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["RECEIVED", "SOURCE", "ACTION", "REASON", ">BYTES", "POSITION"]);
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
            row.position.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::note;

    #[test]
    fn a_note_explains_an_empty_or_shortened_list() {
        assert_eq!(note("q", 0, 0, 0).unwrap(), "q is empty");
        assert_eq!(note("q", 1_200, 0, 0).unwrap(), "none of the 1,200 messages on q passes the filters");
        assert_eq!(note("q", 9, 5, 2).unwrap(), "2 older ones are not shown; --limit shows more");
        assert_eq!(note("q", 9, 5, 0), None);
    }
}
