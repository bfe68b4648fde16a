//! Every metric, declared once: names, help texts and labels of the contract, on a registry of our own.
//!
//! Label values come from the catalogue, the configuration and the cluster, never from a request. The series of a source and
//! action are created when its first delivery arrives (`PairMetrics`) and reached by index from then on. So the hot path does no
//! look-up by string, and `/metrics` does not list thousands of series without a delivery.

mod brokers;
mod control;
mod deliveries;
mod limits;
mod log_lines;
#[cfg(target_os = "linux")]
mod process;

use std::sync::OnceLock;
use std::time::SystemTime;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use self::brokers::BrokerMetrics;
pub use self::brokers::{BROKER_PERCENTILES, BrokerSample};
pub use self::control::{ControlMetrics, WebhookSeries};
use self::deliveries::DeliveryMetrics;
pub use self::deliveries::{DeliveryCounts, SourceMetrics};
pub use self::limits::Limits;
use self::log_lines::LogLines;

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
    /// Declares every metric. `librdkafka` is the version of librdkafka, a label of `build_info`.
    pub fn new(librdkafka: &str) -> Self {
        let registry = Registry::new();
        let gauge = |name, help| one(&registry, name, help, IntGauge::with_opts);
        let name = "build_info";
        let help = "1, labelled with the versions of the bridge and of librdkafka.";
        let build_info = vec(&registry, IntGaugeVec::new, name, help, &["version", "librdkafka"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), librdkafka]).set(1);
        let name = "reloads_total";
        let help = "Reloads of the configuration, secrets and the certificate, by result; a failed one keeps the old state.";
        let reloads = vec(&registry, IntCounterVec::new, name, help, &["result"]);
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
                "producer_rebuilds_total",
                "Producers replaced after a fatal error, or because a new one works and the old one does not.",
                IntCounter::with_opts,
            ),
            reloads: ["failed", "ok"].map(|result| reloads.with_label_values(&[result])),
            log_lines: LogLines::new(&registry),
            certificate_expires: OnceLock::new(),
            ready: gauge("ready", "1 while /readyz answers 200."),
            topics_missing: gauge("topics_missing", "Configured topics that the cluster does not have."),
            control: ControlMetrics::new(&registry),
            registry,
        }
    }

    /// Sets the expiry of the ingress's certificate, as Unix time. Without a certificate the series does not exist.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        let name = "tls_certificate_not_after_timestamp_seconds";
        let help = "Expiry of the certificate of the ingress, as Unix time.";
        let gauge =
            self.certificate_expires.get_or_init(|| one(&self.registry, name, help, IntGauge::with_opts));
        gauge.set(unix_seconds);
    }

    /// Sets the function that returns the numbers of dropped log lines: because the queue was full, and because they could not be
    /// written.
    pub fn count_dropped_lines(&self, dropped: impl Fn() -> [u64; 2] + Send + Sync + 'static) {
        self.log_lines.count(dropped);
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        self.reloads[usize::from(ok)].inc();
    }

    /// Returns all metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.log_lines.update();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what was registered can be rendered")
    }
}

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
