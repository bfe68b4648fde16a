//! The state that senders and faults share during a run: the clock, the secret, the outages of the bridge, and the observations
//! of the senders.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nexudus_bridge::signature::SigningKey;

use crate::journal::Moment;

/// Maximum number of findings of a kind that are printed; all are counted.
const MAX_EXAMPLES: usize = 8;

/// Minimum delay of the senders' thread that is recorded.
const NOTICEABLE: Duration = Duration::from_millis(20);

/// Findings of one kind: their number, and the first few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(finding());
        }
    }
}

/// The observations of the senders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observations {
    pub(crate) attempts: u64,
    /// Deliveries that were answered 2xx, and their events.
    pub(crate) confirmed: u64,
    pub(crate) events: u64,
    /// Attempts without 2xx, by cause.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Deliveries without a 2xx after all retries. Nexudus would give them up, too.
    pub(crate) given_up: u64,
    /// Answers that violate the contract.
    pub(crate) wrong: Findings,
    /// Answers that were too late, without the sender's own delay.
    pub(crate) late: Findings,
    /// Maximum time from the body's last byte to the answer's last byte.
    pub(crate) longest_answer: Duration,
    /// The effects of each fault.
    pub(crate) gaps: BTreeMap<&'static str, Gap>,
}

impl Observations {
    /// Counts an attempt without 2xx.
    pub(crate) fn refused(&mut self, cause: &str) {
        *self.refused.entry(cause.to_owned()).or_default() += 1;
    }
}

/// The effects of a kind of fault on the senders.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gap {
    pub(crate) times: u64,
    /// The longest time without any 2xx.
    pub(crate) silence: Duration,
    /// The longest time from a delivery's first attempt to its 2xx.
    pub(crate) wait: Duration,
}

/// The state of a run.
pub(crate) struct Stage {
    began: Instant,
    /// The wall-clock time of `began`.
    began_at: Timestamp,
    ending: AtomicBool,
    key: Mutex<Arc<SigningKey>>,
    /// Time at which the bridge was stopped or killed, and time at which it listened again.
    outages: Mutex<Vec<(Moment, Option<Moment>)>>,
    pulse: Mutex<Pulse>,
    /// Delays of the senders' own thread: the end and the length of each.
    delays: Mutex<Vec<(Moment, Duration)>>,
    seen: Mutex<Observations>,
}

#[derive(Default)]
struct Pulse {
    faults: Vec<FaultRecord>,
    /// Time of the last 2xx of the main traffic, and of the isolated traffic.
    last: [Moment; 2],
}

/// A fault with its times.
struct FaultRecord {
    name: &'static str,
    /// True if the fault affects the isolated traffic; else it affects the main traffic.
    isolated: bool,
    began: Moment,
    /// Time at which the effects of the fault were over.
    over: Option<Moment>,
}

impl Stage {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self {
            began: Instant::now(),
            began_at: Timestamp::now(),
            ending: AtomicBool::new(false),
            key: Mutex::new(Arc::new(key)),
            outages: Mutex::default(),
            pulse: Mutex::default(),
            delays: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::try_from(self.began.elapsed().as_nanos()).expect("a run lasts hours, not centuries")
    }

    /// Returns the moment of a time in the bridge's format; 0 if it is invalid, or before the run.
    pub(crate) fn moment(&self, time: &str) -> Moment {
        let since = time.parse::<Timestamp>().ok().map(|time| time.duration_since(self.began_at).as_nanos());
        since.and_then(|nanos| nanos.try_into().ok()).unwrap_or(0)
    }

    /// Stops the start of new deliveries. Deliveries in progress continue to their end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Returns the secret that signs deliveries now.
    pub(crate) fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.key))
    }

    pub(crate) fn change_key(&self, key: SigningKey) {
        *lock(&self.key) = Arc::new(key);
    }

    /// Records the start of an outage of the bridge, during which connection errors are expected.
    pub(crate) fn outage_begins(&self) {
        lock(&self.outages).push((self.now(), None));
    }

    /// Records the end of the outage.
    pub(crate) fn bridge_is_back(&self) {
        if let Some((_, end)) = lock(&self.outages).last_mut() {
            *end = Some(self.now());
        }
    }

    /// Returns whether there was an outage of the bridge between these moments.
    pub(crate) fn had_outage(&self, from: Moment, to: Moment) -> bool {
        let away =
            |(went, back): &(Moment, Option<Moment>)| *went <= to && back.is_none_or(|back| back >= from);
        lock(&self.outages).iter().rev().any(away)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Observations> {
        lock(&self.seen)
    }

    /// Records the start of a fault. `isolated` is true if it affects the isolated traffic.
    pub(crate) fn fault_begins(&self, name: &'static str, isolated: bool) {
        lock(&self.pulse).faults.push(FaultRecord { name, isolated, began: self.now(), over: None });
        self.seen().gaps.entry(name).or_default().times += 1;
    }

    /// Records the time at which the effects of the fault were over.
    pub(crate) fn fault_is_over(&self) {
        if let Some(fault) = lock(&self.pulse).faults.last_mut() {
            fault.over = Some(self.now());
        }
    }

    /// Returns the beginning of each fault and the end of its aftermath. A message that was sent during a fault of Kafka can time
    /// out until `confirm_timeout` after the fault. The Kafka client then writes other messages again.
    pub(crate) fn troubles(&self, aftermath: Duration) -> Vec<(Moment, Moment)> {
        let aftermath = Moment::try_from(aftermath.as_nanos()).expect("seconds");
        let pulse = lock(&self.pulse);
        let end = |over: Option<Moment>| over.map_or(Moment::MAX, |over| over + aftermath);
        pulse.faults.iter().map(|fault| (fault.began, end(fault.over))).collect()
    }

    /// Records a 2xx for a delivery.
    pub(crate) fn confirmed(&self, sent: Moment, isolated: bool, events: usize) {
        let now = self.now();
        let mut pulse = lock(&self.pulse);
        let silent_since = std::mem::replace(&mut pulse.last[usize::from(isolated)], now);
        let mut seen = self.seen();
        seen.confirmed += 1;
        seen.events += events as u64;
        // A wait is counted for the earliest fault that was not over when the wait began.
        let fault = |since: Moment| {
            let not_over = |fault: &&FaultRecord| fault.over.is_none_or(|over| over > since);
            let fault = pulse.faults.iter().rev().take_while(not_over).last();
            fault.filter(|fault| fault.isolated == isolated).map(|fault| fault.name)
        };
        if let Some(name) = fault(silent_since) {
            let gap = seen.gaps.entry(name).or_default();
            gap.silence = gap.silence.max(between(silent_since, now));
        }
        if let Some(name) = fault(sent) {
            let gap = seen.gaps.entry(name).or_default();
            gap.wait = gap.wait.max(between(sent, now));
        }
    }

    /// Returns the time of the last 2xx of this traffic.
    pub(crate) fn last_confirmed(&self, isolated: bool) -> Moment {
        lock(&self.pulse).last[usize::from(isolated)]
    }

    /// Records that the senders' thread woke up later than planned.
    pub(crate) fn delayed(&self, by: Duration) {
        if by > NOTICEABLE {
            lock(&self.delays).push((self.now(), by));
        }
    }

    /// Returns the sum of the senders' own delays since a moment.
    pub(crate) fn own_delay(&self, since: Moment) -> Duration {
        lock(&self.delays).iter().rev().take_while(|(at, _)| *at >= since).map(|(_, by)| *by).sum()
    }

    pub(crate) fn longest_own_delay(&self) -> Duration {
        lock(&self.delays).iter().map(|(_, by)| *by).max().unwrap_or_default()
    }
}

/// Returns the time between two moments.
pub(crate) fn between(from: Moment, to: Moment) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
