//! What the senders know of each delivery afterwards: numbers only, so that an hour's run fits into memory.

use crate::workload::Name;

/// Nanoseconds since the run began.
pub(crate) type Moment = u64;

/// Where a receipt says that an event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A delivery that is over: answered 2xx, or given up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Just before the first attempt.
    pub(crate) sent: Moment,
    /// Just after the 2xx, if there was one.
    pub(crate) answered: Option<Moment>,
    /// What the 2xx said, an event after the other.
    pub(crate) places: Box<[Place]>,
    /// When each attempt began, and whether it may have published without a 2xx; empty if the first one had its 2xx.
    pub(crate) attempts: Vec<(Moment, bool)>,
}

impl Entry {
    /// Whether an attempt without 2xx may have published.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts.iter().any(|(_, published)| *published)
    }
}

/// All deliveries of one connection, by number.
pub(crate) type Journal = Vec<Entry>;

/// The entry of a delivery, if it was ever sent.
pub(crate) fn entry(journals: &[Journal], name: Name) -> Option<&Entry> {
    journals.get(usize::from(name.connection))?.get(usize::try_from(name.number).ok()?)
}
