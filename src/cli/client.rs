//! The configuration of the commands, and their connections: a cluster, a running bridge, an account of Nexudus.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};

use super::output::{self, FAINT, duration, one_line, progress_style, styled};
use crate::app::dev;
use crate::config::load::{Mistakes, process_environment};
use crate::config::{Config, NO_SOURCE, brokers};
use crate::metrics::Metrics;
use crate::webhooks::Account;

/// Loads the configuration from the file and the environment of the process, or returns its [`Mistakes`].
pub(super) fn loaded(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(dev::loaded(file, &process_environment())?)
}

/// Loads the configuration as [`loaded`]. A configuration without any source gets the source of `dev`.
pub(super) fn configuration(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(dev::or_dev_source(file, process_environment())?)
}

#[derive(Debug, clap::Args)]
pub(super) struct Cluster {
    /// Bootstrap brokers [default: those of the configuration]
    #[arg(long, value_name = "HOST:PORT", value_parser = brokers)]
    bootstrap: Option<String>,
}

impl Cluster {
    /// Returns the [`configuration`] with these brokers.
    pub(super) fn configuration(self, file: Option<&Path>) -> anyhow::Result<Config> {
        let mut config = configuration(file)?;
        config.kafka.bootstrap_servers = self.bootstrap.unwrap_or(config.kafka.bootstrap_servers);
        Ok(config)
    }
}

/// Returns the URL of the admin listener in this configuration. An unspecified address becomes the loopback address.
pub(super) fn admin_url(config: &Config) -> String {
    let mut address = config.admin.listen;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}

/// Returns the command that starts this program: `cargo run --` if cargo has started it, else its name.
pub(super) fn program() -> &'static str {
    if process_environment().contains_key("CARGO") { "cargo run --" } else { "nexudus-bridge" }
}

/// Returns the configuration, its account, and the progress lines on standard error, which show the waits for Nexudus. A command has
/// another client id at Nexudus than `serve`.
pub(super) fn account(file: Option<&Path>) -> anyhow::Result<(Config, Account, MultiProgress)> {
    const HINT: &str = "to try it without an account, run `cargo run -p nexudus-double` in a checkout and type the export \
                        line that it prints";
    let mut config = loaded(file).map_err(|error| match error.downcast_ref() {
        Some(Mistakes(mistakes)) if *mistakes == [NO_SOURCE] => {
            Mistakes(vec![format!("{NO_SOURCE}; {HINT}")]).into()
        }
        _ => error,
    })?;
    if let Some(nexudus) = &mut config.nexudus {
        nexudus.as_command();
    }
    let mut account = Account::new(&config, Arc::new(Metrics::new("")))?;
    let lines = MultiProgress::new();
    let shown = lines.clone();
    account.client.show_waits(Arc::new(move |length, reason| Box::new(show(length, reason, &shown))));
    Ok((config, account, lines))
}

/// Shows the reason and the length of a wait. On a terminal, returns a progress line that ends when it is dropped.
fn show(length: Duration, reason: &str, lines: &MultiProgress) -> Option<ProgressBar> {
    let (length, reason) = (duration(length), one_line(reason));
    if lines.is_hidden() {
        output::message(styled(FAINT, format_args!("waiting {length} for {reason}")));
        return None;
    }
    let line = lines.add(output::spinner());
    line.set_style(progress_style("{spinner} waiting {elapsed} of {prefix} for {wide_msg}"));
    line.set_prefix(length);
    line.set_message(reason);
    Some(line)
}
