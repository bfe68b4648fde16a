//! The guardian: watches over the webhooks while the bridge serves, and switches on again what Nexudus switched off.
//!
//! Nexudus switches a webhook off after ten failures in a row and tells nobody. The guardian looks at start, at its
//! interval, and as soon as the bridge is ready again. It switches on only while the bridge is ready, only what has
//! failures, now or at the last look (what has none was switched off by hand), and waits longer each time for a webhook
//! that fails again without a success between. It creates nothing. What Nexudus answers touches neither readiness nor
//! ingress. Several guardians may meet on one record: each reads it first, and writes the same.
//!
//! A reload is taken over between two requests that write, and forgets nothing while `[nexudus]` is the same.

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
use super::redact;
use crate::config::Config;
use crate::metrics::{Metrics, WebhookSeries};
use crate::nexudus::{ApiError, time};

/// The longest distance between two tries: for a webhook that fails again and again, and for an account that refuses us.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often it is looked whether the bridge has become ready.
const READINESS: Duration = Duration::from_millis(250);

/// How long the same failure stays out of the log after it was written.
const REPEAT: Duration = Duration::from_secs(600);

/// How often Nexudus is asked for its actions.
const ACTIONS_AGAIN: Duration = Duration::from_secs(24 * 3600);

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
    let mut watcher: Option<Watcher> = None;
    loop {
        let current = config.borrow_and_update().clone();
        watcher = Watcher::of(watcher.take(), &current, &metrics).unwrap_or_else(|error| {
            tracing::error!("the webhooks in Nexudus cannot be watched: {error}");
            None
        });
        let goes_on = if let Some(watcher) = &mut watcher {
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
    /// The webhooks that were switched on again, by their number.
    tries: BTreeMap<i64, Tries>,
    /// Those that have failures, or had some when they were switched off.
    failing: BTreeSet<i64>,
    /// Those that are off by hand, as the log has said.
    by_hand: BTreeSet<i64>,
    missing: usize,
    /// When Nexudus is asked for its actions again.
    next_actions: Instant,
    /// The actions that nobody knows and the warnings, as the log has said.
    told: BTreeSet<String>,
    /// That the webhooks cannot be seen, and that they cannot be written.
    unseen: Trouble,
    unwritten: Trouble,
    /// Nothing is written before.
    write_after: Instant,
}

/// A trouble that lasts.
#[derive(Debug, Default)]
struct Trouble {
    /// What the log said of it last, and when.
    said: Option<(String, Instant)>,
    /// How often it came in a row; what may pass by itself is not counted.
    count: u32,
}

/// How often a webhook was switched on without a success since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tries {
    count: u32,
    last: Instant,
    /// Nexudus's word on the last success when it was switched on.
    last_trigger: Option<String>,
}

impl Trouble {
    /// Whether the log is to say it.
    fn is_news(&mut self, words: &str) -> bool {
        let is_news = self.said.as_ref().is_none_or(|(said, at)| said != words || at.elapsed() >= REPEAT);
        if is_news {
            self.said = Some((words.to_owned(), Instant::now()));
        }
        is_news
    }

    /// How long it is left alone.
    fn wait(&mut self, interval: Duration, error: &ApiError) -> Duration {
        if error.is_unclear() {
            return interval; // the client has waited already
        }
        self.count += 1;
        doubled(interval, self.count)
    }

    /// Begins the waits anew, and lets the log name the same trouble again.
    fn retry(&mut self) {
        self.count = 0;
        if let Some((words, _)) = &mut self.said {
            words.clear();
        }
    }

    /// Whether there was one until now.
    fn ends(&mut self) -> bool {
        std::mem::take(self).said.is_some()
    }
}

impl Watcher {
    /// For a configuration; none where nothing is to be watched. Whoever watched goes on with what it knows where
    /// `[nexudus]` is the same.
    fn of(
        previous: Option<Self>,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, AccountError> {
        let Some(nexudus) = &config.nexudus else { return Ok(None) };
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
            tries: BTreeMap::new(),
            failing: BTreeSet::new(),
            by_hand: BTreeSet::new(),
            missing: 0,
            next_actions: now,
            told: BTreeSet::new(),
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
            let wait = match looked {
                Ok(comparison) => {
                    self.switch_on(&comparison, ready, config).await;
                    self.interval
                }
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
        self.failing =
            comparison.pairs.iter().filter_map(|pair| self.failing_still(pair.found.as_ref()?)).collect();
        Ok(comparison)
    }

    async fn look_at_actions_too(&mut self) -> Result<Comparison, ApiError> {
        let look = self.account.look().await?;
        self.next_actions = Instant::now() + if look.knows_actions { ACTIONS_AGAIN } else { LONGEST };
        for warning in look.warnings {
            if !self.told.contains(&warning) {
                tracing::warn!("{warning}");
                self.told.insert(warning);
            }
        }
        for UnknownAction { id, name } in look.unknown_actions {
            if self.told.insert(format!("{id} {name}")) {
                tracing::warn!(
                    action_id = id,
                    action = name,
                    "Nexudus has an action that is not in the catalogue; extra_actions takes it"
                );
            }
        }
        Ok(look.comparison)
    }

    /// Switches on what is due, one after the other, while the bridge is ready and its configuration the same.
    async fn switch_on(
        &mut self,
        comparison: &Comparison,
        ready: &(impl Fn() -> bool + Sync),
        config: &watch::Receiver<Config>,
    ) {
        let found = comparison.pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)));
        let due: Vec<(&Pair, &Observed)> = found.filter(|(pair, found)| self.is_due(pair, found)).collect();
        for (pair, found) in due {
            if Instant::now() < self.write_after {
                return;
            }
            // A wait can be long; what was right before it may not be any more.
            self.account.client().room_to_write().await;
            if !ready() || config.has_changed().unwrap_or(true) {
                return;
            }
            match self.reenable(pair, found).await {
                Ok(()) if self.unwritten.ends() => tracing::info!("webhooks can be switched on again"),
                Ok(()) => {}
                Err(error) => return self.cannot_write(&error),
            }
        }
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

    /// Switches a webhook on. A failure of its own is in the log and stops no other.
    ///
    /// # Errors
    /// What would stop the others too.
    async fn reenable(&mut self, pair: &Pair, found: &Observed) -> Result<(), ApiError> {
        let (source, action, webhook_id) = (&*pair.wanted.source.name, pair.wanted.action(), found.id);
        let written = match self.account.update(&pair.wanted, found, Scope::Enable).await {
            Err(WriteError::Api(error)) if error.is_general() => return Err(error),
            written => written,
        };
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
            Err(error) => {
                let error = redact::tokens(&error.to_string()); // it may repeat the URL
                tracing::warn!(source, action, webhook_id, error, "a webhook cannot be switched on");
            }
        }
        Ok(())
    }

    /// Says that Nexudus does not let itself be looked at, if that is news; gives the wait before the next look.
    fn cannot_see(&mut self, error: &ApiError) -> Duration {
        let words = error.to_string();
        if self.unseen.is_news(&words) {
            tracing::warn!("the webhooks in Nexudus cannot be seen: {words}");
        }
        self.unseen.wait(self.interval, error)
    }

    /// The same of writing, which then waits too.
    fn cannot_write(&mut self, error: &ApiError) {
        let words = redact::tokens(&error.to_string());
        if self.unwritten.is_news(&words) {
            tracing::warn!("no webhook in Nexudus can be switched on: {words}");
        }
        self.write_after = Instant::now() + self.unwritten.wait(self.interval, error);
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
