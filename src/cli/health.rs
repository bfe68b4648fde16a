//! `health`: asks a running bridge whether it is ready, for containers without curl.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use url::Url;

use super::client::{admin_url, configuration};
use super::output::{self, Output, one_line};
use crate::config::redacted;

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the admin listener, with or without /readyz [default: that of the configuration]
    #[arg(long, value_name = "URL", value_parser = address)]
    url: Option<Url>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit code 0 when ready, 1 when not or not to be reached.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let url = match args.url {
        Some(url) => url,
        None => Url::parse(&format!("{}/readyz", admin_url(&configuration(file)?)))?,
    };
    let shown = redacted(url.as_str());
    let answer = ask(url, &shown).await;
    let mut out = Output::stdout();
    if args.json {
        out.json(&document(&shown, &answer));
        return out.end(output::exit(answer.is_ok_and(|(ready, _)| ready)));
    }
    let (ready, body) = answer?;
    let state = if ready { "ready" } else { "not ready" };
    output::message(format_args!("{state}: {}", one_line(body.as_bytes())));
    Ok(output::exit(ready))
}

/// Asks for readiness; gives whether the bridge is ready, and its answer.
async fn ask(url: Url, shown: &str) -> anyhow::Result<(bool, String)> {
    let client = crate::sender::client(TIMEOUT)?;
    let answer = client.get(url).send().await.map_err(|error| error.without_url());
    let answer = answer.with_context(|| format!("{shown} cannot be reached"))?;
    let ready = answer.status().is_success();
    Ok((ready, answer.text().await.with_context(|| format!("{shown} broke off"))?))
}

fn document(url: &str, answer: &anyhow::Result<(bool, String)>) -> Value {
    let (ready, body, error) = match answer {
        // An answer that is not JSON, such as that of a proxy, stays text.
        Ok((ready, body)) => (*ready, serde_json::from_str(body).unwrap_or_else(|_| json!(body)), None),
        Err(error) => (false, Value::Null, Some(format!("{error:#}"))),
    };
    json!({"ready": ready, "url": url, "answer": body, "error": error})
}

/// Reads the address of the admin listener, as its base or as that of its readiness.
fn address(text: &str) -> Result<Url, String> {
    let wrong = || "is not an http address, expected one such as http://127.0.0.1:9464".to_owned();
    let mut url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong());
    }
    let base = url.path().trim_end_matches('/');
    let path = format!("{}/readyz", base.strip_suffix("/readyz").unwrap_or(base));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_asked_whether_the_address_has_its_path_or_not() {
        for (given, asked) in [
            ("http://h:9464", "http://h:9464/readyz"),
            ("http://h:9464/", "http://h:9464/readyz"),
            ("http://h:9464/readyz", "http://h:9464/readyz"),
            ("http://h:9464/readyz/", "http://h:9464/readyz"),
            ("https://h/bridge", "https://h/bridge/readyz"),
            ("https://h/bridge/readyz?key=a", "https://h/bridge/readyz?key=a"),
        ] {
            assert_eq!(address(given).unwrap().as_str(), asked);
        }
        for wrong in ["h:9464", "127.0.0.1:9464", "ftp://h", ""] {
            assert!(address(wrong).unwrap_err().contains("expected one such as http://"), "{wrong}");
        }
    }
}
