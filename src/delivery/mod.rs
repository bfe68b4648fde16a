//! The meaning of a delivery: from what came in to what is answered. Knows no HTTP server and no Kafka client.
//!
//! The stages are read in the order in which a delivery passes them: [`address`] and [`admission`] (may it come in),
//! [`receiving`] (its body is on the way), [`verify`] (did Nexudus send it), [`decode`] (its records), [`route`] (their events), then publish and confirm
//! (`settle`). Each takes the last one's type, so none can be skipped. What was begun is brought to its end: neither a
//! client that hangs up nor the deadline of the answer ends a confirmation (`settlement`), and the retry of what was
//! confirmed without being answered is recognised (`redelivery`). [`replay`] takes what was quarantined through the same
//! stages once more.

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
use crate::event::{EventId, Stream};
use crate::kafka::producer::Producer;
use crate::metrics::{Metrics, SourceMetrics, UNKNOWN};
use crate::outcome::Outcome;
use crate::recent::Recent;
use crate::telemetry::trace::{DeliverySpan, Traces};

/// How far the answer's deadline lies above the producer's, whose word is the better answer.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// A delivery that was answered 2xx: what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Confirmed, quarantined or empty.
    pub outcome: Outcome,
    /// Where its events lie.
    pub events: Vec<Confirmed>,
}

/// An event that the broker confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// `ce_id`.
    pub id: EventId,
    /// Its stream, which names the topic.
    pub stream: Arc<Stream>,
    /// The partition.
    pub partition: i32,
    /// The offset within it.
    pub offset: i64,
}

/// A delivery that was not answered 2xx: why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub outcome: Outcome,
    /// What exactly, and what to do about it. Holds no secret and no host.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}

type Origins = BTreeMap<Arc<str>, Arc<Origin>>;

/// The bridge: takes deliveries, publishes their events, and answers once the broker has confirmed them.
pub struct Bridge {
    /// Replaced as a whole by a reload; a delivery keeps the one that it was addressed to.
    origins: ArcSwap<Origins>,
    unknown_source: SourceMetrics,
    admission: Arc<Admission>,
    router: Router,
    producer: Arc<Producer>,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    /// Where there is a console to show it.
    recent: Option<Arc<Recent>>,
    /// Where they are made.
    traces: Option<Arc<Traces>>,
    memory: Arc<Memory>,
    key_field: String,
    confirm_timeout: Duration,
    runtime: Handle,
}

impl Bridge {
    /// Puts a bridge together. What outlives its request goes on in the runtime that this is called in.
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

    /// What may be in flight, and is.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// What happened just now, where there is a console to show it.
    pub fn recent(&self) -> Option<&Arc<Recent>> {
        self.recent.as_ref()
    }

    /// Takes deliveries for these sources from now on, with their secrets. Those that are addressed already go on as they
    /// were.
    pub fn adopt(&self, sources: &BTreeMap<Arc<str>, Arc<Source>>) {
        self.origins.store(Arc::new(origins(sources, &self.router, &self.metrics)));
    }

    /// The quarantine topic's name.
    pub fn quarantine_topic(&self) -> &Arc<str> {
        self.router.quarantine_topic()
    }

    /// Judges all of a request that can be judged before its body is read.
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

    /// Counts and reports the refusal of a delivery whose body could not be taken.
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

    /// Tells the log and the console of a refusal.
    fn report(&self, labels: (&str, &str), refusal: &Refusal) {
        self.reporter.refused(labels, refusal);
        if let Some(recent) = &self.recent {
            recent.refused(labels, refusal.outcome, &refusal.detail);
        }
    }

    /// A delivery with its body: verified, decoded, published, and every event confirmed before this returns.
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

/// Finds the source that a URL names, without regard to case; `None` is the short form, for the default source.
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
