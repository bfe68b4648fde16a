//! The settings of Kafka clients, and their check by librdkafka.
//!
//! The user's properties override those of the bridge. `config` has refused properties that would weaken the delivery guarantee.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::config::{Config, Kafka, Property};

/// Checks a property with librdkafka, as a [`crate::config::PropertyCheck`].
///
/// # Errors
/// The reason of the refusal, without the value, which may be a secret.
pub fn check_property(name: &str, value: &str) -> Result<(), String> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(..)) if is_unknown(name) => {
            Err("is not a property of librdkafka".into())
        }
        Err(KafkaError::ClientConfig(_, why, ..)) => {
            Err(format!("is refused by librdkafka: {}", without(why.trim_end(), value)))
        }
        Err(error) => Err(format!("is refused by librdkafka: {:?}", error.rdkafka_error_code())),
    }
}

fn is_unknown(name: &str) -> bool {
    // rdkafka returns only the text of librdkafka's error. An unknown property is reported with any value, also an empty one.
    let probe = ClientConfig::new().set(name, "").create_native_config();
    matches!(probe, Err(KafkaError::ClientConfig(_, why, ..)) if why.contains("No such configuration property"))
}

fn without(text: &str, value: &str) -> String {
    if value.is_empty() { text.to_owned() } else { text.replace(value, "***") }
}

/// Returns librdkafka's error about a whole configuration as text, without values.
pub(super) fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, name, value) => format!("{name}: {}", without(why, value)),
        KafkaError::ClientCreation(why) => why.clone(),
        other => format!("{other}"),
    }
}

/// Initializes OpenSSL without its clean-up at the end of the process. To be called before the first client is made.
///
/// At the end of the process, threads of clients that wait for a broker still use OpenSSL. With the clean-up, a graceful shutdown
/// could end in a segmentation fault.
pub(super) fn keep_openssl_until_the_end() {
    openssl_sys::init();
}

/// Returns the settings that all clients of the cluster share, such as addresses and reconnects. [`apply`] adds the user's properties.
pub(super) fn connection_config(kafka: &Kafka) -> ClientConfig {
    keep_openssl_until_the_end();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.bootstrap_servers).set("client.id", "nexudus-bridge");
    // Reconnects to a broker that is back within half a second; the default is up to ten seconds.
    client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    client.set("socket.keepalive.enable", "true").set("allow.auto.create.topics", "false");
    let secured = kafka.properties.get("security.protocol").map(Property::expose);
    if secured.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl")) {
        client.set("ssl.ca.location", "probe"); // a static OpenSSL has no path of the system's certificates
    }
    if kafka.oauth.is_some() {
        client.set("sasl.mechanism", "OAUTHBEARER");
    }
    client
}

/// Returns the configuration of the bridge's producers. The scheduler makes the batches, so librdkafka never waits for more events
/// (`linger.ms`). An idempotent producer may have at most five requests in flight.
pub(super) fn producer_config(config: &Config) -> ClientConfig {
    let kafka = &config.kafka;
    let timeout = kafka.confirm_timeout.as_millis();
    let message_bytes = config.ingress.max_body_bytes + Kafka::MESSAGE_OVERHEAD_BYTES;
    let queue_kbytes = config.ingress.max_in_flight_bytes.max(config.ingress.max_body_bytes) / 1024 * 5 / 4;
    let mut client = connection_config(kafka);
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", timeout.to_string())
        .set("socket.timeout.ms", timeout.clamp(1_000, 60_000).to_string())
        .set("socket.connection.setup.timeout.ms", timeout.clamp(1_000, 10_000).to_string())
        .set("linger.ms", "0")
        .set("max.in.flight", "5")
        .set("message.max.bytes", message_bytes.to_string())
        .set("queue.buffering.max.kbytes", queue_kbytes.max(40_960).to_string())
        .set("queue.buffering.max.messages", "100000")
        // By default librdkafka reports an unknown topic after 30 s only. Messages would time out before, as with a slow broker.
        .set("topic.metadata.propagation.max.ms", (timeout / 2).min(5_000).to_string())
        .set("statistics.interval.ms", "5000");
    apply(&mut client, &kafka.properties);
    client
}

/// Returns the maximum number of messages and bytes that wait for an answer, for a gauge.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; limits are far below 2^53")]
pub fn queue_limits(config: &Config) -> [f64; 2] {
    limits(&producer_config(config))
        .map(|limit| if limit == usize::MAX { f64::INFINITY } else { limit as f64 })
}

/// Returns the maximum number of messages and bytes that wait for an answer. In librdkafka, 0 messages means no limit.
pub(super) fn limits(client: &ClientConfig) -> [usize; 2] {
    let limit = |name| client.get(name).and_then(|value| value.parse().ok()).unwrap_or(usize::MAX);
    let messages = limit("queue.buffering.max.messages");
    [
        if messages == 0 { usize::MAX } else { messages },
        limit("queue.buffering.max.kbytes").saturating_mul(1024),
    ]
}

/// Overrides the bridge's properties with the user's. Aliases are replaced with the names that the bridge uses.
pub(super) fn apply(client: &mut ClientConfig, properties: &BTreeMap<String, Property>) {
    const ALIASES: [(&str, &str); 5] = [
        ("queue.buffering.max.ms", "linger.ms"),
        ("max.in.flight.requests.per.connection", "max.in.flight"),
        ("request.required.acks", "acks"),
        ("compression.codec", "compression.type"),
        ("sasl.mechanisms", "sasl.mechanism"),
    ];
    for (name, property) in properties {
        let ours = ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, ours)| ours);
        client.set(ours, property.expose());
    }
}

/// Returns the version of librdkafka.
pub fn library_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_checked_by_librdkafka_without_repeating_the_value() {
        assert_eq!(check_property("linger.ms", "5"), Ok(()));
        assert_eq!(check_property("no.such.thing", "1").unwrap_err(), "is not a property of librdkafka");
        let why = check_property("compression.type", "hush").unwrap_err();
        assert!(why.starts_with("is refused by librdkafka") && !why.contains("hush"), "{why}");
    }
}
