//! `health`: asks a running bridge whether it is ready, for containers without curl.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::client::configuration;
use super::output::{self, one_line};

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The admin listener's base address; else that of the configuration
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Exit code 0 when ready, 1 when not or not to be reached.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let base = match args.url {
        Some(url) => url,
        None => {
            let mut address = configuration(file)?.admin.listen;
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            format!("http://{address}")
        }
    };
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let client = crate::sender::client(TIMEOUT)?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} cannot be reached"))?;
    let ready = answer.status().is_success();
    let body = answer.text().await.with_context(|| format!("{url} broke off"))?;
    output::message(format_args!(
        "{}: {}",
        if ready { "ready" } else { "not ready" },
        one_line(body.as_bytes())
    ));
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
