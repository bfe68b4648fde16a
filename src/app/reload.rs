//! Reload: replaces the certificate, sources with their secrets and tokens, `[nexudus]`, `[kafka.oauth]` and the password for
//! Kafka, while deliveries continue.
//!
//! SIGHUP causes a reload, and so does a changed file of a secret. The whole configuration is read and checked as at start. With
//! any mistake nothing changes, the log names the mistakes, and the reload is tried again until it succeeds. The log also names
//! changed settings that need a restart.
//!
//! The certificate is renewed separately, so that it does not expire while the configuration has a mistake.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{App, TOKENS};
use crate::config::load::Mistakes;
use crate::config::{Config, OAuth, Property, Setting};
use crate::delivery::Bridge;
use crate::http::tls::Certificate;
use crate::kafka::preparation::Preparation;
use crate::kafka::producer::Producer;
use crate::metrics::Metrics;
use crate::vital::{Part, Vital};
use crate::webhooks::guardian::Guardian;

/// Interval at which the files of secrets and the certificate are read, and a failed reload is tried again.
const INTERVAL: Duration = Duration::from_secs(10);

/// The properties that a running client takes over: user name and password of PLAIN and SCRAM.
const PASSWORD: [&str; 2] = ["sasl.username", "sasl.password"];

/// Takes over new configurations for a running bridge. It holds weak references only, so that the end of a run destroys the Kafka
/// client.
pub struct Reloader {
    bridge: Weak<Bridge>,
    producer: Weak<Producer>,
    metrics: Arc<Metrics>,
    topics: Weak<Preparation>,
    guardian: Arc<Guardian>,
    certificate: Option<Arc<Certificate>>,
    /// The reason why the certificate in its files is not in force.
    certificate_mistake: Option<String>,
    /// The settings in force.
    config: Config,
    /// The settings that were read last, in force or not.
    latest: Config,
    files: Hashes,
    /// The mistakes of the configuration that was read last; empty if it is in force.
    mistakes: Vec<String>,
    vital: Vital,
    _part: Part,
}

/// The content of files, as a hash; `None` for a file that cannot be read.
type Hashes = BTreeMap<PathBuf, Option<u64>>;

impl Reloader {
    /// Makes a reloader of a bridge.
    pub fn new(app: &App) -> Self {
        Self {
            bridge: Arc::downgrade(&app.bridge),
            producer: Arc::downgrade(&app.producer),
            metrics: Arc::clone(&app.state.metrics),
            topics: Arc::downgrade(&app.topics),
            guardian: Arc::clone(&app.guardian),
            certificate: app.certificate.clone(),
            certificate_mistake: None,
            files: hashes(&app.config),
            config: app.config.clone(),
            latest: app.config.clone(),
            mistakes: Vec::new(),
            vital: app.state.vital.clone(),
            _part: app.state.vital.part("the reload"),
        }
    }

    /// Renews the certificate, and takes over the result of `load` when `requested` completes or a file has changed. Never ends.
    pub async fn run(
        mut self,
        load: impl Fn() -> Result<Config, Mistakes> + Send + Sync + 'static,
        mut requested: impl AsyncFnMut(),
    ) {
        let load = Arc::new(load);
        loop {
            let requested = tokio::select! {
                () = requested() => true,
                () = tokio::time::sleep(INTERVAL) => false,
            };
            self.renew_certificate(requested).await;
            // Reading files and librdkafka's checks of properties block. The hashes are taken before the configuration is read: a
            // change in between causes another reload.
            let config = self.config.clone();
            let Ok(files) = tokio::task::spawn_blocking(move || hashes(&config)).await else { continue };
            let reason = match requested {
                true => Some("it was requested"),
                false if files != self.files => Some("the file of a secret has changed"),
                false if !self.mistakes.is_empty() => None, // another attempt
                false => continue,
            };
            if let Some(reason) = reason {
                tracing::info!(reason, "reloading sources and secrets");
            }
            let load = Arc::clone(&load);
            match tokio::task::spawn_blocking(move || load()).await {
                Ok(loaded) => self.apply(loaded, files, reason.is_some()),
                Err(error) => tracing::error!(%error, "the configuration could not be read"),
            }
        }
    }

    /// Reads the certificate's files. A failure is logged once, and again after each requested reload.
    async fn renew_certificate(&mut self, requested: bool) {
        let Some(certificate) = self.certificate.clone() else { return };
        let Ok((renewed, warning)) =
            tokio::task::spawn_blocking(move || (certificate.renew(), certificate.warning())).await
        else {
            return;
        };
        match renewed {
            Ok(is_new) => {
                if is_new {
                    self.metrics.reloaded(true);
                    tracing::info!("a new certificate was taken over");
                    warning.into_iter().for_each(|warning| tracing::warn!("{warning}"));
                } else if self.certificate_mistake.is_some() {
                    tracing::info!("the files of the certificate have their former content again");
                }
                self.certificate_mistake = None;
            }
            Err(error) => {
                self.metrics.reloaded(false);
                if requested || self.certificate_mistake.as_ref() != Some(&error) {
                    tracing::error!(%error, "not reloaded: the former certificate stays in force");
                }
                self.certificate_mistake = Some(error);
            }
        }
    }

    /// Applies a loaded configuration, or keeps the former one. `read` is the content of the files before the configuration was
    /// loaded. `is_new` is false for another attempt after a failed reload.
    fn apply(&mut self, loaded: Result<Config, Mistakes>, read: Hashes, is_new: bool) {
        let alive = (self.bridge.upgrade(), self.producer.upgrade(), self.topics.upgrade());
        let (Some(bridge), Some(producer), Some(topics)) = alive else { return };
        topics.look_again();
        self.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok(config) => {
                self.mistakes.clear();
                self.adopt(config, &bridge, &producer, &topics);
            }
            Err(Mistakes(mistakes)) => {
                if is_new || mistakes != self.mistakes {
                    for mistake in &mistakes {
                        tracing::error!(error = %mistake, "not reloaded");
                    }
                }
                self.mistakes = mistakes;
            }
        }
        self.files = hashes(&self.config);
        for (path, hash) in read {
            self.files.entry(path).and_modify(|known| *known = hash);
        }
    }

    fn adopt(&mut self, new: Config, bridge: &Bridge, producer: &Arc<Producer>, topics: &Preparation) {
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        let former = std::mem::replace(&mut self.latest, new.clone());
        let takes_tokens = self.sign_in(new.kafka.oauth, producer);
        let takes_password = self.take_password(&new.kafka.properties, producer);
        let is_taken = |setting: &Setting| {
            let key = &setting.key;
            key.starts_with("sources.")
                || key.starts_with("nexudus.")
                || takes_tokens && key.starts_with("kafka.oauth.")
                || takes_password && setting.property().is_some_and(|name| PASSWORD.contains(&name))
        };
        log_ignored_changes(&former, &self.latest, is_taken);
        bridge.adopt(&new.sources);
        self.config.sources = new.sources;
        self.config.nexudus = new.nexudus;
        self.config.files = new.files;
        self.guardian.adopt(&self.config);
        topics.adopt(&self.config);
        tracing::info!(sources = self.config.sources.len(), "sources and secrets were taken over");
    }

    /// Fetches the next tokens with new credentials. Returns whether these are in force. A reload can neither add nor remove
    /// `[kafka.oauth]`.
    fn sign_in(&mut self, oauth: Option<OAuth>, producer: &Arc<Producer>) -> bool {
        let (Some(oauth), Some(used)) = (oauth, &mut self.config.kafka.oauth) else { return false };
        match producer.sign_in(&oauth, Some(self.vital.part(TOKENS))) {
            Ok(()) => *used = oauth,
            Err(error) => {
                tracing::error!(%error, "not reloaded: [kafka.oauth] cannot be used");
                return false;
            }
        }
        true
    }

    /// Signs in to Kafka with another name and password, for new connections. Returns whether these are in force.
    fn take_password(&mut self, new: &BTreeMap<String, Property>, producer: &Producer) -> bool {
        let used = &mut self.config.kafka.properties;
        let mechanism = ["sasl.mechanism", "sasl.mechanisms"].iter().find_map(|name| used.get(*name));
        let mechanism = mechanism.map_or("", Property::expose);
        let has_password = mechanism.starts_with("SCRAM-") || mechanism == "PLAIN";
        let [Some(_), Some(_)] = PASSWORD.map(|name| used.get(name)) else { return false };
        let [Some(name), Some(password)] = PASSWORD.map(|name| new.get(name)) else { return false };
        if !has_password || PASSWORD.iter().all(|name| used.get(*name) == new.get(*name)) {
            return has_password;
        }
        if let Err(error) = producer.set_password(name.expose(), password.expose()) {
            tracing::error!(error, "not reloaded: the password for Kafka cannot be used");
            return false;
        }
        tracing::info!("new connections to Kafka sign in with the new password");
        used.extend(
            PASSWORD.into_iter().zip([name, password]).map(|(name, new)| (name.to_owned(), new.clone())),
        );
        true
    }
}

/// Logs the settings that have changed since the last reload and that are not taken over. Settings show `***` for a secret, so
/// properties of librdkafka are compared by their values.
fn log_ignored_changes(former: &Config, new: &Config, is_taken: impl Fn(&Setting) -> bool) {
    let has = |config: &Config, setting: &Setting| {
        config.settings.iter().any(|other| other.key == setting.key && other.value == setting.value)
    };
    let differs = |setting: &Setting| {
        let property = |config: &Config| config.kafka.properties.get(setting.property()?).cloned();
        !has(former, setting) || !has(new, setting) || property(former) != property(new)
    };
    let all = former.settings.iter().chain(&new.settings);
    let changed = all.filter(|setting| !is_taken(setting) && differs(setting));
    let changed: BTreeSet<&str> = changed.map(|setting| setting.key.as_str()).collect();
    if !changed.is_empty() {
        let settings = Vec::from_iter(changed).join(", ");
        tracing::warn!(settings, "only a restart changes these settings");
    }
}

fn hashes(config: &Config) -> Hashes {
    let hash = |path: &PathBuf| {
        // A pipe can be read once only, and a named one could block for ever.
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(path).ok()?);
        Some(hasher.finish())
    };
    config.files.iter().map(|path| (path.clone(), hash(path))).collect()
}
