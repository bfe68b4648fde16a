//! `quarantine show`: one message, its headers and its body as it is.
//!
//! A body comes from elsewhere and may be anything, so nothing of it that could drive a terminal is written to one. Only
//! `--raw` into a pipe or a file gives the very bytes.

use std::process::ExitCode;

use anyhow::bail;

use super::Cluster;
use crate::cli::Configuration;
use crate::cli::output::{HEADING, Output, is_stdout_terminal, one_line, styled};
use crate::kafka::consumer::Message;
use crate::quarantine::messages::Messages;
use crate::quarantine::position::Position;
use crate::tail::json;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
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

/// Exit code 1 if there is no such message.
pub(super) async fn run(args: Args, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let (config, topic) = args.cluster.of(configuration()?);
    let mut messages = Messages::open(&config.kafka, &topic, &[args.position]).await?;
    let message = messages.next().await?.filter(|message| message.offset == args.position.offset);
    let Some(message) = message else { bail!("no message at {} of {topic}, or no longer", args.position) };
    let body = message.value.as_deref().unwrap_or_default();
    let mut out = Output::stdout();
    match (args.raw, args.json) {
        (true, _) if is_stdout_terminal() => out.block(visible(body)),
        (true, _) => out.bytes(body),
        (_, true) => out.json_text(&json::object(&message)?),
        _ => out.block(text(args.position, &message)),
    }
    out.end(ExitCode::SUCCESS)
}

fn text(position: Position, message: &Message) -> String {
    let key = message.key.as_deref().map(|key| format!("  key {}", one_line(key))).unwrap_or_default();
    let mut text = format!("{}{key}\n", styled(HEADING, format!("{} {position}", message.topic)));
    let widest = message.headers.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &message.headers {
        let value = value.as_deref().map_or_else(|| "(null)".to_owned(), one_line);
        text.push_str(&format!("{:widest$}  {value}\n", one_line(name.as_bytes())));
    }
    format!("{text}\n{}", message.value.as_deref().map_or_else(|| "(null)".to_owned(), visible))
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
        let text = text(Position { partition: 2, offset: 17 }, &message);
        let expected = "ce_id           1\nnexudus-action  \u{FFFD}[2JX\nn               (null)\n\n{\n \"é\": \"\u{FFFD}]0;x\u{FFFD}\u{FFFD}31m\"}";
        assert!(text.ends_with(expected), "{text:?}");
        assert!(text.starts_with(&styled(HEADING, "nexudus.quarantine 2@17")), "{text:?}");
    }
}
