//! The stages of a delivery, from its head to its answer. Uses neither the HTTP server nor librdkafka.
//!
//! A delivery passes the stages in this order: [`address`] and [`admission`] (accept or refuse), [`receiving`] (its body),
//! [`verify`] (its signature), [`decode`] (its records), [`route`] (their events), then publish and confirm (`settle`). Each
//! stage takes the type of the previous one, so none can be skipped. Neither a client that disconnects nor the deadline of the
//! answer ends a confirmation (`settlement`). If a confirmed delivery was not answered, the bridge recognises its retry
//! (`redelivery`). [`replay`] takes quarantined deliveries through the same stages again.

pub mod address;
pub mod admission;
pub mod decode;
pub mod receiving;
mod redelivery;
pub mod replay;
mod report;
pub mod route;
mod settle;
mod settlement;
pub mod verify;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::runtime::Handle;
use uuid::Uuid;

use self::address::{Addressed, Origin, Request};
use self::admission::{Admission, Permit};
use self::receiving::Receiving;
use self::redelivery::Memory;
use self::report::Reporter;
use self::route::Router;
use self::settlement::{Settlement, Tally};
use crate::config::{Config, Console, Source};
use crate::event::{Event, EventId, Stream};
use crate::kafka::confirm::Position;
use crate::kafka::producer::Producer;
use crate::metrics::{Metrics, SourceMetrics, UNKNOWN};
use crate::outcome::Outcome;
use crate::recent::Recent;
use crate::telemetry::trace::{DeliverySpan, Traces};

/// Time between the producer's deadline and the answer's. The error of the producer is the more precise answer.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// The answer to an accepted delivery: a 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Confirmed, quarantined or empty.
    pub outcome: Outcome,
    /// The topics, partitions and offsets of its events.
    pub events: Vec<Confirmed>,
}

/// An event that the broker confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The `ce_id` of the event.
    pub id: EventId,
    /// The stream of the event, which names the topic.
    pub stream: Arc<Stream>,
    /// The partition.
    pub partition: i32,
    /// The offset within it; `None` if the broker did not name it.
    pub offset: Option<i64>,
}

impl Confirmed {
    fn new(event: &Event, Position { partition, offset }: Position) -> Self {
        Self { id: event.attributes.id, stream: Arc::clone(&event.stream), partition, offset }
    }
}

/// The answer to a delivery that is not accepted: any status but 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal.
    pub outcome: Outcome,
    /// The reason and the remedy. Holds no secret and no host.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// Makes a refusal with its reason.
    pub fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}

type Origins = BTreeMap<Arc<str>, Arc<Origin>>;

/// The bridge: takes deliveries, publishes their events, and answers once the broker has confirmed them.
pub struct Bridge {
    /// The sources. A reload replaces the whole map; a delivery keeps the source that it was addressed to.
    origins: ArcSwap<Origins>,
    unknown_source: SourceMetrics,
    admission: Arc<Admission>,
    router: Router,
    producer: Arc<Producer>,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    /// Recent setbacks and events; present if the console is enabled.
    recent: Option<Arc<Recent>>,
    /// Present if traces are enabled.
    traces: Option<Arc<Traces>>,
    memory: Arc<Memory>,
    key_field: String,
    confirm_timeout: Duration,
    runtime: Handle,
}

impl Bridge {
    /// Makes a bridge. Settlements that outlive their request continue in the runtime of this call.
    pub fn new(
        config: &Config,
        producer: Arc<Producer>,
        metrics: Arc<Metrics>,
        traces: Option<Arc<Traces>>,
    ) -> Self {
        let router = Router::new(config);
        Self {
            origins: ArcSwap::from_pointee(origins(&config.sources, &router, &metrics)),
            unknown_source: metrics.source(UNKNOWN, &crate::action::Actions::default()),
            admission: Arc::new(Admission::new(
                config.ingress.max_in_flight,
                config.ingress.max_in_flight_bytes,
            )),
            router,
            producer,
            metrics,
            reporter: Reporter::default(),
            recent: (config.admin.console != Console::Off).then(Arc::default),
            traces,
            memory: Arc::new(Memory::new(&config.redelivery)),
            key_field: config.topics.key.clone(),
            confirm_timeout: config.kafka.confirm_timeout,
            runtime: Handle::current(),
        }
    }

    /// Returns the admission of deliveries.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns recent setbacks and events; `None` if the console is disabled.
    pub fn recent(&self) -> Option<&Arc<Recent>> {
        self.recent.as_ref()
    }

    /// Replaces the sources with their secrets. Addressed deliveries keep their source.
    pub fn adopt(&self, sources: &BTreeMap<Arc<str>, Arc<Source>>) {
        self.origins.store(Arc::new(origins(sources, &self.router, &self.metrics)));
    }

    /// Returns the name of the quarantine topic.
    pub fn quarantine_topic(&self) -> &Arc<str> {
        self.router.quarantine_topic()
    }

    /// Judges the head of a request.
    ///
    /// # Errors
    /// The refusal, counted and reported.
    pub fn address(self: &Arc<Self>, request: Request<'_>) -> Result<Receiving, Refusal> {
        let started = Instant::now();
        let traces = self.traces.as_ref();
        let span = traces
            .map(|traces| traces.delivery(request.source.is_some(), &request.trace))
            .unwrap_or_default();
        let origins = self.origins.load();
        let Some(origin) = origin(&origins, request.source) else {
            let refusal = Refusal::new(Outcome::UnknownSource, "no source of this name is configured");
            self.refused(&self.unknown_source, None, &span, started, &refusal);
            return Err(refusal);
        };
        let action_index = origin.source.actions.find(request.action);
        match Addressed::new(Arc::clone(origin), action_index, request, started) {
            Ok(addressed) => Ok(Receiving::new(Arc::clone(self), Addressed { span, ..addressed })),
            Err(refusal) => {
                self.refused(&origin.metrics, action_index, &span, started, &refusal);
                Err(refusal)
            }
        }
    }

    /// Refuses a request that is not a POST.
    pub fn wrong_method(&self, source: Option<&str>, action: &str) -> Refusal {
        let refusal = Refusal::new(Outcome::Method, "webhooks are delivered by POST");
        let origins = self.origins.load();
        let origin = origin(&origins, source);
        let metrics = origin.map_or(&self.unknown_source, |origin| &origin.metrics);
        let action_index = origin.and_then(|origin| origin.source.actions.find(action));
        self.refused(metrics, action_index, &DeliverySpan::default(), Instant::now(), &refusal);
        refusal
    }

    /// Counts and reports the refusal of a delivery whose body could not be read.
    fn refused_when_addressed(&self, addressed: &Addressed, refusal: &Refusal) {
        let Addressed { origin, span, started, .. } = addressed;
        self.refused(&origin.metrics, addressed.action_index(), span, *started, refusal);
    }

    fn refused(
        &self,
        metrics: &SourceMetrics,
        action_index: Option<usize>,
        span: &DeliverySpan,
        started: Instant,
        refusal: &Refusal,
    ) {
        self.metrics.answered(metrics, action_index, refusal.outcome, started.elapsed());
        span.answered(metrics.labels(action_index), refusal.outcome, &refusal.detail);
        self.report(metrics.labels(action_index), refusal);
    }

    /// Reports a refusal to the log and the console.
    fn report(&self, labels: (&str, &str), refusal: &Refusal) {
        self.reporter.refused(labels, refusal);
        if let Some(recent) = &self.recent {
            recent.refused(labels, refusal.outcome, &refusal.detail);
        }
    }

    /// Verifies, decodes and publishes a delivery with its body. Returns when every event is confirmed.
    ///
    /// # Errors
    /// The refusal, counted and reported. A time-out means that the events may still be confirmed later.
    async fn handle(
        self: &Arc<Self>,
        addressed: Addressed,
        body: Bytes,
        permit: Permit,
    ) -> Result<Receipt, Refusal> {
        let mut tally = Tally::new(&addressed);
        let verified = match verify::verify(addressed, body) {
            Ok(verified) => verified,
            Err(refusal) => {
                let result = Err(refusal);
                tally.answered(self, &result, Instant::now());
                return result;
            }
        };
        let content = decode::decode(&verified.body, &self.key_field, decode::MAX_RECORDS);
        let routed = self.router.route(&verified, content, Uuid::now_v7);
        let began = Instant::now();
        tally.recognise(&verified);
        let first = tally.first_attempt(self, began);
        let settling = settle::settle(Arc::clone(self), verified, routed, permit, first);
        let mut settlement = Settlement::new(self, settling, tally, began);
        let deadline = tokio::time::Instant::from_std(began) + self.confirm_timeout + DEADLINE_MARGIN;
        match tokio::time::timeout_at(deadline, &mut settlement).await {
            Ok(result) => result,
            Err(_elapsed) => settlement.give_up(self.late()),
        }
    }
}

/// Returns the source that a URL names, without regard to case. In the short form of the URL, `name` is `None` and means the
/// default source.
fn origin<'a>(origins: &'a Origins, name: Option<&str>) -> Option<&'a Arc<Origin>> {
    let name = name.unwrap_or(Source::DEFAULT);
    // The configuration allows lower-case names only.
    origins.get(name).or_else(|| origins.get(name.to_ascii_lowercase().as_str()))
}

fn origins(sources: &BTreeMap<Arc<str>, Arc<Source>>, router: &Router, metrics: &Metrics) -> Origins {
    let origin = |source: &Arc<Source>| Origin {
        metrics: metrics.source(&source.name, &source.actions),
        streams: router.streams(source),
        source: Arc::clone(source),
    };
    sources.values().map(|source| (Arc::clone(&source.name), Arc::new(origin(source)))).collect()
}
