//! Preparation of the topics: compares them with the configuration, creates missing ones, and retries.
//!
//! A control loop. It looks at the cluster's topics at start, decides which ones to create, and creates them. It looks
//! again when the configuration is reloaded, when the watch finds a topic missing, and when a delivery meets an unknown
//! topic. Topics that Kafka refused, and a cluster that does not answer, are retried with exponential back-off.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::status::Status;
use super::topic_state::{Phase, TopicState};
use super::topics::{Plan, Topics, TopicsError, wanted_names};
use super::watch::Watch;
use crate::back_off::BackOff;
use crate::config::Config;

/// The waits between retries.
const RETRY: BackOff = BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Minimum time between two looks, however often one is requested.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Prepares the topics of one bridge.
pub struct Preparation {
    config: Mutex<Arc<Config>>,
    status: Arc<Status>,
    watch: Watch,
}

impl Preparation {
    /// Makes the preparation of the topics in `config`. `watch` reports missing topics.
    pub fn new(config: &Config, status: Arc<Status>, watch: Watch) -> Self {
        Self { config: Mutex::new(Arc::new(config.clone())), status, watch }
    }

    /// Takes over a reloaded configuration and looks at the topics at once.
    pub fn adopt(&self, config: &Config) {
        let config = Arc::new(config.clone());
        *self.status.topics.wanted.lock() = wanted_names(&config);
        self.watch.look();
        *self.config.lock() = config;
        self.status.topics.look.notify_one();
    }

    /// Looks at the topics again at once.
    pub fn look_again(&self) {
        self.status.topics.look.notify_one();
    }

    /// Keeps the topics prepared; never ends.
    pub async fn run(&self) {
        let (mut log, mut failures) = (Log::default(), 0);
        loop {
            let config = Arc::clone(&self.config.lock());
            let is_finished = self.look(&config, &mut log).await.unwrap_or_else(|error| {
                log.failed(&error);
                false
            });
            failures = if is_finished { 0 } else { failures + 1 };
            failures = wait(&self.status.topics, RETRY, failures).await;
        }
    }

    /// Returns false if Kafka refused topics.
    async fn look(&self, config: &Config, log: &mut Log) -> Result<bool, TopicsError> {
        let state = &self.status.topics;
        let mut is_finished = true;
        // Without topics.create, a later look only refreshes the list of missing topics.
        if config.topics.create || state.phase() != Phase::Done {
            let topics = Topics::new(config)?;
            let plan = topics.plan().await?;
            log.compared(&plan);
            if config.topics.create {
                is_finished = self.create(&topics, &plan).await?;
            }
        }
        state.advance(Phase::Loading);
        self.watch.look();
        Ok(is_finished)
    }

    async fn create(&self, topics: &Topics, plan: &Plan) -> Result<bool, TopicsError> {
        let state = &self.status.topics;
        if !plan.create.is_empty() {
            state.advance(Phase::Creating);
        }
        let refused = topics.apply(plan).await?;
        let created = plan.create.len() - refused.len();
        if created > 0 {
            tracing::info!(topics = created, "topics were created");
        }
        if state.set_refused(&refused)
            && let Some((topic, error)) = refused.first_key_value()
        {
            tracing::error!(
                topics = refused.len(),
                error = %format_args!("{topic}: {error}"),
                "Kafka refuses to create topics; retrying with back-off (/readyz lists them)"
            );
        }
        Ok(refused.is_empty())
    }
}

/// Waits until a look is requested or, after failures, for the back-off. Returns the number of failures in a row, which a request
/// resets to 0.
async fn wait(state: &TopicState, retry: BackOff, failures: u32) -> u32 {
    let retry_is_due = async {
        match failures {
            0 => std::future::pending().await,
            _ => tokio::time::sleep(retry.jittered(failures)).await,
        }
    };
    let asked = async {
        tokio::time::sleep(MIN_CHECK_INTERVAL).await;
        state.look.notified().await;
    };
    tokio::select! {
        () = asked => 0,
        () = retry_is_due => failures,
    }
}

/// Writes each finding to the log once.
#[derive(Debug, Default)]
struct Log {
    compared: Option<(Vec<String>, usize)>,
    failing: bool,
}

impl Log {
    fn compared(&mut self, plan: &Plan) {
        self.failing = false;
        let found = (plan.warnings.clone(), plan.differences.len());
        if self.compared.as_ref() == Some(&found) {
            return;
        }
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        if !plan.differences.is_empty() {
            tracing::warn!(
                topics = plan.differences.len(),
                "topics differ from the configuration; `nexudus-bridge topics plan` shows how"
            );
        }
        self.compared = Some(found);
    }

    fn failed(&mut self, error: &TopicsError) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "cannot look at the topics; retrying with back-off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waited(state: &TopicState, retry: BackOff, failures: u32) -> u32 {
        let wait = wait(state, retry, failures);
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the next look is due")
    }

    #[tokio::test]
    async fn a_refusal_is_retried_by_itself_and_a_request_does_not_wait_for_the_back_off() {
        let state = TopicState::default();
        let short = BackOff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
        for failures in 1..4 {
            assert_eq!(waited(&state, short, failures).await, failures);
        }
        let hour = Duration::from_secs(3600);
        let long = BackOff { first: hour, longest: hour };
        for failures in [6, 0] {
            state.look.notify_one();
            assert_eq!(waited(&state, long, failures).await, 0, "the back-off begins again");
        }
    }
}
