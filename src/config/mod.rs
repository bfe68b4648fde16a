//! The configuration, valid by construction: addresses, durations, keys and sources as the program uses them.
//!
//! [`load`] reads a TOML file and environment variables into a [`Config`]. Its error is the list of *all* mistakes, each with its
//! origin and the expected value. Other modules do not check the values again. Secrets are held as
//! [`SigningKey`](crate::signature::SigningKey)s or [`SecretString`](secrecy::SecretString)s, whose `Debug` is redacted;
//! [`Config::show`] prints the effective settings without them.

mod brokers;
pub mod duration;
mod ingress;
mod kafka;
mod layout;
pub mod load;
mod nexudus;
mod reader;
mod sources;
mod telemetry;
mod topics;

use std::path::{Path, PathBuf};

use ::config::{Map, Value};

use self::reader::{Notes, Section};

pub use self::brokers::{brokers, without_scheme};
pub use self::ingress::{Admin, Console, Ingress, Redelivery, Tls};
pub use self::kafka::{Kafka, OAuth, Property, PropertyCheck};
pub use self::layout::Layout;
pub use self::nexudus::{Credentials, GuardianSettings, NexudusSettings, Pace};
pub use self::reader::secrets::SecretFile;
pub use self::reader::values::redacted;
pub use self::sources::{SignaturePolicy, Source, Sources};
pub use self::telemetry::{Log, LogFormat, OtlpProtocol, Telemetry};
pub use self::topics::{Topic, TopicSettings, Topics};

/// The mistake of a configuration without any source.
pub const NO_SOURCE: &str = "no source is configured, expected [sources.default] with secrets = [\"…\"] in the file, \
                             or NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS='[\"…\"]'";

/// The origin of a default value.
pub const DEFAULT: &str = "default";

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key: `section.key`.
    pub key: String,
    /// The value as TOML; `***` for a secret.
    pub value: String,
    /// The origin of the value: [`DEFAULT`], a file, a variable, the running command, or an argument of the command.
    pub origin: String,
}

/// The settings of the bridge.
#[derive(Debug, Clone)]
pub struct Config {
    /// The path of the configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// `[ingress]`: the listener for deliveries, and the bounds of deliveries.
    pub ingress: Ingress,
    /// `[admin]`: metrics, health and readiness.
    pub admin: Admin,
    /// `[kafka]`: the cluster and the producer.
    pub kafka: Kafka,
    /// `[topics]`: names, keys and creation.
    pub topics: Topics,
    /// `[redelivery]`: the bounds of the redelivery memory.
    pub redelivery: Redelivery,
    /// `[sources.*]`, by name.
    pub sources: Sources,
    /// `[nexudus]`: the API of Nexudus; `None` if the bridge does not use it.
    pub nexudus: Option<NexudusSettings>,
    /// `[log]`.
    pub log: Log,
    /// `[telemetry]`; `None` if traces are disabled.
    pub telemetry: Option<Telemetry>,
    /// Warnings about settings that are valid but probably unintended; logged at start.
    pub warnings: Vec<String>,
    /// Every setting in force, in the order of the documentation. Secrets are redacted.
    pub settings: Vec<Setting>,
    /// The files that secrets were read from.
    pub files: Vec<PathBuf>,
}

/// Reads every section in the order of the documentation. The error is the list of all mistakes.
fn read(tree: Map<String, Value>, file: Option<&Path>, check: PropertyCheck) -> Result<Config, Vec<String>> {
    let mut notes = Notes { file: file.map(|path| path.display().to_string()), ..Notes::default() };
    let mut root = Section::of(Value::new(None, tree), String::new(), &mut notes);
    let ingress = ingress::ingress(root.inner("ingress"));
    let admin = ingress::admin(root.inner("admin"));
    let kafka = kafka::kafka(root.inner("kafka"), &ingress, check);
    let topics = root.inner("topics");
    let topics_origin = topics.origin.clone();
    let topics = topics::topics(topics);
    let redelivery = ingress::redelivery(root.inner("redelivery"));
    let sources = sources::sources(&mut root);
    for mistake in topics::mistakes(&topics, &sources) {
        root.notes.mistakes.push(format!("topics{mistake} (from {topics_origin})"));
    }
    root.notes.warnings.extend(topics::warnings(&topics, &sources));
    let nexudus = root.below("nexudus").and_then(nexudus::nexudus);
    if nexudus.is_some() && sources.values().all(|source| source.business_id.is_none()) {
        root.warn("nexudus: no source has a business_id, so there is no webhook to manage");
    }
    let log = telemetry::log(root.inner("log"));
    let telemetry = telemetry::telemetry(root.inner("telemetry"));
    drop(root); // notes unknown sections
    let Notes { mistakes, warnings, settings, files, .. } = notes;
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Config {
        file: file.map(Path::to_owned),
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
        settings,
        files,
    })
}

impl Config {
    /// Records in the settings that the program has set `key` to `value`, whatever file and environment contain. `by` becomes the
    /// origin of the setting.
    pub fn overrule(&mut self, key: &str, value: String, by: &str) {
        let origin = by.to_owned();
        match self.settings.iter_mut().find(|setting| setting.key == key) {
            Some(setting) => (setting.value, setting.origin) = (value, origin),
            None => self.settings.push(Setting { key: key.to_owned(), value, origin }),
        }
    }

    /// Returns the settings, one per line: `key = value  # origin`, with the origins in one column. Secrets are `***`.
    pub fn show(&self) -> String {
        const WIDEST: usize = 60; // a longer line moves only its own origin to the right
        let line = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
        let widths = self.settings.iter().map(|setting| line(setting).chars().count());
        let width = widths.filter(|&width| width <= WIDEST).max().unwrap_or(0);
        let lines = self.settings.iter();
        lines.map(|setting| format!("{:width$}  # {}\n", line(setting), setting.origin)).collect()
    }
}

impl Setting {
    /// Returns the name of the librdkafka property that the setting sets; `None` for other settings.
    pub fn property(&self) -> Option<&str> {
        let sections = ["kafka.properties.", "kafka.property_files."];
        let name = sections.iter().find_map(|section| self.key.strip_prefix(section))?;
        Some(name.trim_matches('"'))
    }
}

#[cfg(test)]
mod tests;
