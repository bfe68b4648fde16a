//! Every metric, declared once: names, help texts and labels of the contract, on a registry of our own.
//!
//! Label values come from the catalogue, the configuration and the cluster, never from a request. The series of a
//! source and action are looked up when its first delivery arrives (`PairMetrics`) and reached by index from then on,
//! so the hot path does no look-up by string and `/metrics` does not list thousands of series that never moved.

mod control;
mod deliveries;
mod limits;
mod log_lines;
#[cfg(target_os = "linux")]
mod process;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

pub use self::control::{ControlMetrics, WebhookSeries};
use self::deliveries::PairMetrics;
pub use self::deliveries::SourceMetrics;
pub use self::limits::Limits;
use self::log_lines::LogLines;
use crate::action::Actions;
use crate::outcome::{Outcome, QuarantineReason, SignatureWarning};
use crate::signature::Form;

/// Label value of an unknown source or action.
pub const UNKNOWN: &str = "unknown";

/// From a fast local broker to the default confirm time-out and beyond.
const BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The metrics of one bridge.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    deliveries: IntCounterVec,
    events_confirmed: IntCounterVec,
    last_confirmed: GaugeVec,
    signature_matches: IntCounterVec,
    signature_warnings: IntCounterVec,
    quarantined: IntCounterVec,
    redeliveries_suppressed: IntCounterVec,
    delivery_duration: [Histogram; Outcome::ALL.len()],
    confirm_duration: Histogram,
    broker_up: IntGaugeVec,
    broker_rtt: GaugeVec,
    throttled: CounterVec,
    in_flight_requests: IntGaugeVec,
    in_flight_requests_limit: IntGaugeVec,
    brokers: Mutex<BTreeSet<String>>,
    /// Deliveries in flight; set when the metrics are rendered.
    pub in_flight_deliveries: IntGauge,
    /// Bytes of their bodies; set when the metrics are rendered.
    pub in_flight_bytes: IntGauge,
    /// Messages without an answer.
    pub producer_queue_messages: IntGauge,
    /// Bytes of them, without headers.
    pub producer_queue_bytes: IntGauge,
    /// How often the producer was replaced, having died or being of no use.
    pub producer_rebuilds: IntCounter,
    reloads: [IntCounter; 2],
    log_lines: LogLines,
    certificate_expires: OnceLock<IntGauge>,
    /// 1 while `/readyz` answers 200.
    pub ready: IntGauge,
    /// Configured topics that the cluster does not have.
    pub topics_missing: IntGauge,
    /// Metrics of the webhooks in Nexudus.
    pub control: ControlMetrics,
}

impl Metrics {
    /// Declares every metric. `librdkafka` is that library's version, a label of `build_info`.
    pub fn new(librdkafka: &str) -> Self {
        let registry = Registry::new();
        let outcomes = vec(
            &registry,
            |opts, labels| HistogramVec::new(histogram(opts), labels),
            "delivery_duration_seconds",
            "Time from a delivery's arrival to its answer, by outcome.",
            &["outcome"],
        );
        let build_info: IntGaugeVec = vec(
            &registry,
            IntGaugeVec::new,
            "build_info",
            "1, labelled with the versions of the bridge and of librdkafka.",
            &["version", "librdkafka"],
        );
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), librdkafka]).set(1);
        let reloads: IntCounterVec = vec(
            &registry,
            IntCounterVec::new,
            "reloads_total",
            "Reloads of the configuration, secrets and the certificate, by result; a failed one keeps the old state.",
            &["result"],
        );
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(process::Process::new()))
            .expect("the process metrics have names of their own");
        Self {
            deliveries: vec(
                &registry,
                IntCounterVec::new,
                "deliveries_total",
                "Deliveries received, by source, action and outcome.",
                &["source", "action", "outcome"],
            ),
            events_confirmed: vec(
                &registry,
                IntCounterVec::new,
                "events_confirmed_total",
                "Events that Kafka confirmed, without quarantined bodies.",
                &["source", "action"],
            ),
            last_confirmed: vec(
                &registry,
                GaugeVec::new,
                "last_confirmed_timestamp_seconds",
                "Time of the last confirmed event, as Unix time.",
                &["source", "action"],
            ),
            signature_matches: vec(
                &registry,
                IntCounterVec::new,
                "signature_matches_total",
                "Valid signatures, by the signed form of the body (raw, folded).",
                &["source", "form"],
            ),
            signature_warnings: vec(
                &registry,
                IntCounterVec::new,
                "signature_warnings_total",
                "Deliveries accepted with a missing or invalid signature, because the source only warns.",
                &["source", "reason"],
            ),
            quarantined: vec(
                &registry,
                IntCounterVec::new,
                "quarantined_total",
                "Bodies kept whole on the quarantine topic, by reason.",
                &["source", "reason"],
            ),
            redeliveries_suppressed: vec(
                &registry,
                IntCounterVec::new,
                "redeliveries_suppressed_total",
                "Retries answered with the confirmation of an earlier attempt, whose answer Nexudus did not get.",
                &["source", "action"],
            ),
            delivery_duration: Outcome::ALL.map(|outcome| outcomes.with_label_values(&[outcome.label()])),
            confirm_duration: one(
                &registry,
                "confirm_duration_seconds",
                "Time from handing the events of a delivery to the producer until the last delivery report.",
                |opts| Histogram::with_opts(histogram(opts)),
            ),
            broker_up: vec(
                &registry,
                IntGaugeVec::new,
                "broker_up",
                "1 while the producer is connected to the broker.",
                &["broker"],
            ),
            broker_rtt: vec(
                &registry,
                GaugeVec::new,
                "broker_rtt_seconds",
                "Round trip time of requests to the broker over the client's last statistics interval.",
                &["broker", "percentile"],
            ),
            in_flight_requests: vec(
                &registry,
                IntGaugeVec::new,
                "in_flight_requests",
                "Produce requests that the broker has not answered, at the last statistics interval.",
                &["broker"],
            ),
            in_flight_requests_limit: vec(
                &registry,
                IntGaugeVec::new,
                "in_flight_requests_limit",
                "How many produce requests may be in flight for the broker; follows the load and the distance.",
                &["broker"],
            ),
            throttled: vec(
                &registry,
                CounterVec::new,
                "producer_throttled_seconds_total",
                "Time for which the broker throttled the producer because of its quota.",
                &["broker"],
            ),
            brokers: Mutex::default(),
            in_flight_deliveries: one(
                &registry,
                "in_flight_deliveries",
                "Deliveries between arrival and delivery report.",
                IntGauge::with_opts,
            ),
            in_flight_bytes: one(
                &registry,
                "in_flight_bytes",
                "Bytes of the bodies of deliveries between arrival and delivery report.",
                IntGauge::with_opts,
            ),
            producer_queue_messages: one(
                &registry,
                "producer_queue_messages",
                "Messages in the queues of the producers or in flight.",
                IntGauge::with_opts,
            ),
            producer_queue_bytes: one(
                &registry,
                "producer_queue_bytes",
                "Bytes in the queues of the producers or in flight.",
                IntGauge::with_opts,
            ),
            producer_rebuilds: one(
                &registry,
                "producer_rebuilds_total",
                "Producers replaced after a fatal error, or because a new one works and the old one does not.",
                IntCounter::with_opts,
            ),
            reloads: ["failed", "ok"].map(|result| reloads.with_label_values(&[result])),
            log_lines: LogLines::new(&registry),
            certificate_expires: OnceLock::new(),
            ready: one(&registry, "ready", "1 while /readyz answers 200.", IntGauge::with_opts),
            topics_missing: one(
                &registry,
                "topics_missing",
                "Configured topics that the cluster does not have.",
                IntGauge::with_opts,
            ),
            control: ControlMetrics::new(&registry),
            registry,
        }
    }

    /// The series of one source, those of its actions by action index.
    pub fn source(&self, name: &str, actions: &Actions) -> SourceMetrics {
        let names = actions.iter().map(|action| action.name().to_owned());
        SourceMetrics {
            actions: names.map(|action| (action, OnceLock::new())).collect(),
            unknown: (UNKNOWN.to_owned(), OnceLock::new()),
            matches: [Form::Raw, Form::Folded]
                .map(|form| self.signature_matches.with_label_values(&[name, form.label()])),
            warnings: [SignatureWarning::Missing, SignatureWarning::Invalid]
                .map(|warning| self.signature_warnings.with_label_values(&[name, warning.label()])),
            quarantined: QuarantineReason::ALL
                .map(|reason| self.quarantined.with_label_values(&[name, reason.label()])),
            name: name.to_owned(),
        }
    }

    /// The series of a source's action; `None` for an action that it does not know.
    pub fn pair<'a>(&self, source: &'a SourceMetrics, action_index: Option<usize>) -> &'a PairMetrics {
        let (action, pair) =
            action_index.map_or(&source.unknown, |action_index| &source.actions[action_index]);
        pair.get_or_init(|| PairMetrics::new(self, &source.name, action))
    }

    /// Counts a delivery that was answered, or would have been if its client were still there.
    pub fn answered(
        &self,
        source: &SourceMetrics,
        action_index: Option<usize>,
        outcome: Outcome,
        duration: Duration,
    ) {
        let pair = self.pair(source, action_index);
        match &pair.listed[outcome as usize] {
            Some(counter) => counter.inc(),
            None => {
                let (source, action) = source.labels(action_index);
                self.deliveries.with_label_values(&[source, action, outcome.label()]).inc();
            }
        }
        self.delivery_duration[outcome as usize].observe(duration.as_secs_f64());
    }

    /// Counts confirmed events of one action.
    pub fn confirmed(&self, source: &SourceMetrics, action_index: Option<usize>, events: usize) {
        let pair = self.pair(source, action_index);
        pair.events_confirmed.inc_by(events as u64);
        let action =
            action_index.map_or(&source.unknown, |action_index| &source.actions[action_index]).0.as_str();
        let gauge = pair
            .last_confirmed
            .get_or_init(|| self.last_confirmed.with_label_values(&[&source.name, action]));
        gauge.set(unix_seconds());
    }

    /// Counts a delivery that was answered with the confirmation of an earlier attempt.
    pub fn redelivery_suppressed(&self, source: &SourceMetrics, action_index: Option<usize>) {
        self.pair(source, action_index).suppressed.inc();
    }

    /// Notes how long a delivery's events took to be confirmed.
    pub fn confirmation_took(&self, duration: Duration) {
        self.confirm_duration.observe(duration.as_secs_f64());
    }

    /// Returns the counts from which the health of the producer follows.
    pub fn delivery_counts(&self) -> DeliveryCounts {
        DeliveryCounts {
            confirmed: self.confirm_duration.get_sample_count(),
            timed_out: self.delivery_duration[Outcome::Timeout as usize].get_sample_count(),
        }
    }

    /// Sets the expiry of the ingress's certificate, as Unix time. Without a certificate there is no such series.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        let name = "tls_certificate_not_after_timestamp_seconds";
        let help = "Expiry of the certificate of the ingress, as Unix time.";
        let gauge =
            self.certificate_expires.get_or_init(|| one(&self.registry, name, help, IntGauge::with_opts));
        gauge.set(unix_seconds);
    }

    /// Shows how many lines the log has dropped: because its queue was full, and because they could not be written.
    pub fn count_dropped_lines(&self, dropped: impl Fn() -> [u64; 2] + Send + Sync + 'static) {
        self.log_lines.count(dropped);
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        self.reloads[usize::from(ok)].inc();
    }

    /// Replaces the series of the brokers.
    pub fn set_brokers<'a>(&self, brokers: impl Iterator<Item = BrokerSample<'a>>) {
        let mut known = self.brokers.lock();
        let mut present = BTreeSet::new();
        for BrokerSample { broker, is_up, rtt, requests: [in_flight, limit] } in brokers {
            self.in_flight_requests
                .with_label_values(&[broker])
                .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
            self.in_flight_requests_limit
                .with_label_values(&[broker])
                .set(i64::try_from(limit).unwrap_or(i64::MAX));
            self.broker_up.with_label_values(&[broker]).set(is_up.into());
            for (percentile, seconds) in rtt {
                self.broker_rtt.with_label_values(&[broker, percentile]).set(seconds);
            }
            present.insert(broker.to_owned());
        }
        for gone in known.difference(&present) {
            // A series that was never set is no error here.
            drop(self.broker_up.remove_label_values(&[gone]));
            drop(self.throttled.remove_label_values(&[gone]));
            drop(self.in_flight_requests.remove_label_values(&[gone]));
            drop(self.in_flight_requests_limit.remove_label_values(&[gone]));
            for percentile in BROKER_PERCENTILES {
                drop(self.broker_rtt.remove_label_values(&[gone, percentile]));
            }
        }
        *known = present;
    }

    /// Adds to the time for which a broker throttled the producer; 0 lists the series.
    pub fn broker_throttled(&self, broker: &str, time: Duration) {
        self.throttled.with_label_values(&[broker]).inc_by(time.as_secs_f64());
    }

    /// All metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.log_lines.update();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what was registered can be rendered")
    }
}

/// Deliveries since the start, by the result of their events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Confirmed by the broker.
    pub confirmed: u64,
    /// Answered without a confirmation, which did not arrive in time.
    pub timed_out: u64,
}

/// A broker as the client's statistics show it.
#[derive(Debug, Clone, Copy)]
pub struct BrokerSample<'a> {
    /// Its address.
    pub broker: &'a str,
    /// Whether the producer is connected.
    pub is_up: bool,
    /// Round trip times in seconds by percentile.
    pub rtt: [(&'static str, f64); 2],
    /// Requests in flight, and how many there may be.
    pub requests: [usize; 2],
}

/// The percentiles of `broker_rtt_seconds`.
pub const BROKER_PERCENTILES: [&str; 2] = ["50", "99"];

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("nexudus_bridge")
}

fn one<C: Collector + Clone + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
    make: impl FnOnce(Opts) -> prometheus::Result<C>,
) -> C {
    let metric = make(opts(name, help)).expect("the names here are valid");
    registry.register(Box::new(metric.clone())).expect("each name is declared once");
    metric
}

fn vec<C: Collector + Clone + 'static>(
    registry: &Registry,
    make: impl FnOnce(Opts, &[&str]) -> prometheus::Result<C>,
    name: &str,
    help: &str,
    labels: &[&str],
) -> C {
    one(registry, name, help, |opts| make(opts, labels))
}

fn histogram(opts: Opts) -> HistogramOpts {
    HistogramOpts::from(opts).buckets(BUCKETS_SECONDS.to_vec())
}
