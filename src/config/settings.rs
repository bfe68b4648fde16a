//! The sections of the configuration, read in the order of the documentation.
//!
//! Each function reads one section, with defaults and bounds (`docs/configuration.md` is generated from them), and gives the program's own
//! types. What one key cannot tell alone (a body larger than all that may be in flight) is checked at the section's end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ::config::{Map, Value};
use secrecy::{ExposeSecret, SecretString};

use super::choice;
use super::kafka::{PropertyCheck, kafka};
use super::nexudus::nexudus;
use super::reader::{
    self, Notes, Section, address, boolean, duration, integer, minutes, ms, not_empty, size, text, word,
};
use super::secret_file::{SecretFile, inline_warning};
use super::telemetry::telemetry;
use super::topics::{self, topics};
use super::{Admin, Config, Console, Ingress, Log, LogFormat, Redelivery, SignaturePolicy, Source, Tls};
use crate::action::Actions;
use crate::signature::SigningKey;

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
    let (topics, topics_origin) = topics(Section::open(&mut root, "topics", notes));
    let redelivery = redelivery(Section::open(&mut root, "redelivery", notes));
    let sources = sources(&mut root, notes, &mut warnings);
    for mistake in topics::mistakes(&topics, &sources) {
        notes.mistake(format!("topics{mistake} (from {topics_origin})"));
    }
    warnings.extend(topics::warnings(&topics, &sources));
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
    let [cert, key] =
        ["tls_cert", "tls_key"].map(|key| section.optional(key, false, text).filter(|path| !path.is_empty()));
    match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(Tls { cert: cert.into(), key: key.into() }),
        (None, Some(_)) => {
            section.mistake(".tls_key is set without tls_cert, expected both or neither");
            None
        }
        (Some(_), None) => {
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
            let origin = notes.origin(&format!("sources.{name}"), &value);
            notes.mistake(format!("sources.{name} is not a source's name, expected up to 64 lower-case letters, digits, '_' or '-' (from {origin})"));
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
    let mistakes_before = section.mistakes();
    let mut files = Vec::new();
    let secrets = secrets_in(&mut section, ["secrets", "secret_files"], &mut files, warnings);
    let all_read = section.mistakes() == mistakes_before;
    let policy = section.get("signature", "enforce", word(POLICIES));
    let url_tokens = secrets_in(&mut section, ["url_tokens", "url_token_files"], &mut files, warnings);
    let extras = section.list("extra_actions", false, |name| {
        let added = Actions::with_extras([name]).map(|_| name.to_owned());
        added.map_err(|error| format!("cannot be added: {error}"))
    });
    let actions = Actions::with_extras(&extras).unwrap_or_default();
    let business_id = section.optional("business_id", false, integer(1, i64::MAX));
    let has_patterns = section.has("actions");
    let patterns = section
        .list("actions", false, |pattern| choice::check(pattern, &actions).map(|()| pattern.to_owned()));
    let patterns = if has_patterns { patterns } else { vec!["*".to_owned()] };
    if secrets.is_empty() && all_read && policy == SignaturePolicy::Enforce {
        section.mistake(" enforces signatures but has no secret, expected secrets = [\"…\"] or secret_files, or signature = \"warn\" or \"off\"");
    }
    section.close();
    if policy == SignaturePolicy::Off {
        warnings.push(format!(
            "source {name}: signatures are not checked, anybody who knows the URL can publish"
        ));
    }
    if secrets.iter().any(|secret| !secret.expose_secret().is_ascii()) {
        warnings.push(format!(
            "source {name}: a secret has non-ASCII characters; Nexudus replaces each with '?', so it is weaker than it looks"
        ));
    }
    Source {
        name: name.into(),
        policy,
        keys: secrets.iter().filter_map(|secret| SigningKey::new(secret.expose_secret()).ok()).collect(),
        url_tokens,
        wanted: choice::chosen(&patterns, &actions),
        business_id,
        actions,
        files,
    }
}

/// Secrets that stand in one list or in the files of another, which are added to `files`.
fn secrets_in(
    section: &mut Section<'_>,
    [key, file_key]: [&'static str; 2],
    files: &mut Vec<PathBuf>,
    warnings: &mut Vec<String>,
) -> Vec<SecretString> {
    let inline = section.list(key, true, |text| not_empty(text.to_owned()));
    let from_files = section.list(file_key, false, SecretFile::read);
    for (index, secret) in inline.iter().enumerate() {
        warnings.extend(inline_warning(&section.key(&format!("{key}[{index}]")), secret));
    }
    let mut secrets: Vec<SecretString> = inline.into_iter().map(SecretString::from).collect();
    for file in from_files {
        warnings.extend(file.warning(&section.key(file_key)));
        files.push(file.path);
        secrets.push(file.content);
    }
    secrets
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
