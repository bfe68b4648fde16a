//! The order in which events are sent to the brokers.
//!
//! Events wait by partition. They are sent directly if the [`Window`](super::window::Window) of the partition's broker has no
//! producers. librdkafka then gets them at once, and batches the events that arrive while its one request is in flight. Otherwise
//! the scheduler makes the batches:
//!
//! - An event of an idle partition is sent at once, as a batch of its own.
//! - An event of a partition with a batch in flight is sent at once only while the broker has fewer batches in flight than
//!   [`Window::batches`](super::window::Window::batches).
//! - Other events wait. The waiting events of a partition form its next batch.
//! - Partitions with waiting events take turns, first come, first served.
//!
//! Invariants:
//!
//! - **Order**: a partition changes its producer only when it has nothing in flight. An idempotent producer keeps the order of a
//!   partition's batches.
//! - **No partition starves**: nothing overtakes a partition that waits for a free request, and each answer frees a request. A late
//!   batch does not count. So a partition with a fault of its own (too few replicas, no leader) does not delay the others.
//! - **No deadlock**: librdkafka answers every message, at the latest when it times out. [`Scheduler::tick`] also sends without
//!   answers.
//! - **No broker is kept for ever**: a broker without partitions and without batches in flight is removed.
//!
//! If the partitions of a topic are not known, its events are sent directly; librdkafka chooses the partition.
//!
//! The scheduler has no thread, no clock and no Kafka client: the caller passes the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::partition;
use broker::Broker;
pub(super) use queue::Size;
use queue::{InFlight, Queue, SentBatch, Waiting};

/// Time after which a batch without an answer is late, and no longer counts as a request in flight.
const LATE: Duration = Duration::from_millis(500);

/// Interval of the search for late batches.
const LOOK: Duration = Duration::from_millis(100);

/// Index of the producer of events that are sent directly.
pub(super) const DIRECT: usize = 0;

/// All waiting events, and the numbers of those in flight.
#[derive(Debug)]
pub(super) struct Scheduler<T> {
    names: HashMap<String, usize>,
    topics: Vec<Topic>,
    queues: Vec<Queue<T>>,
    brokers: HashMap<i32, Broker>,
    /// Number of producers without the direct one.
    pub(super) producers: usize,
    /// Maximum number of requests in flight for each of these producers and each broker.
    requests: usize,
    /// Maximum age of an event that is sent; older events are given up.
    max_age: Duration,
    /// Counts events without a key, to spread them over the partitions.
    keyless: usize,
    looked: Instant,
}

#[derive(Debug)]
struct Topic {
    /// Number of partitions; 0 while it is not known.
    partitions: usize,
    /// Indexes of the queues, by partition.
    queues: Vec<usize>,
    /// Index of the queue of events whose partition librdkafka chooses.
    unassigned: usize,
}

/// Permission to send a batch. It ends with [`Scheduler::answered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) queue: usize,
    /// The partition; `None` if librdkafka chooses it.
    pub(super) partition: Option<i32>,
    /// Index of the producer that sends the batch.
    pub(super) producer: usize,
    /// True if the batch is one event, and no other event of its partition is in flight.
    pub(super) is_alone: bool,
    pub(super) since: Instant,
}

/// Events of a ticket that have their answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) ticket: Ticket,
    /// Number of events: all of a batch, or one that was sent directly.
    pub(super) events: usize,
    /// True if the broker has written the events.
    pub(super) is_written: bool,
    /// False if it is unknown whether the events were written.
    pub(super) is_sure: bool,
}

/// Events to be sent.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) ticket: Ticket,
    pub(super) events: Vec<T>,
}

/// Events that wait no longer.
#[derive(Debug)]
pub(super) struct Released<T> {
    /// To be sent.
    pub(super) batches: Vec<Batch<T>>,
    /// To be answered: they are too old to be sent.
    pub(super) given_up: Vec<T>,
}

impl<T> Default for Released<T> {
    fn default() -> Self {
        Self { batches: Vec::new(), given_up: Vec::new() }
    }
}

impl<T> Scheduler<T> {
    /// Makes a scheduler with the direct producer only. Each other producer may have `requests` in flight for each broker. Events older
    /// than `max_age` are not sent.
    pub(super) fn new(requests: usize, max_age: Duration, now: Instant) -> Self {
        Self {
            names: HashMap::new(),
            topics: Vec::new(),
            queues: Vec::new(),
            brokers: HashMap::new(),
            producers: 0,
            requests,
            max_age,
            keyless: 0,
            looked: now,
        }
    }

    /// Returns a ticket if an event is to be sent at once. Otherwise queues the result of `event`, and returns `None`.
    pub(super) fn submit(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        size: Size,
        now: Instant,
        event: impl FnOnce() -> T,
    ) -> Option<Ticket> {
        let (topic, hash) = (self.topic(topic), key.map(partition::hash));
        let number = self.queue_of(topic, hash);
        let queue = &self.queues[number];
        let before = queue.events();
        if let Some(broker) = queue.leader.and_then(|leader| self.brokers.get_mut(&leader)) {
            broker.window.count(before, before + 1, now);
        }
        if queue.waiting.is_empty() && self.may_send_at_once(number, size.is_alone) {
            return Some(self.send(number, 1, size.is_alone, now));
        }
        self.queues[number].waiting.push_back(Waiting { event: event(), hash, size, since: now });
        self.list(number);
        None
    }

    /// Returns true if an event may be sent at once. No other event waits in its queue.
    fn may_send_at_once(&self, queue: usize, is_alone: bool) -> bool {
        let producer = self.producer(queue);
        let Queue { leader, in_flight, producer: last, .. } = &self.queues[queue];
        match in_flight {
            InFlight::Nothing => self.has_room(*leader, producer),
            _ if is_alone || producer != *last => false,
            InFlight::Direct { is_alone, .. } => !is_alone,
            InFlight::Batches { batches, is_alone } => {
                let broker = leader.and_then(|leader| self.brokers.get(&leader));
                !is_alone
                    && batches.iter().all(|batch| !batch.is_late)
                    && broker.is_some_and(|broker| broker.may_send_another(producer, self.requests))
            }
        }
    }

    /// Returns the producer for the next batch of a queue.
    fn producer(&self, queue: usize) -> usize {
        let Queue { topic, partition, leader, producer, is_unsure, .. } = &self.queues[queue];
        if *is_unsure && *producer <= self.producers {
            return *producer;
        }
        let broker = leader.and_then(|leader| self.brokers.get(&leader));
        broker.map_or(DIRECT, |broker| broker.producer(*topic, *partition, self.producers))
    }

    /// Returns true if a producer has a free request for a broker. The direct producer always has one, because librdkafka queues its
    /// events.
    fn has_room(&self, leader: Option<i32>, producer: usize) -> bool {
        let broker = leader.and_then(|leader| self.brokers.get(&leader));
        producer == DIRECT || broker.is_none_or(|broker| broker.in_flight(producer) < self.requests)
    }

    fn topic(&mut self, name: &str) -> usize {
        if let Some(&topic) = self.names.get(name) {
            return topic;
        }
        let topic = self.topics.len();
        self.topics.push(Topic { partitions: 0, queues: Vec::new(), unassigned: self.queues.len() });
        self.queues.push(Queue::new(topic, None, None));
        self.names.insert(name.to_owned(), topic);
        topic
    }

    fn queue_of(&mut self, topic: usize, hash: Option<u32>) -> usize {
        let Topic { partitions, unassigned, .. } = self.topics[topic];
        // Later events must not overtake those whose partition librdkafka chooses.
        if partitions == 0 || !self.queues[unassigned].is_idle() {
            return unassigned;
        }
        let hash = hash.map_or_else(
            || {
                self.keyless = self.keyless.wrapping_add(1);
                self.keyless
            },
            |hash| hash as usize,
        );
        self.topics[topic].queues[hash % partitions]
    }

    /// Adds a queue to the list of its leader if it has waiting events and nothing in flight.
    fn list(&mut self, queue: usize) {
        let Queue { leader, waiting, in_flight, is_listed, .. } = &mut self.queues[queue];
        let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader)) else { return };
        if *in_flight == InFlight::Nothing && !waiting.is_empty() && !*is_listed {
            *is_listed = true;
            broker.ready.push_back(queue);
        }
    }

    fn send(&mut self, number: usize, events: usize, is_alone: bool, now: Instant) -> Ticket {
        let producer = self.producer(number);
        let queue = &mut self.queues[number];
        queue.producer = producer;
        let leader = queue.leader;
        let batch = SentBatch { events, leader, since: now, is_late: false };
        match (&mut queue.in_flight, producer) {
            (InFlight::Direct { events: before, .. }, _) => *before += events,
            (InFlight::Batches { batches, .. }, _) => batches.push_back(batch),
            (in_flight, DIRECT) => *in_flight = InFlight::Direct { events, is_alone },
            (in_flight, _) => *in_flight = InFlight::Batches { batches: [batch].into(), is_alone },
        }
        if producer != DIRECT
            && let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader))
        {
            broker.add(producer);
        }
        Ticket { queue: number, partition: queue.partition, producer, is_alone, since: now }
    }

    /// Records an answer, and releases the events that may be sent now.
    pub(super) fn answered(&mut self, answered: &Answered, now: Instant, released: &mut Released<T>) {
        let Answered { ticket, events, is_written, is_sure } = *answered;
        let number = ticket.queue;
        let queue = &mut self.queues[number];
        queue.is_unsure = !is_sure;
        if let Some(broker) = queue.leader.and_then(|leader| self.brokers.get_mut(&leader)) {
            let before = queue.events();
            broker.window.count(before, before.saturating_sub(events), now);
            if is_written {
                broker.window.answered(now.saturating_duration_since(ticket.since));
            }
        }
        let mut leaders = [queue.leader, None];
        let is_idle = match &mut queue.in_flight {
            InFlight::Nothing => return,
            InFlight::Direct { events: left, .. } => {
                *left = left.saturating_sub(events);
                if *left > 0 {
                    return;
                }
                true
            }
            InFlight::Batches { batches, .. } => {
                let is_answered = |batch: &SentBatch| batch.since == ticket.since && batch.events == events;
                let Some(answered) = batches.iter().position(is_answered) else { return };
                let SentBatch { leader, is_late, .. } = batches.remove(answered).expect("it was found");
                leaders[1] = leader;
                if let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader))
                    && !is_late
                {
                    broker.subtract(ticket.producer);
                }
                batches.is_empty()
            }
        };
        if is_idle {
            queue.in_flight = InFlight::Nothing;
            if queue.partition.is_none() {
                return self.assign(number, now, released);
            }
            self.list(number);
        }
        if leaders[0] == leaders[1] {
            leaders[1] = None;
        }
        for leader in leaders.into_iter().flatten() {
            self.send_waiting(leader, now, released);
        }
        if let Some(next) = self.queues[number].waiting.front()
            && !is_idle
            && self.may_send_at_once(number, next.size.is_alone)
        {
            self.release(number, now, released);
        }
    }

    /// Moves the waiting events without a partition to the queues of their partitions. While the partitions are not known, sends the
    /// events instead.
    fn assign(&mut self, queue: usize, now: Instant, released: &mut Released<T>) {
        let topic = self.queues[queue].topic;
        if self.queues[queue].waiting.is_empty() {
            return;
        }
        if self.topics[topic].partitions == 0 {
            return self.release(queue, now, released);
        }
        for waiting in std::mem::take(&mut self.queues[queue].waiting) {
            let queue = self.queue_of(topic, waiting.hash);
            let before = self.queues[queue].events();
            self.queues[queue].waiting.push_back(waiting);
            self.list(queue);
            if let Some(leader) = self.queues[queue].leader {
                if let Some(broker) = self.brokers.get_mut(&leader) {
                    broker.window.count(before, before + 1, now);
                }
                self.send_waiting(leader, now, released);
            }
        }
    }

    /// Releases the next batch of each waiting queue of a broker whose producer has a free request.
    fn send_waiting(&mut self, leader: i32, now: Instant, released: &mut Released<T>) {
        let mut index = 0;
        while let Some(&queue) = self.brokers.get(&leader).and_then(|broker| broker.ready.get(index)) {
            if !self.has_room(Some(leader), self.producer(queue)) {
                index += 1;
                continue;
            }
            self.brokers.get_mut(&leader).and_then(|broker| broker.ready.remove(index));
            self.queues[queue].is_listed = false;
            if self.queues[queue].in_flight == InFlight::Nothing {
                self.release(queue, now, released);
            }
        }
    }

    /// Releases the next batch of a queue, and gives up events that are too old. Their deliveries are answered, or will be answered
    /// before the broker can confirm. After a batch with an unknown result, events are too old after half of the time.
    fn release(&mut self, number: usize, now: Instant, released: &mut Released<T>) {
        let queue = &mut self.queues[number];
        let before = queue.events();
        let max_age = if queue.is_unsure { self.max_age / 2 } else { self.max_age };
        let is_old = |waiting: &Waiting<T>| now.saturating_duration_since(waiting.since) > max_age;
        while queue.waiting.front().is_some_and(is_old) {
            released.given_up.extend(queue.waiting.pop_front().map(|old| old.event));
        }
        if let Some(broker) = queue.leader.and_then(|leader| self.brokers.get_mut(&leader)) {
            broker.window.count(before, queue.events(), now);
        }
        let (events, is_alone) = queue.take_batch();
        if !events.is_empty() {
            let ticket = self.send(number, events.len(), is_alone, now);
            released.batches.push(Batch { ticket, events });
        }
    }

    /// Marks late batches, adjusts the windows, and releases the batches that may be sent. To be called many times a second. Returns
    /// the number of producers that are needed, without the direct one.
    pub(super) fn tick(&mut self, now: Instant, released: &mut Released<T>) -> usize {
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            for queue in &mut self.queues {
                let InFlight::Batches { batches, .. } = &mut queue.in_flight else { continue };
                for SentBatch { leader, since, is_late, .. } in batches {
                    if let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader))
                        && !*is_late
                        && now.saturating_duration_since(*since) > LATE
                    {
                        *is_late = true;
                        broker.subtract(queue.producer);
                    }
                }
            }
        }
        let mut needed = 0;
        let leaders: Vec<i32> = self.brokers.keys().copied().collect();
        for leader in leaders {
            if let Some(broker) = self.brokers.get_mut(&leader) {
                broker.window.tick(now);
                needed = needed.max(broker.window.producers);
            }
            self.send_waiting(leader, now, released);
        }
        needed
    }

    /// Sets the leader of each partition of a topic. `leaders` is empty if the cluster does not have the topic.
    pub(super) fn set_leaders(&mut self, topic: &str, leaders: &[i32], now: Instant) {
        let number = self.topic(topic);
        let topic = &mut self.topics[number];
        topic.partitions = leaders.len();
        let mut moved = Vec::new();
        for (partition, &leader) in leaders.iter().enumerate() {
            self.brokers.entry(leader).or_insert_with(|| Broker::new(now));
            let Some(&queue) = topic.queues.get(partition) else {
                self.queues.push(Queue::new(number, i32::try_from(partition).ok(), Some(leader)));
                topic.queues.push(self.queues.len() - 1);
                continue;
            };
            let former = self.queues[queue].leader.replace(leader);
            if former != Some(leader) {
                moved.push((queue, former, leader));
            }
        }
        for (queue, former, leader) in moved {
            let events = self.queues[queue].events();
            if let Some(broker) = former.and_then(|former| self.brokers.get_mut(&former)) {
                broker.ready.retain(|&ready| ready != queue);
                broker.window.count(events, 0, now);
            }
            if let Some(broker) = self.brokers.get_mut(&leader) {
                broker.window.count(0, events, now);
            }
            self.queues[queue].is_listed = false;
            self.list(queue);
        }
    }

    /// Removes brokers that lead no partition and have no batch in flight.
    pub(super) fn forget_brokers(&mut self) {
        let queues = &self.queues;
        self.brokers.retain(|id, _| {
            queues.iter().any(|queue| {
                queue.leader == Some(*id)
                    || matches!(&queue.in_flight, InFlight::Batches { batches, .. }
                        if batches.iter().any(|batch| batch.leader == Some(*id)))
            })
        });
    }

    /// Removes and returns all waiting events.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.queues
            .iter_mut()
            .flat_map(|queue| queue.waiting.drain(..))
            .map(|waiting| waiting.event)
            .collect()
    }

    /// Returns each broker's id, its batches in flight, and its limit of requests in flight.
    pub(super) fn windows(&self) -> impl Iterator<Item = (i32, usize, usize)> {
        self.brokers.iter().map(|(&id, broker)| {
            let producers = broker.window.producers.min(self.producers);
            (id, broker.in_flight.iter().sum(), (producers * self.requests).max(1))
        })
    }
}

mod broker;
mod queue;
#[cfg(test)]
mod tests;
