//! Redelivery memory: deliveries that were confirmed but not answered. A retry of such a delivery is not published again.
//!
//! A client may give up before the delivery report arrives. Its retry gets the result of the first attempt, or waits for that
//! result. The memory holds only deliveries whose client got no answer, so the others cost nothing.
//!
//! The memory never loses an event, for these reasons:
//! - It holds deliveries of *change* actions only. A change record is the state of an entity, its `UpdatedOn` included, so a
//!   consumer learns nothing from a second byte-equal one. Two byte-equal signals can both be real, so the memory never holds
//!   signals.
//! - A delivery is found only by a SHA-256 over source, action and the whole body. So every answer from the memory names an event
//!   that the broker has confirmed with exactly these bytes.
//! - A failed delivery is removed at once and published by its retry.
//! - A lost entry (restart, eviction) costs a duplicate with the same `ce_id`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashlink::LinkedHashMap;
use parking_lot::{Mutex, MutexGuard};
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
    ttl: Duration,
    max_entries: usize,
    max_bytes: usize,
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
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    /// Distinguishes an entry from a later entry of the same delivery.
    number: u64,
    /// The time of the promise, then of the confirmation.
    since: Instant,
    word: watch::Receiver<Word>,
    bytes: usize,
}

/// The result of a first attempt.
#[derive(Debug, Clone)]
enum Word {
    Pending,
    Confirmed(Receipt),
}

/// A first attempt, whose result answers a redelivery.
#[derive(Debug)]
pub(super) struct First {
    word: watch::Receiver<Word>,
}

/// The right to report the confirmation of an unanswered delivery to the memory. If it is dropped before, the entry is removed.
#[derive(Debug)]
pub(super) struct Promise {
    memory: Arc<Memory>,
    identity: Identity,
    number: u64,
    word: watch::Sender<Word>,
}

impl Memory {
    /// Makes an empty memory.
    pub(super) fn new(config: &config::Redelivery) -> Self {
        Self {
            ttl: config.ttl,
            max_entries: config.max_entries,
            max_bytes: config.max_bytes,
            entries: Mutex::default(),
            held: AtomicUsize::new(0),
        }
    }

    /// Returns the first attempt of a delivery, if it is remembered or still pending. `identity` is called only when the
    /// memory holds anything.
    pub(super) fn recall(&self, now: Instant, identity: impl FnOnce() -> Identity) -> Option<First> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let identity = identity();
        let mut entries = self.lock();
        self.tidy(&mut entries, now);
        let entry = entries.by_age.get(&identity).filter(|entry| !self.has_expired(entry, now))?;
        Some(First { word: entry.word.clone() })
    }

    /// Remembers a delivery whose confirmation will come too late for its answer. Returns `None` where `max_entries` is 0.
    pub(super) fn promise(self: &Arc<Self>, now: Instant, identity: Identity) -> Option<Promise> {
        if self.max_entries == 0 {
            return None;
        }
        let (sender, word) = watch::channel(Word::Pending);
        let mut entries = self.lock();
        let number = entries.put(now, identity, word, ENTRY_BYTES);
        self.tidy(&mut entries, now);
        Some(Promise { memory: Arc::clone(self), identity, number, word: sender })
    }

    /// Removes the oldest entries while they have expired or a bound is exceeded. A pending entry keeps expired ones behind
    /// it until its delivery report comes, within `kafka.confirm_timeout`; `recall` ignores them.
    fn tidy(&self, entries: &mut Entries, now: Instant) {
        while let Some((_, oldest)) = entries.by_age.front() {
            let crowded = entries.by_age.len() > self.max_entries || entries.bytes > self.max_bytes;
            if !crowded && !self.has_expired(oldest, now) {
                break;
            }
            entries.bytes -= oldest.bytes;
            entries.by_age.pop_front();
        }
        self.held.store(entries.by_age.len(), Ordering::Release);
    }

    /// Returns whether an entry has expired. A pending entry never expires: its delivery report ends it.
    fn has_expired(&self, entry: &Entry, now: Instant) -> bool {
        let is_old = now.saturating_duration_since(entry.since) >= self.ttl;
        is_old && !matches!(*entry.word.borrow(), Word::Pending)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }
}

impl Entries {
    /// Adds an entry as the youngest, in place of an earlier one of the same delivery. Returns its number.
    fn put(&mut self, now: Instant, identity: Identity, word: watch::Receiver<Word>, bytes: usize) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += bytes;
        if let Some(replaced) = self.by_age.insert(identity, Entry { number, since: now, word, bytes }) {
            self.bytes -= replaced.bytes;
        }
        number
    }

    /// Removes an entry, unless a later attempt of the same delivery has replaced it.
    fn remove(&mut self, identity: &Identity, number: u64) -> Option<Entry> {
        self.by_age.get(identity).filter(|entry| entry.number == number)?;
        let entry = self.by_age.remove(identity)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

impl First {
    /// Waits for the receipt of the first attempt; `None` if the attempt was not confirmed.
    pub(super) async fn receipt(mut self) -> Option<Receipt> {
        match &*self.word.wait_for(|word| !matches!(word, Word::Pending)).await.ok()? {
            Word::Confirmed(receipt) => Some(receipt.clone()),
            Word::Pending => None,
        }
    }
}

impl Promise {
    /// Reports that the delivery was confirmed. The memory holds it from now on.
    pub(super) fn keep(self, now: Instant, receipt: &Receipt) {
        self.word.send_replace(Word::Confirmed(receipt.clone()));
        let mut entries = self.memory.lock();
        let bytes = ENTRY_BYTES + receipt.events.len() * size_of::<Confirmed>();
        // The entry may have been evicted, or replaced by a later attempt.
        if let Some(Entry { word, .. }) = entries.remove(&self.identity, self.number) {
            entries.put(now, self.identity, word, bytes);
            self.memory.tidy(&mut entries, now);
        }
    }
}

impl Drop for Promise {
    /// Removes the entry of a delivery that was not confirmed. The entry of a confirmed one has another number by now and stays.
    fn drop(&mut self) {
        let mut entries = self.memory.lock();
        entries.remove(&self.identity, self.number);
        self.memory.held.store(entries.by_age.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
