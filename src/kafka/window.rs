//! The number of requests in flight for a broker, chosen so that events are answered soonest.
//!
//! Two costs pull in opposite directions. Events that wait for a request in flight lose that time, and far away from a broker
//! this is nearly all of the time. But events that wait go into larger batches, and near a broker, where the processors are
//! the limit, larger batches bring every answer forward. Round trips and rates do not tell the two cases apart. So the window
//! tries: from time to time it uses a larger or smaller size for some moments, in turns with the present one, and keeps
//! the size with more answers a second, or with as many and the shorter mean delay between the submission of an event and its
//! answer. This delay is the mean number of events without an answer, divided by the rate of answers (Little's law), so no
//! event is timed by itself.
//!
//! Sizes are levels. At level 0 events go to the first producer directly, which has one request in flight and makes a batch of
//! what arrives meanwhile. At level 1 one other producer sends the batches, which has several requests in flight, and each
//! further level doubles the number of producers.

use std::time::{Duration, Instant};

/// Minimum time before a level is measured; at least three mean delays, since batches grow slowly.
const SETTLE: Duration = Duration::from_millis(50);

/// Minimum time of a measurement; at least three mean delays, and until [`SLOT_EVENTS`] are answered, but not longer than
/// [`SLOT_AT_MOST`].
const SLOT: Duration = Duration::from_millis(100);
const SLOT_EVENTS: f64 = 100.0;
const SLOT_AT_MOST: Duration = Duration::from_millis(500);

/// A trial with fewer answers in a slot is given up.
const TOO_FEW: f64 = 20.0;

/// Number of measurements of each of two levels before they are compared.
const SLOTS: usize = 2;

/// Minimum mean number of events without an answer for a trial.
const WORTH_TRYING: f64 = 1.5;

/// A higher level has to shorten the delay to this part; a lower one costs less, so it may lengthen the delay by this factor.
const BETTER: f64 = 0.9;
const AS_GOOD: f64 = 1.05;

/// No level may lower the rate of answers to less than this part. A lower one that raises the rate by as much is taken in any case.
const AS_MANY: f64 = 0.98;

/// After a higher and a lower level were tried in vain, the next trial comes after the first of these; then doubled, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// The load has changed where the number of events without an answer has changed by this factor.
const CHANGED: f64 = 1.5;

/// After this time with less load, events are sent directly again, and the producers beyond the first are given up.
const IDLE: Duration = Duration::from_secs(60);

/// The highest level, with 8 producers.
const LEVELS: usize = 4;

/// The window of one broker.
#[derive(Debug)]
pub(super) struct Window {
    level: usize,
    trial: Option<Trial>,
    is_upwards: bool,
    /// The other direction was tried just before, in vain.
    is_second_try: bool,
    next_trial: Instant,
    pause: Duration,
    /// The load after the last trial.
    settled: f64,
    load: Load,
    /// The delay of the last slot, in seconds.
    delay: f64,
    slot: Instant,
    is_measuring: bool,
    /// The last time at which the load was worth a trial.
    busy: Instant,
    /// Number of producers that are needed.
    needed: usize,
}

/// Another level is compared with the present one.
#[derive(Debug)]
struct Trial {
    level: usize,
    /// Of the present level and of the other one.
    loads: [Load; 2],
    slots: usize,
}

/// The events without an answer, over a time.
#[derive(Debug, Clone, Copy)]
struct Load {
    unanswered: usize,
    /// Events times seconds.
    area: f64,
    until: Instant,
    seconds: f64,
    answers: f64,
}

impl Load {
    fn new(unanswered: usize, now: Instant) -> Self {
        Self { unanswered, area: 0.0, until: now, seconds: 0.0, answers: 0.0 }
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.until).as_secs_f64();
        self.area += seconds * self.unanswered as f64;
        self.seconds += seconds;
        self.until = self.until.max(now);
    }

    fn add(&mut self, other: &Self) {
        self.area += other.area;
        self.seconds += other.seconds;
        self.answers += other.answers;
    }

    /// In seconds.
    fn delay(&self) -> f64 {
        self.area / self.answers.max(1.0)
    }

    /// Answers a second.
    fn rate(&self) -> f64 {
        self.answers.max(1.0) / self.seconds.max(1e-9)
    }

    fn mean(&self) -> f64 {
        self.area / self.seconds.max(1e-9)
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            level: 0,
            trial: None,
            is_upwards: true,
            is_second_try: false,
            next_trial: now,
            pause: PAUSE.0,
            settled: 0.0,
            load: Load::new(0, now),
            delay: 0.0,
            slot: now,
            is_measuring: true,
            busy: now,
            needed: 0,
        }
    }

    /// Returns the number of producers that send batches; 0: events are sent directly.
    pub(super) fn producers(&self) -> usize {
        match &self.trial {
            Some(trial) if trial.slots % 2 == 1 => producers(trial.level),
            _ => producers(self.level),
        }
    }

    #[cfg(test)]
    pub(super) fn set_level(&mut self, level: usize) {
        (self.level, self.trial) = (level, None);
    }

    /// Returns the number of producers that have to be there.
    pub(super) fn needed(&self) -> usize {
        self.needed
    }

    /// An event waits for its answer from now on.
    pub(super) fn submitted(&mut self, events: usize, now: Instant) {
        self.load.advance(now);
        self.load.unanswered += events;
    }

    /// Events no longer wait for an answer.
    pub(super) fn answered(&mut self, events: usize, now: Instant) {
        self.load.advance(now);
        self.load.unanswered = self.load.unanswered.saturating_sub(events);
        self.load.answers += events as f64;
    }

    /// Begins the next slot if it is time. `there` is the number of producers.
    pub(super) fn tick(&mut self, there: usize, now: Instant) {
        let elapsed = now.saturating_duration_since(self.slot);
        let delay = Duration::from_secs_f64(self.delay).min(SLOT_AT_MOST / 3);
        if !self.is_measuring {
            if elapsed >= SETTLE.max(delay * 3) {
                self.begin_slot(true, now);
            }
            return;
        }
        let is_enough = elapsed >= SLOT.max(delay * 3) && self.load.answers >= SLOT_EVENTS;
        if !is_enough && elapsed < SLOT_AT_MOST {
            return;
        }
        self.load.advance(now);
        let measured = self.load;
        self.delay = measured.delay();
        match self.trial.take() {
            None => self.consider(measured, there, now),
            Some(_) if measured.answers < TOO_FEW => self.begin_slot(false, now),
            Some(mut trial) => {
                trial.loads[trial.slots % 2].add(&measured);
                trial.slots += 1;
                if trial.slots < 2 * SLOTS {
                    self.trial = Some(trial);
                } else {
                    self.decide(&trial, now);
                }
                self.begin_slot(false, now);
            }
        }
    }

    fn begin_slot(&mut self, is_measuring: bool, now: Instant) {
        self.load = Load::new(self.load.unanswered, now);
        (self.slot, self.is_measuring) = (now, is_measuring);
    }

    /// Begins a trial where it is time for one.
    fn consider(&mut self, measured: Load, there: usize, now: Instant) {
        let mean = measured.mean();
        if mean >= WORTH_TRYING {
            self.busy = now;
        } else if now.saturating_duration_since(self.busy) > IDLE {
            (self.level, self.is_upwards) = (0, true);
        }
        if mean > self.settled * CHANGED || mean * CHANGED < self.settled {
            (self.next_trial, self.pause, self.settled) = (now, PAUSE.0, mean);
        }
        self.needed = producers(self.level);
        let is_due = mean >= WORTH_TRYING && now >= self.next_trial;
        if is_due {
            self.is_upwards = (self.is_upwards || self.level == 0) && self.level < LEVELS;
            // Neighbours may be alike where a level further down is better.
            let level = if self.is_upwards { self.level + 1 } else { self.level / 2 };
            self.needed = producers(level.max(self.level));
            if self.needed <= there {
                let nothing = Load::new(0, now);
                self.trial = Some(Trial { level, loads: [measured, nothing], slots: 1 });
            }
        }
        self.begin_slot(self.trial.is_none(), now);
    }

    fn decide(&mut self, trial: &Trial, now: Instant) {
        let [present, other] = &trial.loads;
        // A busy processor makes events wait before they are submitted, which shows in the rate only.
        let (rate, delay) = (other.rate() / present.rate(), other.delay() / present.delay().max(1e-9));
        let limit = if trial.level > self.level { BETTER } else { AS_GOOD };
        let raises_the_rate = trial.level < self.level && rate * AS_MANY > 1.0;
        if raises_the_rate || (rate >= AS_MANY && delay < limit) {
            (self.level, self.settled) = (trial.level, other.mean());
            (self.next_trial, self.pause, self.is_second_try) = (now, PAUSE.0, false);
            return;
        }
        self.settled = present.mean();
        self.is_upwards = !self.is_upwards;
        let is_possible = if self.is_upwards { self.level < LEVELS } else { self.level > 0 };
        self.is_second_try = !self.is_second_try && is_possible;
        if !self.is_second_try {
            self.next_trial = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
    }
}

/// Returns the number of producers that send batches at a level.
fn producers(level: usize) -> usize {
    if level == 0 { 0 } else { 1 << (level - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for some seconds with `load` events, each submitted again as soon as it is answered. `delays` has the delay of each
    /// level in milliseconds. All producers are there at once.
    fn run(window: &mut Window, start: &mut Instant, seconds: usize, load: usize, delays: [f64; LEVELS + 1]) {
        window.submitted(load.saturating_sub(window.load.unanswered), *start);
        window.load.unanswered = load;
        let mut answered = 0.0;
        for _ in 0..seconds * 1_000 {
            *start += Duration::from_millis(1);
            let level = (0..=LEVELS).find(|&level| producers(level) == window.producers()).unwrap();
            answered += load as f64 / delays[level];
            window.answered(answered as usize, *start);
            window.submitted(answered as usize, *start);
            answered = answered.fract();
            window.tick(window.needed(), *start);
        }
    }

    const FAR: [f64; LEVELS + 1] = [80.0, 40.0, 22.0, 12.0, 9.0];
    const NEAR: [f64; LEVELS + 1] = [2.0, 2.1, 2.4, 2.8, 3.5];

    #[test]
    fn the_window_takes_the_level_with_the_shortest_delay_and_follows_when_that_changes() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        for (delays, level) in [(NEAR, 0), (FAR, 4), (NEAR, 0), ([9.0, 6.0, 4.0, 5.0, 8.0], 2)] {
            run(&mut window, &mut now, 60, 64, delays);
            assert_eq!(window.level, level, "{delays:?}");
            assert!(window.needed() <= producers(level + 1));
        }
    }

    #[test]
    fn a_higher_level_that_is_hardly_better_is_not_taken_and_a_lower_one_that_is_hardly_worse_is() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        let delays = [10.0, 9.8, 9.8, 9.8, 9.8];
        run(&mut window, &mut now, 20, 64, delays);
        assert_eq!(window.level, 0);
        window.level = 4;
        run(&mut window, &mut now, 60, 64, [10.0, 9.9, 9.9, 9.9, 9.9]);
        assert_eq!(window.level, 0);
    }

    #[test]
    fn lone_events_need_no_further_producer_and_a_window_that_is_idle_gives_them_up() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        run(&mut window, &mut now, 10, 1, FAR);
        assert_eq!((window.level, window.needed()), (0, 0));
        run(&mut window, &mut now, 10, 64, FAR);
        assert_eq!((window.level, window.needed()), (4, 8));
        run(&mut window, &mut now, 70, 1, FAR);
        assert_eq!((window.level, window.needed()), (0, 0));
    }

    #[test]
    fn a_trial_without_answers_changes_nothing() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        run(&mut window, &mut now, 10, 64, FAR);
        let level = window.level;
        run(&mut window, &mut now, 30, 64, [1e9; LEVELS + 1]);
        assert_eq!(window.level, level);
    }
}
