//! The guardian: watches the webhooks while the bridge serves, and re-enables those that Nexudus disabled.
//!
//! Nexudus disables a webhook after ten failures in a row and notifies nobody. The guardian looks at start, at its interval, and as
//! soon as the bridge is ready again. It re-enables a webhook only while the bridge is ready, and only if Nexudus disabled it: it
//! has ten failures, or had nine at the last look and was active. Everything else was disabled by a person. The wait before the
//! next attempt grows while a webhook fails again without a success between. A webhook counts as re-enabled once a look shows it
//! active. The guardian creates nothing. What Nexudus answers touches neither readiness nor ingress. Several guardians may meet on one
//! record: each reads it first, and writes the same.
//!
//! A reload is taken over between two requests that write, and forgets nothing while `[nexudus]` is the same.

mod disabled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::disabled::Disabled;
use super::account::{Account, AccountError, UnknownAction};
use super::apply::{Scope, WriteError};
use super::observed::Observed;
use super::plan::{Comparison, Pair};
use super::redact;
use crate::back_off::BackOff;
use crate::config::Config;
use crate::metrics::{Metrics, WebhookSeries};
use crate::nexudus::{ApiError, time};
use crate::outage::{AccountKey, Outages};
use crate::telemetry::limit::LogOnChange;

/// Maximum wait between two attempts, for a webhook that keeps failing and for an account that refuses the bridge.
const LONGEST: Duration = Duration::from_secs(3600);

/// Interval of the checks whether the bridge has become ready.
const READINESS: Duration = Duration::from_millis(250);

/// Minimum time between two log lines about the same failure.
const REPEAT: Duration = Duration::from_secs(600);

/// Interval of the requests for Nexudus's actions.
const ACTIONS_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// A running guardian; it ends when this is dropped.
#[derive(Debug)]
pub struct Guardian {
    config: watch::Sender<Config>,
    task: AbortHandle,
}

impl Guardian {
    /// Starts it in the runtime in which this is called. Without `[nexudus]`, or with an interval of zero, it sleeps until it
    /// is given another configuration.
    pub fn start(
        config: &Config,
        metrics: Arc<Metrics>,
        outages: Arc<Outages>,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (sender, receiver) = watch::channel(config.clone());
        let task = tokio::spawn(guard(receiver, metrics, outages, ready)).abort_handle();
        Self { config: sender, task }
    }

    /// Takes over another configuration, and looks at once.
    pub fn adopt(&self, config: &Config) {
        self.config.send_replace(config.clone());
    }

    /// Ends it at once.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn guard(
    mut config: watch::Receiver<Config>,
    metrics: Arc<Metrics>,
    outages: Arc<Outages>,
    ready: impl Fn() -> bool + Send + Sync,
) {
    let mut watcher: Option<Watcher> = None;
    loop {
        let current = config.borrow_and_update().clone();
        watcher = Watcher::of(watcher.take(), &current, &metrics, &outages).unwrap_or_else(|error| {
            tracing::error!("the webhooks in Nexudus cannot be watched: {error}");
            None
        });
        let goes_on = if let Some(watcher) = &mut watcher {
            metrics.control.watches(watcher.interval);
            watcher.run(&ready, &mut config).await
        } else {
            metrics.control.forget();
            config.changed().await.is_ok()
        };
        if !goes_on {
            return;
        }
    }
}

/// A guardian with a configuration.
struct Watcher {
    account: Account,
    metrics: Arc<Metrics>,
    interval: Duration,
    reenable: bool,
    disabled: Disabled,
    missing: usize,
    /// Time of the next request for Nexudus's actions.
    next_actions: Instant,
    /// Unknown actions and warnings that were logged.
    logged_warnings: BTreeSet<String>,
    /// The lasting failures to read and to write webhooks.
    unseen: Trouble,
    unwritten: Trouble,
    /// Time before which nothing is written.
    write_after: Instant,
}

/// A failure that lasts.
#[derive(Debug)]
struct Trouble {
    logged: LogOnChange<String>,
    /// Number of failures in a row; a failure that may pass by itself is not counted.
    count: u32,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { logged: LogOnChange::new(REPEAT), count: 0 }
    }
}

impl Trouble {
    /// Returns the wait before the next attempt.
    fn wait(&mut self, interval: Duration, error: &ApiError) -> Duration {
        if error.is_unclear() {
            return interval; // the client has waited already
        }
        self.count += 1;
        back_off(interval).wait(self.count)
    }

    /// Resets the back-off, and allows the log to name the same failure again.
    fn retry(&mut self) {
        self.count = 0;
        self.logged.allow_next();
    }

    /// Ends the failure. Returns whether there was one.
    fn ends(&mut self) -> bool {
        self.count = 0;
        self.logged.end()
    }
}

impl Watcher {
    /// For a configuration; none where nothing is to be watched. Whoever watched goes on with what it knows where
    /// `[nexudus]` is the same.
    fn of(
        previous: Option<Self>,
        config: &Config,
        metrics: &Arc<Metrics>,
        outages: &Arc<Outages>,
    ) -> Result<Option<Self>, AccountError> {
        let Some(nexudus) = &config.nexudus else { return Ok(None) };
        outages.belong_to(AccountKey {
            base_url: nexudus.base_url.to_string(),
            public_url: nexudus.public_url.to_string(),
        });
        let guardian = nexudus.guardian;
        if guardian.interval.is_zero() || config.sources.values().all(|source| source.business_id.is_none()) {
            return Ok(None);
        }
        let same = |previous: &Self| previous.account.config().nexudus.as_ref() == Some(nexudus);
        if let Some(mut previous) = previous.filter(same) {
            previous.account.take_sources(config);
            previous.unseen.retry();
            previous.unwritten.retry();
            previous.write_after = Instant::now();
            return Ok(Some(previous));
        }
        let now = Instant::now();
        Ok(Some(Self {
            account: Account::new(config, Arc::clone(metrics))?,
            metrics: Arc::clone(metrics),
            interval: guardian.interval,
            reenable: guardian.reenable,
            disabled: Disabled::new(Arc::clone(metrics), Arc::clone(outages)),
            missing: 0,
            next_actions: now,
            logged_warnings: BTreeSet::new(),
            unseen: Trouble::default(),
            unwritten: Trouble::default(),
            write_after: now,
        }))
    }

    /// Looks and acts until there is another configuration; false where there will be none. Looking may be broken off,
    /// writing may not.
    async fn run(
        &mut self,
        ready: &(impl Fn() -> bool + Sync),
        config: &mut watch::Receiver<Config>,
    ) -> bool {
        loop {
            let was_ready = ready();
            let looked = tokio::select! {
                looked = self.look() => looked,
                changed = config.changed() => return changed.is_ok(),
            };
            let looked = match looked {
                Ok(comparison) if self.switch_on(&comparison, ready, config).await => tokio::select! {
                    looked = self.look() => looked,
                    changed = config.changed() => return changed.is_ok(),
                },
                looked => looked,
            };
            let wait = match looked {
                Ok(_) => self.interval,
                Err(error) => self.cannot_see(&error),
            };
            tokio::select! {
                () = wait_or_ready(wait, was_ready, ready) => {}
                changed = config.changed() => return changed.is_ok(),
            }
        }
    }

    async fn look(&mut self) -> Result<Comparison, ApiError> {
        let comparison = if Instant::now() < self.next_actions {
            self.account.compare(&BTreeMap::new()).await?
        } else {
            self.look_at_actions_too().await?
        };
        self.show(&comparison);
        if self.unseen.ends() {
            tracing::info!("the webhooks in Nexudus can be seen again");
        }
        self.disabled.looked(&comparison);
        Ok(comparison)
    }

    async fn look_at_actions_too(&mut self) -> Result<Comparison, ApiError> {
        let look = self.account.look().await?;
        self.next_actions = Instant::now() + if look.knows_actions { ACTIONS_AGAIN } else { LONGEST };
        for warning in look.warnings {
            if !self.logged_warnings.contains(&warning) {
                tracing::warn!("{warning}");
                self.logged_warnings.insert(warning);
            }
        }
        for UnknownAction { id, name } in look.unknown_actions {
            if self.logged_warnings.insert(format!("{id} {name}")) {
                tracing::warn!(
                    action_id = id,
                    action = name,
                    "Nexudus has an action that is not in the catalogue; extra_actions takes it"
                );
            }
        }
        Ok(look.comparison)
    }

    /// Re-enables what is due, one after the other, while the bridge is ready and its configuration the same. Returns whether
    /// it wrote.
    async fn switch_on(
        &mut self,
        comparison: &Comparison,
        ready: &(impl Fn() -> bool + Sync),
        config: &watch::Receiver<Config>,
    ) -> bool {
        let mut wrote = false;
        let due = if self.reenable { self.disabled.due(comparison, self.interval) } else { Vec::new() };
        for (pair, found) in due {
            if Instant::now() < self.write_after {
                break;
            }
            // A wait can be long; what was right before it may not be any more.
            self.account.client().room_to_write().await;
            if !ready() || config.has_changed().unwrap_or(true) {
                break;
            }
            match self.reenable(pair, found).await {
                Ok(written) => {
                    wrote |= written;
                    if self.unwritten.ends() {
                        tracing::info!("webhooks can be switched on again");
                    }
                }
                Err(error) => {
                    self.cannot_write(&error);
                    break;
                }
            }
        }
        wrote
    }

    /// Reports a look to metrics and log.
    fn show(&mut self, comparison: &Comparison) {
        let found = comparison.pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)));
        let series: Vec<WebhookSeries> = found.map(|(pair, found)| series(pair, found)).collect();
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        for pair in &comparison.pairs {
            *missing.entry(&pair.wanted.source.name).or_default() += usize::from(pair.found.is_none());
        }
        let total = missing.values().sum();
        self.metrics.control.looked(&series, missing.into_iter());
        if total > 0 && total != self.missing {
            tracing::warn!(
                webhooks = total,
                "webhooks are missing in Nexudus; `nexudus-bridge webhooks apply` creates them"
            );
        }
        self.missing = total;
    }

    /// Re-enables a webhook. Returns whether it wrote; a failure of this webhook alone is logged.
    ///
    /// # Errors
    /// A failure that every other webhook would meet too.
    async fn reenable(&mut self, pair: &Pair, found: &Observed) -> Result<bool, ApiError> {
        let (source, action, webhook_id) = (&*pair.wanted.source.name, pair.wanted.action(), found.id);
        let written = match self.account.update(&pair.wanted, found, Scope::Enable).await {
            Err(WriteError::Api(error)) if error.is_general() => return Err(error),
            written => written,
        };
        let wrote = matches!(written, Ok(true));
        self.disabled.tried(found, wrote);
        match written {
            Ok(true) => {}
            Ok(false) => {
                tracing::debug!(source, action, webhook_id, "a webhook was re-enabled by somebody else")
            }
            Err(error) => {
                let error = redact::tokens(&error.to_string()); // it may repeat the URL
                tracing::warn!(source, action, webhook_id, error, "a webhook cannot be switched on");
            }
        }
        Ok(wrote)
    }

    /// Logs that the webhooks in Nexudus cannot be read; returns the wait before the next look.
    fn cannot_see(&mut self, error: &ApiError) -> Duration {
        let words = error.to_string();
        if self.unseen.logged.allow(words.clone()) {
            tracing::warn!("the webhooks in Nexudus cannot be seen: {words}");
        }
        self.unseen.wait(self.interval, error)
    }

    /// Logs that webhooks in Nexudus cannot be written, and delays the next write.
    fn cannot_write(&mut self, error: &ApiError) {
        let words = redact::tokens(&error.to_string());
        if self.unwritten.logged.allow(words.clone()) {
            tracing::warn!("no webhook in Nexudus can be switched on: {words}");
        }
        self.write_after = Instant::now() + self.unwritten.wait(self.interval, error);
    }
}

/// Returns the back-off from the interval of the guardian to an hour.
fn back_off(interval: Duration) -> BackOff {
    BackOff { first: interval, longest: LONGEST.max(interval) }
}

/// Waits for `wait`, or until the bridge becomes ready.
async fn wait_or_ready(wait: Duration, mut was_ready: bool, ready: &(impl Fn() -> bool + Sync)) {
    let end = Instant::now() + wait;
    while Instant::now() < end {
        tokio::time::sleep(READINESS.min(end - Instant::now())).await;
        let is_ready = ready();
        if is_ready && !was_ready {
            return;
        }
        was_ready = is_ready;
    }
}

fn series(pair: &Pair, found: &Observed) -> WebhookSeries {
    let last_trigger = found.last_trigger.as_deref().and_then(time::read);
    WebhookSeries {
        labels: [pair.wanted.source.name.to_string(), pair.wanted.action().to_owned(), found.id.to_string()],
        active: found.active,
        failures: found.error_count,
        last_trigger: last_trigger.map(|time| time.as_duration().as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_ends_at_an_hour_or_at_a_longer_interval() {
        let seconds = |interval, failures| back_off(Duration::from_secs(interval)).wait(failures).as_secs();
        assert_eq!([1, 2, 6, 7].map(|failures| seconds(60, failures)), [60, 120, 1920, 3600]);
        assert_eq!(seconds(7200, 2), 7200);
    }
}
