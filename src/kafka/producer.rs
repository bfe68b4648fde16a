//! Publishing: events into the Kafka client, with the settings that the promise needs.
//!
//! `acks=all` and idempotence always; a message lives as long as the answer waits (`confirm_timeout`) and no longer;
//! a full queue is an error at once, never a wait. `linger.ms=0` with one request in flight makes batches of what
//! arrives while a request is on its way. A second producer that sends each message in a batch of its own is made when
//! first needed: only its word says that an error is about one message (see [`super::confirm`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::FutureProducerContext;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::confirm::{Pending, Unconfirmed};
use super::context::Context;
use super::status::Status;
use crate::config::{Config, Property};
use crate::event::Event;
use crate::metrics::Metrics;

type Inner = FutureProducer<Context>;

/// The bridge's producer.
pub struct Producer {
    inner: Inner,
    /// Sends every message alone. Made when a batch was refused for the first time.
    alone: OnceLock<Inner>,
    making_alone: Mutex<()>,
    config: ClientConfig,
    status: Arc<Status>,
}

impl Producer {
    /// Makes a producer; it connects by itself, in the background.
    ///
    /// # Errors
    /// What librdkafka says of the configuration, without its values.
    pub fn new(config: &Config, status: Arc<Status>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let client = client_config(config);
        let context = Context { status: Arc::clone(&status), metrics: Some(metrics) };
        let inner = client.create_with_context(context).map_err(|error| describe(&error))?;
        Ok(Self { inner, alone: OnceLock::new(), making_alone: Mutex::new(()), config: client, status })
    }

    /// Hands an event to the client, which batches it with what else waits for its partition.
    ///
    /// # Errors
    /// [`Unconfirmed`] at once when the client does not take it; it never waits.
    pub fn publish(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        send(&self.inner, event, false)
    }

    /// Publishes an event in a batch of its own, so that a refusal is about this event and no other.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub fn publish_alone(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        send(self.alone().map_err(|error| Unconfirmed::new(&error, true))?, event, true)
    }

    /// The state of the contact with the cluster.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// The client, for metadata.
    pub(super) fn client(&self) -> &Client<FutureProducerContext<Context>> {
        self.inner.client()
    }

    /// Waits for what is under way, then gives up on the rest, so that dropping the producer does not hang. Blocks.
    /// Gives back how many messages were given up.
    pub fn close(&self, patience: Duration) -> usize {
        let producers = [Some(&self.inner), self.alone.get()];
        let mut left = 0;
        for producer in producers.into_iter().flatten() {
            if producer.flush(patience).is_err() {
                left += usize::try_from(producer.in_flight_count()).unwrap_or(0);
                producer.purge(PurgeConfig::default().queue().inflight());
                // The purged messages' reports; nobody waits for them any more.
                drop(producer.flush(Duration::from_millis(100)));
            }
        }
        left
    }

    fn alone(&self) -> KafkaResult<&Inner> {
        let _one_at_a_time = self.making_alone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = self.alone.get() {
            return Ok(producer);
        }
        let mut config = self.config.clone();
        config.set("batch.num.messages", "1").remove("batch.size");
        let context = Context { status: Arc::clone(&self.status), metrics: None };
        let producer = config.create_with_context(context)?;
        Ok(self.alone.get_or_init(|| producer))
    }
}

fn send(producer: &Inner, event: &Event, alone: bool) -> Result<Pending, Unconfirmed> {
    let mut headers = Some(OwnedHeaders::new_with_capacity(14));
    event.headers(|key, value| {
        headers = headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
    });
    let mut record = FutureRecord::<[u8], [u8]>::to(&event.topic).payload(&event.value);
    record.key = event.key.as_deref();
    record.headers = headers;
    match producer.send_result(record) {
        Ok(delivery) => Ok(Pending::new(delivery, alone)),
        // The client refuses by itself what is about this message only: it has not met a batch yet.
        Err((error, _record)) => Err(Unconfirmed::new(&error, true)),
    }
}

/// Says whether librdkafka takes a property, as a [`crate::config::load::PropertyCheck`].
///
/// # Errors
/// Why not. The value is not repeated: it may be a secret.
pub fn check_property(name: &str, value: &str) -> Result<(), String> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(..)) if is_unknown(name) => Err("is not a property of librdkafka".into()),
        Err(KafkaError::ClientConfig(_, why, ..)) => Err(format!("is refused by librdkafka: {}", without(&why, value))),
        Err(error) => Err(format!("is refused by librdkafka: {:?}", error.rdkafka_error_code())),
    }
}

fn is_unknown(name: &str) -> bool {
    // librdkafka has an error code for it, which the wrapper prints; an empty value never changes that verdict.
    let probe = ClientConfig::new().set(name, "").create_native_config();
    matches!(probe, Err(KafkaError::ClientConfig(_, why, ..)) if why.contains("No such configuration property"))
}

fn without(text: &str, value: &str) -> String {
    if value.is_empty() { text.to_owned() } else { text.replace(value, "***") }
}

/// What librdkafka says of a configuration that it refuses as a whole.
fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, name, value) => format!("{name}: {}", without(why, value)),
        KafkaError::ClientCreation(why) => why.clone(),
        other => format!("{other}"),
    }
}

/// Everything that a client of the cluster needs, whatever it does there: addresses and the user's properties.
pub(super) fn connection_config(kafka: &crate::config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.bootstrap_servers).set("client.id", "nexudus-bridge");
    // A broker that comes back is found again within half a second; the default waits up to ten.
    client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    client.set("socket.keepalive.enable", "true").set("allow.auto.create.topics", "false");
    let secured = kafka.properties.get("security.protocol").map(Property::expose);
    if secured.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl")) {
        client.set("ssl.ca.location", "probe"); // a static OpenSSL does not know where this system keeps its own
    }
    client
}

fn client_config(config: &Config) -> ClientConfig {
    let kafka = &config.kafka;
    let timeout = kafka.confirm_timeout.as_millis();
    let message_bytes = config.ingress.max_body_bytes + crate::config::Kafka::MESSAGE_OVERHEAD_BYTES;
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
        .set("max.in.flight", "1")
        .set("message.max.bytes", message_bytes.to_string())
        .set("queue.buffering.max.kbytes", queue_kbytes.max(40_960).to_string())
        .set("queue.buffering.max.messages", "100000")
        // Else an unknown topic is known as such after half a minute only.
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("statistics.interval.ms", "5000");
    apply(&mut client, &kafka.properties);
    client
}

/// Puts the user's properties over ours, also where the user knows ours by another name.
pub(super) fn apply(client: &mut ClientConfig, properties: &BTreeMap<String, Property>) {
    const ALIASES: [(&str, &str); 4] = [
        ("queue.buffering.max.ms", "linger.ms"),
        ("max.in.flight.requests.per.connection", "max.in.flight"),
        ("request.required.acks", "acks"),
        ("compression.codec", "compression.type"),
    ];
    for (name, property) in properties {
        for (alias, ours) in ALIASES {
            if name == alias {
                client.remove(ours);
            }
        }
        client.set(name, property.expose());
    }
}

/// librdkafka's version.
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
