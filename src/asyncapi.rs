//! The AsyncAPI 3 document of the topics that a configuration publishes to, for the command `asyncapi`.
//!
//! The document describes the bridge, so its operations send; a consumer receives. Payloads are the schemas of `schema`,
//! one for each entity, with keywords that AsyncAPI's own schema format has too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::action::{Action, Kind, QUARANTINE, schema};
use crate::config::{Config, Kafka, Property, Topic, TopicSettings, without_scheme};
use crate::event;
use crate::kafka::topics::wanted;
use crate::outcome::QuarantineReason;

const BINDING_VERSION: &str = "0.5.0";

/// The numeric topic settings that the Kafka binding has.
const TOPIC_NUMBERS: [&str; 4] =
    ["retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes"];

/// Returns the document of a configuration.
pub fn document(config: &Config) -> Value {
    let topics: BTreeMap<String, TopicSettings> =
        wanted(config).into_iter().map(|topic| (topic.name, topic.settings)).collect();
    let mut parts = Parts::default();
    let sources = sources(config);
    for Topic { name: address, actions, .. } in config.topics.list(&config.sources) {
        let messages =
            actions.iter().map(|action| (action.name(), message(action, &sources[action.name()], config)));
        let mut messages: Vec<(&str, Value)> = messages.collect();
        if actions.iter().any(|action| config.topics.has_tombstones(action)) {
            messages.push(("tombstone", tombstone(config)));
        }
        let channel = channel(&address, &topics, &about_topic(&actions));
        parts.add(&address[config.topics.prefix.len()..], channel, messages);
        for entity in actions.iter().filter_map(|action| action.entity()) {
            parts.schemas.entry(entity).or_insert_with(|| schema::record(entity));
        }
    }
    let about = "Deliveries that were signed and could not be published otherwise, whole.";
    let channel = channel(&config.topics.quarantine(), &topics, about);
    parts.add(QUARANTINE, channel, vec![(QUARANTINE, quarantined(config))]);
    parts.schemas.insert("Headers", headers());
    let (schemes, security) = security(&config.kafka);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Nexudus events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Records that Nexudus's webhooks deliver, as nexudus-bridge publishes them to Kafka: CloudEvents 1.0 in binary mode. ce_type tells the actions of a topic apart. Copies of an event are possible: remember ce_id. Further fields and headers are possible.",
        },
        "defaultContentType": "application/json",
        "servers": servers(&config.kafka, &security),
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {
            "messages": parts.messages,
            "schemas": parts.schemas,
            "securitySchemes": schemes,
        },
    })
}

/// The parts of the document that have an entry for each topic.
#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: BTreeMap<&'static str, Value>,
}

impl Parts {
    /// Adds a channel by its topic's name without the prefix, with its messages by name.
    fn add(&mut self, name: &str, mut channel: Value, messages: Vec<(&str, Value)>) {
        let reference = |message: &str| json!({ "$ref": format!("#/channels/{name}/messages/{message}") });
        let operation = json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{name}") },
            "messages": messages.iter().map(|(message, _)| reference(message)).collect::<Vec<_>>(),
        });
        self.operations.insert(format!("send.{name}"), operation);
        let mut references = Map::new();
        for (message, value) in messages {
            let reference = json!({ "$ref": format!("#/components/messages/{message}") });
            references.insert(message.to_owned(), reference);
            self.messages.insert(message.to_owned(), value);
        }
        channel["messages"] = Value::Object(references);
        self.channels.insert(name.to_owned(), channel);
    }
}

/// Returns the sources that take an action, by the action's name.
fn sources(config: &Config) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in config.sources.values() {
        for action in source.actions.iter() {
            all.entry(action.name()).or_default().push(&source.name);
        }
    }
    all
}

fn about_topic(actions: &[&Action]) -> String {
    match actions {
        [action] => about(action),
        _ => {
            let names: Vec<&str> = actions.iter().map(|action| action.name()).collect();
            format!("Events of {}; ce_type tells them apart.", names.join(", "))
        }
    }
}

fn about(action: &Action) -> String {
    match (action, action.kind()) {
        (Action::Known(entry), Kind::Change) => format!("{}: {}.", entry.entity, entry.verb),
        (Action::Known(entry), Kind::Signal) => {
            format!("{}: {}. A signal: two events can carry the same record.", entry.entity, entry.verb)
        }
        (Action::Extra(_), _) => "An action of extra_actions.".to_owned(),
    }
}

fn channel(address: &str, topics: &BTreeMap<String, TopicSettings>, about: &str) -> Value {
    let mut binding = json!({ "topic": address, "bindingVersion": BINDING_VERSION });
    if let Some(topic) = topics.get(address) {
        if topic.partitions > 0 {
            binding["partitions"] = topic.partitions.into();
        }
        if topic.replication_factor > 0 {
            binding["replicas"] = topic.replication_factor.into();
        }
        let mut settings: Map<String, Value> = Map::new();
        for (name, value) in &topic.config {
            if name == "cleanup.policy" {
                settings.insert(name.clone(), value.split(',').map(str::trim).collect());
            } else if let Some(number) =
                value.parse::<i64>().ok().filter(|_| TOPIC_NUMBERS.contains(&&**name))
            {
                settings.insert(name.clone(), number.into());
            }
        }
        binding["topicConfiguration"] = Value::Object(settings);
    }
    json!({ "address": address, "description": about, "bindings": { "kafka": binding } })
}

fn message(action: &Action, sources: &[&str], config: &Config) -> Value {
    let name = action.name();
    let kind = event::kind_of(name);
    let id = match action.kind() {
        Kind::Change => {
            json!({ "pattern": "^[0-9a-f]{64}$", "description": "Equals ce_nexudusfingerprint: byte-equal copies have the same id" })
        }
        Kind::Signal => json!({ "format": "uuid", "description": "A UUIDv7 of its own for each event" }),
    };
    let payload = match action {
        Action::Known(entry) => json!({ "$ref": format!("#/components/schemas/{}", entry.entity) }),
        Action::Extra(_) => json!({ "type": "object" }),
    };
    let mut message = json!({
        "name": kind,
        "title": name,
        "summary": about(action),
        "contentType": "application/json",
        "headers": {
            "allOf": [{ "$ref": "#/components/schemas/Headers" }],
            "properties": {
                "ce_id": id,
                "ce_type": { "enum": [kind] },
                "ce_source": { "enum": sources.iter().map(|source| event::source_of(source)).collect::<Vec<_>>() },
            },
        },
        "payload": payload,
        "bindings": { "kafka": {
            "key": { "type": "string", "description": format!("The record's {} as text, else its UniqueId, else no key", config.topics.key) },
            "bindingVersion": BINDING_VERSION,
        } },
    });
    if let Action::Known(_) = action {
        message["x-json-schema-id"] = schema::id(name).into();
    }
    message
}

/// Returns the `ce_source` of every source.
fn all_sources(config: &Config) -> BTreeSet<String> {
    config.sources.keys().map(|source| event::source_of(source)).collect()
}

fn tombstone(config: &Config) -> Value {
    json!({
        "name": event::TOMBSTONE,
        "title": "A tombstone",
        "summary": "Follows each delete event, with its key and headers, so that compaction removes the record.",
        "headers": {
            "allOf": [{ "$ref": "#/components/schemas/Headers" }],
            "required": [event::TOMBSTONE],
            "properties": {
                "ce_source": { "enum": all_sources(config) },
                "nexudus-tombstone": { "type": "string", "enum": ["true"] },
            },
        },
        "payload": { "type": "null" },
        "bindings": { "kafka": {
            "key": { "type": "string", "description": "The key of the delete event" },
            "bindingVersion": BINDING_VERSION,
        } },
    })
}

fn quarantined(config: &Config) -> Value {
    let reasons: Vec<&str> = QuarantineReason::ALL.iter().map(|reason| reason.label()).collect();
    json!({
        "name": QUARANTINE,
        "title": "A delivery in quarantine",
        "summary": "The value is the whole body as it came. There is no key.",
        "contentType": "application/json",
        "headers": {
            "allOf": [{ "$ref": "#/components/schemas/Headers" }],
            "required": ["quarantine-reason", "nexudus-action"],
            "properties": {
                "ce_id": { "pattern": "^[0-9a-f]{64}$" },
                "ce_source": { "enum": all_sources(config) },
                "quarantine-reason": { "type": "string", "enum": reasons },
                "nexudus-action": { "type": "string", "description": "The action as the URL gave it" },
            },
        },
        "payload": { "description": "Any bytes; JSON unless content-type is application/octet-stream" },
        "bindings": { "kafka": { "bindingVersion": BINDING_VERSION } },
    })
}

/// Returns the headers of every message; `docs/events.md` has the same table.
fn headers() -> Value {
    serde_json::from_str(include_str!("asyncapi/headers.json")).expect("the file is JSON")
}

/// Returns the bootstrap servers, as the bridge names them.
fn servers(kafka: &Kafka, security: &[Value]) -> Map<String, Value> {
    let protocol = property(kafka, &["security.protocol"]).unwrap_or_default().to_ascii_lowercase();
    let protocol = if protocol.ends_with("ssl") { "kafka-secure" } else { "kafka" };
    let server = |(index, address): (usize, &str)| {
        let mut server = json!({ "host": without_scheme(address), "protocol": protocol });
        if !security.is_empty() {
            server["security"] = security.into();
        }
        (format!("kafka-{}", index + 1), server)
    };
    kafka.bootstrap_servers.split(',').enumerate().map(server).collect()
}

/// Returns the security schemes of the servers, and the references to them.
fn security(kafka: &Kafka) -> (Map<String, Value>, Vec<Value>) {
    let mut schemes = Map::new();
    if property(kafka, &["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"])
        .is_some()
    {
        schemes.insert("clientCertificate".to_owned(), json!({ "type": "X509" }));
    }
    let mechanism = property(kafka, &["sasl.mechanism", "sasl.mechanisms"]).map(str::to_ascii_uppercase);
    let kind = match mechanism.as_deref() {
        Some("PLAIN") => Some("plain"),
        Some("SCRAM-SHA-256") => Some("scramSha256"),
        Some("SCRAM-SHA-512") => Some("scramSha512"),
        Some("GSSAPI") => Some("gssapi"),
        _ => None,
    };
    if let Some(kind) = kind {
        schemes.insert("sasl".to_owned(), json!({ "type": kind }));
    } else if let Some(oauth) = &kafka.oauth {
        let mut endpoint = oauth.token_endpoint.clone();
        endpoint.set_query(None); // it can hold a key
        let flow = json!({ "tokenUrl": endpoint.as_str(), "availableScopes": {} });
        schemes
            .insert("sasl".to_owned(), json!({ "type": "oauth2", "flows": { "clientCredentials": flow } }));
    }
    let reference = |name: &String| json!({ "$ref": format!("#/components/securitySchemes/{name}") });
    let references = schemes.keys().map(reference).collect();
    (schemes, references)
}

/// Returns the first of these properties that is set.
fn property<'a>(kafka: &'a Kafka, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| kafka.properties.get(*name)).map(Property::expose)
}
