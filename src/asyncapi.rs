//! The AsyncAPI 3 document of the topics that a configuration publishes to, for the command `asyncapi`.
//!
//! The document describes the bridge, so the action of its operations is `send`. Payloads are the schemas of [`schema`], one for each
//! entity, with keywords that AsyncAPI's own schema format has too.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::action::{Action, Kind, QUARANTINE, schema};
use crate::config::{Config, Kafka, Property, Topic, TopicSettings, without_scheme};
use crate::event;
use crate::kafka::topics::{Wanted, wanted};
use crate::outcome::QuarantineReason;

const BINDING_VERSION: &str = "0.5.0";

/// Returns the document of a configuration.
pub fn document(config: &Config) -> Value {
    let schemes = security_schemes(&config.kafka);
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Nexudus events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Records that Nexudus's webhooks deliver, as nexudus-bridge publishes them to Kafka: CloudEvents 1.0 in binary mode. ce_type tells the actions of a topic apart. Copies of an event are possible: remember ce_id. Further fields and headers are possible.",
        },
        "defaultContentType": "application/json",
        "servers": servers(&config.kafka, &schemes),
        "components": { "schemas": { "Headers": headers() }, "securitySchemes": schemes },
    });
    let events = config.topics.list(&config.sources).into_iter().map(|Topic { actions, .. }| {
        let messages = actions.iter().map(|action| (action.name(), message(action, config)));
        let mut messages: Vec<(&str, Value)> = messages.collect();
        if actions.iter().any(|action| config.topics.has_tombstones(action)) {
            messages.push(("tombstone", tombstone(config)));
        }
        for entity in actions.iter().filter_map(|action| action.entity()) {
            document["components"]["schemas"][entity] = schema::record(entity);
        }
        (about_topic(&actions), messages)
    });
    let mut contents: Vec<_> = events.collect();
    let about = "Deliveries that were signed and could not be published otherwise, whole.".to_owned();
    contents.push((about, vec![(QUARANTINE, quarantined(config))]));
    for (topic, (about, messages)) in wanted(config).into_iter().zip(contents) {
        let name = &topic.name[config.topics.prefix.len()..];
        let refer = |message| reference(format_args!("channels/{name}/messages/{message}"));
        document["operations"][format!("send.{name}")] = json!({
            "action": "send",
            "channel": reference(format_args!("channels/{name}")),
            "messages": messages.iter().map(|(message, _)| refer(message)).collect::<Vec<_>>(),
        });
        document["channels"][name] = json!({
            "address": topic.name,
            "description": about,
            "bindings": { "kafka": binding(&topic) },
        });
        for (message, value) in messages {
            let reference = reference(format_args!("components/messages/{message}"));
            document["channels"][name]["messages"][message] = reference;
            document["components"]["messages"][message] = value;
        }
    }
    document
}

fn reference(path: impl fmt::Display) -> Value {
    json!({ "$ref": format!("#/{path}") })
}

fn binding(topic: &Wanted) -> Value {
    /// The numeric topic settings that the Kafka binding has.
    const NUMBERS: [&str; 4] =
        ["retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes"];
    let TopicSettings { partitions, replication_factor, config } = &topic.settings;
    let mut binding =
        json!({ "topic": topic.name, "topicConfiguration": {}, "bindingVersion": BINDING_VERSION });
    for (field, number) in [("partitions", *partitions), ("replicas", *replication_factor)] {
        if number > 0 {
            binding[field] = number.into();
        }
    }
    for (name, value) in config {
        if name == "cleanup.policy" {
            binding["topicConfiguration"][name] = value.split(',').map(str::trim).collect();
        } else if NUMBERS.contains(&&**name)
            && let Ok(number) = value.parse::<i64>()
        {
            binding["topicConfiguration"][name] = number.into();
        }
    }
    binding
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

fn message(action: &Action, config: &Config) -> Value {
    let name = action.name();
    let kind = event::kind_of(name);
    let sources =
        config.sources.iter().filter(|(_, source)| source.actions.iter().any(|own| own.name() == name));
    let sources: Vec<String> = sources.map(|(source, _)| event::source_of(source)).collect();
    let id = match action.kind() {
        Kind::Change => {
            json!({ "pattern": "^[0-9a-f]{64}$", "description": "Equals ce_nexudusfingerprint: byte-equal copies have the same id" })
        }
        Kind::Signal => json!({ "format": "uuid", "description": "A UUIDv7 of its own for each event" }),
    };
    let payload = match action {
        Action::Known(entry) => reference(format_args!("components/schemas/{}", entry.entity)),
        Action::Extra(_) => json!({ "type": "object" }),
    };
    let mut message = json!({
        "name": kind,
        "title": name,
        "summary": about(action),
        "contentType": "application/json",
        "headers": {
            "allOf": [common_headers()],
            "properties": {
                "ce_id": id,
                "ce_type": { "enum": [kind] },
                "ce_source": { "enum": sources },
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
fn all_sources(config: &Config) -> Vec<String> {
    config.sources.keys().map(|source| event::source_of(source)).collect()
}

fn tombstone(config: &Config) -> Value {
    json!({
        "name": event::TOMBSTONE,
        "title": "A tombstone",
        "summary": "Follows each delete event, with its key and headers, so that compaction removes the record.",
        "headers": {
            "allOf": [common_headers()],
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
            "allOf": [common_headers()],
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

fn common_headers() -> Value {
    reference("components/schemas/Headers")
}

/// Returns the bootstrap servers of the configuration.
fn servers(kafka: &Kafka, schemes: &Map<String, Value>) -> Map<String, Value> {
    let protocol = property(kafka, &["security.protocol"]).unwrap_or_default().to_ascii_lowercase();
    let protocol = if protocol.ends_with("ssl") { "kafka-secure" } else { "kafka" };
    let security = schemes.keys().map(|name| reference(format_args!("components/securitySchemes/{name}")));
    let security: Vec<Value> = security.collect();
    let server = |(index, address): (usize, &str)| {
        let mut server = json!({ "host": without_scheme(address), "protocol": protocol });
        if !security.is_empty() {
            server["security"] = security.clone().into();
        }
        (format!("kafka-{}", index + 1), server)
    };
    kafka.bootstrap_servers.split(',').enumerate().map(server).collect()
}

/// Returns the security schemes of the servers.
fn security_schemes(kafka: &Kafka) -> Map<String, Value> {
    let certificates = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
    let certificate = property(kafka, &certificates).map(|_| json!({ "type": "X509" }));
    let mechanism = property(kafka, &["sasl.mechanism", "sasl.mechanisms"]).map(str::to_ascii_uppercase);
    let sasl = match mechanism.as_deref() {
        Some("PLAIN") => Some(json!({ "type": "plain" })),
        Some("SCRAM-SHA-256") => Some(json!({ "type": "scramSha256" })),
        Some("SCRAM-SHA-512") => Some(json!({ "type": "scramSha512" })),
        Some("GSSAPI") => Some(json!({ "type": "gssapi" })),
        _ => kafka.oauth.as_ref().map(|oauth| {
            let mut endpoint = oauth.token_endpoint.clone();
            endpoint.set_query(None); // it can hold a key
            let flow = json!({ "tokenUrl": endpoint.as_str(), "availableScopes": {} });
            json!({ "type": "oauth2", "flows": { "clientCredentials": flow } })
        }),
    };
    let schemes = [("clientCertificate", certificate), ("sasl", sasl)];
    schemes.into_iter().filter_map(|(name, scheme)| Some((name.to_owned(), scheme?))).collect()
}

/// Returns the first of these properties that is set.
fn property<'a>(kafka: &'a Kafka, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| kafka.properties.get(*name)).map(Property::expose)
}
