//! What senders and faults share while the run goes on: the clock, the secret, when the bridge was away, and what the
//! senders saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nexudus_bridge::signature::SigningKey;

use crate::journal::Moment;

/// How many findings of a kind are told; all are counted.
const TOLD: usize = 8;

/// A sender's own delay is worth remembering from here on.
const NOTICEABLE: Duration = Duration::from_millis(20);

/// Findings of one kind: how many, and the first few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) count: u64,
    pub(crate) told: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(finding());
        }
    }
}

/// What the senders saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) attempts: u64,
    /// Deliveries that were answered 2xx, and their events.
    pub(crate) confirmed: u64,
    pub(crate) events: u64,
    /// Attempts without 2xx, by cause.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Deliveries that no attempt brought through, as Nexudus gives up too.
    pub(crate) given_up: u64,
    /// What no bridge should answer.
    pub(crate) wrong: Findings,
    /// Answers that came too late, the sender's own delay left out.
    pub(crate) late: Findings,
    /// From the body's last byte to the answer's last byte.
    pub(crate) longest_answer: Duration,
    /// Per fault.
    pub(crate) gaps: BTreeMap<&'static str, Gap>,
}

impl Seen {
    /// Counts an attempt without 2xx.
    pub(crate) fn refused(&mut self, cause: &str) {
        *self.refused.entry(cause.to_owned()).or_default() += 1;
    }
}

/// What a kind of fault did to those who send.
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
    /// The same moment on the wall.
    began_at: Timestamp,
    ending: AtomicBool,
    key: Mutex<Arc<SigningKey>>,
    /// When the bridge was told to stop or killed, and when it listened again.
    outages: Mutex<Vec<(Moment, Option<Moment>)>>,
    pulse: Mutex<Pulse>,
    /// Delays of the senders' own thread: when each ended, and how long it was.
    delays: Mutex<Vec<(Moment, Duration)>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Pulse {
    faults: Vec<Happened>,
    /// The last 2xx of the main traffic and of what is set aside.
    last: [Moment; 2],
}

/// A fault in its time.
struct Happened {
    name: &'static str,
    /// Which traffic it is about.
    aside: bool,
    began: Moment,
    /// When all was well again.
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

    /// The moment of a time of day as the bridge writes it; 0 for what is none, or before the run.
    pub(crate) fn moment(&self, time: &str) -> Moment {
        let since = time.parse::<Timestamp>().ok().map(|time| time.duration_since(self.began_at).as_nanos());
        since.and_then(|nanos| nanos.try_into().ok()).unwrap_or(0)
    }

    /// No new deliveries; those that are under way are brought to their end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// The secret that deliveries are signed with now.
    pub(crate) fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.key))
    }

    pub(crate) fn change_key(&self, key: SigningKey) {
        *lock(&self.key) = Arc::new(key);
    }

    /// From now on connection errors are to be expected.
    pub(crate) fn bridge_goes(&self) {
        lock(&self.outages).push((self.now(), None));
    }

    /// From now on they are not.
    pub(crate) fn bridge_is_back(&self) {
        if let Some((_, end)) = lock(&self.outages).last_mut() {
            *end = Some(self.now());
        }
    }

    /// Whether the bridge was away at some moment between these.
    pub(crate) fn bridge_was_away(&self, from: Moment, to: Moment) -> bool {
        let away =
            |(went, back): &(Moment, Option<Moment>)| *went <= to && back.is_none_or(|back| back >= from);
        lock(&self.outages).iter().rev().any(away)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// A fault begins; `aside` tells which traffic it is about.
    pub(crate) fn fault_begins(&self, name: &'static str, aside: bool) {
        lock(&self.pulse).faults.push(Happened { name, aside, began: self.now(), over: None });
        self.seen().gaps.entry(name).or_default().times += 1;
    }

    /// All is well again.
    pub(crate) fn fault_is_over(&self) {
        if let Some(fault) = lock(&self.pulse).faults.last_mut() {
            fault.over = Some(self.now());
        }
    }

    /// The beginning of each fault and the end of its aftermath. Where Kafka has faults, a message sent during one can time out
    /// until `confirm_timeout` after it, and the Kafka client then writes others again.
    pub(crate) fn troubles(&self, aftermath: Duration) -> Vec<(Moment, Moment)> {
        let aftermath = Moment::try_from(aftermath.as_nanos()).expect("seconds");
        let pulse = lock(&self.pulse);
        let end = |over: Option<Moment>| over.map_or(Moment::MAX, |over| over + aftermath);
        pulse.faults.iter().map(|fault| (fault.began, end(fault.over))).collect()
    }

    /// A delivery was answered 2xx.
    pub(crate) fn confirmed(&self, sent: Moment, aside: bool, events: usize) {
        let now = self.now();
        let mut pulse = lock(&self.pulse);
        let silent_since = std::mem::replace(&mut pulse.last[usize::from(aside)], now);
        let mut seen = self.seen();
        seen.confirmed += 1;
        seen.events += events as u64;
        // What was still to be waited for when a wait began is what it waited for.
        let fault = |since: Moment| {
            let not_over = |fault: &&Happened| fault.over.is_none_or(|over| over > since);
            let fault = pulse.faults.iter().rev().take_while(not_over).last();
            fault.filter(|fault| fault.aside == aside).map(|fault| fault.name)
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

    /// When a delivery of this traffic was last answered 2xx.
    pub(crate) fn last_confirmed(&self, aside: bool) -> Moment {
        lock(&self.pulse).last[usize::from(aside)]
    }

    /// The senders' thread woke up so much later than it wanted.
    pub(crate) fn delayed(&self, by: Duration) {
        if by > NOTICEABLE {
            lock(&self.delays).push((self.now(), by));
        }
    }

    /// The senders' own delays from a moment until now, all together, and of the whole run the longest.
    pub(crate) fn own_delay(&self, since: Moment) -> Duration {
        lock(&self.delays).iter().rev().take_while(|(at, _)| *at >= since).map(|(_, by)| *by).sum()
    }

    pub(crate) fn longest_own_delay(&self) -> Duration {
        lock(&self.delays).iter().map(|(_, by)| *by).max().unwrap_or_default()
    }
}

/// The time between two moments.
pub(crate) fn between(from: Moment, to: Moment) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
