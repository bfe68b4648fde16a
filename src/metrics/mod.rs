//! Every metric, declared once: names, help texts and labels of the contract, on a registry of our own.
//!
//! Label values come from the catalogue, the configuration and the cluster, never from a request. The series of a source and
//! action are created when its first delivery arrives (`PairMetrics`) and reached by index from then on. So the hot path does no
//! look-up by string, and `/metrics` does not list thousands of series without a delivery.

mod brokers;
mod control;
mod deliveries;
#[cfg(target_os = "linux")]
mod process;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::brokers::BrokerMetrics;
pub use self::brokers::BrokerSample;
pub use self::control::{ControlMetrics, WebhookSeries};
use self::deliveries::DeliveryMetrics;
pub use self::deliveries::{DeliveryCounts, SourceMetrics};
use crate::config::Config;

/// Label value of an unknown source or action.
pub const UNKNOWN: &str = "unknown";

/// The metrics of one bridge.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    deliveries: DeliveryMetrics,
    brokers: BrokerMetrics,
    /// Deliveries in flight; set when the metrics are rendered.
    pub in_flight_deliveries: IntGauge,
    /// Bytes of the bodies of deliveries in flight; set when the metrics are rendered.
    pub in_flight_bytes: IntGauge,
    /// Messages without a delivery report.
    pub producer_queue_messages: IntGauge,
    /// Bytes of the messages without a delivery report, without headers.
    pub producer_queue_bytes: IntGauge,
    /// Number of times that the producer was replaced: after a fatal error, or because a new one worked and the old one did not.
    pub producer_rebuilds: IntCounter,
    reloads: [IntCounter; 2],
    log_lines_dropped: [IntCounter; 2],
    /// The log's own numbers of dropped lines, since it starts before the metrics: because the queue was full, and because they
    /// could not be written.
    pub dropped_lines: OnceLock<Arc<[AtomicU64; 2]>>,
    certificate_expires: Snapshot<0>,
    /// 1 while `/readyz` answers 200.
    pub ready: IntGauge,
    /// Configured topics that the cluster does not have.
    pub topics_missing: IntGauge,
    /// Metrics of the webhooks in Nexudus.
    pub control: ControlMetrics,
}

impl Metrics {
    /// Declares every metric. `librdkafka` is the version of librdkafka, a label of `build_info`.
    pub fn new(librdkafka: &str) -> Self {
        let registry = Registry::new();
        let gauge = |name, help| one(&registry, IntGauge::with_opts, name, help);
        let counters = |name, help, label| vec(&registry, IntCounterVec::new, name, help, &[label]);
        let build_info = vec(
            &registry,
            IntGaugeVec::new,
            "build_info",
            "1, labelled with the versions of the bridge and of librdkafka.",
            &["version", "librdkafka"],
        );
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), librdkafka]).set(1);
        let reloads = counters(
            "reloads_total",
            "Reloads of the configuration, secrets and the certificate, by result; a failed one keeps the old state.",
            "result",
        );
        let log_lines = counters(
            "log_lines_dropped_total",
            "Log lines that were dropped, by reason (queue_full, write_failed).",
            "reason",
        );
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(process::Process::new()))
            .expect("the process metrics have names of their own");
        Self {
            deliveries: DeliveryMetrics::new(&registry),
            brokers: BrokerMetrics::new(&registry),
            in_flight_deliveries: gauge(
                "in_flight_deliveries",
                "Deliveries between arrival and delivery report.",
            ),
            in_flight_bytes: gauge(
                "in_flight_bytes",
                "Bytes of the bodies of deliveries between arrival and delivery report.",
            ),
            producer_queue_messages: gauge(
                "producer_queue_messages",
                "Messages in the queues of the producers or in flight.",
            ),
            producer_queue_bytes: gauge(
                "producer_queue_bytes",
                "Bytes in the queues of the producers or in flight.",
            ),
            producer_rebuilds: one(
                &registry,
                IntCounter::with_opts,
                "producer_rebuilds_total",
                "Producers replaced after a fatal error, or because a new one works and the old one does not.",
            ),
            reloads: ["failed", "ok"].map(|result| reloads.with_label_values(&[result])),
            log_lines_dropped: ["queue_full", "write_failed"]
                .map(|reason| log_lines.with_label_values(&[reason])),
            dropped_lines: OnceLock::new(),
            certificate_expires: Snapshot::new(
                &registry,
                "tls_certificate_not_after_timestamp_seconds",
                "Expiry of the certificate of the ingress, as Unix time.",
                [],
            ),
            ready: gauge("ready", "1 while /readyz answers 200."),
            topics_missing: gauge("topics_missing", "Configured topics that the cluster does not have."),
            control: ControlMetrics::new(&registry),
            registry,
        }
    }

    /// Declares and sets the limits and time-outs with which alerts and the dashboard compare other metrics. `queue` is the maximum
    /// of messages and bytes in a producer's queue, infinite if librdkafka has no limit. Called once, at start.
    pub fn limits(&self, config: &Config, queue: [f64; 2]) {
        for (name, help, value) in [
            (
                "in_flight_deliveries_limit",
                "Maximum of in_flight_deliveries (ingress.max_in_flight).",
                config.ingress.max_in_flight as f64,
            ),
            (
                "in_flight_bytes_limit",
                "Maximum of in_flight_bytes (ingress.max_in_flight_bytes).",
                config.ingress.max_in_flight_bytes as f64,
            ),
            (
                "redelivery_bytes_limit",
                "Maximum size of the redelivery memory (redelivery.max_bytes).",
                config.redelivery.max_bytes as f64,
            ),
            (
                "producer_queue_messages_limit",
                "Maximum number of messages in a producer's queue (queue.buffering.max.messages).",
                queue[0],
            ),
            (
                "producer_queue_bytes_limit",
                "Maximum number of bytes in a producer's queue (queue.buffering.max.kbytes).",
                queue[1],
            ),
            (
                "confirm_timeout_seconds",
                "Maximum time for the confirmation of a delivery (kafka.confirm_timeout).",
                config.kafka.confirm_timeout.as_secs_f64(),
            ),
        ] {
            one(&self.registry, Gauge::with_opts, name, help).set(value);
        }
    }

    /// Sets the expiry of the ingress's certificate, as Unix time. Without this call the series does not exist.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.certificate_expires.set([([], unix_seconds as f64)]);
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        self.reloads[usize::from(ok)].inc();
    }

    /// Returns all metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        if let Some(totals) = self.dropped_lines.get() {
            for (counter, total) in self.log_lines_dropped.iter().zip(totals.iter()) {
                counter.inc_by(total.load(Ordering::Relaxed).saturating_sub(counter.get()));
            }
        }
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("registered metrics can be rendered")
    }
}

/// A gauge with `N` labels. Each update removes the series that it does not contain.
#[derive(Debug)]
struct Snapshot<const N: usize> {
    gauge: GaugeVec,
    exported: Mutex<BTreeSet<[String; N]>>,
}

impl<const N: usize> Snapshot<N> {
    fn new(registry: &Registry, name: &str, help: &str, labels: [&str; N]) -> Self {
        Self { gauge: vec(registry, GaugeVec::new, name, help, &labels), exported: Mutex::default() }
    }

    /// Exports these series instead of the former ones. Returns the labels of the removed ones.
    fn set(&self, series: impl IntoIterator<Item = ([String; N], f64)>) -> BTreeSet<[String; N]> {
        let mut exported = self.exported.lock();
        let mut removed = std::mem::take(&mut *exported);
        for (labels, value) in series {
            self.gauge.with_label_values(&labels).set(value);
            removed.remove(&labels);
            exported.insert(labels);
        }
        for labels in &removed {
            self.gauge.remove_label_values(labels).expect("this series was exported");
        }
        removed
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn one<C: Collector + Clone + 'static>(
    registry: &Registry,
    make: impl FnOnce(Opts) -> prometheus::Result<C>,
    name: &str,
    help: &str,
) -> C {
    let metric = make(Opts::new(name, help).namespace("nexudus_bridge")).expect("the names here are valid");
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
    one(registry, |opts| make(opts, labels), name, help)
}
