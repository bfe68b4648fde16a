//! `quarantine list|show|replay`: reads the quarantine topic, and publishes its messages again. Nothing here deletes a message
//! or writes to the quarantine topic.

mod replay;

use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

pub(super) use self::replay::replay;
use super::client::Cluster;
use super::moment::moment;
use super::output::{self, Exit, HEADING, Output, Usage, grouped, one_line, styled, table};
use crate::kafka::consumer::Message;
use crate::outcome::QuarantineReason;
use crate::quarantine::filters::Filters;
use crate::quarantine::messages::{Messages, Newest};
use crate::quarantine::position::Position;
use crate::quarantine::row::{Row, shown};
use crate::tail::{json, patterns};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the messages: time, source, action, reason, size and position
    List(ListArgs),
    /// Print the headers and the body of one message; the body can hold personal data
    Show(ShowArgs),
    /// Publish quarantined deliveries to the topics of their actions; deletes nothing
    Replay(replay::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
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

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Position of the message, as `list` prints it: 2@17
    #[arg(value_name = "PARTITION@OFFSET")]
    position: Position,
    /// Print only the body; byte for byte into a pipe or file
    #[arg(long)]
    raw: bool,
    /// Print one JSON object, complete; with the body in base64 if it is not JSON
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    #[command(flatten)]
    cluster: Cluster,
}

/// The filters; a message has to pass all that are given.
#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only deliveries with this reason; repeatable
    #[arg(long, value_parser = reasons())]
    reason: Vec<QuarantineReason>,
    /// Only deliveries received at or after this time: 2026-01-02T03:04:05Z, 2026-01-02 (UTC), or a duration before now: 90m, 2days
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only deliveries received before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only deliveries with this action in the URL, a name or a glob such as 'Booking*'; repeatable
    #[arg(long)]
    action: Vec<String>,
    /// Only deliveries for this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
}

impl FilterArgs {
    fn filters(self) -> anyhow::Result<Filters> {
        let Self { reason: reasons, since, until, action, source: sources } = self;
        let actions = if action.is_empty() { None } else { Some(patterns(&action).map_err(Usage)?) };
        Ok(Filters { reasons, since, until, actions, sources })
    }
}

fn reasons() -> impl TypedValueParser<Value = QuarantineReason> {
    PossibleValuesParser::new(QuarantineReason::ALL.map(QuarantineReason::label))
        .try_map(|label| label.parse::<QuarantineReason>())
}

/// Lists the newest messages that exist at the start, in the order of their times. `--json` without `--limit` prints each message as
/// it is read, and keeps none in memory.
pub(super) async fn list(args: ListArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let filters = args.filters.filters()?;
    let config = args.cluster.configuration(file)?;
    let topic = config.topics.quarantine();
    let mut messages = Messages::open(&config.kafka, &topic, &[]).await?;
    let prints_each = args.json && args.limit.is_none();
    let limit = args.limit.map_or(1_000, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut newest, mut accepted) = (Newest::new(limit), 0);
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
        let heading = ["RECEIVED", "SOURCE", "ACTION", "REASON", ">BYTES", "POSITION"];
        out.block(table(heading, rows.iter().map(cells)));
    }
    note(&topic, messages.read, accepted, left_out).iter().for_each(output::note);
    Ok(Exit::Done)
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

fn cells(row: &Row) -> [String; 6] {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let signature = row.signature.as_ref().map(|signature| format!(" (signature {signature})"));
    [
        row.received.map_or("-".to_owned(), shown),
        text(&row.source),
        text(&row.action),
        text(&row.reason) + &signature.unwrap_or_default(),
        grouped(row.bytes as u64),
        row.position.to_string(),
    ]
}

/// Prints one message. On a terminal, control characters of the body are replaced. Only `--raw` into a pipe or a file prints the
/// exact bytes.
pub(super) async fn show(args: ShowArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let config = args.cluster.configuration(file)?;
    let (topic, position) = (config.topics.quarantine(), args.position);
    let mut messages = Messages::open(&config.kafka, &topic, &[position]).await?;
    let message = messages.next().await?.filter(|message| message.offset == position.offset);
    let Some(message) = message else { bail!("no message at {position} of {topic}, or no longer") };
    let body = message.value.as_deref().unwrap_or_default();
    match (args.raw, args.json) {
        (true, _) if out.is_terminal => out.block(visible(body)),
        (true, _) => out.bytes(body),
        (_, true) => out.json_text(&json::object(&message)?),
        _ => out.block(text(position, &message)),
    }
    Ok(Exit::Done)
}

fn text(position: Position, message: &Message) -> String {
    let key = message.key.as_deref().map(|key| format!("  key {}", one_line(key))).unwrap_or_default();
    let mut text = format!("{}{key}\n", styled(HEADING, format!("{} {position}", message.topic)));
    let widest = message.headers.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &message.headers {
        let value = value.as_deref().map_or_else(|| "(null)".to_owned(), one_line);
        text.push_str(&format!("{:widest$}  {value}\n", one_line(name)));
    }
    format!("{text}\n{}", message.value.as_deref().map_or_else(|| "(null)".to_owned(), visible))
}

/// Returns bytes as text with line breaks, without other control characters.
fn visible(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes.split(|&byte| byte == b'\n').map(one_line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_explains_an_empty_or_shortened_list() {
        assert_eq!(note("q", 0, 0, 0).unwrap(), "q is empty");
        assert_eq!(note("q", 1_200, 0, 0).unwrap(), "none of the 1,200 messages on q passes the filters");
        assert_eq!(note("q", 9, 5, 2).unwrap(), "2 older ones are not shown; --limit shows more");
        assert_eq!(note("q", 9, 5, 0), None);
    }

    #[test]
    fn headers_and_body_are_text_that_cannot_drive_a_terminal() {
        let message = Message {
            topic: "nexudus.quarantine".to_owned(),
            partition: 2,
            offset: 17,
            timestamp: None,
            key: None,
            headers: vec![
                ("ce_id".to_owned(), Some(b"1".to_vec())),
                ("nexudus-action".to_owned(), Some(b"\x1b[2JX".to_vec())),
                ("n".to_owned(), None),
            ],
            value: Some("{\n\t\"é\": \"\x1b]0;x\x07\u{9b}31m\"}".as_bytes().to_vec()),
        };
        let text = text(Position { partition: 2, offset: 17 }, &message);
        let expected = "ce_id           1\nnexudus-action  \u{FFFD}[2JX\nn               (null)\n\n{\n \"é\": \"\u{FFFD}]0;x\u{FFFD}\u{FFFD}31m\"}";
        assert!(text.ends_with(expected), "{text:?}");
        assert!(text.starts_with(&styled(HEADING, "nexudus.quarantine 2@17")), "{text:?}");
    }
}
