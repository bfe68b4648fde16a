//! `sample`: the invented delivery of an action, for the tests of consumers and of other receivers.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::value::RawValue;

use super::actions::chosen;
use super::client::configuration;
use super::output::{Exit, Output};
use super::sign::SecretArgs;
use crate::sender::payloads::{payload, wire_body};
use crate::signature::HEADER;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or number of the action; `all` for one sample of each
    action: String,
    /// Print the signature as a header line above the body
    #[arg(long)]
    signed: bool,
    #[command(flatten)]
    secret: SecretArgs,
    /// Print one JSON object per line: action, body, record, and with --signed the signature
    #[arg(long)]
    json: bool,
}

/// The sample of one action as JSON. `body` has the text of the delivery, `record` the value of its Kafka message.
#[derive(Serialize)]
struct Sample<'a> {
    action: &'static str,
    body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    record: &'a RawValue,
}

/// Prints the body that `send` posts, one line for each action.
pub(super) fn run(args: &Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let entries = chosen(&args.action)?;
    let keys = if args.signed { args.secret.keys(|| configuration(file))? } else { Vec::new() };
    for entry in entries {
        let fixture =
            payload(entry.name).with_context(|| format!("there is no payload for {}", entry.name))?;
        let body = String::from_utf8(wire_body(fixture))?;
        let signature = keys.first().map(|key| key.sign(body.as_bytes()));
        let signature = signature.as_deref();
        if args.json {
            let [record] = serde_json::from_str::<[&RawValue; 1]>(&body)?;
            out.json(&Sample { action: entry.name, body: &body, signature, record });
        } else {
            signature.iter().for_each(|signature| out.line(format_args!("{HEADER}: {signature}")));
            out.json_text(&body);
        }
    }
    Ok(Exit::Done)
}
