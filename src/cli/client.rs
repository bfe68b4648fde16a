//! The configuration as the commands see it that talk to a bridge, a cluster or Nexudus from outside (`send`, `tail`,
//! `webhooks`). Where no source is configured, as with `dev`, they use the secret of `dev`. Commands that talk to Nexudus want
//! its address in the configuration and never look for one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{DEV_SECRET, loaded_from};
use crate::config::load::{Environment, Mistakes, process_environment, readable_again};
use crate::config::{Config, NO_SOURCE};

/// The configuration of the process's environment; with the source of `dev` if it has none at all.
///
/// # Errors
/// All mistakes in it but that one.
pub(super) fn configuration(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(configuration_from(file, process_environment())?)
}

/// Returns the configuration of the process's environment for the commands that talk to Nexudus. They are another client of
/// Nexudus than `serve` is.
///
/// # Errors
/// All mistakes in it.
pub(super) fn control(file: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match loaded_from(file, &process_environment()) {
        Ok(loaded) => loaded.config,
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

fn configuration_from(file: Option<&Path>, mut environment: Environment) -> Result<Config, Mistakes> {
    let mistakes = match loaded_from(file, &environment) {
        Ok(loaded) => return Ok(loaded.config),
        Err(mistakes) => mistakes,
    };
    if mistakes.0 != [NO_SOURCE] {
        return Err(mistakes);
    }
    readable_again(file)?;
    environment.insert("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS".to_owned(), format!("[{DEV_SECRET:?}]"));
    Ok(loaded_from(file, &environment)?.config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::signature::SigningKey;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| (format!("NEXUDUS_BRIDGE__{name}"), (*value).to_owned()))
            .collect()
    }

    /// A file that is there and says nothing, so that none that lies around is found.
    fn empty_file() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn without_a_source_there_is_that_of_dev_and_the_rest_is_as_configured() {
        let file = empty_file();
        let config =
            configuration_from(Some(file.path()), environment(&[("KAFKA__BOOTSTRAP_SERVERS", "kafka:1")]))
                .unwrap();
        assert_eq!(config.kafka.bootstrap_servers, "kafka:1");
        let signature = config.sources[Source::DEFAULT].keys[0].sign(b"x");
        assert_eq!(signature, SigningKey::new(DEV_SECRET).unwrap().sign(b"x"));
    }

    #[test]
    fn a_source_that_is_configured_wrongly_is_not_replaced() {
        let file = empty_file();
        for wrong in [("SOURCES__DEFAULT__SECRETS", "[\"\"]"), ("INGRESS__LISTEN", "8080")] {
            let mistakes = configuration_from(Some(file.path()), environment(&[wrong])).unwrap_err();
            assert!(!mistakes.0.is_empty());
        }
    }
}
