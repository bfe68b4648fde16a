//! librdkafka's statistics of the bridge's producers, every five seconds: into metrics, and throttling into the status.
//!
//! The bridge has several librdkafka producers at a time ([`super::producer`]). A replaced producer still reports while its last
//! messages are answered; its reports change no metric.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::status::Status;
use crate::metrics::{BrokerSample, Metrics};

/// Records the statistics of one producer.
pub(super) struct Recorder {
    pub(super) metrics: Arc<Metrics>,
    /// False after the producer was replaced.
    pub(super) is_in_use: AtomicBool,
    /// True for the first producer. Only its statistics set the gauges of brokers, because those of other producers are alike.
    pub(super) is_first: bool,
    /// Returns each broker's id, the requests in flight of the other producers, and the limit for all producers.
    pub(super) windows: Box<dyn Fn() -> Vec<(i32, usize, usize)> + Send + Sync>,
}

/// The part of the statistics that is read. The rest, hundreds of figures for each topic, is skipped.
#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(borrow)]
    brokers: HashMap<Cow<'a, str>, BrokerStatistics<'a>>,
}

#[derive(Deserialize)]
struct BrokerStatistics<'a> {
    #[serde(borrow)]
    nodename: Cow<'a, str>,
    nodeid: i32,
    #[serde(borrow)]
    state: Cow<'a, str>,
    /// Requests in flight.
    waitresp_cnt: u64,
    /// Round trips, in microseconds.
    rtt: Summary,
    /// Throttle times, in milliseconds.
    throttle: Summary,
}

/// A summary of the values since the last statistics.
#[derive(Deserialize)]
struct Summary {
    max: u64,
    sum: u64,
    p50: u64,
    p99: u64,
}

impl Recorder {
    /// Records statistics in the JSON of librdkafka.
    pub(super) fn record(&self, statistics: &[u8], status: &Status) {
        if !self.is_in_use.load(Ordering::Acquire) {
            return;
        }
        let statistics: Statistics<'_> = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!(%error, "librdkafka's statistics cannot be read"),
        };
        // Bootstrap addresses are pseudo brokers with a negative id; the real ones appear with the first metadata.
        let real = || statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        for broker in real() {
            let throttled = Duration::from_millis(broker.throttle.sum);
            if !throttled.is_zero() {
                status.throttled(broker.nodeid, Duration::from_millis(broker.throttle.max));
            }
            self.metrics.broker_throttled(&broker.nodename, throttled);
        }
        if self.is_first {
            let windows = (self.windows)();
            let samples: Vec<BrokerSample<'_>> = real().map(|broker| sample(broker, &windows)).collect();
            self.metrics.set_brokers(&samples);
        }
    }
}

fn sample<'a>(broker: &'a BrokerStatistics<'_>, windows: &[(i32, usize, usize)]) -> BrokerSample<'a> {
    let rtt = [broker.rtt.p50, broker.rtt.p99].map(|microseconds| microseconds as f64 / 1e6);
    let window = windows.iter().find(|(id, ..)| *id == broker.nodeid);
    let (others, limit) = window.map_or((0, 1), |(_, in_flight, limit)| (*in_flight, *limit));
    let in_flight = usize::try_from(broker.waitresp_cnt).unwrap_or(0) + others;
    BrokerSample { broker: &broker.nodename, is_up: broker.state == "UP", rtt, requests: [in_flight, limit] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics as librdkafka writes them, shortened.
    fn statistics(broker: &str, throttled: [u64; 2]) -> Vec<u8> {
        let window = |[max, sum]: [u64; 2]| serde_json::json!({"min": 0, "max": max, "sum": sum, "cnt": 2, "p50": 0, "p99": max});
        let real = serde_json::json!({
            "name": format!("{broker}/1"), "nodeid": 1, "nodename": broker, "state": "UP", "waitresp_cnt": 1,
            "rtt": window([900, 1_000]), "throttle": window(throttled), "toppars": {},
        });
        let mut bootstrap = real.clone();
        bootstrap["nodeid"] = (-1).into();
        bootstrap["nodename"] = "bootstrap:1".into();
        serde_json::json!({"name": "rdkafka#producer-1", "brokers": {"a": real, "b": bootstrap}, "topics": {}}).to_string().into()
    }

    fn recorder(metrics: &Arc<Metrics>, is_first: bool) -> Recorder {
        Recorder {
            metrics: Arc::clone(metrics),
            is_in_use: AtomicBool::new(true),
            is_first,
            windows: Box::new(|| vec![(1, 7, 10)]),
        }
    }

    #[test]
    fn brokers_are_shown_by_the_first_producer_and_a_replaced_one_changes_nothing() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let (first, other) = (recorder(&metrics, true), recorder(&metrics, false));
        other.record(&statistics("other:1", [0, 0]), &status);
        assert!(!metrics.render().contains(r#"broker_up{broker="other:1"}"#), "{}", metrics.render());
        first.record(&statistics("old:1", [0, 0]), &status);
        first.is_in_use.store(false, Ordering::Release);
        recorder(&metrics, true).record(&statistics("new:1", [0, 0]), &status);
        first.record(&statistics("old:1", [0, 0]), &status);
        let text = metrics.render();
        for line in [
            r#"nexudus_bridge_broker_up{broker="new:1"} 1"#,
            r#"nexudus_bridge_in_flight_requests{broker="new:1"} 8"#,
            r#"nexudus_bridge_in_flight_requests_limit{broker="new:1"} 10"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("old:1") && !text.contains("bootstrap:1"), "{text}");
    }

    #[test]
    fn throttle_times_are_counted_by_broker_and_explain_refusals() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let recorder = recorder(&metrics, true);
        let series = r#"nexudus_bridge_producer_throttled_seconds_total{broker="b:1"}"#;
        recorder.record(&statistics("b:1", [0, 0]), &status);
        assert!(metrics.render().contains(&format!("{series} 0")), "{}", metrics.render());
        assert_eq!(status.explanation(), None);
        recorder.record(&statistics("b:1", [1_500, 2_000]), &status);
        recorder.record(&statistics("b:1", [1_500, 2_000]), &status);
        assert!(metrics.render().contains(&format!("{series} 4")), "{}", metrics.render());
        assert!(status.explanation().is_some_and(|why| why.contains("quota")), "{:?}", status.explanation());
    }
}
