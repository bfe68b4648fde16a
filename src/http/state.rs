//! The state behind `/metrics`, `/readyz` and the console. Reading it sends no request to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{self, Config};
use crate::delivery::Bridge;
use crate::delivery::admission::Admission;
use crate::kafka::status::Status;
use crate::metrics::Metrics;
use crate::outage::Outages;
use crate::recent::Recent;
use crate::vital::Vital;

/// State that the admin listener reads.
pub struct State {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The last known state of the Kafka cluster.
    pub status: Arc<Status>,
    /// The deliveries in flight.
    pub admission: Arc<Admission>,
    /// The outages that no catch-up has covered.
    pub outages: Arc<Outages>,
    /// The console if it is enabled.
    pub console: Option<Console>,
    /// The vital threads and tasks.
    pub vital: Vital,
    /// True after [`State::stop`].
    pub is_stopping: AtomicBool,
}

impl State {
    /// Makes `/readyz` answer 503 from now on.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Ends the streams of viewers, which would delay the stop.
    pub fn end_streams(&self) {
        if let Some(console) = &self.console {
            console.recent.end();
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let reasons = self.reasons();
        let refused = self.status.topics.refused().into_iter();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            missing_topics: self.status.topics.missing(),
            refused_topics: refused.map(|(topic, error)| RefusedTopic { topic, error }).collect(),
        }
    }

    /// Returns true while `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Returns the reasons why the bridge is not ready; none while it is.
    pub fn reasons(&self) -> Vec<String> {
        let stopping = self.is_stopping.load(Ordering::Acquire).then(|| "shutting down".to_owned());
        stopping.into_iter().chain(self.vital.failure()).chain(self.status.not_ready_reason()).collect()
    }
}

/// Answer of `/readyz`.
#[derive(Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    /// Topics that the cluster does not have, refused ones included.
    pub(super) missing_topics: Vec<String>,
    /// Topics that Kafka refused to create.
    pub(super) refused_topics: Vec<RefusedTopic>,
}

#[derive(Serialize)]
pub(super) struct RefusedTopic {
    topic: String,
    /// Kafka's error and message.
    error: String,
}

/// Data of the console that the metrics do not have.
pub struct Console {
    pub(super) recent: Arc<Recent>,
    /// True if requests may use any host name, also one that DNS rebinding can forge.
    pub(super) allows_any_host: bool,
    pub(super) ingress: config::Ingress,
    pub(super) started: Timestamp,
}

impl Console {
    /// Returns the console of a bridge whose configuration switches it on.
    pub fn new(config: &Config, bridge: &Bridge) -> Option<Self> {
        Some(Self {
            recent: Arc::clone(bridge.recent.as_ref()?),
            allows_any_host: config.admin.console == config::Console::On,
            ingress: config.ingress.clone(),
            started: Timestamp::now(),
        })
    }
}
