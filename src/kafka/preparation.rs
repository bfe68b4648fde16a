//! Preparation of the topics: compares them with the configuration, creates missing ones, and retries.
//!
//! A control loop. It looks at the cluster's topics at start, decides which ones to create, and creates them. It looks
//! again when the configuration is reloaded, when the watch finds a topic missing, and when a delivery meets an unknown
//! topic. Topics that Kafka refused, and a cluster that does not answer, are retried with exponential back-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::status::Status;
use super::topic::Failed;
use super::topic_state::{Phase, TopicState};
use super::topics::{Plan, Topics, TopicsError};
use super::watch::Watch;
use crate::back_off::BackOff;
use crate::config::Config;

/// The waits between retries.
const RETRY: BackOff = BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Minimum time between two looks, however often one is requested.
const LEAST_DISTANCE: Duration = Duration::from_secs(1);

/// Prepares the topics of one bridge.
pub struct Preparation {
    config: Mutex<Arc<Config>>,
    status: Arc<Status>,
    watch: Watch,
}

/// The result of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Nothing is left to create.
    Finished,
    /// Topics were refused, or the cluster did not answer.
    Unfinished,
}

impl Preparation {
    /// Prepares the topics that `config` asks for; `watch` reports those that are missing.
    pub fn new(config: &Config, status: Arc<Status>, watch: Watch) -> Self {
        Self { config: Mutex::new(Arc::new(config.clone())), status, watch }
    }

    /// Takes over a reloaded configuration and looks at the topics at once.
    pub fn adopt(&self, config: &Config) {
        let config = Arc::new(config.clone());
        self.watch.want(&config);
        *self.config.lock() = config;
        self.status.topics().look();
    }

    /// Looks at the topics again at once.
    pub fn look_again(&self) {
        self.status.topics().look();
    }

    /// Keeps the topics prepared; never ends.
    pub async fn run(&self) {
        let (mut log, mut schedule) = (Log::default(), Schedule::new(RETRY));
        loop {
            let config = Arc::clone(&self.config.lock());
            let looked = self.look(&config, &mut log).await.unwrap_or_else(|error| {
                log.failed(&error);
                Looked::Unfinished
            });
            schedule.wait(self.status.topics(), looked).await;
        }
    }

    async fn look(&self, config: &Config, log: &mut Log) -> Result<Looked, TopicsError> {
        let state = self.status.topics();
        let mut looked = Looked::Finished;
        // Without topics.create, a later look has nothing to do but to refresh the list of missing topics.
        if config.topics.create || state.phase() != Phase::Done {
            let topics = Topics::new(config)?;
            let plan = topics.plan().await?;
            log.compared(&plan);
            if config.topics.create {
                looked = self.create(&topics, &plan, log).await?;
            }
        }
        state.advance(Phase::Loading);
        self.watch.look();
        Ok(looked)
    }

    async fn create(&self, topics: &Topics, plan: &Plan, log: &mut Log) -> Result<Looked, TopicsError> {
        let state = self.status.topics();
        if !plan.create.is_empty() {
            state.advance(Phase::Creating);
        }
        let refused = topics.apply(plan).await?;
        let by_topic: BTreeMap<String, String> =
            refused.iter().map(|failed| (failed.topic.clone(), failed.error())).collect();
        let is_news = state.set_refused(by_topic);
        log.created(plan.create.len() - refused.len(), if is_news { &refused } else { &[] });
        Ok(if refused.is_empty() { Looked::Finished } else { Looked::Unfinished })
    }
}

/// When to look next.
#[derive(Debug)]
struct Schedule {
    retry: BackOff,
    /// Unfinished looks in a row.
    failures: u32,
}

impl Schedule {
    fn new(retry: BackOff) -> Self {
        Self { retry, failures: 0 }
    }

    /// Waits until a look is requested or, after an unfinished one, for the back-off.
    async fn wait(&mut self, state: &TopicState, looked: Looked) {
        self.failures = if looked == Looked::Finished { 0 } else { self.failures + 1 };
        let wait = (self.failures > 0).then(|| self.retry.jittered(self.failures));
        let retry_is_due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let asked = async {
            tokio::time::sleep(LEAST_DISTANCE).await;
            state.look_asked_for().await;
        };
        tokio::select! {
            () = asked => self.failures = 0,
            () = retry_is_due => {}
        }
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

    fn created(&self, created: usize, refused: &[Failed]) {
        if created > 0 {
            tracing::info!(topics = created, "topics were created");
        }
        if let Some(first) = refused.first() {
            tracing::error!(
                topics = refused.len(),
                error = %first,
                "Kafka refuses to create topics; retrying with back-off (/readyz lists them)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(schedule: &mut Schedule, state: &TopicState, looked: Looked) {
        let wait = schedule.wait(state, looked);
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the next look is due");
    }

    #[tokio::test]
    async fn a_refusal_is_retried_by_itself_and_a_request_does_not_wait_for_the_back_off() {
        let state = TopicState::default();
        let short = BackOff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
        let mut schedule = Schedule::new(short);
        for failures in 1..4 {
            waits(&mut schedule, &state, Looked::Unfinished).await;
            assert_eq!(schedule.failures, failures);
        }
        let hour = Duration::from_secs(3600);
        let mut schedule = Schedule { retry: BackOff { first: hour, longest: hour }, failures: 5 };
        state.look();
        waits(&mut schedule, &state, Looked::Unfinished).await;
        assert_eq!(schedule.failures, 0, "the back-off begins again");
        state.look();
        waits(&mut schedule, &state, Looked::Finished).await;
    }
}
