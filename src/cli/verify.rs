//! `verify`: is a signature right for a body, and in which form.

use std::path::PathBuf;
use std::process::ExitCode;

use super::output::{self, ADDED, ERROR, Output, Usage, styled};
use super::sign::{SecretArgs, read_body};
use crate::config::Config;
use crate::signature::{Form, Signature, SigningKey};

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// The signature, as the X-Nexudus-Hook-Signature header had it
    #[arg(long, value_name = "SIGNATURE")]
    signature: String,
    /// The body, byte for byte; standard input if absent or -
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
    let verdict = verdict(&keys, &body, &signature);
    let line = match verdict {
        Some(Form::Raw) => format!("{}: raw, the body's bytes as they are", styled(ADDED, "valid")),
        Some(Form::Folded) => {
            format!("{}: folded, with '?' in place of what is not ASCII", styled(ADDED, "valid"))
        }
        None => format!("{}: not the signature of this body under this secret", styled(ERROR, "invalid")),
    };
    let mut out = Output::stdout();
    out.line(line);
    if verdict.is_some() {
        return out.end(ExitCode::SUCCESS);
    }
    if saved_with_line_break(&body).is_some_and(|body| self::verdict(&keys, body, &signature).is_some()) {
        output::hint("without the line break at its end the body has this signature");
    }
    out.end(ExitCode::FAILURE)
}

fn verdict(keys: &[SigningKey], body: &[u8], signature: &Signature) -> Option<Form> {
    keys.iter().find_map(|key| key.verify(body, signature))
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
    fn the_form_that_matched_is_told_and_any_key_will_do() {
        let keys = ["old", "new"].map(|secret| SigningKey::new(secret).unwrap());
        let body = "[\"é\"]".as_bytes();
        let signature = |text: &[u8]| Signature::parse(keys[1].sign(text).as_bytes()).unwrap();
        assert_eq!(verdict(&keys, body, &signature(body)), Some(Form::Folded));
        assert_eq!(verdict(&keys, b"[]", &signature(b"[]")), Some(Form::Raw));
        assert_eq!(verdict(&keys[..1], b"[]", &signature(b"[]")), None);
        assert_eq!(verdict(&keys, b"[] ", &signature(b"[]")), None);
    }

    #[test]
    fn a_line_break_at_the_end_is_seen() {
        assert_eq!(saved_with_line_break(b"[]\r\n"), Some(&b"[]"[..]));
        assert_eq!(saved_with_line_break(b"[]"), None);
    }
}
