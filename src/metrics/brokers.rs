//! The metrics of brokers. The series of a broker that librdkafka no longer lists are removed.

use std::time::Duration;

use prometheus::{CounterVec, Registry};

use super::{Metrics, Snapshot, vec};

/// A broker in the client's statistics.
#[derive(Debug, Clone, Copy)]
pub struct BrokerSample<'a> {
    /// The address of the broker.
    pub broker: &'a str,
    /// True if the producer is connected.
    pub is_up: bool,
    /// The percentiles 50 and 99 of the round-trip time in seconds.
    pub rtt: [f64; 2],
    /// Requests in flight, and their maximum.
    pub requests: [usize; 2],
}

/// The series of all brokers.
#[derive(Debug)]
pub(super) struct BrokerMetrics {
    up: Snapshot<1>,
    rtt: Snapshot<2>,
    throttled: CounterVec,
    in_flight_requests: Snapshot<1>,
    in_flight_requests_limit: Snapshot<1>,
}

impl BrokerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name, help| Snapshot::new(registry, name, help, ["broker"]);
        let name = "broker_rtt_seconds";
        let help = "Round trip time of requests to the broker over the client's last statistics interval.";
        let rtt = Snapshot::new(registry, name, help, ["broker", "percentile"]);
        let name = "producer_throttled_seconds_total";
        let help = "Time for which the broker throttled the producer because of its quota.";
        let throttled = vec(registry, CounterVec::new, name, help, &["broker"]);
        Self {
            up: gauge("broker_up", "1 while the producer is connected to the broker."),
            rtt,
            throttled,
            in_flight_requests: gauge(
                "in_flight_requests",
                "Produce requests that the broker has not answered, at the last statistics interval.",
            ),
            in_flight_requests_limit: gauge(
                "in_flight_requests_limit",
                "How many produce requests may be in flight for the broker; follows the load and the distance.",
            ),
        }
    }
}

impl Metrics {
    /// Replaces the series of the brokers.
    pub fn set_brokers(&self, samples: &[BrokerSample<'_>]) {
        let brokers = &self.brokers;
        let by_broker = |value: fn(&BrokerSample<'_>) -> f64| {
            samples.iter().map(move |sample| ([sample.broker.to_owned()], value(sample)))
        };
        brokers.in_flight_requests.set(by_broker(|sample| sample.requests[0] as f64));
        brokers.in_flight_requests_limit.set(by_broker(|sample| sample.requests[1] as f64));
        brokers.rtt.set(samples.iter().flat_map(|&BrokerSample { broker, rtt, .. }| {
            let percentiles = ["50", "99"].into_iter().zip(rtt);
            percentiles.map(move |(percentile, seconds)| ([broker, percentile].map(str::to_owned), seconds))
        }));
        for gone in brokers.up.set(by_broker(|sample| sample.is_up.into())) {
            // Not every broker has this series, so the error of a missing one is ignored.
            brokers.throttled.remove_label_values(&gone).ok();
        }
    }

    /// Adds to the time for which a broker throttled the producer. With 0 the series is only created.
    pub fn broker_throttled(&self, broker: &str, time: Duration) {
        self.brokers.throttled.with_label_values(&[broker]).inc_by(time.as_secs_f64());
    }
}
