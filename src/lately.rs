//! Lately: what happened just now, for those who watch. Setbacks by kind, and confirmed events as they come.
//!
//! Everything here is bounded, is lost with the process, and is about deliveries, never their content: no body, no secret,
//! no signature. While nobody watches, an event costs one relaxed load. A viewer that is too slow misses events and is
//! told how many, so none can hold the bridge up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use crate::event::Event;
use crate::outcome::{Outcome, QuarantineReason};

/// How many may watch at once.
pub const MOST_VIEWERS: usize = 8;

/// How many events a viewer may be behind.
const MOST_BEHIND: usize = 128;

/// How many kinds of setbacks are kept; the one that is longest ago goes first.
const MOST_SETBACKS: usize = 100;

/// How much of a key is shown. The rest would keep bodies in memory.
const SHOWN_KEY_BYTES: usize = 128;

/// What happened lately.
#[derive(Debug)]
pub struct Lately {
    viewers: AtomicUsize,
    over: AtomicBool,
    /// `None` is the end.
    events: Sender<Option<Arc<Seen>>>,
    setbacks: Mutex<Vec<Setback>>,
}

/// A confirmed event, as a viewer sees it.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// When it was confirmed: RFC 3339, UTC.
    pub time: String,
    /// The source.
    pub source: String,
    /// The action; `unknown` for one that is not in the catalogue.
    pub action: String,
    /// The message key, shortened if it is long.
    pub key: Option<String>,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset within it.
    pub offset: i64,
    /// From receipt to confirmation, by the wall clock, in milliseconds.
    pub latency_ms: f64,
    /// Why the delivery was kept on the quarantine topic, if it was.
    pub quarantined: Option<&'static str>,
}

/// Deliveries of one source and action that ended in the same way, other than confirmed.
#[derive(Debug, Clone, Serialize)]
pub struct Setback {
    /// The source.
    pub source: String,
    /// The action.
    pub action: String,
    /// How they ended.
    #[serde(serialize_with = "as_label")]
    pub outcome: Outcome,
    /// How many there were.
    pub count: u64,
    /// When the last one was: RFC 3339, UTC.
    #[serde(serialize_with = "as_text")]
    pub last: Timestamp,
    /// What was said of the last one.
    pub detail: String,
}

fn as_label<S: serde::Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.label())
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

impl Default for Lately {
    fn default() -> Self {
        Self {
            viewers: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            events: Sender::new(MOST_BEHIND),
            setbacks: Mutex::default(),
        }
    }
}

impl Lately {
    /// Tells viewers, if there are any, of an event of this source and action that now lies at this partition and offset.
    pub fn confirmed(
        &self,
        (source, action): (&str, &str),
        event: &Event,
        received: Timestamp,
        (partition, offset): (i32, i64),
    ) {
        // An event more or less at the moment when somebody begins to watch is no matter.
        if self.viewers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Timestamp::now();
        let seen = Seen {
            time: format!("{now:.3}"),
            source: source.to_owned(),
            action: action.to_owned(),
            key: event.key.as_ref().map(shown_key),
            topic: event.stream.topic.clone(),
            partition,
            offset,
            latency_ms: now.duration_since(received).as_secs_f64().max(0.0) * 1e3,
            quarantined: event.attributes.quarantine.as_ref().map(|quarantine| quarantine.reason.label()),
        };
        // Without a receiver it is nobody's loss.
        self.events.send(Some(Arc::new(seen))).ok();
    }

    /// Keeps in mind that a delivery was not answered 2xx.
    pub fn refused(&self, labels: (&str, &str), outcome: Outcome, detail: &str) {
        self.set_back(labels, outcome, detail);
    }

    /// Keeps in mind that a delivery lies on the quarantine topic.
    pub fn quarantined(&self, labels: (&str, &str), reason: QuarantineReason) {
        self.set_back(labels, Outcome::Quarantined, reason.explanation());
    }

    fn set_back(&self, (source, action): (&str, &str), outcome: Outcome, detail: &str) {
        let last = Timestamp::now();
        let mut setbacks = self.setbacks();
        let same = |known: &&mut Setback| {
            known.outcome == outcome && known.action == action && known.source == source
        };
        if let Some(known) = setbacks.iter_mut().find(same) {
            known.count += 1;
            known.last = last;
            if known.detail != detail {
                detail.clone_into(&mut known.detail);
            }
            return;
        }
        if setbacks.len() == MOST_SETBACKS {
            let oldest = (0..MOST_SETBACKS).min_by_key(|&place| setbacks[place].last);
            oldest.map(|place| setbacks.swap_remove(place));
        }
        let (source, action, detail) = (source.to_owned(), action.to_owned(), detail.to_owned());
        setbacks.push(Setback { source, action, outcome, count: 1, last, detail });
    }

    /// The kinds of setbacks that there were, the latest first.
    pub fn latest_setbacks(&self) -> Vec<Setback> {
        let mut setbacks = self.setbacks().clone();
        setbacks.sort_by_key(|setback| std::cmp::Reverse(setback.last));
        setbacks
    }

    /// Watches events from now on; `None` if as many as allowed do already, or all is over.
    pub fn watch(self: &Arc<Self>) -> Option<Viewer> {
        let one_more = |viewers: usize| (viewers < MOST_VIEWERS).then_some(viewers + 1);
        self.viewers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let viewer = Viewer { events: self.events.subscribe(), lately: Arc::clone(self) };
        // Asked last: an end that comes later finds the receiver.
        (!self.over.load(Ordering::SeqCst)).then_some(viewer)
    }

    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Sends viewers home, for good.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.events.send(None).ok();
    }

    fn setbacks(&self) -> MutexGuard<'_, Vec<Setback>> {
        self.setbacks.lock()
    }
}

fn shown_key(key: &Bytes) -> String {
    let text = String::from_utf8_lossy(&key[..key.len().min(SHOWN_KEY_BYTES)]);
    if key.len() > SHOWN_KEY_BYTES {
        format!("{}…", text.trim_end_matches('\u{fffd}'))
    } else {
        text.into_owned()
    }
}

/// Somebody who watches, until dropped.
#[derive(Debug)]
pub struct Viewer {
    lately: Arc<Lately>,
    events: Receiver<Option<Arc<Seen>>>,
}

/// What a viewer sees in one look.
#[derive(Debug, Default)]
pub struct Glimpse {
    /// Confirmed events, the oldest first.
    pub events: Vec<Arc<Seen>>,
    /// How many were missed, before or between them.
    pub missed: u64,
    /// Nothing will follow.
    pub over: bool,
}

impl Viewer {
    /// Waits until there is something to see. Dropping the wait loses nothing.
    pub async fn look(&mut self) -> Glimpse {
        let mut glimpse = Glimpse::default();
        match self.events.recv().await {
            Ok(Some(seen)) => glimpse.events.push(seen),
            Ok(None) | Err(RecvError::Closed) => glimpse.over = true,
            Err(RecvError::Lagged(missed)) => glimpse.missed += missed,
        }
        while !glimpse.over && glimpse.events.len() < MOST_BEHIND {
            match self.events.try_recv() {
                Ok(Some(seen)) => glimpse.events.push(seen),
                Ok(None) | Err(TryRecvError::Closed) => glimpse.over = true,
                Err(TryRecvError::Lagged(missed)) => glimpse.missed += missed,
                Err(TryRecvError::Empty) => break,
            }
        }
        glimpse
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.lately.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
