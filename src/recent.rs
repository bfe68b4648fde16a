//! Recent deliveries, for the console: setbacks by kind, and confirmed events as they come.
//!
//! The memory is bounded and ends with the process. It holds no body, secret or signature. Without a viewer, an event costs
//! one relaxed load. A slow viewer misses events and gets their number, so no viewer can delay a delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use crate::event::Event;
use crate::outcome::Outcome;

/// Maximum number of viewers.
pub const MAX_VIEWERS: usize = 8;

/// Maximum number of events that wait for one viewer.
const MAX_BEHIND: usize = 128;

/// Maximum number of kinds of setbacks; the one that was not repeated for the longest time is dropped.
const MAX_SETBACKS: usize = 100;

/// Maximum number of bytes of a key that are shown. A whole key would keep its body in memory.
const SHOWN_KEY_BYTES: usize = 128;

/// Recent setbacks, and a channel for confirmed events.
#[derive(Debug)]
pub struct Recent {
    viewers: AtomicUsize,
    over: AtomicBool,
    /// `None` ends the stream of each viewer.
    events: Sender<Option<Arc<RecentEvent>>>,
    setbacks: Mutex<Vec<Setback>>,
}

/// A confirmed event for viewers.
#[derive(Debug, Serialize)]
pub struct RecentEvent {
    /// Time of its confirmation: RFC 3339, UTC.
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
    /// The offset within it; `None` if the broker did not name it.
    pub offset: Option<i64>,
    /// Time from receipt to confirmation by the wall clock, in milliseconds.
    pub latency_ms: f64,
    /// Reason of the quarantine; `None` for an event on the topic of its action.
    pub quarantined: Option<&'static str>,
}

/// Deliveries of one source and action with the same outcome, which is not `confirmed`.
#[derive(Debug, Clone, Serialize)]
pub struct Setback {
    /// The source.
    pub source: String,
    /// The action.
    pub action: String,
    /// Their outcome.
    pub outcome: Outcome,
    /// Their number.
    pub count: u64,
    /// Time of the last one: RFC 3339, UTC.
    #[serde(serialize_with = "as_text")]
    pub last: Timestamp,
    /// The detail of the last one.
    pub detail: String,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            viewers: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            events: Sender::new(MAX_BEHIND),
            setbacks: Mutex::default(),
        }
    }
}

impl Recent {
    /// Sends a confirmed event, at this partition and offset, to all viewers.
    pub fn confirmed(
        &self,
        (source, action): (&str, &str),
        event: &Event,
        received: Timestamp,
        (partition, offset): (i32, Option<i64>),
    ) {
        // Relaxed: a viewer may miss an event that is confirmed while it begins to watch.
        if self.viewers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Timestamp::now();
        let event = RecentEvent {
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
        // An error means that the last viewer has disconnected.
        self.events.send(Some(Arc::new(event))).ok();
    }

    /// Adds a delivery that was refused, or kept on the quarantine topic.
    pub fn add_setback(&self, (source, action): (&str, &str), outcome: Outcome, detail: &str) {
        let last = Timestamp::now();
        let mut setbacks = self.setbacks.lock();
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
        if setbacks.len() == MAX_SETBACKS {
            let oldest = (0..MAX_SETBACKS).min_by_key(|&index| setbacks[index].last);
            oldest.map(|index| setbacks.swap_remove(index));
        }
        let (source, action, detail) = (source.to_owned(), action.to_owned(), detail.to_owned());
        setbacks.push(Setback { source, action, outcome, count: 1, last, detail });
    }

    /// Returns the setbacks, the latest first.
    pub fn latest_setbacks(&self) -> Vec<Setback> {
        let mut setbacks = self.setbacks.lock().clone();
        setbacks.sort_by_key(|setback| std::cmp::Reverse(setback.last));
        setbacks
    }

    /// Adds a viewer; `None` if there are [`MAX_VIEWERS`] already, or after [`Recent::end`].
    pub fn watch(self: &Arc<Self>) -> Option<Viewer> {
        let one_more = |viewers: usize| (viewers < MAX_VIEWERS).then_some(viewers + 1);
        self.viewers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let viewer = Viewer { events: self.events.subscribe(), recent: Arc::clone(self) };
        // Read after `subscribe`: a later `end` sends `None` to this viewer.
        (!self.over.load(Ordering::SeqCst)).then_some(viewer)
    }

    /// Returns the number of viewers.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Ends the streams of all viewers, and refuses further ones.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.events.send(None).ok();
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

/// A viewer of events, until dropped.
#[derive(Debug)]
pub struct Viewer {
    recent: Arc<Recent>,
    events: Receiver<Option<Arc<RecentEvent>>>,
}

/// The events that have come since the last update.
#[derive(Debug, Default)]
pub struct Update {
    /// Confirmed events, the oldest first.
    pub events: Vec<Arc<RecentEvent>>,
    /// Number of events that the viewer missed, before or between them.
    pub missed: u64,
    /// True if this is the last update.
    pub over: bool,
}

impl Viewer {
    /// Waits for the next update. Dropping the future loses no event.
    pub async fn next(&mut self) -> Update {
        let mut update = Update::default();
        match self.events.recv().await {
            Ok(Some(event)) => update.events.push(event),
            Ok(None) | Err(RecvError::Closed) => update.over = true,
            Err(RecvError::Lagged(missed)) => update.missed += missed,
        }
        while !update.over && update.events.len() < MAX_BEHIND {
            match self.events.try_recv() {
                Ok(Some(event)) => update.events.push(event),
                Ok(None) | Err(TryRecvError::Closed) => update.over = true,
                Err(TryRecvError::Lagged(missed)) => update.missed += missed,
                Err(TryRecvError::Empty) => break,
            }
        }
        update
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.recent.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
