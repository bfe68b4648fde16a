//! The configuration, valid by construction: addresses, durations, keys and sources as the program uses them.
//!
//! [`load`] reads a TOML file and environment variables into a [`Config`] or into the list of *all* mistakes, each with
//! the place it came from and what would be right. Nothing here is checked again later. Secrets are held as
//! [`SigningKey`](crate::signature::SigningKey)s or [`SecretString`]s, whose `Debug` is redacted; [`show`] prints the effective settings without them.

mod address;
mod brokers;
mod choice;
pub mod duration;
mod kafka;
mod layout;
pub mod load;
mod nexudus;
mod oauth;
mod pattern;
mod reader;
mod secret_file;
mod setting;
mod settings;
pub mod show;
mod source;
mod telemetry;
mod topics;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use self::address::redacted;
pub use self::brokers::{brokers, without_scheme};
pub use self::kafka::PropertyCheck;
pub use self::layout::Layout;
pub use self::nexudus::{Credentials, GuardianSettings, NexudusSettings, Pace};
pub use self::oauth::OAuth;
pub use self::secret_file::SecretFile;
pub use self::setting::{Origin, Setting};
pub use self::settings::NO_SOURCE;
pub use self::source::{SignaturePolicy, Source};
pub use self::telemetry::{OtlpProtocol, Telemetry};
pub use self::topics::{Topic, TopicSettings, Topics};

/// Everything that the bridge needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[ingress]`: where Nexudus posts to, and its bounds.
    pub ingress: Ingress,
    /// `[admin]`: metrics, health and readiness.
    pub admin: Admin,
    /// `[kafka]`: the cluster and the producer.
    pub kafka: Kafka,
    /// `[topics]`: names, keys and creation.
    pub topics: Topics,
    /// `[redelivery]`: what is remembered of deliveries that were not answered.
    pub redelivery: Redelivery,
    /// `[sources.*]`, by name.
    pub sources: BTreeMap<Arc<str>, Arc<Source>>,
    /// `[nexudus]`: the API of Nexudus, where the bridge is to look after its webhooks.
    pub nexudus: Option<NexudusSettings>,
    /// `[log]`.
    pub log: Log,
    /// `[telemetry]`, where traces are made.
    pub telemetry: Option<Telemetry>,
    /// What is allowed and yet worth a word at start.
    pub warnings: Vec<String>,
    /// Every setting in force, in the order of the documentation; secrets redacted.
    pub settings: Vec<Setting>,
}

/// `[ingress]`.
#[derive(Debug, Clone)]
pub struct Ingress {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The largest body that is read, in bytes; topics that the bridge creates allow for it.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How many deliveries may be in flight, from arrival to delivery report.
    pub max_in_flight: usize,
    /// How many bytes of their bodies.
    pub max_in_flight_bytes: usize,
    /// How long, once told to stop, the bridge is not ready and yet accepting.
    pub shutdown_delay: Duration,
    /// How long it then waits for the confirmation of what is in flight.
    pub shutdown_grace: Duration,
    /// Where the certificate is; without one the listener speaks plain HTTP.
    pub tls: Option<Tls>,
}

/// `ingress.tls_cert` and `ingress.tls_key`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Whether there is a console page, which shows keys.
    pub console: Console,
}

/// `admin.console`: a page for people on the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// There is none.
    Off,
    /// Nobody asked for it; there is one, as only this machine reaches the listener. A name that others could make lead
    /// here is not answered.
    OnLoopback,
    /// Somebody asked for it.
    On,
}

/// `[kafka]`.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// The brokers to ask first: `host:port,…`.
    pub bootstrap_servers: String,
    /// How long a confirmation may take, from the body's last byte.
    pub confirm_timeout: Duration,
    /// librdkafka properties as the user gave them, checked and free of what would weaken the promise.
    pub properties: BTreeMap<String, Property>,
    /// `[kafka.oauth]`: clients sign in with tokens of a token server.
    pub oauth: Option<OAuth>,
    /// The files that properties were read from.
    pub files: Vec<PathBuf>,
}

/// The value of a librdkafka property; its `Debug` is redacted where the property holds a secret.
#[derive(Clone)]
pub struct Property {
    value: SecretString,
    secret: bool,
}

/// `[redelivery]`: the bounds of the memory of deliveries that were confirmed without being answered.
#[derive(Debug, Clone)]
pub struct Redelivery {
    /// How long one is remembered after its confirmation.
    pub ttl: Duration,
    /// How many are; 0 switches the memory off.
    pub max_entries: usize,
    /// How many bytes they may use together.
    pub max_bytes: usize,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// What is written: a level, or directives as in `info,nexudus_bridge=debug`.
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Notes that the program itself decides on a setting, instead of file and environment.
    pub fn overrule(&mut self, key: &str, value: String, by: &'static str) {
        let origin = Origin::Program(by);
        match self.settings.iter_mut().find(|setting| setting.key == key) {
            Some(setting) => (setting.value, setting.origin) = (value, origin),
            None => self.settings.push(Setting { key: key.to_owned(), value, origin }),
        }
    }
}

impl Kafka {
    /// What Kafka's framing and our headers may add to a body: its messages and requests are allowed to be this much larger.
    pub const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;
}

impl Property {
    /// A property's value; `secret` keeps it out of everything that is printed.
    pub fn new(value: String, secret: bool) -> Self {
        Self { value: value.into(), secret }
    }

    /// The value itself, for librdkafka only.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    /// The value as it may be shown.
    pub fn shown(&self) -> &str {
        if self.secret { "***" } else { self.expose() }
    }
}

/// Whether a client would see no difference.
impl PartialEq for Property {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

#[cfg(test)]
mod tests;
