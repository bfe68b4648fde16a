//! `verify`: verifies the signature of a body, and names the signed form.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::Configuration;
use super::output::{self, ADDED, ERROR, Output, Usage, styled};
use super::sign::{SecretArgs, read_body};
use crate::signature::verdict::Verdict;
use crate::signature::{Form, Signature};

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// Signature, as in the header X-Nexudus-Hook-Signature
    #[arg(long, value_name = "SIGNATURE")]
    signature: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File with the body; standard input if absent or -
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Prints the verdict. Exit code 0 if the signature is right under any of the secrets, 1 if not.
///
/// # Errors
/// [`Usage`] if the signature is malformed or there is no secret; otherwise the configuration's or the system's.
pub(super) fn run(args: &Args, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let signature = Signature::parse(args.signature.trim().as_bytes())
        .map_err(|error| Usage::new(format!("{error} (from --signature)")))?;
    let keys = args.secret.keys(configuration)?;
    let Verdict { form, skipped_mark, has_line_break } =
        Verdict::new(&keys, &read_body(args.file.as_deref())?, &signature);
    let hint = has_line_break.then_some("without the line break at its end the body has this signature");
    let mut out = Output::stdout();
    if args.json {
        out.json(&json!({
            "valid": form.is_some(),
            "form": form.map(Form::label),
            "skipped_byte_order_mark": skipped_mark,
            "hint": hint,
        }));
        return out.end(output::exit(form.is_some()));
    }
    let (valid, invalid) = (styled(ADDED, "valid"), styled(ERROR, "invalid"));
    let mark = if skipped_mark { ", without the byte order mark at its beginning" } else { "" };
    out.line(match form {
        Some(Form::Raw) => format!("{valid}: raw, the body's bytes as they are{mark}"),
        Some(Form::Folded) => format!("{valid}: folded, with '?' in place of what is not ASCII{mark}"),
        None => format!("{invalid}: not the signature of this body under this secret"),
    });
    hint.into_iter().for_each(output::hint);
    out.end(output::exit(form.is_some()))
}
