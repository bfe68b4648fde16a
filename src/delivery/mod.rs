//! The stages of a delivery, from its head to its answer. Uses neither the HTTP server nor librdkafka.
//!
//! A delivery passes the stages in this order:
//!
//! 1. [`address`] and [`admission`]: accept or refuse;
//! 2. [`receiving`]: takes the body, which `http` has read, through the later stages;
//! 3. [`verify`]: the signature;
//! 4. [`decode`]: the records;
//! 5. [`route`]: the events;
//! 6. `settle`: publish and confirm.
//!
//! Each stage takes the type of the previous one, so no stage can be skipped. Neither a client that disconnects nor the deadline of
//! the answer ends a confirmation (`settlement`). If a confirmed delivery was not answered, the bridge recognises its retry
//! (`redelivery`). `tally` counts each delivery once. [`replay`] publishes quarantined deliveries by the same stages.

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
mod tally;
pub mod verify;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Serialize, Serializer};
use tokio::runtime::Handle;

use self::address::{Addressed, Origin, Request};
use self::admission::Admission;
use self::receiving::Receiving;
use self::redelivery::Memory;
use self::report::Reporter;
use self::tally::Tally;
use crate::config::{Config, Console, Source, Topics};
use crate::event::{Event, EventId, Stream};
use crate::kafka::confirm::Position;
use crate::kafka::producer::Producer;
use crate::metrics::{Metrics, SourceMetrics, UNKNOWN};
use crate::outcome::Outcome;
use crate::recent::Recent;
use crate::telemetry::trace::Traces;

/// The answer to an accepted delivery: a 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Confirmed, quarantined or empty.
    #[serde(rename = "status")]
    pub outcome: Outcome,
    /// The topics, partitions and offsets of its events.
    pub events: Vec<Confirmed>,
}

/// An event that the broker confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// The `ce_id` of the event.
    pub id: EventId,
    /// The stream of the event, which contains the topic.
    #[serde(rename = "topic", serialize_with = "topic")]
    pub stream: Arc<Stream>,
    /// The partition.
    pub partition: i32,
    /// The offset within it; `None` if the broker did not name it.
    pub offset: Option<i64>,
}

fn topic<S: Serializer>(stream: &Stream, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&stream.topic)
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
    /// The deliveries in flight.
    pub admission: Arc<Admission>,
    topics: Topics,
    producer: Arc<Producer>,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    /// Recent setbacks and events; present if the console is enabled.
    pub recent: Option<Arc<Recent>>,
    /// Present if traces are enabled.
    traces: Option<Arc<Traces>>,
    memory: Arc<Memory>,
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
        Self {
            origins: ArcSwap::from_pointee(origins(&config.sources, &config.topics, &metrics)),
            unknown_source: metrics.source(UNKNOWN, &crate::action::Actions::default()),
            admission: Arc::new(Admission::new(
                config.ingress.max_in_flight,
                config.ingress.max_in_flight_bytes,
            )),
            topics: config.topics.clone(),
            producer,
            metrics,
            reporter: Reporter::default(),
            recent: (config.admin.console != Console::Off).then(Arc::default),
            traces,
            memory: Arc::new(Memory::new(&config.redelivery)),
            confirm_timeout: config.kafka.confirm_timeout,
            runtime: Handle::current(),
        }
    }

    /// Replaces the sources with their secrets. Addressed deliveries keep their source.
    pub fn adopt(&self, sources: &BTreeMap<Arc<str>, Arc<Source>>) {
        self.origins.store(Arc::new(origins(sources, &self.topics, &self.metrics)));
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    /// The refusal, counted and reported.
    pub fn address(self: &Arc<Self>, request: Request<'_>) -> Result<Receiving, Refusal> {
        let mut tally = Tally::new(self, request.source, request.action);
        if let Some(traces) = &self.traces {
            tally.span = traces.delivery(request.source.is_some(), &request.trace);
        }
        match Addressed::new(tally.origin.clone(), tally.action_index, request) {
            Ok(addressed) => Ok(Receiving { tally, addressed }),
            Err(refusal) => Err(tally.refuse(refusal)),
        }
    }

    /// Refuses a request that is not a POST.
    pub fn wrong_method(self: &Arc<Self>, source: Option<&str>, action: &str) -> Refusal {
        let refusal = Refusal::new(Outcome::Method, "webhooks are delivered by POST");
        Tally::new(self, source, action).refuse(refusal)
    }

    /// Returns the source with the name in a URL, without regard to case.
    fn origin(&self, name: Option<&str>) -> Option<Arc<Origin>> {
        let name = name.unwrap_or(Source::DEFAULT);
        let origins = self.origins.load();
        // The configuration allows lower-case names only.
        origins.get(name).or_else(|| origins.get(name.to_ascii_lowercase().as_str())).cloned()
    }
}

fn origins(sources: &BTreeMap<Arc<str>, Arc<Source>>, topics: &Topics, metrics: &Metrics) -> Origins {
    let origin = |source: &Arc<Source>| Origin {
        metrics: metrics.source(&source.name, &source.actions),
        streams: route::streams(topics, source),
        source: Arc::clone(source),
    };
    sources.values().map(|source| (Arc::clone(&source.name), Arc::new(origin(source)))).collect()
}
