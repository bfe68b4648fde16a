//! `quarantine show`: one message, its headers and its body as it is.
//!
//! A body comes from elsewhere and may be anything, so nothing of it that could drive a terminal is written to one. Only
//! `--raw` into a pipe or a file gives the very bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;

use super::{Cluster, next};
use crate::cli::output::{HEADING, Output, is_stdout_terminal, one_line, styled};
use crate::cli::tail::json;
use crate::config::Config;
use crate::kafka::consumer::{Message, Reader, Selection, Start, Stop};
use crate::quarantine::position::Position;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Position of the message, as `list` prints it: 2@17
    #[arg(value_name = "PARTITION@OFFSET")]
    place: Position,
    /// Print only the body; byte for byte into a pipe or file
    #[arg(long)]
    raw: bool,
    /// Print one JSON object, complete; with the body in base64 if it is not JSON
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    #[command(flatten)]
    cluster: Cluster,
}

/// Prints it.
pub(super) async fn run(
    args: Args,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    let (config, topic) = args.cluster.of(configuration()?);
    let Position { partition, offset } = args.place;
    let selection = Selection::From { topic: topic.clone(), offsets: BTreeMap::from([(partition, offset)]) };
    let mut reader = Reader::open(&config.kafka, selection, Start::Beginning, Stop::End).await?;
    let Some(message) = next(&mut reader).await?.filter(|message| message.offset == offset) else {
        bail!("no message at {} of {topic}, or no longer", args.place);
    };
    let body = message.value.as_deref().unwrap_or_default();
    let mut out = Output::stdout();
    match (args.raw, args.json) {
        (true, _) if is_stdout_terminal() => out.block(visible(body)),
        (true, _) => out.bytes(body),
        (_, true) => out.json_text(&json::object(&message)?),
        _ => print(&mut out, args.place, &message)?,
    }
    out.end(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, place: Position, message: &Message) -> io::Result<()> {
    let key = message.key.as_deref().map(|key| format!("  key {}", one_line(key))).unwrap_or_default();
    writeln!(out, "{}{key}", styled(HEADING, format!("{} {place}", message.topic)))?;
    let widest = message.headers.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &message.headers {
        let value = value.as_deref().map_or_else(|| "(null)".to_owned(), one_line);
        writeln!(out, "{:widest$}  {value}", one_line(name.as_bytes()))?;
    }
    writeln!(out, "\n{}", message.value.as_deref().map_or_else(|| "(null)".to_owned(), visible))
}

/// Text with its lines, in which nothing can drive a terminal.
fn visible(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes.split(|&byte| byte == b'\n').map(one_line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut out = Vec::new();
        print(&mut out, Position { partition: 2, offset: 17 }, &message).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "ce_id           1\nnexudus-action  \u{FFFD}[2JX\nn               (null)\n\n{\n \"é\": \"\u{FFFD}]0;x\u{FFFD}\u{FFFD}31m\"}\n";
        assert!(text.ends_with(expected), "{text:?}");
        assert!(text.starts_with(&styled(HEADING, "nexudus.quarantine 2@17")), "{text:?}");
    }
}
