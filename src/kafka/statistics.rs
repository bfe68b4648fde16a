//! librdkafka's statistics of the bridge's producers, every five seconds: into metrics, and throttling into the status.
//!
//! Two producers work at a time, the main one and the one for single messages. Their queues are added up. A producer
//! that was replaced still reports while its last messages are answered; its reports change no metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rdkafka::Statistics;
use rdkafka::statistics::{Broker, Window};

use super::status::Status;
use crate::metrics::{BROKER_PERCENTILES, BrokerSample, Metrics};

/// The two producers that work at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    /// Sends each message in a batch of its own.
    Alone,
}

/// Messages and bytes in the queues of both producers.
#[derive(Debug, Default)]
pub(super) struct Queues {
    in_use: AtomicBool,
    messages: [AtomicI64; 2],
    bytes: [AtomicI64; 2],
}

impl Queues {
    /// Shows these queues from now on; nothing of them is known yet.
    pub(super) fn take_over(&self, metrics: &Metrics) {
        self.in_use.store(true, Ordering::Release);
        metrics.producer_queue_messages.set(0);
        metrics.producer_queue_bytes.set(0);
    }

    /// Shows them no longer: their producers were replaced.
    pub(super) fn retire(&self) {
        self.in_use.store(false, Ordering::Release);
    }
}

/// Records the statistics of one producer.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    pub(super) metrics: Arc<Metrics>,
    pub(super) queues: Arc<Queues>,
    pub(super) role: Role,
}

impl Recorder {
    pub(super) fn record(&self, statistics: &Statistics, status: &Status) {
        let Queues { in_use, messages, bytes } = &*self.queues;
        if !in_use.load(Ordering::Acquire) {
            return;
        }
        let role = self.role as usize;
        messages[role].store(statistics.msg_cnt.try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
        bytes[role].store(statistics.msg_size.try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
        let sum = |counts: &[AtomicI64; 2]| {
            counts.iter().map(|count| count.load(Ordering::Relaxed)).fold(0, i64::saturating_add)
        };
        self.metrics.producer_queue_messages.set(sum(messages));
        self.metrics.producer_queue_bytes.set(sum(bytes));
        // Bootstrap addresses are pseudo brokers with a negative id; the real ones appear with the first metadata.
        let real = || statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        for broker in real() {
            let throttled = milliseconds(broker, |window| window.sum);
            if !throttled.is_zero() {
                status.throttled(broker.nodeid, milliseconds(broker, |window| window.max));
            }
            self.metrics.broker_throttled(&broker.nodename, throttled);
        }
        if self.role == Role::Main {
            self.metrics.set_brokers(real().map(sample));
        }
    }
}

/// A value of the throttle times that a broker answered since the last statistics.
fn milliseconds(broker: &Broker, pick: fn(&Window) -> i64) -> Duration {
    let value = broker.throttle.as_ref().map_or(0, pick);
    Duration::from_millis(value.try_into().unwrap_or(0))
}

fn sample(broker: &Broker) -> BrokerSample<'_> {
    let seconds = |pick: fn(&Window) -> i64| broker.rtt.as_ref().map_or(0.0, |rtt| pick(rtt) as f64 / 1e6);
    let [low, high] = BROKER_PERCENTILES;
    let rtt = [(low, seconds(|rtt| rtt.p50)), (high, seconds(|rtt| rtt.p99))];
    BrokerSample { broker: &broker.nodename, is_up: broker.state == "UP", rtt }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(messages: u64, broker: &str) -> Statistics {
        let throttle = Window { max: 1_500, sum: 2_000, cnt: 2, ..Window::default() };
        let broker = Broker {
            nodeid: 1,
            nodename: broker.to_owned(),
            state: "UP".to_owned(),
            throttle: Some(throttle),
            ..Broker::default()
        };
        Statistics {
            msg_cnt: messages,
            msg_size: 10 * messages,
            brokers: [(broker.nodename.clone(), broker)].into(),
            ..Statistics::default()
        }
    }

    #[test]
    fn queues_of_both_producers_are_added_up_and_a_replaced_pair_changes_nothing() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let pair = |queues: &Arc<Queues>| {
            [Role::Main, Role::Alone].map(|role| Recorder {
                metrics: Arc::clone(&metrics),
                queues: Arc::clone(queues),
                role,
            })
        };
        let queues = || (metrics.producer_queue_messages.get(), metrics.producer_queue_bytes.get());
        let (old, new) = (Arc::new(Queues::default()), Arc::new(Queues::default()));
        let ([main, alone], [fresh, _]) = (pair(&old), pair(&new));
        old.take_over(&metrics);
        main.record(&statistics(3, "old:1"), &status);
        alone.record(&statistics(4, "old:1"), &status);
        assert_eq!(queues(), (7, 70));
        fresh.record(&statistics(5, "new:1"), &status);
        assert_eq!(queues(), (7, 70), "not in use yet");

        old.retire();
        new.take_over(&metrics);
        assert_eq!(queues(), (0, 0));
        fresh.record(&statistics(1, "new:1"), &status);
        main.record(&statistics(9, "old:1"), &status);
        assert_eq!(queues(), (1, 10));
        let text = metrics.render();
        assert!(text.contains(r#"nexudus_bridge_broker_up{broker="new:1"} 1"#), "{text}");
        assert!(!text.contains("old:1"), "{text}");
    }

    #[test]
    fn throttle_times_are_counted_by_broker_and_explain_refusals() {
        let (metrics, status) = (Arc::new(Metrics::new("0")), Status::default());
        let queues = Arc::new(Queues::default());
        queues.take_over(&metrics);
        let recorder = Recorder { metrics: Arc::clone(&metrics), queues, role: Role::Main };
        let series = r#"nexudus_bridge_producer_throttled_seconds_total{broker="b:1"}"#;
        let mut quiet = statistics(0, "b:1");
        quiet.brokers.values_mut().for_each(|broker| broker.throttle = None);
        recorder.record(&quiet, &status);
        assert!(metrics.render().contains(&format!("{series} 0")), "{}", metrics.render());
        assert_eq!(status.explanation(), None);
        recorder.record(&statistics(0, "b:1"), &status);
        recorder.record(&statistics(0, "b:1"), &status);
        assert!(metrics.render().contains(&format!("{series} 4")), "{}", metrics.render());
        assert!(status.explanation().is_some_and(|why| why.contains("quota")), "{:?}", status.explanation());
    }
}
