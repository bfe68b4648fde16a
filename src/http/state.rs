//! The state behind `/metrics`, `/readyz` and the console. Reading it never asks the cluster.

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
    pub(super) metrics: Arc<Metrics>,
    status: Arc<Status>,
    pub(super) admission: Arc<Admission>,
    pub(super) outages: Arc<Outages>,
    console: Option<Console>,
    vital: Vital,
    stopping: AtomicBool,
}

impl State {
    /// Makes the state from its parts.
    pub fn new(
        metrics: Arc<Metrics>,
        status: Arc<Status>,
        admission: Arc<Admission>,
        outages: Arc<Outages>,
        console: Option<Console>,
        vital: Vital,
    ) -> Self {
        Self { metrics, status, admission, outages, console, vital, stopping: AtomicBool::new(false) }
    }

    /// Makes `/readyz` answer 503 from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Ends the streams of viewers, which would delay the stop.
    pub fn end(&self) {
        if let Some(console) = &self.console {
            console.end();
        }
    }

    /// Returns the console if it is enabled.
    pub(super) fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// Returns the answer of `/readyz`.
    pub(super) fn readiness(&self) -> Readiness {
        let reasons = self.reasons();
        let refused = self.status.topics().refused().into_iter();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            missing_topics: self.status.topics().missing(),
            refused_topics: refused.map(|(topic, error)| RefusedTopic { topic, error }).collect(),
        }
    }

    /// Returns true while `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
            && self.vital.failure().is_none()
            && self.status.trouble().is_none()
    }

    /// Returns the reasons why the bridge is not ready; none while it is.
    pub fn reasons(&self) -> Vec<String> {
        let stopping = self.stopping.load(Ordering::Acquire).then(|| "shutting down".to_owned());
        stopping.into_iter().chain(self.vital.failure()).chain(self.status.trouble()).collect()
    }
}

/// Answer of `/readyz`.
#[derive(Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    reasons: Vec<String>,
    /// Topics that the cluster does not have, refused ones included.
    missing_topics: Vec<String>,
    /// Topics that Kafka refused to create.
    refused_topics: Vec<RefusedTopic>,
}

#[derive(Serialize)]
struct RefusedTopic {
    topic: String,
    /// Kafka's error and message.
    error: String,
}

/// Data of the console that the metrics do not have.
pub struct Console {
    pub(super) recent: Arc<Recent>,
    pub(super) any_name: bool,
    pub(super) ingress_port: u16,
    pub(super) max_in_flight: usize,
    pub(super) max_in_flight_bytes: usize,
    pub(super) started: Timestamp,
}

impl Console {
    /// Returns the console of a bridge whose configuration switches it on.
    pub fn new(config: &Config, bridge: &Bridge) -> Option<Self> {
        Some(Self {
            recent: Arc::clone(bridge.recent()?),
            any_name: config.admin.console == config::Console::On,
            ingress_port: config.ingress.listen.port(),
            max_in_flight: config.ingress.max_in_flight,
            max_in_flight_bytes: config.ingress.max_in_flight_bytes,
            started: Timestamp::now(),
        })
    }

    /// Ends the streams of all viewers.
    pub(super) fn end(&self) {
        self.recent.end();
    }
}
