//! The guardian: watches the webhooks while the bridge serves, and re-enables those that Nexudus disabled.
//!
//! Nexudus disables a webhook after ten failures in a row, without a notification. The guardian reads the webhooks at start, at
//! its interval, and when the bridge becomes ready.
//!
//! - It re-enables a webhook only while the bridge is ready, and only if Nexudus disabled it: the webhook has ten failures, or was
//!   active with nine at the last look. Every other disabled webhook was disabled by a person.
//! - The wait before the next attempt grows while a webhook has no success. A webhook counts as re-enabled when a later look shows
//!   that it is active.
//! - The guardian creates nothing. Failures of Nexudus change neither readiness nor ingress.
//! - Several guardians can re-enable one webhook: each reads its record first, and writes the same.
//! - A reload takes effect between two writes. It keeps all state while `[nexudus]` is the same.

mod disabled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::disabled::Disabled;
use super::account::{Account, AccountError, NumberedAction};
use super::apply::{Scope, WriteError};
use super::plan::{Comparison, Pair};
use super::redact;
use crate::back_off::BackOff;
use crate::config::{Config, GuardianSettings};
use crate::metrics::{Metrics, WebhookSeries};
use crate::nexudus::ApiError;
use crate::outage::{AccountKey, Outages};
use crate::telemetry::limit::LogOnChange;

/// Maximum wait between two attempts, for a webhook that fails again and for an account that refuses the bridge.
const LONGEST: Duration = Duration::from_secs(3600);

/// Interval of the checks whether the bridge has become ready.
const READINESS: Duration = Duration::from_millis(250);

/// Minimum time between two log lines about the same failure.
const REPEAT: Duration = Duration::from_secs(600);

/// Interval of the requests for Nexudus's actions.
const ACTIONS_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// A running guardian. If this handle is dropped, the guardian ends before its next request.
#[derive(Debug)]
pub struct Guardian {
    config: watch::Sender<Config>,
    task: AbortHandle,
}

impl Guardian {
    /// Starts a guardian in the current runtime. Without `[nexudus]`, or with an interval of zero, it waits for another configuration.
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

    /// Ends the guardian at once.
    pub fn stop(&self) {
        self.task.abort();
    }
}

async fn guard(
    mut config: watch::Receiver<Config>,
    metrics: Arc<Metrics>,
    outages: Arc<Outages>,
    ready: impl Fn() -> bool + Send + Sync,
) {
    let mut rounds: Option<Rounds> = None;
    loop {
        let current = config.borrow_and_update().clone();
        rounds = Rounds::with(&current, rounds.take(), &metrics, &outages).unwrap_or_else(|error| {
            tracing::error!("the guardian cannot read the webhooks in Nexudus: {error}");
            None
        });
        let has_config = if let Some(rounds) = &mut rounds {
            metrics.control.set_interval(rounds.settings.interval);
            rounds.run(&ready, &mut config).await
        } else {
            metrics.control.clear();
            config.changed().await.is_ok()
        };
        if !has_config {
            return;
        }
    }
}

/// The rounds of a guardian with one configuration: look, re-enable, wait.
struct Rounds {
    account: Account,
    metrics: Arc<Metrics>,
    settings: GuardianSettings,
    disabled: Disabled,
    missing: usize,
    /// Time of the next request for Nexudus's actions.
    next_actions: Instant,
    /// Unknown actions and warnings that were logged.
    logged: BTreeSet<String>,
    /// The lasting failures to read and to write webhooks.
    read_failure: LastingFailure,
    write_failure: LastingFailure,
}

/// A failure that lasts.
struct LastingFailure {
    logged: LogOnChange<String>,
    /// Number of failures in a row; a temporary failure is not counted.
    count: u32,
    /// Time of the next attempt.
    retry_at: Instant,
}

impl LastingFailure {
    fn none() -> Self {
        Self { logged: LogOnChange::new(REPEAT), count: 0, retry_at: Instant::now() }
    }

    /// Logs the failure, unless the log has it already, and sets the time of the next attempt.
    fn failed(&mut self, what: &str, error: &ApiError, interval: Duration) {
        let text = redact::tokens(&error.to_string());
        if self.logged.allow(text.clone()) {
            tracing::warn!("{what}: {text}");
        }
        self.count += u32::from(!error.is_unclear());
        // An unclear failure is temporary, and the client has retried it with a back-off.
        let wait = if error.is_unclear() { interval } else { back_off(interval).wait(self.count) };
        self.retry_at = Instant::now() + wait;
    }

    /// Ends the back-off, and allows the log to name the same failure again.
    fn retry(&mut self) {
        (self.count, self.retry_at) = (0, Instant::now());
        self.logged.allow_next();
    }

    /// Ends the failure. Returns whether there was one.
    fn ends(&mut self) -> bool {
        self.count = 0;
        self.logged.end()
    }
}

impl Rounds {
    /// Returns the rounds with a configuration; `None` if there is nothing to watch. If `[nexudus]` is the same, the `previous`
    /// rounds continue with their state.
    fn with(
        config: &Config,
        previous: Option<Self>,
        metrics: &Arc<Metrics>,
        outages: &Arc<Outages>,
    ) -> Result<Option<Self>, AccountError> {
        let Some(nexudus) = &config.nexudus else { return Ok(None) };
        outages.belong_to(AccountKey::new(&nexudus.base_url, &nexudus.public_url));
        let settings = nexudus.guardian;
        if settings.interval.is_zero() || config.sources.values().all(|source| source.business_id.is_none()) {
            return Ok(None);
        }
        let is_same = |previous: &Self| previous.account.config.nexudus.as_ref() == Some(nexudus);
        if let Some(mut previous) = previous.filter(is_same) {
            previous.account.config = config.clone();
            previous.account.client.try_again(); // the reason of a refusal may have been removed
            previous.read_failure.retry();
            previous.write_failure.retry();
            return Ok(Some(previous));
        }
        Ok(Some(Self {
            account: Account::new(config, Arc::clone(metrics))?,
            metrics: Arc::clone(metrics),
            settings,
            disabled: Disabled::new(Arc::clone(metrics), Arc::clone(outages)),
            missing: 0,
            next_actions: Instant::now(),
            logged: BTreeSet::new(),
            read_failure: LastingFailure::none(),
            write_failure: LastingFailure::none(),
        }))
    }

    /// Looks and acts until the configuration changes. Returns false if it cannot change any more. A look can be cancelled, a write
    /// cannot.
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
            let interval = self.settings.interval;
            let next = match looked {
                Ok(comparison) if self.reenable(&comparison, ready, config).await => continue,
                Ok(_) => Instant::now() + interval,
                Err(error) => {
                    self.read_failure.failed("the webhooks in Nexudus cannot be read", &error, interval);
                    self.read_failure.retry_at
                }
            };
            tokio::select! {
                () = wait_or_ready(next, was_ready, ready) => {}
                changed = config.changed() => return changed.is_ok(),
            }
        }
    }

    async fn look(&mut self) -> Result<Comparison, ApiError> {
        let comparison = if Instant::now() < self.next_actions {
            self.account.compare(&BTreeMap::new()).await?
        } else {
            let look = self.account.look().await?;
            self.next_actions = Instant::now() + if look.knows_actions { ACTIONS_AGAIN } else { LONGEST };
            self.log_once(look.warnings, look.unknown_actions);
            look.comparison
        };
        self.show(&comparison);
        if self.read_failure.ends() {
            tracing::info!("the webhooks in Nexudus can be read again");
        }
        self.disabled.looked(&comparison);
        Ok(comparison)
    }

    fn log_once(&mut self, warnings: Vec<String>, unknown_actions: Vec<NumberedAction>) {
        for warning in warnings {
            if self.logged.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        for NumberedAction { id, name } in unknown_actions {
            if self.logged.insert(format!("{id} {name}")) {
                tracing::warn!(
                    action_id = id,
                    action = name,
                    "Nexudus has an action that is not in the catalogue; add it to extra_actions"
                );
            }
        }
    }

    /// Reports a look to metrics and log.
    fn show(&mut self, comparison: &Comparison) {
        let series: Vec<WebhookSeries> = comparison
            .found()
            .map(|(Pair { wanted, .. }, found)| WebhookSeries {
                labels: [&*wanted.source.name, wanted.action(), &found.id.to_string()].map(str::to_owned),
                active: found.active,
                failures: found.error_count,
                last_trigger: found.last_trigger_time().map(|time| time.as_duration().as_secs_f64()),
            })
            .collect();
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        for pair in &comparison.pairs {
            *missing.entry(&pair.wanted.source.name).or_default() += usize::from(pair.found.is_none());
        }
        let total = missing.values().sum();
        self.metrics.control.set_webhooks(&series, missing.into_iter());
        if total > 0 && total != self.missing {
            tracing::warn!(
                webhooks = total,
                "webhooks are missing in Nexudus; `nexudus-bridge webhooks apply` creates them"
            );
        }
        self.missing = total;
    }

    /// Re-enables the webhooks that are due, one after the other, while the bridge is ready and its configuration the same. Returns
    /// whether it wrote.
    async fn reenable(
        &mut self,
        comparison: &Comparison,
        ready: &(impl Fn() -> bool + Sync),
        config: &watch::Receiver<Config>,
    ) -> bool {
        let GuardianSettings { reenable, interval } = self.settings;
        let mut wrote = false;
        for (pair, found) in self.disabled.due(comparison, interval) {
            if !reenable || Instant::now() < self.write_failure.retry_at {
                break;
            }
            // The wait can be long, so readiness and configuration are checked after it.
            self.account.client.wait_for_write().await;
            if !ready() || config.has_changed().unwrap_or(true) {
                break;
            }
            let result = self.account.update(&pair.wanted, found, Scope::Enable).await;
            if let Some(error) = result.as_ref().err().and_then(WriteError::general) {
                self.write_failure.failed("no webhook in Nexudus can be re-enabled", error, interval);
                break;
            }
            if self.write_failure.ends() {
                tracing::info!("webhooks in Nexudus can be re-enabled again");
            }
            let is_written = matches!(result, Ok(true));
            self.disabled.tried(found, is_written);
            wrote |= is_written;
            let (source, action, webhook_id) = (&*pair.wanted.source.name, pair.wanted.action(), found.id);
            match result {
                Ok(true) => {}
                Ok(false) => {
                    tracing::debug!(source, action, webhook_id, "a webhook was re-enabled by somebody else");
                }
                Err(error) => {
                    let error = redact::tokens(&error.to_string()); // it may repeat the URL
                    tracing::warn!(source, action, webhook_id, error, "a webhook cannot be re-enabled");
                }
            }
        }
        wrote
    }
}

/// Returns the back-off from the interval of the guardian to an hour.
fn back_off(interval: Duration) -> BackOff {
    BackOff { first: interval, longest: LONGEST.max(interval) }
}

/// Waits until `end`, or until the bridge becomes ready.
async fn wait_or_ready(end: Instant, mut was_ready: bool, ready: &(impl Fn() -> bool + Sync)) {
    while Instant::now() < end {
        tokio::time::sleep(READINESS.min(end - Instant::now())).await;
        let is_ready = ready();
        if is_ready && !was_ready {
            return;
        }
        was_ready = is_ready;
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
