//! The number of requests in flight for a broker, from its distance and its load.
//!
//! A produce request of librdkafka carries the events of one partition (librdkafka issue 1700), so the events of many partitions
//! need many requests. The limit of requests balances two costs:
//!
//! - Far from a broker, a request spends most of its round trip on the network, and events wait for a request that is free. More
//!   requests in flight use this time.
//! - Near a broker, the processors of both sides are the limit. There, waiting events form larger batches, and a larger batch costs
//!   less per event. But only partitions with several events make such batches.
//!
//! The limit depends on three values:
//!
//! - `R` is the round trip.
//! - `B` is the mean number of events without an answer, over the partitions that have any. Waiting makes no larger batch.
//! - `s(b)` is the service time of a request with `b` events.
//!
//! ```text
//! (1 + 2 (R - s(1)) / s(B)) / (1 - 1 / B)
//! ```
//!
//! `(R - s(1)) / s(B)` requests besides the first fill the part of the round trip that is spent on the network. Twice as many keep
//! both sides busy while answers arrive unevenly. If `B` is near 1, waiting makes no larger batches, and the divisor raises the limit.
//!
//! While the broker has fewer batches in flight than the dividend, an event does not wait for the batch of its partition in flight.
//! Up to this number, more requests use the network better. Above it, they only make batches smaller.
//!
//! The service times are constants. If they are wrong by a factor of two, the limit is wrong by less than that. Limits that differ
//! by a factor of two change the throughput by some per cent.
//!
//! `R` is the shortest round trip of the last 10 to 20 seconds. A busy broker answers some requests late, but not all of
//! them, so its limit stays low and its batches grow.
//!
//! Events go to the first producer directly if the limit is about two, or if one request for each partition, one after another,
//! takes next to no time. The first producer has one request in flight, and batches the events that arrive meanwhile. Otherwise up
//! to eight other producers send the batches of the scheduler.

use std::time::{Duration, Instant};

/// Service time of a request without events, in seconds: processor time at both sides.
const REQUEST: f64 = 70e-6;

/// Additional service time of each event of a request, in seconds.
const EVENT: f64 = 26e-6;

/// Interval at which the number of producers is chosen.
const SLOT: Duration = Duration::from_millis(100);

/// Half of the maximum age of the shortest round trip.
const ROUND_TRIP_PERIOD: Duration = Duration::from_secs(10);

/// Minimum limit of requests at which the scheduler makes the batches. Below it, the additional thread costs more than it saves.
const MIN_LIMIT: f64 = 2.8;

/// Minimum time of one request for each partition but one, one after another, at which the scheduler makes the batches; in seconds.
const MIN_TURN_SECONDS: f64 = 450e-6;

/// Time without events after which a broker is treated as a new one.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// Share of [`MIN_LIMIT`] and [`MIN_TURN_SECONDS`] below which events are sent directly again.
const HYSTERESIS: f64 = 0.9;

/// Number of requests in flight for each producer. More are possible, but a producer is slower with more partitions, because it
/// visits all of them in each of its rounds.
const REQUESTS_PER_PRODUCER: f64 = 3.0;

/// Maximum number of producers.
const PRODUCERS: usize = 8;

/// The window of one broker.
#[derive(Debug)]
pub(super) struct Window {
    /// Number of events without an answer, and number of partitions with such events.
    pub(super) load: [usize; 2],
    /// Sum of `load` times seconds, since the slot began.
    area: [f64; 2],
    /// Seconds with events without an answer, since the slot began.
    busy: f64,
    until: Instant,
    slot: Instant,
    /// The end of the last slot with events without an answer.
    used: Instant,
    /// Mean of `load` over the busy seconds of the last slots, the latest ones with more weight. Pauses do not count, so a burst after a
    /// pause finds the producers that the last burst needed.
    mean: [f64; 2],
    /// The shortest round trips of the current and of the previous period of [`ROUND_TRIP_PERIOD`].
    shortest: [Option<Duration>; 2],
    remembered: Instant,
    /// Number of producers that send batches; 0 if events are sent directly.
    pub(super) producers: usize,
    /// Number of requests that fill the round trip, computed at the end of the last slot.
    pub(super) filling: f64,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            load: [0; 2],
            area: [0.0; 2],
            busy: 0.0,
            until: now,
            slot: now,
            used: now,
            mean: [0.0; 2],
            shortest: [None; 2],
            remembered: now,
            producers: 0,
            filling: 0.0,
        }
    }

    /// Returns the number of batches in flight at which an event waits for the batch of its partition in flight.
    pub(super) fn batches(&self) -> usize {
        self.filling as usize
    }

    /// Records a change in the number of events of a partition without an answer.
    pub(super) fn count(&mut self, before: usize, after: usize, now: Instant) {
        self.advance(now);
        let [events, partitions] = &mut self.load;
        *events = (*events + after).saturating_sub(before);
        *partitions = (*partitions + usize::from(after > 0)).saturating_sub(usize::from(before > 0));
    }

    /// Records the round trip of an answered request.
    pub(super) fn answered(&mut self, round_trip: Duration) {
        let shortest = self.shortest[0].get_or_insert(round_trip);
        *shortest = round_trip.min(*shortest);
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.until).as_secs_f64();
        for (area, load) in self.area.iter_mut().zip(self.load) {
            *area += seconds * load as f64;
        }
        if self.load[0] > 0 {
            self.busy += seconds;
        }
        self.until = self.until.max(now);
    }

    /// Chooses the number of producers if the slot is over.
    pub(super) fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.slot) < SLOT {
            return;
        }
        self.advance(now);
        if self.busy > 0.0 {
            self.mean = [0, 1].map(|load| f64::midpoint(self.mean[load], self.area[load] / self.busy));
            (self.area, self.busy, self.used) = ([0.0; 2], 0.0, now);
        } else if now.saturating_duration_since(self.used) >= FORGET_AFTER {
            *self = Self { load: self.load, ..Self::new(now) };
            return;
        }
        self.slot = now;
        if now.saturating_duration_since(self.remembered) >= ROUND_TRIP_PERIOD {
            self.shortest = [None, self.shortest[0]];
            self.remembered = now;
        }
        let Some(round_trip) = self.shortest.into_iter().flatten().min() else { return };
        self.choose(round_trip.as_secs_f64());
    }

    fn choose(&mut self, round_trip: f64) {
        let [events, partitions] = self.mean;
        let batch = (events / partitions.max(1e-3)).max(1.0);
        self.filling = filling(round_trip, batch);
        let limit = self.filling / (1.0 - 1.0 / batch).max(1e-3);
        let worth = (limit / MIN_LIMIT).min((partitions - 1.0) * round_trip / MIN_TURN_SECONDS);
        let wanted = ((limit.min(partitions) / REQUESTS_PER_PRODUCER).round() as usize)
            .clamp(1, PRODUCERS)
            .next_power_of_two();
        if partitions < 1.5 || worth < HYSTERESIS {
            self.producers = 0;
        } else if worth >= 1.0 && wanted > self.producers || wanted * 4 <= self.producers {
            // A small change of the load must not move partitions to other producers.
            self.producers = wanted;
        }
    }
}

/// Returns the number of requests in flight that keep both sides busy, for a round trip and for batches of this size.
fn filling(round_trip: f64, batch: f64) -> f64 {
    let service = |events: f64| REQUEST + EVENT * events;
    let on_the_network = (round_trip - service(1.0)).max(0.0);
    1.0 + 2.0 * on_the_network / service(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of producers after two seconds of a load.
    fn run(
        window: &mut Window,
        now: &mut Instant,
        (events, partitions, round_trip): (usize, usize, f64),
    ) -> usize {
        let [events_before, partitions_before] = window.load;
        for partition in 0..partitions.max(partitions_before) {
            let share = |events: usize, partitions: usize| {
                if partition < partitions {
                    events / partitions + usize::from(partition < events % partitions)
                } else {
                    0
                }
            };
            window.count(share(events_before, partitions_before), share(events, partitions), *now);
        }
        assert_eq!(window.load, [events, partitions]);
        for _ in 0..400 {
            *now += Duration::from_millis(5);
            window.answered(Duration::from_secs_f64(round_trip / 1e3));
            window.tick(*now);
        }
        window.producers
    }

    #[test]
    fn the_number_of_producers_follows_the_round_trip_and_the_batches_that_waiting_can_make() {
        // Events without an answer, their partitions, round trip in milliseconds, and the best number of producers in measurements.
        let cases = [
            (1, 1, 2.4, 0),
            (7, 4, 0.1, 0),
            (36, 5, 0.1, 0),
            (42, 5, 0.1, 0),
            (230, 82, 0.12, 0),
            (20, 2, 0.5, 1),
            (8, 8, 0.15, 4),
            (60, 55, 0.12, 8),
            (7, 5, 2.4, 2),
            (53, 6, 2.4, 2),
            (200, 6, 2.4, 2),
            (8, 8, 2.4, 4),
            (63, 60, 2.4, 8),
            (240, 80, 2.4, 8),
        ];
        for (events, partitions, round_trip, producers) in cases {
            let mut now = Instant::now();
            let mut window = Window::new(now);
            let load = (events, partitions, round_trip);
            assert_eq!(run(&mut window, &mut now, load), producers, "{load:?}");
        }
    }

    #[test]
    fn small_changes_of_the_load_keep_the_producers_and_large_ones_change_them() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        let loads =
            [((60, 55), 8), ((20, 18), 8), ((7, 6), 2), ((9, 8), 4), ((3, 3), 1), ((1, 1), 0), ((0, 0), 0)];
        for ((events, partitions), producers) in loads {
            assert_eq!(run(&mut window, &mut now, (events, partitions, 2.4)), producers, "{events} events");
        }
    }

    #[test]
    fn pauses_change_nothing_until_the_broker_is_forgotten() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        assert_eq!(run(&mut window, &mut now, (60, 55, 2.4)), 8);
        for _ in 0..14 {
            assert_eq!(run(&mut window, &mut now, (0, 0, 2.4)), 8);
        }
        for _ in 0..2 {
            run(&mut window, &mut now, (0, 0, 2.4));
        }
        assert_eq!(window.producers, 0);
    }

    #[test]
    fn short_bursts_need_as_many_producers_as_long_ones() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        for _ in 0..100 {
            (0..40).for_each(|_| window.count(0, 1, now));
            now += Duration::from_millis(3);
            window.answered(Duration::from_micros(2_400));
            (0..40).for_each(|_| window.count(1, 0, now));
            window.tick(now);
            now += Duration::from_millis(200);
            window.tick(now);
        }
        assert_eq!(window.producers, 8);
    }

    #[test]
    fn a_shorter_round_trip_counts_at_once_and_a_longer_one_once_the_shorter_ones_are_old() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        assert_eq!(run(&mut window, &mut now, (40, 5, 5.0)), 2);
        assert_eq!(run(&mut window, &mut now, (40, 5, 0.1)), 0);
        assert_eq!(run(&mut window, &mut now, (40, 5, 5.0)), 0);
        now += 2 * ROUND_TRIP_PERIOD;
        window.tick(now);
        now += ROUND_TRIP_PERIOD;
        assert_eq!(run(&mut window, &mut now, (40, 5, 5.0)), 2);
    }
}
