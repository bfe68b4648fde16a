//! `sign`: the signature that Nexudus sends with a body.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::Configuration;
use super::output::{self, Output, Usage};
use crate::config::{Config, SecretFile, Source};
use crate::signature::SigningKey;

/// The arguments of `sign`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    secret: SecretArgs,
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
///
/// # Errors
/// [`Usage`] if there is no secret; otherwise the configuration's or the system's.
pub(super) fn run(args: &Args, configuration: impl Configuration) -> anyhow::Result<ExitCode> {
    let keys = args.secret.keys(configuration)?;
    let body = read_body(args.file.as_deref())?;
    let signature = keys[0].sign(&body); // during a rotation, the first is the current one
    let mut out = Output::stdout();
    out.line(signature);
    out.end(ExitCode::SUCCESS)
}

impl SecretArgs {
    /// The keys that the arguments name; at least one.
    pub(super) fn keys(&self, configuration: impl Configuration) -> anyhow::Result<Vec<SigningKey>> {
        if let Some(key) = given_key(self.secret.as_ref(), self.secret_file.as_deref())? {
            return Ok(vec![key]);
        }
        let name = self.source.as_deref().unwrap_or(Source::DEFAULT);
        let source = source_of(&configuration()?, name)?;
        if source.keys.is_empty() {
            return Err(Usage::new(format!(
                "source {name} has no secret, expected --secret or --secret-file"
            ))
            .into());
        }
        Ok(source.keys.clone())
    }
}

/// The key of a secret that was given as an argument or a file, if one was.
pub(super) fn given_key(
    secret: Option<&SecretString>,
    file: Option<&Path>,
) -> anyhow::Result<Option<SigningKey>> {
    let (secret, from) = match (secret, file) {
        (Some(secret), _) => (secret.clone(), "--secret".to_owned()),
        (None, Some(file)) => (read_secret(file)?, format!("--secret-file {}", file.display())),
        (None, None) => return Ok(None),
    };
    let key = SigningKey::new(secret.expose_secret())
        .map_err(|error| Usage::new(format!("{error} (from {from})")))?;
    Ok(Some(key))
}

/// A source of the configuration; the error names those that there are.
pub(super) fn source_of(config: &Config, name: &str) -> anyhow::Result<Arc<Source>> {
    let known = || config.sources.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
    let source = config.sources.get(name);
    let missing = || Usage::new(format!("--source {name} is not configured, expected one of: {}", known()));
    Ok(source.cloned().ok_or_else(missing)?)
}

/// A body, byte for byte, from a file or from standard input.
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

fn read_secret(file: &Path) -> anyhow::Result<SecretString> {
    let file = SecretFile::read(&file.display().to_string())
        .map_err(|error| Usage::new(format!("--secret-file {error}")))?;
    if let Some(warning) = file.warning("--secret-file") {
        output::warning(warning);
    }
    Ok(file.content)
}

/// Never fails: any text can be a secret, and clap prints no part of what it does not refuse.
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
    fn what_cannot_be_a_secret_is_a_mistake_in_the_arguments_that_says_where_it_came_from() {
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
