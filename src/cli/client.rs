//! The configuration as the commands see it that talk to a bridge, a cluster or Nexudus from outside (`send`, `tail`,
//! `webhooks`). Where no source is configured, as with `dev`, they use the secret of `dev`. Commands that talk to Nexudus want
//! its address in the configuration and never look for one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::loaded;
use crate::app::dev;
use crate::config::load::{Mistakes, process_environment};
use crate::config::{Config, NO_SOURCE};

/// The configuration of the process's environment; with the source of `dev` if it has none at all.
///
/// # Errors
/// All mistakes in it but that one.
pub(super) fn configuration(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(dev::or_dev_source(file, process_environment())?)
}

/// Returns the configuration of the process's environment for the commands that talk to Nexudus. They are another client of
/// Nexudus than `serve` is.
///
/// # Errors
/// All mistakes in it.
pub(super) fn control(file: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match loaded(file) {
        Ok(config) => config,
        Err(mistakes) if mistakes.0 == [NO_SOURCE] => {
            let hint = "to try it without an account, run `cargo run -p nexudus-double` in a checkout and type the export line that it prints";
            return Err(Mistakes(vec![format!("{NO_SOURCE}; {hint}")]).into());
        }
        Err(mistakes) => return Err(mistakes.into()),
    };
    if let Some(nexudus) = &mut config.nexudus {
        nexudus.as_command();
    }
    Ok(config)
}

/// The address of the admin listener of a bridge with this configuration, as this machine reaches it.
pub(super) fn admin_url(config: &Config) -> String {
    let mut address = config.admin.listen;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}
