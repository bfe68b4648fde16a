//! The events of one partition: waiting and in flight.

use std::collections::VecDeque;
use std::time::Instant;

use super::DIRECT;

/// Maximum size of a batch of several events: librdkafka's default for a request.
pub(super) const BATCH_BYTES: usize = 1_000_000;

/// Maximum number of events in a batch: librdkafka's default for a request.
pub(super) const BATCH_EVENTS: usize = 10_000;

/// The events of one partition: waiting and in flight.
#[derive(Debug)]
pub(super) struct Queue<T> {
    pub(super) topic: usize,
    pub(super) partition: Option<i32>,
    pub(super) leader: Option<i32>,
    pub(super) waiting: VecDeque<Waiting<T>>,
    pub(super) in_flight: InFlight,
    /// True if the queue is in its leader's list of queues that wait for a free request.
    pub(super) is_listed: bool,
    /// Index of the producer of the last sent events, and of all events in flight.
    pub(super) producer: usize,
    /// True if it is unknown whether the last answered events were written. To keep the order, the next events have to use the same
    /// connection.
    pub(super) is_unsure: bool,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) event: T,
    /// Hash of the key; `None` without a key.
    pub(super) hash: Option<u32>,
    pub(super) size: Size,
    pub(super) since: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InFlight {
    Nothing,
    /// Events of the direct producer, which librdkafka may batch; or one event that is alone.
    Direct {
        events: usize,
        is_alone: bool,
    },
    /// The scheduler's batches, at least one, in the order in which they were sent; or one event that is alone.
    Batches {
        batches: VecDeque<SentBatch>,
        is_alone: bool,
    },
}

/// A batch without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentBatch {
    pub(super) events: usize,
    pub(super) leader: Option<i32>,
    pub(super) since: Instant,
    pub(super) is_late: bool,
}

/// Size of an event, and whether it needs a batch of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) bytes: usize,
    /// True if the event has to be the only one of its batch.
    pub(crate) is_alone: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(topic: usize, partition: Option<i32>, leader: Option<i32>) -> Self {
        Self {
            topic,
            partition,
            leader,
            waiting: VecDeque::new(),
            in_flight: InFlight::Nothing,
            is_listed: false,
            producer: DIRECT,
            is_unsure: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == InFlight::Nothing && self.waiting.is_empty()
    }

    /// Returns the number of events without an answer.
    pub(super) fn events(&self) -> usize {
        let in_flight = match &self.in_flight {
            InFlight::Nothing => 0,
            InFlight::Direct { events, .. } => *events,
            InFlight::Batches { batches, .. } => batches.iter().map(|batch| batch.events).sum(),
        };
        self.waiting.len() + in_flight
    }

    /// Removes and returns the events of the next batch, with true for an event that has to be alone.
    pub(super) fn take_batch(&mut self) -> (Vec<T>, bool) {
        let (mut bytes, mut events) = (0, Vec::new());
        while let Some(next) = self.waiting.front() {
            bytes += next.size.bytes;
            let is_alone = next.size.is_alone;
            let is_full = bytes > BATCH_BYTES || events.len() == BATCH_EVENTS || is_alone;
            if is_full && !events.is_empty() {
                break;
            }
            events.extend(self.waiting.pop_front().map(|waiting| waiting.event));
            if is_alone {
                return (events, true);
            }
        }
        (events, false)
    }
}
