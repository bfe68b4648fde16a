//! Reload: sources, their secrets and tokens, the certificate, `[nexudus]` and `[kafka.oauth]` taken over while deliveries
//! go on.
//!
//! Because it was asked for (SIGHUP), or because the file of a secret or certificate has another content. The whole
//! configuration is read anew and checked as at start; with any mistake everything stays as it was, and the log says
//! what is wrong. What only a restart changes is named.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{App, TOKENS, TOPICS, prepare_topics, topic_names};
use crate::config::load::{Loaded, Mistakes};
use crate::config::{Config, OAuth, Setting};
use crate::delivery::Bridge;
use crate::http::admin::State;
use crate::http::tls::Certificate;
use crate::kafka::producer::Producer;
use crate::kafka::watch::Watch;
use crate::metrics::Metrics;
use crate::vital::{Part, Vital};
use crate::webhooks::guardian::Guardian;

/// How often the files of secrets and certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Takes over new configurations for a running bridge. Keeps nothing of it alive: the end of a run destroys its Kafka
/// client.
pub struct Reloader {
    bridge: Weak<Bridge>,
    producer: Weak<Producer>,
    metrics: Arc<Metrics>,
    watch: Weak<Watch>,
    guardian: Arc<Guardian>,
    state: Arc<State>,
    certificate: Option<Arc<Certificate>>,
    /// In force.
    config: Config,
    /// As they were when last read, in force or not.
    settings: Vec<Setting>,
    files: Contents,
    /// Looks at the topics of new actions.
    preparing: JoinSet<()>,
    vital: Vital,
    _part: Part,
}

/// What those files hold, as a hash; `None` for one that cannot be read.
type Contents = BTreeMap<PathBuf, Option<u64>>;

impl Reloader {
    /// For a bridge that runs with the configuration as it was read.
    pub fn new(app: &App) -> Self {
        Self {
            bridge: Arc::downgrade(&app.bridge),
            producer: Arc::downgrade(&app.producer),
            metrics: Arc::clone(&app.metrics),
            watch: Arc::downgrade(&app.watch),
            guardian: Arc::clone(&app.guardian),
            state: Arc::clone(&app.state),
            certificate: app.certificate.clone(),
            files: contents(&app.config),
            config: app.config.clone(),
            settings: app.config.settings.clone(),
            preparing: JoinSet::new(),
            vital: app.vital.clone(),
            _part: app.vital.part("the reload"),
        }
    }

    /// Reloads what `load` reads whenever `asked` says so or one of the files has changed; never ends.
    pub async fn run(
        mut self,
        load: impl Fn() -> Result<Loaded, Mistakes> + Send + Sync + 'static,
        mut asked: impl AsyncFnMut(),
    ) {
        let load = Arc::new(load);
        loop {
            let asked_for = tokio::select! {
                () = asked() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            // Files and librdkafka's checks of properties block. What the files hold is noted before they are read, so
            // that a change in between is seen the next time.
            let config = self.config.clone();
            let Ok(files) = tokio::task::spawn_blocking(move || contents(&config)).await else { continue };
            if !asked_for && files == self.files {
                continue;
            }
            let because = if asked_for {
                "it was asked for"
            } else {
                "the file of a secret or certificate has changed"
            };
            tracing::info!(reason = because, "reloading sources and secrets");
            let load = Arc::clone(&load);
            match tokio::task::spawn_blocking(move || load()).await {
                Ok(loaded) => self.take(loaded, files),
                Err(error) => tracing::error!(%error, "the configuration could not be read"),
            }
        }
    }

    /// Takes over what may change, or keeps what there was. `seen` is what the files held before they were read.
    fn take(&mut self, loaded: Result<Loaded, Mistakes>, seen: Contents) {
        let alive = (self.bridge.upgrade(), self.producer.upgrade(), self.watch.upgrade());
        let (Some(bridge), Some(producer), Some(watch)) = alive else { return };
        let loaded = loaded.and_then(|loaded| {
            match self.certificate.as_ref().map(|certificate| certificate.reload()) {
                Some(Err(error)) => Err(Mistakes(vec![error])),
                Some(Ok(())) | None => Ok(loaded),
            }
        });
        self.metrics.reloaded(loaded.is_ok());
        match loaded {
            Ok(loaded) => {
                for warning in &loaded.config.warnings {
                    tracing::warn!("{warning}");
                }
                let signed_in = self.sign_in(loaded.config.kafka.oauth, &producer);
                self.name_what_needs_a_restart(&loaded.config.settings);
                let topics = topic_names(&self.config);
                bridge.adopt(&loaded.config.sources);
                self.config.sources = loaded.config.sources;
                self.config.nexudus = loaded.config.nexudus;
                self.guardian.adopt(&self.config);
                let wanted = topic_names(&self.config);
                if wanted != topics {
                    watch.want(wanted);
                    self.preparing.abort_all(); // it may still wait for a cluster that is away
                    let work = prepare_topics(self.config.clone(), watch);
                    self.preparing.spawn(self.vital.part(TOPICS).guard(work));
                }
                self.settings = loaded.config.settings;
                self.show_settings(signed_in);
                tracing::info!(sources = self.config.sources.len(), "sources and secrets were taken over");
            }
            Err(Mistakes(mistakes)) => {
                for mistake in &mistakes {
                    tracing::error!(error = %mistake, "not reloaded");
                }
            }
        }
        // Also after a failure: the same broken content is not tried every few seconds.
        self.files = contents(&self.config);
        for (path, hash) in seen {
            self.files.entry(path).and_modify(|known| *known = hash);
        }
    }

    /// Fetches the next tokens with the credentials as they are now; tells whether these are in force. Whether tokens are
    /// used at all is not changed.
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

    /// Shows the settings in force: of what was read, those that were taken over.
    fn show_settings(&mut self, signed_in: bool) {
        let taken = |setting: &&Setting| is_taken_over(&setting.key, signed_in);
        let place = |setting: &Setting| setting.key.split('.').next().map(str::to_owned);
        let mut settings: Vec<Setting> =
            self.config.settings.iter().filter(|setting| !taken(setting)).cloned().collect();
        for new in self.settings.iter().filter(taken) {
            let after = settings.iter().rposition(|setting| place(setting) == place(new));
            let log = || settings.iter().position(|setting| setting.key.starts_with("log."));
            let at = after.map(|at| at + 1).or_else(log).unwrap_or(settings.len());
            settings.insert(at, new.clone());
        }
        self.config.settings.clone_from(&settings);
        self.state.show_settings(settings);
    }

    fn name_what_needs_a_restart(&self, new: &[Setting]) {
        let value = |settings: &[Setting], key: &str| {
            settings.iter().find(|setting| setting.key == key).map(|setting| setting.value.clone())
        };
        let tokens =
            self.config.kafka.oauth.is_some() && new.iter().any(|s| s.key == "kafka.oauth.client_id");
        let keys = self.settings.iter().chain(new).map(|setting| setting.key.as_str());
        let mut changed: Vec<&str> = keys
            .filter(|key| !is_taken_over(key, tokens))
            .filter(|key| value(&self.settings, key) != value(new, key))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        if !changed.is_empty() {
            tracing::warn!(settings = changed.join(", "), "only a restart changes these settings");
        }
    }
}

/// Whether a reload takes a setting over; those of `[kafka.oauth]` only where `tokens` are used before and after it.
fn is_taken_over(key: &str, tokens: bool) -> bool {
    key.starts_with("sources.") || key.starts_with("nexudus.") || tokens && key.starts_with("kafka.oauth.")
}

fn contents(config: &Config) -> Contents {
    let tls = config.ingress.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let oauth = config.kafka.oauth.iter().flat_map(|oauth| &oauth.client_secret_file);
    let nexudus = config.nexudus.iter().flat_map(|nexudus| &nexudus.files);
    let files =
        config.sources.values().flat_map(|source| &source.files).chain(tls).chain(oauth).chain(nexudus);
    let hash = |path: &PathBuf| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(path).ok()?);
        Some(hasher.finish())
    };
    files.map(|path| (path.clone(), hash(path))).collect()
}
