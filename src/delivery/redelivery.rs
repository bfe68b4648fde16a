//! Redelivery memory: deliveries that were confirmed but not answered with a 2xx. A retry of such a delivery is not published again.
//!
//! A client may disconnect, or get a 503 at the deadline, before the last delivery report arrives. Its retry gets the result of the
//! first attempt, or waits for that result. While the memory is empty, a delivery pays one atomic load. Otherwise each change also
//! pays a SHA-256 of its body and a lock.
//!
//! The memory cannot cause the loss of an event, for these reasons:
//! - It holds deliveries of *change* actions only. A change record is the state of an entity, its `UpdatedOn` included, so a second
//!   byte-equal record contains nothing new. Two byte-equal signals can both be real, so the memory never holds signals.
//! - A delivery is found only by a SHA-256 over source, action and the whole body. So every answer from the memory is about an event
//!   that the broker has confirmed with exactly these bytes.
//! - A failed delivery is removed at once and published by its retry.
//! - A lost entry (restart, eviction) costs a duplicate with the same `ce_id`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hashlink::LinkedHashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Confirmed, Receipt};
use crate::config;
use crate::event::Fingerprint;

/// Memory of an entry in bytes, without the events of its receipt.
const ENTRY_BYTES: usize = 256;

/// The identity of a delivery: the content function of its whole body.
pub(super) type Identity = Fingerprint;

/// The memory of one bridge, bounded in entries, bytes and time. The oldest entry is evicted first.
#[derive(Debug)]
pub(super) struct Memory {
    bounds: config::Redelivery,
    entries: Mutex<Entries>,
    /// The number of entries, for a look-up that takes no lock while the memory is empty.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entries {
    /// At most one entry for each delivery, the youngest last. Nothing else holds a delivery, so the bounds are exact.
    by_age: LinkedHashMap<Identity, Entry>,
    /// The sum of the entries' bytes.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// The time of the disconnection or of the deadline, then of the confirmation.
    since: Instant,
    attempt: Attempt,
}

/// An attempt without an answer. Holds its receipt once it is confirmed; an attempt that fails closes the channel.
#[derive(Debug, Clone)]
pub(super) struct Attempt(watch::Receiver<Option<Receipt>>);

/// The sender of an [`Attempt`]'s receipt. Dropping it before the confirmation removes the attempt from the memory.
#[derive(Debug)]
pub(super) struct Unanswered {
    memory: Arc<Memory>,
    identity: Identity,
    receipt: watch::Sender<Option<Receipt>>,
}

impl Memory {
    /// Makes an empty memory.
    pub(super) fn new(bounds: &config::Redelivery) -> Self {
        Self { bounds: bounds.clone(), entries: Mutex::default(), held: AtomicUsize::new(0) }
    }

    /// Returns the first attempt of a delivery, if the memory holds it and it has not expired. `identity` is called only if the memory
    /// is not empty.
    pub(super) fn recall(
        &self,
        now: Instant,
        identity: impl FnOnce() -> Option<Identity>,
    ) -> Option<Attempt> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let identity = identity()?;
        let mut entries = self.entries.lock();
        self.tidy(&mut entries, now);
        let entry = entries.by_age.get(&identity).filter(|entry| !self.has_expired(entry, now))?;
        Some(entry.attempt.clone())
    }

    /// Adds a delivery whose confirmation will come too late for its answer. Returns `None` if `max_entries` is 0.
    pub(super) fn remember(self: &Arc<Self>, now: Instant, identity: Identity) -> Option<Unanswered> {
        if self.bounds.max_entries == 0 {
            return None;
        }
        let (receipt, attempt) = watch::channel(None);
        let mut entries = self.entries.lock();
        entries.put(identity, Entry { since: now, attempt: Attempt(attempt) });
        self.tidy(&mut entries, now);
        Some(Unanswered { memory: Arc::clone(self), identity, receipt })
    }

    /// Removes the oldest entries while they have expired or a bound is exceeded. Expired entries behind a pending one stay until its
    /// delivery report, at most for `kafka.confirm_timeout`; `recall` ignores them.
    fn tidy(&self, entries: &mut Entries, now: Instant) {
        while let Some((_, oldest)) = entries.by_age.front() {
            let is_full =
                entries.by_age.len() > self.bounds.max_entries || entries.bytes > self.bounds.max_bytes;
            if !is_full && !self.has_expired(oldest, now) {
                break;
            }
            entries.bytes -= oldest.bytes();
            entries.by_age.pop_front();
        }
        self.held.store(entries.by_age.len(), Ordering::Release);
    }

    /// Returns whether an entry has expired. A pending entry never expires: its delivery report ends it.
    fn has_expired(&self, entry: &Entry, now: Instant) -> bool {
        let is_old = now.saturating_duration_since(entry.since) >= self.bounds.ttl;
        is_old && entry.attempt.0.borrow().is_some()
    }
}

impl Entries {
    /// Adds an entry as the youngest, in place of an earlier one of the same delivery.
    fn put(&mut self, identity: Identity, entry: Entry) {
        self.bytes += entry.bytes();
        if let Some(replaced) = self.by_age.insert(identity, entry) {
            self.bytes -= replaced.bytes();
        }
    }

    /// Removes the entry of an attempt, unless it was evicted or a later attempt of the same delivery has replaced it.
    fn remove(&mut self, Unanswered { identity, receipt, .. }: &Unanswered) -> Option<Entry> {
        let attempt = receipt.subscribe();
        self.by_age.get(identity).filter(|entry| entry.attempt.0.same_channel(&attempt))?;
        let entry = self.by_age.remove(identity)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let receipt = self.attempt.0.borrow();
        ENTRY_BYTES + receipt.as_ref().map_or(0, |receipt| receipt.events.len() * size_of::<Confirmed>())
    }
}

impl Attempt {
    /// Waits for the receipt; `None` if the attempt was not confirmed.
    pub(super) async fn receipt(mut self) -> Option<Receipt> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl Unanswered {
    /// Reports that the delivery was confirmed. The memory holds its receipt from now on.
    pub(super) fn confirmed(self, now: Instant, receipt: &Receipt) {
        let mut entries = self.memory.entries.lock();
        let entry = entries.remove(&self);
        self.receipt.send_replace(Some(receipt.clone()));
        if let Some(Entry { attempt, .. }) = entry {
            entries.put(self.identity, Entry { since: now, attempt });
            self.memory.tidy(&mut entries, now);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if self.receipt.borrow().is_none() {
            let mut entries = self.memory.entries.lock();
            entries.remove(self);
            self.memory.held.store(entries.by_age.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
