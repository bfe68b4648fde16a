//! Whether a producer is still of use: it is doubted when the cluster has not answered it for long, and when messages
//! time out while none is confirmed, although the cluster answers.
//!
//! librdkafka finds its way back from nearly everything. What it does not, such as brokers that have all moved while it
//! was told not to ask the bootstrap address again, or a state of its own that it cannot leave, ends when somebody starts
//! the process anew; so does the watch, with the producer only. In an outage of the cluster a new one would work no
//! better. That shows at once where nobody answers; where messages only time out it does not, hence the growing distance.

use std::time::{Duration, Instant};

use crate::metrics::Fates;

/// A producer is doubted after so many times the time that a message has.
const DOUBTED_AFTER: u32 = 3;

/// The longest wait before it is doubted again, when the last replacement did not help.
const LONGEST: Duration = Duration::from_secs(600);

/// What is known of the producer in use.
#[derive(Debug)]
pub(super) struct Usefulness {
    patience: Duration,
    /// When the cluster last answered it, or it was last tried to replace it.
    heard: Instant,
    fates: Fates,
    /// When a message timed out for the first time since one was confirmed.
    barren: Option<Instant>,
    /// How long it may be barren.
    barren_for: Duration,
}

impl Usefulness {
    /// A new producer, whose messages have so long.
    pub(super) fn of_a_producer(message_timeout: Duration) -> Self {
        let patience = message_timeout * DOUBTED_AFTER;
        let (heard, fates) = (Instant::now(), Fates::default());
        Self { patience, heard, fates, barren: None, barren_for: patience }
    }

    /// Notes whether the cluster has answered, and what became of deliveries; says why the producer is doubted, if it is.
    pub(super) fn doubt(&mut self, answered: bool, fates: Fates, now: Instant) -> Option<String> {
        if answered {
            self.heard = now;
        }
        let confirmed = fates.confirmed > self.fates.confirmed;
        let timed_out = fates.timed_out > self.fates.timed_out;
        self.fates = fates;
        if confirmed {
            self.barren = None;
            self.barren_for = self.patience;
        } else if timed_out {
            // Judged with each time-out, never in between: without traffic there is nothing to doubt.
            let barren = now.duration_since(*self.barren.get_or_insert(now));
            if barren > self.barren_for {
                return Some(format!("nothing was confirmed for {} s, only timed out", barren.as_secs()));
            }
        }
        let silent = now.duration_since(self.heard);
        (silent > self.patience)
            .then(|| format!("the cluster has not answered it for {} s", silent.as_secs()))
    }

    /// Notes that the cluster throttles the producer: neither silence nor time-outs tell anything about it.
    pub(super) fn throttled(&mut self, fates: Fates, now: Instant) {
        self.heard = now;
        self.fates = fates;
        self.barren = None;
    }

    /// Notes that a replacement was tried. The next one has to wait, longer each time if it did not help.
    pub(super) fn tried(&mut self, replaced: bool, now: Instant) {
        self.heard = now;
        if replaced {
            self.barren = None;
            self.barren_for = (self.barren_for * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

    fn fates(confirmed: u64, timed_out: u64) -> Fates {
        Fates { confirmed, timed_out }
    }

    #[test]
    fn silence_is_doubted_after_three_message_timeouts_and_again_after_as_long() {
        let mut producer = Usefulness::of_a_producer(MESSAGE_TIMEOUT);
        let start = producer.heard;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(producer.doubt(true, fates(1, 0), at(10)), None);
        assert_eq!(producer.doubt(false, fates(1, 1), at(40)), None);
        assert!(producer.doubt(false, fates(1, 1), at(41)).unwrap().contains("31 s"));
        producer.tried(false, at(43));
        producer.throttled(fates(1, 1), at(45));
        assert_eq!(producer.doubt(false, fates(1, 1), at(75)), None);
        assert!(producer.doubt(false, fates(1, 1), at(76)).is_some());
        assert_eq!(producer.doubt(true, fates(1, 1), at(77)), None);
    }

    #[test]
    fn time_outs_without_a_confirmation_are_doubted_at_growing_distances() {
        let mut producer = Usefulness::of_a_producer(MESSAGE_TIMEOUT);
        let start = producer.heard;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(producer.doubt(true, fates(1, 1), at(0)), None, "one was confirmed");
        assert_eq!(producer.doubt(true, fates(1, 2), at(1)), None);
        assert_eq!(producer.doubt(true, fates(1, 2), at(1000)), None, "no traffic, no doubt");
        assert!(producer.doubt(true, fates(1, 3), at(1001)).unwrap().contains("1000 s"));
        producer.tried(true, at(1002));
        assert_eq!(producer.doubt(true, fates(1, 4), at(1003)), None);
        assert_eq!(producer.doubt(true, fates(1, 5), at(1063)), None);
        assert!(producer.doubt(true, fates(1, 6), at(1064)).is_some(), "twice as long");
        producer.tried(true, at(1065));
        assert_eq!(producer.doubt(true, fates(2, 7), at(1066)), None);
        assert_eq!(producer.doubt(true, fates(2, 8), at(1067)), None);
        assert!(producer.doubt(true, fates(2, 9), at(1098)).is_some(), "as long as at first: it had helped");
    }
}
