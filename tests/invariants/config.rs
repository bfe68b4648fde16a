//! Invariants of the configuration: no file or variable causes a panic, each mistake names its setting, no secret is ever shown.

use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use nexudus_bridge::config::NO_SOURCE;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::kafka::topics::wanted;

use crate::topic::is_valid_name;

/// The value of every secret. It repeats a part three times, so that half a secret is recognised, too.
const SECRET: &str = "hush-hush-hush";
const PART: &str = "hush";

const SECTIONS: [&str; 9] =
    ["ingress", "admin", "kafka", "topics", "redelivery", "sources", "nexudus", "log", "telemetry"];

/// A configuration file with small mistakes, and variables.
#[derive(Debug, Arbitrary)]
pub(crate) struct Written {
    settings: Vec<(Key, Value)>,
    more: String,
    mistakes: Vec<SmallMistake>,
    variables: Vec<(Name, Value)>,
}

/// A setting: its index in one of the lists below.
#[derive(Debug, Arbitrary)]
enum Key {
    /// A setting whose value is not a secret.
    Plain(u8),
    /// A setting that holds a secret, or that a user could regard as secret.
    Secret(u8),
    /// A setting that does not exist.
    Any(String),
}

#[derive(Debug, Arbitrary)]
enum Name {
    Of(Key),
    Any(String),
}

#[derive(Debug, Arbitrary)]
enum Value {
    /// A value that the setting accepts.
    Right,
    Text(String),
    Number(i64),
    Fraction(f64),
    Boolean(bool),
    List(Vec<String>),
    Table(String),
    Nested,
}

/// A small mistake. A file with up to two of them is nearly right.
#[derive(Debug, Arbitrary)]
enum SmallMistake {
    Cut(u16),
    Double(u16),
    Broken(u16, u8),
    Ended(u16),
}

#[rustfmt::skip]
const PLAIN: [(&str, &str); 53] = [
    ("ingress.listen", "127.0.0.1:0"), ("ingress.max_body_bytes", "2048"), ("ingress.body_timeout", "1s"),
    ("ingress.max_in_flight", "10"), ("ingress.max_in_flight_bytes", "4096"), ("ingress.shutdown_delay", "1s"),
    ("ingress.shutdown_grace", "1s"), ("ingress.tls_cert", "c.pem"), ("ingress.tls_key", "k.pem"), ("ingress", "x"),
    ("admin.listen", "localhost:1"), ("kafka.bootstrap_servers", "a:1,b:2"), ("kafka.confirm_timeout", "2s"),
    ("kafka.properties.\"linger.ms\"", "5"), ("kafka.properties.acks", "all"), ("kafka.properties.\"a b\"", "1"),
    ("kafka.properties.\"message.max.bytes\"", "999999999"), ("kafka.properties.\"security.protocol\"", "SASL_SSL"),
    ("kafka.properties.\"sasl.mechanisms\"", "OAUTHBEARER"), ("kafka.properties", "x"),
    ("kafka.property_files.\"ssl.key.pem\"", "/dev/null"), ("kafka.oauth.client_id", "b"), ("kafka.oauth.scope", "s"),
    ("kafka.oauth.token_endpoint", "https://idp/token"), ("kafka.oauth.client_secret_file", "/dev/null"),
    ("topics.prefix", "n."), ("topics.key", "Id"), ("topics.create", "false"), ("topics.partitions", "3"),
    ("topics.replication_factor", "3"), ("topics.config.\"retention.ms\"", "1"), ("redelivery.ttl", "1m"),
    ("redelivery.max_entries", "1"), ("log.level", "info"), ("log.format", "json"), ("sources.\"a b\"", "x"),
    ("\"topics[99999999999]\"", "x"), ("sources.default.signature", "warn"), ("sources.default.extra_actions", "[\"Extra\"]"),
    ("sources.default.business_id", "7"), ("sources.default.actions", "[\"Booking*\", \"!6\"]"),
    ("nexudus.base_url", "https://n/api"), ("nexudus.public_url", "https://h"), ("nexudus.username", "u"), ("nexudus", "x"),
    ("nexudus.token_file", "/dev/null"), ("nexudus.auth", "basic"), ("nexudus.writes_per_minute", "6"),
    ("nexudus.guardian.interval", "0s"), ("nexudus.guardian", "x"), ("telemetry.otlp_endpoint", "http://c:4317"),
    ("telemetry.otlp_protocol", "grpc"), ("telemetry.sample_ratio", "0.5"),
];

#[rustfmt::skip]
const SECRETS: [(&str, &str); 20] = [
    ("sources.default.secrets", "[\"hush-hush-hush\"]"), ("sources.default.url_tokens", "[\"hush-hush-hush\"]"),
    ("sources.default.secret", "hush-hush-hush"), ("sources.default.token", "hush-hush-hush"),
    ("sources.north.secrets", "[\"hush-hush-hush\", \"\"]"), ("sources.north", "hush-hush-hush"), ("sources", "hush-hush-hush"),
    ("kafka.properties.\"sasl.password\"", "hush-hush-hush"), ("kafka.properties.\"ssl.key.password\"", "hush-hush-hush"),
    ("kafka.properties.\"ssl.key.pem\"", "hush-hush-hush"), ("kafka.properties.\"sasl.passwort\"", "hush-hush-hush"),
    ("kafka.properties.\"sasl.oauthbearer.client.secret\"", "hush-hush-hush"), ("kafka.password", "hush-hush-hush"),
    ("kafka.oauth.client_secret", "hush-hush-hush"), ("kafka.oauth.secret", "hush-hush-hush"),
    ("secrets", "[\"hush-hush-hush\"]"), ("nexudus.password", "hush-hush-hush"), ("nexudus.token", "hush-hush-hush"),
    ("nexudus.totp_secret", "hush-hush-hush"), ("nexudus.secret", "hush-hush-hush"),
];

/// Loads the configuration and checks everything that can be printed.
pub(crate) fn loading_names_each_mistake_and_shows_no_secret(written: &Written) {
    static FILE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        (folder, file)
    });
    let file = &FILE.1;
    std::fs::write(file, written.text()).expect("written");
    let environment: Environment = written.variables.iter().map(variable).collect();
    match load(Some(file), &environment, check_property) {
        Ok(config) => {
            assert_is_kept(&format!("{}{config:?}", config.show()));
            for topic in wanted(&config) {
                assert!(is_valid_name(&topic.name), "{}", topic.name);
            }
            for setting in &config.settings {
                assert!(names_a_setting(&setting.key), "{setting:?}");
            }
        }
        Err(mistakes) => {
            assert_is_kept(&format!("{mistakes}{mistakes:?}"));
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                let syntax = mistake.contains(&file.display().to_string());
                assert!(mistake == NO_SOURCE || syntax || names_a_setting(mistake), "{mistake}");
            }
        }
    }
}

fn assert_is_kept(printed: &str) {
    assert!(!printed.contains(PART), "a secret is shown: {printed}");
}

/// Returns whether a message begins with a setting, or with an unknown section.
fn names_a_setting(text: &str) -> bool {
    let section = text.split(['.', ' ', '[']).next().unwrap_or_default();
    SECTIONS.contains(&section) || text.contains(" is not a section")
}

impl Written {
    fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.settings {
            let (name, right) = key.parts();
            text.push_str(&format!("{name} = {}\n", value.toml(key, right)));
        }
        text.push_str(&self.more.replace(PART, ""));
        for mistake in self.mistakes.iter().take(2) {
            mistake.apply(&mut text);
        }
        text
    }
}

fn variable((name, value): &(Name, Value)) -> (String, String) {
    let (name, value) = match name {
        Name::Of(key) => {
            let (name, right) = key.parts();
            (name.replace('.', "__").replace('"', "").to_uppercase(), value.environment(key, right))
        }
        Name::Any(name) => (name.replace(PART, ""), value.environment(&Key::Plain(0), "x")),
    };
    (format!("NEXUDUS_BRIDGE__{name}"), value)
}

impl Key {
    /// Returns the name of the setting, and a value that it accepts.
    fn parts(&self) -> (String, &'static str) {
        let (name, value) = match self {
            Self::Plain(place) => PLAIN[usize::from(*place) % PLAIN.len()],
            Self::Secret(place) => SECRETS[usize::from(*place) % SECRETS.len()],
            Self::Any(name) => return (quoted(&name.replace(PART, "")), "x"),
        };
        (name.to_owned(), value)
    }

    /// Returns `text`; for a secret setting always the secret.
    fn text(&self, text: &str) -> String {
        match self {
            Self::Secret(_) => SECRET.to_owned(),
            _ => text.replace(PART, ""),
        }
    }
}

impl Value {
    fn toml(&self, key: &Key, right: &str) -> String {
        match self {
            Self::Right if right.starts_with('[') || right.parse::<i64>().is_ok() => right.to_owned(),
            Self::Right => quoted(right),
            Self::Text(text) => quoted(&key.text(text)),
            Self::Number(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| quoted(&key.text(item))).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table(name) => {
                format!("{{ {} = {} }}", quoted(&name.replace(PART, "")), quoted(&key.text("x")))
            }
            Self::Nested => format!("[[{}]]", quoted(&key.text("x"))),
        }
    }

    fn environment(&self, key: &Key, right: &str) -> String {
        match self {
            Self::Right => right.to_owned(),
            Self::Text(text) => key.text(text),
            other => other.toml(key, right),
        }
    }
}

impl SmallMistake {
    /// Changes the text at one position. No change turns a secret into the name of a setting.
    fn apply(&self, text: &mut String) {
        let (Self::Cut(at) | Self::Double(at) | Self::Broken(at, _) | Self::Ended(at)) = self;
        let at = text.floor_char_boundary(usize::from(*at) % (text.len() + 1));
        let Some(there) = text[at..].chars().next() else { return };
        match self {
            Self::Cut(_) => drop(text.remove(at)),
            Self::Double(_) => text.insert(at, there),
            Self::Broken(_, with) => text.insert(at, char::from(b"\"\n[]{}\\,\0"[usize::from(*with) % 9])),
            Self::Ended(_) => text.truncate(at),
        }
    }
}

/// Returns a text in the form of TOML, for which JSON's escapes are valid.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text can be written")
}

#[cfg(test)]
mod properties {
    use arbitrary::Unstructured;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn of_any_file_and_variables(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let written = Unstructured::new(&bytes).arbitrary::<Written>().expect("made of any bytes");
            loading_names_each_mistake_and_shows_no_secret(&written);
        }
    }
}
