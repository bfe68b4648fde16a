//! librdkafka's statistics of the bridge's producers, every five seconds: into metrics, and throttling into the status.
//!
//! Several producers work at a time, see [`super::producer`]. A producer that was replaced still reports while its last
//! messages are answered; its reports change no metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::Statistics;
use rdkafka::statistics::{Broker, Window};

use super::status::Status;
use crate::metrics::{BROKER_PERCENTILES, BrokerSample, Metrics};

/// Records the statistics of one producer.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) metrics: Arc<Metrics>,
    /// A producer that was replaced still reports while its last messages are answered; its reports change no metric.
    pub(super) is_in_use: Arc<AtomicBool>,
    /// Its figures about brokers are shown; those of the others are alike.
    pub(super) is_first: bool,
    /// Each broker's id, with the requests in flight of the other producers, and the most that there may be of all.
    pub(super) windows: Arc<dyn Fn() -> Vec<(i32, usize, usize)> + Send + Sync>,
}

impl Recorder {
    pub(super) fn record(&self, statistics: &Statistics, status: &Status) {
        if !self.is_in_use.load(Ordering::Acquire) {
            return;
        }
        // Bootstrap addresses are pseudo brokers with a negative id; the real ones appear with the first metadata.
        let real = || statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        for broker in real() {
            let throttled = milliseconds(broker, |window| window.sum);
            if !throttled.is_zero() {
                status.throttled(broker.nodeid, milliseconds(broker, |window| window.max));
            }
            self.metrics.broker_throttled(&broker.nodename, throttled);
        }
        if self.is_first {
            let windows = (self.windows)();
            self.metrics.set_brokers(real().map(|broker| sample(broker, &windows)));
        }
    }
}

/// A value of the throttle times that a broker answered since the last statistics.
fn milliseconds(broker: &Broker, pick: fn(&Window) -> i64) -> Duration {
    let value = broker.throttle.as_ref().map_or(0, pick);
    Duration::from_millis(value.try_into().unwrap_or(0))
}

fn sample<'a>(broker: &'a Broker, windows: &[(i32, usize, usize)]) -> BrokerSample<'a> {
    let seconds = |pick: fn(&Window) -> i64| broker.rtt.as_ref().map_or(0.0, |rtt| pick(rtt) as f64 / 1e6);
    let [low, high] = BROKER_PERCENTILES;
    let rtt = [(low, seconds(|rtt| rtt.p50)), (high, seconds(|rtt| rtt.p99))];
    let window = windows.iter().find(|(id, ..)| *id == broker.nodeid);
    let (others, limit) = window.map_or((0, 1), |(_, in_flight, limit)| (*in_flight, *limit));
    let in_flight = usize::try_from(broker.waitresp_cnt).unwrap_or(0) + others;
    BrokerSample { broker: &broker.nodename, is_up: broker.state == "UP", rtt, requests: [in_flight, limit] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(broker: &str) -> Statistics {
        let throttle = Window { max: 1_500, sum: 2_000, cnt: 2, ..Window::default() };
        let broker = Broker {
            nodeid: 1,
            nodename: broker.to_owned(),
            state: "UP".to_owned(),
            waitresp_cnt: 1,
            throttle: Some(throttle),
            ..Broker::default()
        };
        Statistics { brokers: [(broker.nodename.clone(), broker)].into(), ..Statistics::default() }
    }

    fn recorder(metrics: &Arc<Metrics>, is_first: bool) -> Recorder {
        Recorder {
            metrics: Arc::clone(metrics),
            is_in_use: Arc::new(AtomicBool::new(true)),
            is_first,
            windows: Arc::new(|| vec![(1, 7, 10)]),
        }
    }

    #[test]
    fn brokers_are_shown_by_the_first_producer_and_a_replaced_one_changes_nothing() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let (first, other) = (recorder(&metrics, true), recorder(&metrics, false));
        other.record(&statistics("other:1"), &status);
        assert!(!metrics.render().contains(r#"broker_up{broker="other:1"}"#), "{}", metrics.render());
        first.record(&statistics("old:1"), &status);
        first.is_in_use.store(false, Ordering::Release);
        recorder(&metrics, true).record(&statistics("new:1"), &status);
        first.record(&statistics("old:1"), &status);
        let text = metrics.render();
        for line in [
            r#"nexudus_bridge_broker_up{broker="new:1"} 1"#,
            r#"nexudus_bridge_in_flight_requests{broker="new:1"} 8"#,
            r#"nexudus_bridge_in_flight_requests_limit{broker="new:1"} 10"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("old:1"), "{text}");
    }

    #[test]
    fn throttle_times_are_counted_by_broker_and_explain_refusals() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let recorder = recorder(&metrics, true);
        let series = r#"nexudus_bridge_producer_throttled_seconds_total{broker="b:1"}"#;
        let mut quiet = statistics("b:1");
        quiet.brokers.values_mut().for_each(|broker| broker.throttle = None);
        recorder.record(&quiet, &status);
        assert!(metrics.render().contains(&format!("{series} 0")), "{}", metrics.render());
        assert_eq!(status.explanation(), None);
        recorder.record(&statistics("b:1"), &status);
        recorder.record(&statistics("b:1"), &status);
        assert!(metrics.render().contains(&format!("{series} 4")), "{}", metrics.render());
        assert!(status.explanation().is_some_and(|why| why.contains("quota")), "{:?}", status.explanation());
    }
}
