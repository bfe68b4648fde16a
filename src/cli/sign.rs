//! `sign` and `verify`: the signature that Nexudus sends with a body. Other commands use the arguments for a secret and a body too.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::client::loaded;
use super::output::{self, ADDED, ERROR, Exit, Output, Usage, styled};
use crate::config::{Config, SecretFile, Source};
use crate::signature::verdict::Verdict;
use crate::signature::{Form, Signature, SigningKey};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// File with the body; standard input if absent or -
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
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

/// The shared secret: the given one, else those of a source of the configuration.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct SecretArgs {
    /// Shared secret; other users of this machine can read it, so prefer --secret-file
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    secret: Option<SecretString>,
    /// File with the shared secret; one line break at its end is removed
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Source of the configuration whose secrets are used [default: default]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Prints the signature of the body: 64 upper-case hexadecimal digits.
pub(super) fn run(args: &Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let keys = args.secret.keys(|| loaded(file))?;
    let body = read_body(args.file.as_deref())?;
    out.line(keys[0].sign(&body)); // during a rotation, the first is the current one
    Ok(Exit::Done)
}

/// Prints the verdict. Exit code 0 if the signature is right under any of the secrets, 1 if not.
pub(super) fn run_verify(args: &VerifyArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let signature = Signature::parse(args.signature.trim().as_bytes())
        .map_err(|error| Usage(format!("{error} (from --signature)")))?;
    let keys = args.secret.keys(|| loaded(file))?;
    let Verdict { form, skipped_mark, has_line_break } =
        Verdict::new(&keys, &read_body(args.file.as_deref())?, &signature);
    let hint = has_line_break.then_some("without the line break at its end the body has this signature");
    if args.json {
        out.json(&json!({
            "valid": form.is_some(),
            "form": form.map(Form::label),
            "skipped_byte_order_mark": skipped_mark,
            "hint": hint,
        }));
    } else {
        let (valid, invalid) = (styled(ADDED, "valid"), styled(ERROR, "invalid"));
        let mark = if skipped_mark { ", without the byte order mark at its beginning" } else { "" };
        out.line(match form {
            Some(Form::Raw) => format!("{valid}: raw, the body's bytes as they are{mark}"),
            Some(Form::Folded) => format!("{valid}: folded, with '?' in place of what is not ASCII{mark}"),
            None => format!("{invalid}: not the signature of this body under this secret"),
        });
        hint.iter().for_each(output::hint);
    }
    Ok(Exit::of(form.is_some()))
}

impl SecretArgs {
    /// Returns the keys of the secrets in the arguments, or of the source; at least one. Loads the configuration only for a source.
    pub(super) fn keys(
        &self,
        load: impl FnOnce() -> anyhow::Result<Config>,
    ) -> anyhow::Result<Vec<SigningKey>> {
        if let Some((key, _)) = given_key(self.secret.as_ref(), self.secret_file.as_deref())? {
            return Ok(vec![key]);
        }
        let name = self.source.as_deref().unwrap_or(Source::DEFAULT);
        let source = source_of(&load()?, name)?;
        if source.keys.is_empty() {
            bail!(Usage(format!("source {name} has no secret, expected --secret or --secret-file")));
        }
        Ok(source.keys.clone())
    }
}

/// Returns the key of the secret in `--secret` or `--secret-file`, and the name of this option; `None` without both.
pub(super) fn given_key(
    secret: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<(SigningKey, String)>, Usage> {
    let (secret, from) = match (secret, file) {
        (Some(secret), _) => (secret.clone(), "--secret".to_owned()),
        (None, Some(file)) => {
            let read = SecretFile::read(&file.display().to_string());
            let read = read.map_err(|error| Usage(format!("--secret-file {error}")))?;
            read.warning("--secret-file").iter().for_each(output::warning);
            (read.content, format!("--secret-file {}", file.display()))
        }
        (None, None) => return Ok(None),
    };
    match SigningKey::new(secret.expose_secret()) {
        Ok(key) => Ok(Some((key, from))),
        Err(error) => Err(Usage(format!("{error} (from {from})"))),
    }
}

/// Returns a source of the configuration. The error lists all sources.
pub(super) fn source_of(config: &Config, name: &str) -> Result<Arc<Source>, Usage> {
    config.sources.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = config.sources.keys().map(|name| &**name).collect();
        Usage(format!("--source {name} is not configured, expected one of: {}", known.join(", ")))
    })
}

/// Returns a body, byte for byte, from a file or from standard input.
pub(super) fn read_body(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        None => {
            let mut body = Vec::new();
            io::stdin().lock().read_to_end(&mut body).context("cannot read standard input")?;
            Ok(body)
        }
    }
}

/// Parses a secret. Any text is valid, so no error of clap can print a part of it.
pub(super) fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_configuration() -> anyhow::Result<Config> {
        anyhow::bail!("not asked for")
    }

    fn with_file(content: &[u8]) -> (tempfile::TempDir, SecretArgs) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, content).unwrap();
        (folder, SecretArgs { secret: None, secret_file: Some(file), source: None })
    }

    #[test]
    fn a_secret_file_loses_one_line_break_and_no_more() {
        for (content, secret) in
            [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n"), (" s\r", " s\r")]
        {
            let (_folder, args) = with_file(content.as_bytes());
            let keys = args.keys(no_configuration).unwrap();
            assert_eq!(keys[0].sign(b"x"), SigningKey::new(secret).unwrap().sign(b"x"), "{content:?}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_a_secret_is_a_wrong_usage_of_the_option() {
        for content in [&b""[..], b"\n", b"\xFF"] {
            let (_folder, args) = with_file(content);
            let error = args.keys(no_configuration).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains("--secret-file"), "{error}");
        }
    }

    #[test]
    fn the_secret_is_not_in_the_debug_output() {
        let args = SecretArgs { secret: Some("s3cr3t".into()), secret_file: None, source: None };
        assert!(!format!("{args:?}").contains("s3cr3t"));
        assert_eq!(args.keys(no_configuration).unwrap().len(), 1);
    }
}
