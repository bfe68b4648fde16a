//! The journal of the senders. It holds only numbers for each delivery, so that the journal of an hour's run fits into memory.

use crate::workload::Name;

/// Nanoseconds since the start of the run.
pub(crate) type Moment = u64;

/// The position of an event, by a receipt or on its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) partition: i32,
    /// `None` if the receipt has no offset.
    pub(crate) offset: Option<i64>,
}

impl Position {
    /// Returns whether this position in a receipt matches the position `found` on the topic.
    pub(crate) fn names(self, found: Self) -> bool {
        self.partition == found.partition && (self.offset.is_none() || self.offset == found.offset)
    }
}

/// A delivery that has ended: answered 2xx, or given up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Time just before the first attempt.
    pub(crate) sent: Moment,
    /// Time just after the 2xx, if there was one.
    pub(crate) answered: Option<Moment>,
    /// The positions in the 2xx, one for each event.
    pub(crate) places: Box<[Position]>,
    /// Start of each attempt, and whether it may have published without a 2xx; empty if the first attempt got its 2xx.
    pub(crate) attempts: Vec<(Moment, bool)>,
}

impl Entry {
    /// Returns whether an attempt without 2xx may have published.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts.iter().any(|(_, published)| *published)
    }
}

/// All deliveries of one connection, by number.
pub(crate) type Journal = Vec<Entry>;

/// Returns the entry of a delivery, if it was ever sent.
pub(crate) fn entry(journals: &[Journal], name: Name) -> Option<&Entry> {
    journals.get(usize::from(name.connection))?.get(usize::try_from(name.number).ok()?)
}
