//! The guardian: watches over the webhooks while the bridge serves, and switches on again what Nexudus switched off.
//!
//! Nexudus switches a webhook off after ten failures in a row and tells nobody. The guardian looks at start, at its
//! interval, and as soon as the bridge is ready again. It switches on only while the bridge is ready, only what has
//! failures, now or at the last look (what has none was switched off by hand), and waits longer each time for a webhook
//! that fails again without a success between. It creates nothing. What happens to it touches neither readiness nor ingress. Several guardians may
//! meet on one record: each reads it first, and writes the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::account::{Account, AccountError, UnknownAction};
use super::apply::{Scope, WriteError};
use super::observed::Observed;
use super::plan::{Comparison, Pair};
use crate::config::Config;
use crate::metrics::{Metrics, WebhookSeries};
use crate::nexudus::{ApiError, time};

/// The longest distance between two tries: for a webhook that fails again and again, and for an account that refuses us.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often it is looked whether the bridge has become ready.
const READINESS: Duration = Duration::from_millis(250);

/// How long the same failure stays out of the log after it was written.
const REPEAT: Duration = Duration::from_secs(600);

/// The most of Nexudus's words on a failure that goes into the log.
const MAX_WORDS: usize = 200;

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
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (sender, receiver) = watch::channel(config.clone());
        let task = tokio::spawn(guard(receiver, metrics, ready)).abort_handle();
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
    ready: impl Fn() -> bool + Send + Sync,
) {
    loop {
        let current = config.borrow_and_update().clone();
        match Watcher::new(&current, &metrics) {
            Ok(Some(watcher)) => {
                tokio::select! {
                    () = watcher.run(&ready) => {}
                    changed = config.changed() => if changed.is_err() { return },
                }
            }
            nothing => {
                if let Err(error) = nothing {
                    tracing::error!("the webhooks in Nexudus cannot be watched: {error}");
                }
                metrics.control.forget();
                if config.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A guardian with a configuration.
struct Watcher {
    account: Account,
    metrics: Arc<Metrics>,
    interval: Duration,
    reenable: bool,
    /// The webhooks that were switched on again, by their number.
    tries: BTreeMap<i64, Tries>,
    /// Those that have failures, or had some when they were switched off.
    failing: BTreeSet<i64>,
    /// Those that are off by hand, as the log has said.
    by_hand: BTreeSet<i64>,
    missing: usize,
    actions_compared: bool,
    /// Refusals of the account in a row.
    refusals: u32,
    /// The failure that was written last, and when.
    said: Option<(String, Instant)>,
}

/// How often a webhook was switched on without a success since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tries {
    count: u32,
    last: Instant,
    /// Nexudus's word on the last success when it was switched on.
    last_trigger: Option<String>,
}

impl Watcher {
    /// None where nothing is to be watched.
    fn new(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Self>, AccountError> {
        let Some(nexudus) = &config.nexudus else { return Ok(None) };
        let guardian = nexudus.guardian;
        if guardian.interval.is_zero() || config.sources.values().all(|source| source.business_id.is_none()) {
            return Ok(None);
        }
        Ok(Some(Self {
            account: Account::new(config, Arc::clone(metrics))?,
            metrics: Arc::clone(metrics),
            interval: guardian.interval,
            reenable: guardian.reenable,
            tries: BTreeMap::new(),
            failing: BTreeSet::new(),
            by_hand: BTreeSet::new(),
            missing: 0,
            actions_compared: false,
            refusals: 0,
            said: None,
        }))
    }

    async fn run(mut self, ready: &(impl Fn() -> bool + Sync)) {
        loop {
            let was_ready = ready();
            let wait = match self.round(ready).await {
                Ok(()) => self.interval,
                Err(error) => self.failed(&error),
            };
            wait_or_ready(wait, was_ready, ready).await;
        }
    }

    async fn round(&mut self, ready: &(impl Fn() -> bool + Sync)) -> Result<(), ApiError> {
        let comparison = if self.actions_compared {
            self.account.compare(&BTreeMap::new()).await?
        } else {
            let look = self.account.look().await?;
            look.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            for UnknownAction { id, name } in &look.unknown_actions {
                tracing::warn!(
                    action_id = id,
                    action = name,
                    "Nexudus has an action that is not in the catalogue; extra_actions takes it"
                );
            }
            self.actions_compared = true;
            look.comparison
        };
        self.show(&comparison);
        if self.said.take().is_some() {
            tracing::info!("the webhooks in Nexudus can be seen again");
        }
        self.refusals = 0;
        self.failing =
            comparison.pairs.iter().filter_map(|pair| self.failing_still(pair.found.as_ref()?)).collect();
        for pair in &comparison.pairs {
            if let Some(found) = &pair.found
                && self.is_due(pair, found)
                && ready()
            {
                self.reenable(pair, found).await?;
            }
        }
        Ok(())
    }

    /// What metrics and log say of what was seen.
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

    /// The number of a webhook that has failures, or had some when it was switched off: a delivery that was on its way then
    /// may have succeeded, and ended the count.
    fn failing_still(&self, found: &Observed) -> Option<i64> {
        let had_some = !found.active && self.failing.contains(&found.id);
        (found.error_count > 0 || had_some).then_some(found.id)
    }

    /// Whether a webhook is to be switched on now.
    fn is_due(&mut self, pair: &Pair, found: &Observed) -> bool {
        let succeeded = |tries: &Tries| tries.last_trigger != found.last_trigger;
        if self.tries.get(&found.id).is_some_and(succeeded) {
            self.tries.remove(&found.id);
        }
        let off_by_hand = !found.active && !self.failing.contains(&found.id);
        if !off_by_hand {
            self.by_hand.remove(&found.id);
        } else if self.by_hand.insert(found.id) {
            let (source, action) = (&*pair.wanted.source.name, pair.wanted.action());
            tracing::warn!(
                source,
                action,
                webhook_id = found.id,
                "a webhook is switched off in Nexudus without a failure, so by hand; it is left alone"
            );
        }
        let waited = |tries: &Tries| tries.last.elapsed() >= doubled(self.interval, tries.count);
        self.reenable && !found.active && !off_by_hand && self.tries.get(&found.id).is_none_or(waited)
    }

    /// Switches a webhook on; a failure of its own stops no other.
    async fn reenable(&mut self, pair: &Pair, found: &Observed) -> Result<(), ApiError> {
        let (source, action, webhook_id) = (&*pair.wanted.source.name, pair.wanted.action(), found.id);
        let written = self.account.update(&pair.wanted, found, Scope::Enable).await;
        let count = self.tries.get(&webhook_id).map_or(0, |tries| tries.count) + 1;
        let tries = Tries { count, last: Instant::now(), last_trigger: found.last_trigger.clone() };
        self.tries.insert(webhook_id, tries);
        match written {
            Ok(true) => {
                self.metrics.control.reenabled(source, action);
                let words = found.last_error.as_deref().unwrap_or("none told");
                let last_error: String = words.chars().take(MAX_WORDS).collect();
                tracing::warn!(
                    source,
                    action,
                    webhook_id,
                    failures = found.error_count,
                    last_error,
                    "a webhook that Nexudus had switched off is on again; `nexudus-bridge catch-up` reads what was missed"
                );
            }
            Ok(false) => {
                tracing::debug!(source, action, webhook_id, "a webhook was switched on by somebody else")
            }
            Err(WriteError::Api(error)) if error.is_general() => return Err(error),
            Err(error) => {
                tracing::warn!(source, action, webhook_id, %error, "a webhook cannot be switched on")
            }
        }
        Ok(())
    }

    /// Says that Nexudus cannot be asked, if that is news; gives the wait before the next look.
    fn failed(&mut self, error: &ApiError) -> Duration {
        let words = error.to_string();
        if self.said.as_ref().is_none_or(|(said, at)| *said != words || at.elapsed() >= REPEAT) {
            tracing::warn!("the webhooks in Nexudus cannot be seen: {words}");
            self.said = Some((words, Instant::now()));
        }
        if error.is_unclear() {
            return self.interval; // the client has waited already
        }
        self.refusals += 1;
        doubled(self.interval, self.refusals)
    }
}

/// The interval after so many failures in a row: the interval itself, then twice as long each time, up to an hour.
fn doubled(interval: Duration, count: u32) -> Duration {
    interval.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1))).min(LONGEST.max(interval))
}

/// Waits so long, or until the bridge is ready after it was not.
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
    fn the_distance_between_tries_grows_up_to_an_hour() {
        let seconds = |count| doubled(Duration::from_secs(60), count).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 40, u32::MAX].map(seconds), [60, 60, 120, 240, 1920, 3600, 3600, 3600]);
        assert_eq!(doubled(Duration::from_secs(7200), 1).as_secs(), 7200);
    }
}
