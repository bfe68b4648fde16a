//! Points a configuration at an embedded broker: for `dev`, `demo` and the tour of the Nexudus double.

use crate::config::Config;
use crate::kafka::embedded::{EmbeddedBroker, EmbeddedError};
use crate::kafka::topics::wanted;

/// Number of partitions of an embedded topic with `partitions = -1` (the cluster's default).
const PARTITIONS: i32 = 3;

/// Starts a broker inside the process with every topic of the configuration, and points the configuration at it.
///
/// # Errors
/// [`EmbeddedError`]: the port is taken, or the system has no resources.
pub fn embed(config: &mut Config, port: Option<u16>) -> Result<EmbeddedBroker, EmbeddedError> {
    let partitions = |wanted: i32| if wanted > 0 { wanted } else { PARTITIONS };
    let topics =
        wanted(config).into_iter().map(|topic| (topic.name, partitions(topic.settings.partitions))).collect();
    let broker = EmbeddedBroker::start(port, topics)?;
    config.kafka.bootstrap_servers = broker.bootstrap_servers().to_owned();
    config.topics.create = false; // the embedded broker does not answer requests of an admin client
    config.topics.are_known = true;
    // The embedded broker has neither TLS nor SASL, so a client with the security properties of a real cluster could not connect.
    let secures = |name: &str| ["security.", "sasl.", "ssl."].iter().any(|prefix| name.starts_with(prefix));
    config.kafka.properties.retain(|name, _| !secures(name));
    config.kafka.oauth = None;
    config.settings.retain(|setting| {
        !setting.key.starts_with("kafka.oauth.") && !setting.property().is_some_and(secures)
    });
    let by = "the embedded broker";
    config.overrule("kafka.bootstrap_servers", format!("{:?}", config.kafka.bootstrap_servers), by);
    config.overrule("topics.create", "false".to_owned(), by);
    Ok(broker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::kafka::topics::Topics;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_request_about_topics_is_sent_to_the_embedded_broker() {
        let variables = [("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS".to_owned(), "[\"s\"]".to_owned())];
        let mut config = load(None, &variables.into(), |_, _| Ok(())).unwrap();
        let _broker = embed(&mut config, None).unwrap();
        let plan = Topics::new(&config).unwrap().plan().await.expect("no request is made");
        assert!(
            plan.warnings.is_empty() && plan.create.is_empty() && plan.differences.is_empty(),
            "{plan:?}"
        );
        assert_eq!(plan.unchanged, wanted(&config).len());
    }
}
