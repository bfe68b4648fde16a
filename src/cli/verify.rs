//! `verify`: is a signature right for a body, and in which form.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{self, ADDED, ERROR, Output, Usage, styled};
use super::sign::{SecretArgs, read_body};
use crate::config::Config;
use crate::signature::{BYTE_ORDER_MARK, Form, Signature, SigningKey};

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
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
pub fn run(args: &Args, configuration: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let signature = Signature::parse(args.signature.trim().as_bytes())
        .map_err(|error| Usage::new(format!("{error} (from --signature)")))?;
    let keys = args.secret.keys(configuration)?;
    let body = read_body(args.file.as_deref())?;
    let verdict = Verdict::of(&keys, &body, &signature);
    let hint = (verdict.form.is_none())
        .then(|| saved_with_line_break(&body))
        .flatten()
        .filter(|body| Verdict::of(&keys, body, &signature).form.is_some())
        .map(|_| "without the line break at its end the body has this signature");
    let mut out = Output::stdout();
    if args.json {
        out.json(&verdict.document(hint));
    } else {
        out.line(verdict);
        hint.into_iter().for_each(output::hint);
    }
    out.end(if verdict.form.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The result for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    /// The bytes that were signed; none where the signature is wrong.
    form: Option<Form>,
    /// Whether the body begins with a byte order mark that was not signed.
    skipped_mark: bool,
}

impl Verdict {
    fn of(keys: &[SigningKey], body: &[u8], signature: &Signature) -> Self {
        let form = |body| keys.iter().find_map(|key| key.verify(body, signature));
        let without_mark = body.strip_prefix(BYTE_ORDER_MARK).and_then(form);
        Self { form: without_mark.or_else(|| form(body)), skipped_mark: without_mark.is_some() }
    }

    fn document(self, hint: Option<&str>) -> Value {
        let form = self.form.map(|form| match form {
            Form::Raw => "raw",
            Form::Folded => "folded",
        });
        json!({
            "valid": form.is_some(),
            "form": form,
            "skipped_byte_order_mark": self.skipped_mark,
            "hint": hint,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid = styled(ADDED, "valid");
        let mark = if self.skipped_mark { ", without the byte order mark at its beginning" } else { "" };
        match self.form {
            Some(Form::Raw) => write!(f, "{valid}: raw, the body's bytes as they are{mark}"),
            Some(Form::Folded) => write!(f, "{valid}: folded, with '?' in place of what is not ASCII{mark}"),
            None => {
                write!(f, "{}: not the signature of this body under this secret", styled(ERROR, "invalid"))
            }
        }
    }
}

/// Editors and `echo` end a file with a line break that Nexudus has not sent.
fn saved_with_line_break(body: &[u8]) -> Option<&[u8]> {
    let line = body.strip_suffix(b"\n")?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_and_a_skipped_byte_order_mark_are_named_and_any_key_will_do() {
        let keys = ["old", "new"].map(|secret| SigningKey::new(secret).unwrap());
        let body = "[\"é\"]".as_bytes();
        let signature = |text: &[u8]| Signature::parse(keys[1].sign(text).as_bytes()).unwrap();
        let verdict = |keys, body: &[u8], signed: &[u8]| Verdict::of(keys, body, &signature(signed));
        let is = |form, skipped_mark| Verdict { form, skipped_mark };
        assert_eq!(verdict(&keys, body, body), is(Some(Form::Folded), false));
        assert_eq!(verdict(&keys, b"[]", b"[]"), is(Some(Form::Raw), false));
        assert_eq!(verdict(&keys[..1], b"[]", b"[]"), is(None, false));
        assert_eq!(verdict(&keys, b"[] ", b"[]"), is(None, false));
        let marked = [BYTE_ORDER_MARK, body].concat();
        assert_eq!(verdict(&keys, b"\xEF\xBB\xBF[]", b"[]"), is(Some(Form::Raw), true));
        assert_eq!(verdict(&keys, &marked, body), is(Some(Form::Folded), true));
        assert_eq!(verdict(&keys, &marked, &marked), is(Some(Form::Folded), false));
        let text = anstream::adapter::strip_str(&is(Some(Form::Raw), true).to_string()).to_string();
        assert_eq!(
            text,
            "valid: raw, the body's bytes as they are, without the byte order mark at its beginning"
        );
    }

    #[test]
    fn a_line_break_at_the_end_is_seen() {
        assert_eq!(saved_with_line_break(b"[]\r\n"), Some(&b"[]"[..]));
        assert_eq!(saved_with_line_break(b"[]"), None);
    }
}
