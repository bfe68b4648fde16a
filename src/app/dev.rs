//! The configuration of `dev` and `demo`, and of the commands that work with them. If no source is configured, it has one with a
//! public secret.

use std::path::Path;

use crate::config::load::{Environment, Mistakes, find, load, readable_again};
use crate::config::{Config, NO_SOURCE};
use crate::kafka::settings::check_property;

/// The shared secret of `dev` and `demo`, unless the environment sets another. It is public, so they listen on loopback only.
pub const SECRET: &str = "nexudus-bridge-dev-secret-not-for-production";

const SECRETS: &str = "NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS";

/// Loads the configuration from `file`, else from the first default path that exists, and from the environment.
///
/// # Errors
/// All mistakes in it.
pub fn loaded(file: Option<&Path>, environment: &Environment) -> Result<Config, Mistakes> {
    load(find(file, environment).as_deref(), environment, check_property)
}

/// Loads the configuration, and adds the source of `dev` if there is none.
///
/// # Errors
/// All other mistakes in it.
pub fn or_dev_source(file: Option<&Path>, mut environment: Environment) -> Result<Config, Mistakes> {
    match loaded(file, &environment) {
        Err(Mistakes(mistakes)) if mistakes == [NO_SOURCE] => {
            readable_again(file)?;
            environment.insert(SECRETS.to_owned(), format!("[{SECRET:?}]"));
            loaded(file, &environment)
        }
        loaded => loaded,
    }
}

/// Returns the configuration of `dev` and `demo`: `file` if the user names one, the environment, and defaults for a bridge on
/// this machine. It leaves out `[nexudus]`, since the webhooks of a real account have other URLs.
///
/// # Errors
/// All mistakes in it. A listener that is not on loopback is one, since the secret is public.
pub fn configuration(file: Option<&Path>, mut environment: Environment) -> Result<Config, Mistakes> {
    // Only `serve` reads a file that the command line does not name.
    environment.remove("NEXUDUS_BRIDGE_CONFIG");
    if file.is_none() {
        let listen = environment.entry("NEXUDUS_BRIDGE__INGRESS__LISTEN".to_owned());
        listen.or_insert_with(|| "127.0.0.1:8080".to_owned());
        if !environment.keys().any(|name| name.starts_with("NEXUDUS_BRIDGE__SOURCES__")) {
            environment.insert(SECRETS.to_owned(), format!("[{SECRET:?}]"));
        }
    }
    let mut config = load(file, &environment, check_property)?;
    for (key, address) in [("ingress.listen", config.ingress.listen), ("admin.listen", config.admin.listen)] {
        if !address.ip().is_loopback() {
            return Err(Mistakes(vec![format!(
                "{key} = {address} is not on loopback, expected 127.0.0.1: the secret of dev and demo is public"
            )]));
        }
    }
    config.nexudus = None;
    config.settings.retain(|setting| !setting.key.starts_with("nexudus."));
    Ok(config)
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

    /// Returns an empty file, so that no configuration file of the machine is read.
    fn empty_file() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn without_a_source_there_is_that_of_dev_and_the_rest_is_as_configured() {
        let file = empty_file();
        let config =
            or_dev_source(Some(file.path()), environment(&[("KAFKA__BOOTSTRAP_SERVERS", "kafka:1")]))
                .unwrap();
        assert_eq!(config.kafka.bootstrap_servers, "kafka:1");
        let signature = config.sources[Source::DEFAULT].keys[0].sign(b"x");
        assert_eq!(signature, SigningKey::new(SECRET).unwrap().sign(b"x"));
    }

    #[test]
    fn a_source_that_is_configured_wrongly_is_not_replaced() {
        let file = empty_file();
        for wrong in [("SOURCES__DEFAULT__SECRETS", "[\"\"]"), ("INGRESS__LISTEN", "8080")] {
            let mistakes = or_dev_source(Some(file.path()), environment(&[wrong])).unwrap_err();
            assert!(!mistakes.0.is_empty());
        }
    }
}
