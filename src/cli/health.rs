//! `health`: queries the readiness of a running bridge, for containers without curl.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use url::Url;

use super::client::{admin_url, configuration};
use super::output::{self, Exit, Output, one_line};
use crate::config::redacted;
use crate::sender;
use crate::sender::delivery::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the admin listener, with or without /readyz [default: that of the configuration]
    #[arg(long, value_name = "URL", value_parser = address)]
    url: Option<Url>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. Fails if the bridge is not ready or cannot be reached.
pub(super) async fn run(args: Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let url = match args.url {
        Some(url) => url,
        None => Url::parse(&format!("{}/readyz", admin_url(&configuration(file)?)))?,
    };
    let shown = redacted(url.as_str());
    let answer = ask(url, &shown).await;
    if args.json {
        let (ready, body, error) = match &answer {
            // An answer that is not JSON, such as that of a proxy, stays text.
            Ok((ready, body)) => (*ready, serde_json::from_str(body).unwrap_or_else(|_| json!(body)), None),
            Err(error) => (false, Value::Null, Some(format!("{error:#}"))),
        };
        out.json(&json!({"ready": ready, "url": shown, "answer": body, "error": error}));
        return Ok(Exit::of(ready));
    }
    let (ready, body) = answer?;
    let state = if ready { "ready" } else { "not ready" };
    output::message(format_args!("{state}: {}", one_line(body)));
    Ok(Exit::of(ready))
}

/// Returns whether the bridge is ready, and its answer.
async fn ask(url: Url, shown: &str) -> anyhow::Result<(bool, String)> {
    let client = sender::client(Duration::from_secs(5))?;
    let answer = client.get(url).send().await.map_err(|error| error.without_url());
    let answer = answer.with_context(|| format!("{shown} cannot be reached"))?;
    let ready = answer.status().is_success();
    Ok((ready, answer.text().await.with_context(|| format!("{shown} ended its answer early"))?))
}

/// Parses the URL of the admin listener, with or without `/readyz`, and returns the URL of its readiness.
fn address(text: &str) -> Result<Url, &'static str> {
    let target = Target::parse(text, None);
    let target = target.map_err(|_| "is not an http address, expected one such as http://127.0.0.1:9464")?;
    let mut url = target.base;
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
