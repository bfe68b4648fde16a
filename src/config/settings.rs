//! The sections of the configuration, read in the order of the documentation.
//!
//! Each function reads one section, with the defaults and bounds that the README states, and gives the program's own
//! types. What one key cannot tell alone (a body larger than all that may be in flight) is checked at the section's end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::config::{Map, Value};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::choice;
use super::nexudus::nexudus;
use super::oauth::{oauth, sign_in};
use super::reader::{self, Notes, Section, address, boolean, duration, integer, text, word};
use super::telemetry::telemetry;
use super::{
    Admin, Config, Console, Ingress, Kafka, Log, LogFormat, Property, Redelivery, SignaturePolicy, Source,
    Tls, Topics,
};
use crate::action::Actions;
use crate::signature::SigningKey;

/// Says whether librdkafka takes a property and value, else why not. A function, since only `kafka` knows the library.
pub type PropertyCheck = fn(&str, &str) -> Result<(), String>;

/// The mistake of a configuration without any source.
pub const NO_SOURCE: &str = "no source is configured, expected [sources.default] with secrets = [\"…\"] in the file, \
                             or NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS='[\"…\"]'";

const SECTIONS: [&str; 9] =
    ["ingress", "admin", "kafka", "topics", "redelivery", "sources", "nexudus", "log", "telemetry"];

/// Reads every section; mistakes go to `notes`, and the result is only of use when there were none.
pub(super) fn read(mut root: Map<String, Value>, notes: &mut Notes, check: PropertyCheck) -> Config {
    let mut warnings = Vec::new();
    let ingress = ingress(Section::open(&mut root, "ingress", notes));
    let admin = admin(Section::open(&mut root, "admin", notes), &mut warnings);
    let kafka = kafka(Section::open(&mut root, "kafka", notes), &ingress, check, &mut warnings);
    let topics = topics(Section::open(&mut root, "topics", notes));
    let redelivery = redelivery(Section::open(&mut root, "redelivery", notes));
    let sources = sources(&mut root, notes, &mut warnings);
    let present = root.contains_key("nexudus");
    let section = present.then(|| Section::open(&mut root, "nexudus", notes));
    let nexudus = section.and_then(|section| nexudus(section, &mut warnings));
    if nexudus.is_some() && sources.values().all(|source| source.business_id.is_none()) {
        warnings
            .push("nexudus: no source has a business_id, so there is no webhook to look after".to_owned());
    }
    let log = log(Section::open(&mut root, "log", notes));
    let telemetry = telemetry(Section::open(&mut root, "telemetry", notes));
    reader::close(root, &SECTIONS, notes);
    Config {
        ingress,
        admin,
        kafka,
        topics,
        redelivery,
        sources,
        nexudus,
        log,
        telemetry,
        warnings,
        settings: Vec::new(),
    }
}

fn ingress(mut section: Section<'_>) -> Ingress {
    let ingress = Ingress {
        listen: section.get("listen", "0.0.0.0:8080", address),
        max_body_bytes: size(section.get("max_body_bytes", "4194304", integer(1024, 512 << 20))),
        body_timeout: section.get("body_timeout", "10s", duration(ms(100), minutes(10))),
        max_in_flight: size(section.get("max_in_flight", "4096", integer(1, 1 << 20))),
        max_in_flight_bytes: size(section.get("max_in_flight_bytes", "33554432", integer(1024, 16 << 30))),
        shutdown_delay: section.get("shutdown_delay", "0s", duration(ms(0), minutes(10))),
        shutdown_grace: section.get("shutdown_grace", "25s", duration(ms(0), minutes(60))),
        tls: tls(&mut section),
    };
    if ingress.max_in_flight_bytes < ingress.max_body_bytes {
        section.mistake(".max_in_flight_bytes is less than max_body_bytes, so that no large body could ever be taken; raise the first or lower the second");
    }
    section.close();
    ingress
}

fn tls(section: &mut Section<'_>) -> Option<Tls> {
    let [cert, key] = ["tls_cert", "tls_key"].map(|key| section.get(key, "", text));
    match (cert.is_empty(), key.is_empty()) {
        (true, true) => None,
        (false, false) => Some(Tls { cert: cert.into(), key: key.into() }),
        (true, false) => {
            section.mistake(".tls_key is set without tls_cert, expected both or neither");
            None
        }
        (false, true) => {
            section.mistake(".tls_cert is set without tls_key, expected both or neither");
            None
        }
    }
}

fn admin(mut section: Section<'_>, warnings: &mut Vec<String>) -> Admin {
    let listen = section.get("listen", "127.0.0.1:9464", address);
    let loopback = listen.ip().is_loopback();
    let asked = section.has("console");
    let console = match section.get("console", if loopback { "true" } else { "false" }, boolean) {
        false => Console::Off,
        true if asked => Console::On,
        true => Console::OnLoopback,
    };
    section.close();
    if console == Console::On && !loopback {
        warnings.push(format!(
            "admin.console: whoever reaches {listen} can see the keys of records, which identify people"
        ));
    }
    Admin { listen, console }
}

fn kafka(
    mut section: Section<'_>,
    ingress: &Ingress,
    check: PropertyCheck,
    warnings: &mut Vec<String>,
) -> Kafka {
    let mistakes_before = section.mistakes();
    let bootstrap_servers = section.get("bootstrap_servers", "localhost:9092", |value| {
        text(value).and_then(|text| {
            let named = text.split(',').all(|server| !server.trim().is_empty());
            if named {
                Ok(text)
            } else {
                Err("is not a list of brokers, expected host:port,host:port".into())
            }
        })
    });
    let confirm_timeout = section.get("confirm_timeout", "10s", duration(ms(500), minutes(15)));
    let least_message_bytes = ingress.max_body_bytes + Kafka::MESSAGE_OVERHEAD_BYTES;
    let allow = |name: &str, value: &str| {
        weakens(name, value, least_message_bytes)?;
        check(name, value).map(|()| value.to_owned())
    };
    let mut properties = section.map("properties", is_secret, allow);
    let from_files = section.map(
        "property_files",
        |_| false,
        |name, path| {
            let content = read_secret(path)?;
            allow(name, &content).map(|_| path.to_owned())
        },
    );
    for (name, path) in from_files {
        properties.extend(read_secret(&path).map(|content| (name, content)));
    }
    let tokens = section.below("oauth").map(|section| oauth(section, warnings));
    if section.mistakes() == mistakes_before {
        sign_in(&mut section, tokens.is_some(), &properties);
    }
    section.close();
    let property = |(name, value): (String, String)| {
        let secret = is_secret(&name);
        (name, Property::new(value, secret))
    };
    let properties = properties.into_iter().map(property).collect();
    Kafka { bootstrap_servers, confirm_timeout, properties, oauth: tokens.flatten() }
}

/// Properties that hold a secret, by what their names have in common.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 6] =
        ["password", "secret", "jaas.config", "key.pem", "oauthbearer.config", "keystore.pem"];
    PARTS.iter().any(|part| name.contains(part))
}

/// Refuses what would weaken the promise (2xx only after `acks=all`), part the deadlines, or void a setting of ours,
/// under every alias that librdkafka has.
fn weakens(name: &str, value: &str, least_message_bytes: usize) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("may not be set: {why}"));
    let only = |allowed: &[&str], why: &str| {
        if allowed.contains(&value) { Ok(()) } else { Err(format!("may only be {:?}: {why}", allowed[0])) }
    };
    match name {
        "acks" | "request.required.acks" => {
            only(&["all", "-1"], "a 2xx means that all in-sync replicas have the event")
        }
        "enable.idempotence" => {
            only(&["true"], "without it the client's own retries would write events twice or out of order")
        }
        "partitioner" => {
            only(&["murmur2_random"], "Java clients would no longer agree on an event's partition")
        }
        "delivery.report.only.error" => {
            only(&["false"], "without delivery reports nothing could be answered")
        }
        "message.timeout.ms" | "delivery.timeout.ms" => refuse("it is kafka.confirm_timeout"),
        "bootstrap.servers" | "metadata.broker.list" => refuse("it is kafka.bootstrap_servers"),
        "transactional.id" => refuse("deliveries are confirmed one by one, not in transactions"),
        "retries" | "message.send.max.retries" if value.trim() == "0" => {
            refuse("without retries a change of leader would refuse deliveries")
        }
        "message.max.bytes" if value.parse().is_ok_and(|bytes: usize| bytes < least_message_bytes) => refuse(
            &format!("bodies up to ingress.max_body_bytes must fit, expected at least {least_message_bytes}"),
        ),
        "enabled_events" | "plugin.library.paths" => {
            refuse("the bridge depends on the client's own callbacks")
        }
        "enable.sasl.oauthbearer.unsecure.jwt" => {
            only(&["false"], "such tokens are nobody's, expected [kafka.oauth] instead")
        }
        _ if name.starts_with("sasl.oauthbearer.") => refuse(
            "the bridge fetches tokens itself, expected [kafka.oauth] with token_endpoint, client_id and client_secret",
        ),
        _ if name.starts_with("test.mock") => {
            refuse("events would go to a broker inside the process and be lost")
        }
        _ => Ok(()),
    }
}

fn topics(mut section: Section<'_>) -> Topics {
    let plain = |_: &str| false;
    let any = |_: &str, value: &str| Ok(value.to_owned());
    let topics = Topics {
        prefix: section.get("prefix", "nexudus.", prefix),
        key: section.get("key", "Id", |value| text(value).and_then(not_empty)),
        create: section.get("create", "true", boolean),
        are_known: false,
        partitions: section.get("partitions", "3", count(10_000)),
        replication_factor: section.get("replication_factor", "-1", count(100)),
        config: section.map("config", plain, any),
        quarantine_config: section.map("quarantine_config", plain, any),
    };
    section.close();
    topics
}

fn prefix(value: &Value) -> Result<String, String> {
    const MOST: usize = 249 - crate::action::MAX_NAME_BYTES; // Kafka's longest topic name
    let text = text(value)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.bytes().all(allowed) && text.len() <= MOST {
        return Ok(text);
    }
    Err(format!("cannot begin a topic's name, expected up to {MOST} letters, digits, '.', '_' or '-'"))
}

fn redelivery(mut section: Section<'_>) -> Redelivery {
    let redelivery = Redelivery {
        ttl: section.get("ttl", "1h", duration(ms(1_000), minutes(24 * 60))),
        max_entries: size(section.get("max_entries", "10000", integer(0, 10_000_000))),
        max_bytes: size(section.get("max_bytes", "8388608", integer(1024, 16 << 30))),
    };
    section.close();
    redelivery
}

fn sources(
    root: &mut Map<String, Value>,
    notes: &mut Notes,
    warnings: &mut Vec<String>,
) -> BTreeMap<Arc<str>, Arc<Source>> {
    let mut tables: Vec<(String, Value)> = reader::tables(root, "sources", notes).into_iter().collect();
    tables.sort_by(|(a, _), (b, _)| a.cmp(b));
    if tables.is_empty() {
        notes.mistake(NO_SOURCE.into());
    }
    let mut sources = BTreeMap::new();
    for (name, value) in tables {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            notes.mistake(format!("sources.{name} is not a source's name, expected up to 64 lower-case letters, digits, '_' or '-'"));
        }
        let path = format!("sources.{name}");
        let mut lone = Map::from_iter([(path.clone(), value)]);
        let source = source(&name, Section::open(&mut lone, &path, notes), warnings);
        sources.insert(Arc::clone(&source.name), Arc::new(source));
    }
    sources
}

fn source(name: &str, mut section: Section<'_>, warnings: &mut Vec<String>) -> Source {
    const POLICIES: &[(&str, SignaturePolicy)] = &[
        ("enforce", SignaturePolicy::Enforce),
        ("warn", SignaturePolicy::Warn),
        ("off", SignaturePolicy::Off),
    ];
    let filled = |text: &str| if text.is_empty() { Err("is empty".to_owned()) } else { Ok(()) };
    let mistakes_before = section.mistakes();
    let mut secrets = section.list("secrets", true, filled);
    let mut files = section.list("secret_files", false, |path| read_secret(path).map(|_| ()));
    secrets.extend(files.iter().filter_map(|path| read_secret(path).ok()));
    let all_read = section.mistakes() == mistakes_before;
    let policy = section.get("signature", "enforce", word(POLICIES));
    let mut url_tokens = section.list("url_tokens", true, filled);
    let token_files = section.list("url_token_files", false, |path| read_secret(path).map(|_| ()));
    url_tokens.extend(token_files.iter().filter_map(|path| read_secret(path).ok()));
    files.extend(token_files);
    let extras = section.list("extra_actions", false, |name| {
        Actions::with_extras([name]).map(|_| ()).map_err(|error| format!("cannot be added: {error}"))
    });
    let actions = Actions::with_extras(&extras).unwrap_or_default();
    let business_id = section.optional("business_id", false, integer(1, i64::MAX));
    let patterns = section
        .has("actions")
        .then(|| section.list("actions", false, |pattern| choice::check(pattern, &actions)));
    if secrets.is_empty() && all_read && policy == SignaturePolicy::Enforce {
        section.mistake(" enforces signatures but has no secret, expected secrets = [\"…\"] or secret_files, or signature = \"warn\" or \"off\"");
    }
    section.close();
    if policy == SignaturePolicy::Off {
        warnings.push(format!(
            "source {name}: signatures are not checked, anybody who knows the URL can publish"
        ));
    }
    if secrets.iter().any(|secret| !secret.is_ascii()) {
        warnings.push(format!(
            "source {name}: a secret has non-ASCII characters; Nexudus replaces each with '?', so it is weaker than it looks"
        ));
    }
    let secrets: Vec<SecretString> = secrets.into_iter().map(SecretString::from).collect();
    Source {
        name: name.into(),
        policy,
        keys: secrets.iter().filter_map(|secret| SigningKey::new(secret.expose_secret()).ok()).collect(),
        url_tokens: url_tokens.into_iter().map(SecretString::from).collect(),
        wanted: choice::chosen(patterns.as_deref().unwrap_or(&["*".to_owned()]), &actions),
        business_id,
        actions,
        files: files.into_iter().map(PathBuf::from).collect(),
    }
}

fn log(mut section: Section<'_>) -> Log {
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        format: section.get("format", "text", word(FORMATS)),
        level: section.get("level", "info", |value| {
            let text = text(value)?;
            match tracing_subscriber::EnvFilter::try_new(&text) {
                Ok(_) if !text.is_empty() => Ok(text),
                _ => Err("is not a log level, expected error, warn, info, debug, trace or directives such as info,nexudus_bridge=debug".into()),
            }
        }),
    };
    section.close();
    log
}

/// A secret's file, without one trailing line break.
pub(super) fn read_secret(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("names the file {path:?}, which cannot be read: {error}"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        Err(format!("names the file {path:?}, which is empty"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn not_empty(text: String) -> Result<String, String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

/// A number of partitions or replicas: positive, or -1 for the cluster's default.
fn count(most: i32) -> impl Fn(&Value) -> Result<i32, String> {
    move |value| {
        let number = integer(-1, most.into())(value)?;
        let number = i32::try_from(number).ok().filter(|&number| number != 0);
        number.ok_or_else(|| {
            "makes no topic, expected a positive number, or -1 for the cluster's default".into()
        })
    }
}

/// Whether an address leads to this machine only.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

pub(super) fn size(number: i64) -> usize {
    usize::try_from(number).expect("the bounds are positive")
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}
