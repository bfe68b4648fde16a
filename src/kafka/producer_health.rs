//! The health of a producer. A producer has failed if the cluster has not answered it for a long time. It has also failed if the
//! cluster answers, but messages only time out and none is confirmed.
//!
//! librdkafka recovers from nearly every fault by itself. It does not recover if its own state is broken, or if all brokers have
//! moved and it must not use the bootstrap address again. The watch then replaces the producer, as a restart of the process would.
//!
//! In an outage of the cluster a new producer works no better:
//!
//! - If no broker answers, the watch replaces nothing, because a new producer has to reach the cluster first.
//! - If messages only time out, this check passes. So the time until the next replacement doubles.

use std::time::{Duration, Instant};

use crate::metrics::DeliveryCounts;

/// Multiple of the message time-out after which a producer has failed.
const MESSAGE_TIMEOUTS: u32 = 3;

/// Upper bound of the time without a confirmation, if the last replacement did not help.
const LONGEST: Duration = Duration::from_secs(600);

/// The last answers and confirmations of the producer in use.
#[derive(Debug)]
pub(super) struct ProducerHealth {
    first_limit: Duration,
    /// Time of the cluster's last answer, or of the last attempt to replace the producer.
    answered_at: Instant,
    counts: DeliveryCounts,
    /// Time of the first time-out since a message was confirmed.
    unconfirmed_since: Option<Instant>,
    /// Maximum time of time-outs without a confirmation.
    limit: Duration,
}

impl ProducerHealth {
    /// Makes the health of a new producer with this `message.timeout.ms`.
    pub(super) fn new(message_timeout: Duration) -> Self {
        let first_limit = message_timeout * MESSAGE_TIMEOUTS;
        let (answered_at, counts) = (Instant::now(), DeliveryCounts::default());
        Self { first_limit, answered_at, counts, unconfirmed_since: None, limit: first_limit }
    }

    /// Notes whether the cluster has answered, and the counts of deliveries. Returns the reason if the producer has failed.
    pub(super) fn failure(&mut self, answered: bool, counts: DeliveryCounts, now: Instant) -> Option<String> {
        if answered {
            self.answered_at = now;
        }
        let confirmed = counts.confirmed > self.counts.confirmed;
        let timed_out = counts.timed_out > self.counts.timed_out;
        self.counts = counts;
        if confirmed {
            self.unconfirmed_since = None;
            self.limit = self.first_limit;
        } else if timed_out {
            // Checked after a time-out only: without traffic, a missing confirmation is no failure.
            let unconfirmed = now.duration_since(*self.unconfirmed_since.get_or_insert(now));
            if unconfirmed > self.limit {
                return Some(format!(
                    "nothing was confirmed for {} s, only timed out",
                    unconfirmed.as_secs()
                ));
            }
        }
        let silent = now.duration_since(self.answered_at);
        (silent > self.first_limit)
            .then(|| format!("the cluster has not answered it for {} s", silent.as_secs()))
    }

    /// Notes that the cluster throttles the producer. Missing answers and time-outs are then no failure.
    pub(super) fn throttled(&mut self, counts: DeliveryCounts, now: Instant) {
        self.answered_at = now;
        self.counts = counts;
        self.unconfirmed_since = None;
    }

    /// Notes an attempt to replace the producer. The time until the next attempt doubles while replacing does not help.
    pub(super) fn tried(&mut self, replaced: bool, now: Instant) {
        self.answered_at = now;
        if replaced {
            self.unconfirmed_since = None;
            self.limit = (self.limit * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

    fn counts(confirmed: u64, timed_out: u64) -> DeliveryCounts {
        DeliveryCounts { confirmed, timed_out }
    }

    #[test]
    fn a_silent_producer_fails_after_three_message_timeouts_and_again_after_as_long() {
        let mut producer = ProducerHealth::new(MESSAGE_TIMEOUT);
        let start = producer.answered_at;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(producer.failure(true, counts(1, 0), at(10)), None);
        assert_eq!(producer.failure(false, counts(1, 1), at(40)), None);
        assert!(producer.failure(false, counts(1, 1), at(41)).unwrap().contains("31 s"));
        producer.tried(false, at(43));
        producer.throttled(counts(1, 1), at(45));
        assert_eq!(producer.failure(false, counts(1, 1), at(75)), None);
        assert!(producer.failure(false, counts(1, 1), at(76)).is_some());
        assert_eq!(producer.failure(true, counts(1, 1), at(77)), None);
    }

    #[test]
    fn time_outs_without_a_confirmation_fail_a_producer_after_growing_times() {
        let mut producer = ProducerHealth::new(MESSAGE_TIMEOUT);
        let start = producer.answered_at;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(producer.failure(true, counts(1, 1), at(0)), None, "one was confirmed");
        assert_eq!(producer.failure(true, counts(1, 2), at(1)), None);
        assert_eq!(
            producer.failure(true, counts(1, 2), at(1000)),
            None,
            "without traffic there is no failure"
        );
        assert!(producer.failure(true, counts(1, 3), at(1001)).unwrap().contains("1000 s"));
        producer.tried(true, at(1002));
        assert_eq!(producer.failure(true, counts(1, 4), at(1003)), None);
        assert_eq!(producer.failure(true, counts(1, 5), at(1063)), None);
        assert!(producer.failure(true, counts(1, 6), at(1064)).is_some(), "twice as long");
        producer.tried(true, at(1065));
        assert_eq!(producer.failure(true, counts(2, 7), at(1066)), None);
        assert_eq!(producer.failure(true, counts(2, 8), at(1067)), None);
        assert!(
            producer.failure(true, counts(2, 9), at(1098)).is_some(),
            "as long as at first: it had helped"
        );
    }
}
