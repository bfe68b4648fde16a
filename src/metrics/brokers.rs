//! The metrics of brokers. The series of a broker that librdkafka no longer lists are removed.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{CounterVec, GaugeVec, IntGaugeVec, Registry};

use super::{Metrics, vec};

/// The percentiles of `broker_rtt_seconds`.
pub const BROKER_PERCENTILES: [&str; 2] = ["50", "99"];

/// A broker in the client's statistics.
#[derive(Debug, Clone, Copy)]
pub struct BrokerSample<'a> {
    /// The address of the broker.
    pub broker: &'a str,
    /// True if the producer is connected.
    pub is_up: bool,
    /// Round-trip times in seconds, by percentile.
    pub rtt: [(&'static str, f64); 2],
    /// Requests in flight, and their maximum.
    pub requests: [usize; 2],
}

/// The series of all brokers.
#[derive(Debug)]
pub(super) struct BrokerMetrics {
    up: IntGaugeVec,
    rtt: GaugeVec,
    throttled: CounterVec,
    in_flight_requests: IntGaugeVec,
    in_flight_requests_limit: IntGaugeVec,
    known: Mutex<BTreeSet<String>>,
}

impl BrokerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauges = |name, help| vec(registry, IntGaugeVec::new, name, help, &["broker"]);
        let name = "broker_rtt_seconds";
        let help = "Round trip time of requests to the broker over the client's last statistics interval.";
        let rtt = vec(registry, GaugeVec::new, name, help, &["broker", "percentile"]);
        let name = "producer_throttled_seconds_total";
        let help = "Time for which the broker throttled the producer because of its quota.";
        let throttled = vec(registry, CounterVec::new, name, help, &["broker"]);
        Self {
            up: gauges("broker_up", "1 while the producer is connected to the broker."),
            rtt,
            throttled,
            in_flight_requests: gauges(
                "in_flight_requests",
                "Produce requests that the broker has not answered, at the last statistics interval.",
            ),
            in_flight_requests_limit: gauges(
                "in_flight_requests_limit",
                "How many produce requests may be in flight for the broker; follows the load and the distance.",
            ),
            known: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Replaces the series of the brokers.
    pub fn set_brokers<'a>(&self, samples: impl Iterator<Item = BrokerSample<'a>>) {
        let brokers = &self.brokers;
        let gauges = [&brokers.in_flight_requests, &brokers.in_flight_requests_limit];
        let mut known = brokers.known.lock();
        let mut present = BTreeSet::new();
        for BrokerSample { broker, is_up, rtt, requests } in samples {
            for (gauge, number) in gauges.iter().zip(requests) {
                gauge.with_label_values(&[broker]).set(i64::try_from(number).unwrap_or(i64::MAX));
            }
            brokers.up.with_label_values(&[broker]).set(is_up.into());
            for (percentile, seconds) in rtt {
                brokers.rtt.with_label_values(&[broker, percentile]).set(seconds);
            }
            present.insert(broker.to_owned());
        }
        for gone in known.difference(&present) {
            // Not every broker has this series, so the error of a missing one is ignored.
            drop(brokers.throttled.remove_label_values(&[gone]));
            for gauge in gauges.iter().chain([&&brokers.up]) {
                drop(gauge.remove_label_values(&[gone]));
            }
            for percentile in BROKER_PERCENTILES {
                drop(brokers.rtt.remove_label_values(&[gone, percentile]));
            }
        }
        *known = present;
    }

    /// Adds to the time for which a broker throttled the producer. With 0 the series is only created.
    pub fn broker_throttled(&self, broker: &str, time: Duration) {
        self.brokers.throttled.with_label_values(&[broker]).inc_by(time.as_secs_f64());
    }
}
