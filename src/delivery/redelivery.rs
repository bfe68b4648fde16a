//! Redelivery memory: deliveries that were confirmed although nobody was told, so that their retry is not published again.
//!
//! The sender's client may give up before the broker has spoken. Its retry is then answered from the word on the first
//! attempt, or waits for it. A delivery is remembered only when its answer could not be given: no cost to the others.
//!
//! Why this can never swallow an event: only deliveries of *change* actions are remembered, and found again only by a
//! SHA-256 over source, action and the whole body. A change record is the state of an entity, its `UpdatedOn` included,
//! so two byte-equal ones say the same, and a consumer has nothing to learn from the second; what is answered from here
//! was confirmed by the broker with exactly these bytes. Signals, whose byte-equal records can both be real, never get
//! here. What fails is forgotten at once and published by its retry. A lost memory (restart, eviction) costs a duplicate
//! with the same `ce_id`, never an event.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Confirmed, Receipt};
use crate::config;
use crate::event::Fingerprint;

/// What an entry costs beside the events of its receipt, in bytes.
const ENTRY_BYTES: usize = 256;

/// Which delivery it is: the content function of its whole body.
pub(super) type Identity = Fingerprint;

/// The memory of one bridge. Bounded in entries, bytes and time; the oldest goes first.
#[derive(Debug)]
pub(super) struct Memory {
    ttl: Duration,
    most_entries: usize,
    most_bytes: usize,
    entries: Mutex<Entries>,
    /// How many there are, to be read without the lock: mostly none.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entries {
    by_identity: HashMap<Identity, Entry>,
    /// In the order of their age. An entry that was replaced or settled since is found by its number not to be this one.
    ages: VecDeque<(Instant, Identity, u64)>,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    word: watch::Receiver<Word>,
    bytes: usize,
}

/// What is known of a first attempt.
#[derive(Debug, Clone)]
enum Word {
    Pending,
    Confirmed(Receipt),
}

/// A first attempt that a redelivery can be answered from.
#[derive(Debug)]
pub(super) struct First {
    word: watch::Receiver<Word>,
}

/// To be kept by the settlement of a delivery that was not answered; broken when dropped.
#[derive(Debug)]
pub(super) struct Promise {
    memory: Arc<Memory>,
    identity: Identity,
    number: u64,
    word: watch::Sender<Word>,
}

impl Memory {
    /// An empty one.
    pub(super) fn new(config: &config::Redelivery) -> Self {
        Self {
            ttl: config.ttl,
            most_entries: config.max_entries,
            most_bytes: config.max_bytes,
            entries: Mutex::default(),
            held: AtomicUsize::new(0),
        }
    }

    /// The first attempt of a delivery, if it is remembered or still pending. The identity is asked for only when there is
    /// anything to find.
    pub(super) fn recall(&self, now: Instant, identity: impl FnOnce() -> Identity) -> Option<First> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let identity = identity();
        let mut entries = self.lock();
        self.tidy(&mut entries, now);
        entries.by_identity.get(&identity).map(|entry| First { word: entry.word.clone() })
    }

    /// Remembers a delivery whose word will come, too late for its answer. `None` where nothing may be remembered.
    pub(super) fn promise(self: &Arc<Self>, now: Instant, identity: Identity) -> Option<Promise> {
        if self.most_entries == 0 {
            return None;
        }
        let (sender, word) = watch::channel(Word::Pending);
        let mut entries = self.lock();
        let number = entries.put(now, identity, word, ENTRY_BYTES);
        self.tidy(&mut entries, now);
        Some(Promise { memory: Arc::clone(self), identity, number, word: sender })
    }

    /// Drops what is too old, and the oldest while there is too much. What is pending has no age: the client's word ends it.
    fn tidy(&self, entries: &mut Entries, now: Instant) {
        while let Some(&(since, identity, number)) = entries.ages.front() {
            let current = entries.by_identity.get(&identity).filter(|entry| entry.number == number);
            let expired = current.is_some_and(|entry| {
                now.saturating_duration_since(since) >= self.ttl
                    && !matches!(*entry.word.borrow(), Word::Pending)
            });
            let crowded = entries.by_identity.len() > self.most_entries || entries.bytes > self.most_bytes;
            if current.is_some() && !expired && !crowded {
                break;
            }
            entries.ages.pop_front();
            entries.remove(&identity, number);
        }
        self.held.store(entries.by_identity.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Puts an entry in the place of any that it has, as the youngest.
    fn put(&mut self, now: Instant, identity: Identity, word: watch::Receiver<Word>, bytes: usize) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += bytes;
        if let Some(replaced) = self.by_identity.insert(identity, Entry { number, word, bytes }) {
            self.bytes -= replaced.bytes;
        }
        self.ages.push_back((now, identity, number));
        number
    }

    fn remove(&mut self, identity: &Identity, number: u64) -> Option<Entry> {
        let current = self.by_identity.get(identity).is_some_and(|entry| entry.number == number);
        let entry = current.then(|| self.by_identity.remove(identity)).flatten()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

impl First {
    /// Its receipt, once there is one; `None` if it was not confirmed after all.
    pub(super) async fn receipt(mut self) -> Option<Receipt> {
        match &*self.word.wait_for(|word| !matches!(word, Word::Pending)).await.ok()? {
            Word::Confirmed(receipt) => Some(receipt.clone()),
            Word::Pending => None,
        }
    }
}

impl Promise {
    /// The delivery was confirmed; it is remembered from now on.
    pub(super) fn keep(self, now: Instant, receipt: &Receipt) {
        self.word.send_replace(Word::Confirmed(receipt.clone()));
        let mut entries = self.memory.lock();
        let bytes = ENTRY_BYTES + receipt.events.len() * size_of::<Confirmed>();
        // It may have been evicted, or replaced by a later attempt.
        if let Some(Entry { word, .. }) = entries.remove(&self.identity, self.number) {
            entries.put(now, self.identity, word, bytes);
            self.memory.tidy(&mut entries, now);
        }
    }
}

impl Drop for Promise {
    /// Forgets what was not kept; a kept one is there under another number.
    fn drop(&mut self) {
        let mut entries = self.memory.lock();
        entries.remove(&self.identity, self.number);
        self.memory.held.store(entries.by_identity.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
