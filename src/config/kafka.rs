//! `[kafka]`: the cluster, the properties of librdkafka that a user may set, and the token server.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::brokers::{brokers, other_scheme};
use super::ingress::Ingress;
use super::reader::Section;
use super::reader::secrets::SecretFile;
use super::reader::values::{duration, http_url, non_empty_text, redacted, text};

/// `[kafka]`.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// The brokers for the first connection: `host:port,…`.
    pub bootstrap_servers: String,
    /// Time-out of the confirmation, from the last byte of the body.
    pub confirm_timeout: Duration,
    /// librdkafka properties as the user set them. They are checked, and none weakens the guarantee of a 2xx.
    pub properties: BTreeMap<String, Property>,
    /// `[kafka.oauth]`: clients sign in with tokens of a token server.
    pub oauth: Option<OAuth>,
}

/// The value of a librdkafka property. It may be a secret, so its `Debug` is redacted.
#[derive(Debug, Clone)]
pub struct Property(SecretString);

impl Kafka {
    /// Maximum number of bytes that Kafka's framing and the bridge's headers add to a body. Messages and requests may be larger
    /// than bodies by this number.
    pub const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;
}

impl Property {
    /// Makes a property.
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// Returns the value, which may be a secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Properties are equal if a Kafka client cannot distinguish them.
impl PartialEq for Property {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// `[kafka.oauth]`: tokens by client credentials (RFC 6749, section 4.4).
#[derive(Clone)]
pub struct OAuth {
    /// URL of the token server: http or https, without user, password or fragment.
    pub token_endpoint: Url,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
    /// The requested scopes, separated by spaces; `None` for the default of the token server.
    pub scope: Option<String>,
}

/// Prints the endpoint without its query, which can hold a key.
impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("token_endpoint", &redacted(self.token_endpoint.as_str()))
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Checks that librdkafka accepts a property and its value. The error is the reason. A function pointer, because only the
/// module `kafka` uses librdkafka.
pub type PropertyCheck = fn(&str, &str) -> Result<(), String>;

pub(super) fn kafka(mut section: Section<'_>, ingress: &Ingress, check: PropertyCheck) -> Kafka {
    let mistakes_before = section.mistakes();
    let bootstrap_servers =
        section.get("bootstrap_servers", "localhost:9092", |value| brokers(&text(value)?));
    let confirm_timeout = section.get("confirm_timeout", "10s", duration("500ms", "15m"));
    let properties = properties(&mut section, ingress.max_body_bytes + Kafka::MESSAGE_OVERHEAD_BYTES, check);
    let tokens = section.below("oauth").map(oauth);
    if section.mistakes() == mistakes_before {
        sign_in(&mut section, tokens.is_some(), &properties);
        let protocol = properties.get("security.protocol").map_or("plaintext", Property::expose);
        if let Some(scheme) = other_scheme(&bootstrap_servers, protocol) {
            section.mistake(format!(
                ".bootstrap_servers has an address with {scheme}://, but \"security.protocol\" is {protocol:?}, so librdkafka would drop that address, expected the same protocol or no scheme"
            ));
        }
    }
    Kafka { bootstrap_servers, confirm_timeout, properties, oauth: tokens.flatten() }
}

/// Reads `properties`, and `property_files`, which take precedence.
fn properties(
    section: &mut Section<'_>,
    least_message_bytes: usize,
    check: PropertyCheck,
) -> BTreeMap<String, Property> {
    let allowed = |name: &str, value: &str| {
        weakens(name, value, least_message_bytes)?;
        check(name, value).map(|()| Property::new(value.to_owned()))
    };
    let mut properties = section.map("properties", is_secret, allowed);
    for (name, value) in properties.iter().filter(|(name, _)| is_secret(name)) {
        section.inline_secret(&format!("properties.{name:?}"), value.expose().to_owned());
    }
    let readable = |name: &str, path: &str| {
        let file = SecretFile::read(path)?;
        allowed(name, file.content.expose_secret()).map(|_| file)
    };
    for (name, file) in section.map("property_files", |_| false, readable) {
        let content = section.file_secret(&format!("property_files.{name:?}"), file);
        properties.insert(name, Property(content));
    }
    properties
}

/// Reads `[kafka.oauth]`; `None` if a required value is absent or wrong.
fn oauth(mut section: Section<'_>) -> Option<OAuth> {
    let mistakes_before = section.mistakes();
    let wrong = "is not the address of a token server, expected https://host/path";
    let misplaced = "may hold neither a user nor a fragment, expected client_id and client_secret";
    let token_endpoint = section.optional("token_endpoint", http_url(true, wrong, misplaced));
    let client_id = section.optional("client_id", non_empty_text);
    let client_secret = section.secret("client_secret", Ok);
    let scope = section.optional("scope", non_empty_text);
    if section.mistakes() == mistakes_before {
        for (absent, expected) in [
            (token_endpoint.is_none(), "token_endpoint = \"https://…\""),
            (client_id.is_none(), "client_id = \"…\""),
            (client_secret.is_none(), "client_secret_file = \"…\" or client_secret"),
        ] {
            if absent {
                section.mistake(format!(" is not complete, expected {expected} too"));
            }
        }
    }
    if let Some(url) = &token_endpoint {
        section.warn_if_unencrypted("token_endpoint", url, "the secret and the tokens travel");
    }
    Some(OAuth {
        token_endpoint: token_endpoint?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
    })
}

/// Notes combinations of settings with which no client can sign in.
fn sign_in(section: &mut Section<'_>, oauth: bool, properties: &BTreeMap<String, Property>) {
    const BEARER: &str = "OAUTHBEARER";
    for name in ["sasl.mechanism", "sasl.mechanisms"] {
        let Some(mechanism) = properties.get(name).map(Property::expose) else { continue };
        if !oauth && mechanism.eq_ignore_ascii_case(BEARER) {
            section.mistake(format!(
                ".properties.{name:?} is {BEARER:?}, but there are no tokens, expected [kafka.oauth] with token_endpoint, client_id and client_secret"
            ));
        }
        if oauth && mechanism != BEARER {
            section.mistake(format!(
                ".properties.{name:?} is {mechanism:?}, but tokens are for {BEARER:?} only, expected that, or no [kafka.oauth]"
            ));
        }
    }
    let protocol = properties.get("security.protocol").map_or("plaintext", Property::expose);
    if oauth && !protocol.to_ascii_lowercase().starts_with("sasl_") {
        section.mistake(format!(
            ".properties.\"security.protocol\" is {protocol:?}, so the tokens of [kafka.oauth] would never be used, expected \"SASL_SSL\""
        ));
    }
}

/// Returns whether the name of a property shows that its value is a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 6] =
        ["password", "secret", "jaas.config", "key.pem", "oauthbearer.config", "keystore.pem"];
    PARTS.iter().any(|part| name.contains(part))
}

/// Refuses a property that weakens the guarantee (2xx only after `acks=all`), or that contradicts a setting of the bridge.
/// Covers every alias that librdkafka has.
fn weakens(name: &str, value: &str, least_message_bytes: usize) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("may not be set: {why}"));
    let only = |allowed: &[&str], why: &str| match allowed.contains(&value) {
        true => Ok(()),
        false => Err(format!("= {value:?} may only be {:?}: {why}", allowed[0])),
    };
    match name {
        "acks" | "request.required.acks" => {
            only(&["all", "-1"], "a 2xx means that all in-sync replicas have the event")
        }
        "enable.idempotence" => {
            only(&["true"], "without it the client's own retries would write events twice or out of order")
        }
        "partitioner" => {
            only(&["murmur2_random"], "Java clients would choose another partition for the same key")
        }
        "delivery.report.only.error" => {
            only(&["false"], "the bridge answers a delivery after its delivery reports")
        }
        "message.timeout.ms" | "delivery.timeout.ms" => refuse("set kafka.confirm_timeout instead"),
        "bootstrap.servers" | "metadata.broker.list" => refuse("set kafka.bootstrap_servers instead"),
        "transactional.id" => refuse("deliveries are confirmed one by one, not in transactions"),
        "retries" | "message.send.max.retries" if plain_number(value)? == 0 => Err(format!(
            "= {value:?} may not be set: without retries a change of leader would refuse deliveries"
        )),
        "message.max.bytes" if plain_number(value)? < least_message_bytes as u64 => Err(format!(
            "= {value:?} is too small: bodies up to ingress.max_body_bytes must fit, expected at least {least_message_bytes}"
        )),
        "enabled_events" | "plugin.library.paths" => {
            refuse("the bridge depends on the client's own callbacks")
        }
        "enable.sasl.oauthbearer.unsecure.jwt" => {
            only(&["false"], "an unsecured token proves no identity, expected [kafka.oauth] instead")
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

/// Reads a plain decimal number. librdkafka also accepts `0x1000`, `007`, ` 5` and `5x`, but would read other values.
fn plain_number(value: &str) -> Result<u64, String> {
    let is_plain =
        value.bytes().all(|byte| byte.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
    let number = value.parse().ok().filter(|_| is_plain);
    number.ok_or_else(|| format!("= {value:?} is not a plain number, expected digits only, such as 5000000"))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{MINIMAL, from_file, mistakes};

    fn with(bootstrap: &str, protocol: &str) -> String {
        let bootstrap = format!("[kafka]\nbootstrap_servers = {bootstrap:?}\n");
        format!("{MINIMAL}{bootstrap}[kafka.properties]\n\"security.protocol\" = {protocol:?}\n")
    }

    #[test]
    fn addresses_of_brokers_are_checked_and_kept_without_spaces() {
        let config = from_file(&with("a:1, [::1]:2 ,ssl://c", "SSL"), &[]).unwrap();
        assert_eq!(config.kafka.bootstrap_servers, "a:1,[::1]:2,ssl://c");
        for wrong in [
            "\"kafka:9092\"",
            "kafka://h:9092",
            "http://h:9092",
            "h:9092;i:9092",
            "h:0",
            "h:99999",
            "h:1,,i:1",
        ] {
            let found = mistakes(&with(wrong, "plaintext"), &[]);
            let expected = format!("kafka.bootstrap_servers = {wrong:?} ");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
            assert!(found[0].contains("expected host:port,host:port"), "{found:?}");
        }
        let found = mistakes(&with("h:1,ssl://i:1", "plaintext"), &[]);
        assert!(found.len() == 1 && found[0].contains("an address with SSL://"), "{found:?}");
    }

    #[test]
    fn numbers_that_the_bridge_depends_on_must_be_plain_decimals() {
        let set = |name: &str, value: &str| format!("{MINIMAL}[kafka.properties]\n{name:?} = {value:?}\n");
        for name in ["message.max.bytes", "retries", "message.send.max.retries"] {
            for value in ["0x7fffffff", " 5000000", "+5000000", "05000000", "00", "5e6", "5000000 ", "", "-1"]
            {
                let found = mistakes(&set(name, value), &[]);
                let expected = format!("kafka.properties.{name:?} = {value:?} is not a plain number");
                assert!(found.len() == 1 && found[0].starts_with(&expected), "{name} {value:?}: {found:?}");
            }
            from_file(&set(name, "5000000"), &[]).unwrap();
        }
    }
}
