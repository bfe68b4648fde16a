//! The order in which events leave for the brokers.
//!
//! Events wait by partition. If the [`Window`](super::window::Window) of a partition's broker has no producers, events are sent
//! directly: librdkafka gets them at once, and makes batches of what arrives while its one request is in flight. Otherwise the
//! scheduler makes the batches:
//!
//! - An event of an idle partition is sent at once, as a batch of its own.
//! - While a batch of its partition is on its way, an event is sent at once only if fewer batches are on their way than the window
//!   asks for. Otherwise it waits, and the events that wait form the next batch together.
//! - Partitions whose events wait take turns, first come, first served.
//!
//! Invariants:
//!
//! - **Order**: a partition changes from one producer to another only when it has nothing on its way. An idempotent producer keeps
//!   the order of a partition's batches.
//! - **No partition starves**: nothing overtakes a partition that waits for a free request, and each answer frees a request. A late
//!   batch no longer counts, so that a partition with a fault of its own (too few replicas, no leader) does not hold up the others.
//! - **No deadlock**: librdkafka answers every message before or when it times out, and [`Scheduler::tick`] also sends without answers.
//! - **A former broker is forgotten** with the last partition that it leads.
//!
//! Events of a topic whose partitions are not known are sent directly; librdkafka chooses the partition.
//!
//! This is arithmetic only: no thread, no clock, no Kafka.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::partition;
use broker::Broker;
pub(super) use queue::Size;
use queue::{OnTheWay, Queue, SentBatch, Waiting};

/// A batch that has no answer after this time no longer takes up room.
const LATE: Duration = Duration::from_millis(500);

/// Interval of the search for late batches.
const LOOK: Duration = Duration::from_millis(100);

/// The producer of events that are sent directly.
pub(super) const DIRECT: usize = 0;

/// All events that wait, and those on their way.
#[derive(Debug)]
pub(super) struct Scheduler<T> {
    names: HashMap<String, usize>,
    topics: Vec<Topic>,
    queues: Vec<Queue<T>>,
    brokers: HashMap<i32, Broker>,
    /// Number of producers without the direct one.
    pub(super) producers: usize,
    /// Maximum number of requests in flight for each of them and broker.
    requests: usize,
    /// Maximum age of an event that is sent; older ones are given up.
    max_age: Duration,
    /// Counts events without a key.
    keyless: usize,
    looked: Instant,
}

#[derive(Debug)]
struct Topic {
    /// Their number; 0 while it is not known.
    partitions: usize,
    /// Queues by partition.
    queues: Vec<usize>,
    /// The queue of events whose partition librdkafka chooses.
    unassigned: usize,
}

/// Permission to send a batch. It ends with [`Scheduler::answered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) queue: usize,
    /// `None`: librdkafka chooses.
    pub(super) partition: Option<i32>,
    /// Index of the producer that sends it.
    pub(super) producer: usize,
    /// There is no other event in the request, and none of its partition on its way.
    pub(super) is_alone: bool,
    pub(super) since: Instant,
}

/// Events of a ticket that have their answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) ticket: Ticket,
    /// All events of a batch; those that were sent directly one by one.
    pub(super) events: usize,
    /// The broker has written them.
    pub(super) is_written: bool,
    /// It is known whether the events were written.
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
    /// A scheduler for the direct producer. Others may have `requests` in flight for each broker. Events older than `max_age` are
    /// not sent.
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

    /// Takes an event. Returns a ticket if the event is to be sent at once; otherwise keeps what `event` makes.
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

    /// Returns true if an event whose queue holds nothing may be sent at once.
    fn may_send_at_once(&self, queue: usize, is_alone: bool) -> bool {
        let producer = self.producer(queue);
        let Queue { leader, on_the_way, producer: last, .. } = &self.queues[queue];
        match on_the_way {
            OnTheWay::Nothing => self.has_room(*leader, producer),
            _ if is_alone || producer != *last => false,
            OnTheWay::Direct { is_alone, .. } => !is_alone,
            OnTheWay::Batches { batches, is_alone } => {
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

    /// Returns true if a producer has a request free for a broker. The direct one always has: librdkafka collects its events.
    fn has_room(&self, leader: Option<i32>, producer: usize) -> bool {
        let broker = leader.and_then(|leader| self.brokers.get(&leader));
        producer == DIRECT || broker.is_none_or(|broker| broker.on_the_way(producer) < self.requests)
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
        // What librdkafka has to find a partition for comes first.
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

    /// Puts a queue that waits into the list of its leader.
    fn list(&mut self, queue: usize) {
        let Queue { leader, waiting, on_the_way, is_listed, .. } = &mut self.queues[queue];
        let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader)) else { return };
        if *on_the_way == OnTheWay::Nothing && !waiting.is_empty() && !*is_listed {
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
        match (&mut queue.on_the_way, producer) {
            (OnTheWay::Direct { events: before, .. }, _) => *before += events,
            (OnTheWay::Batches { batches, .. }, _) => batches.push_back(batch),
            (on_the_way, DIRECT) => *on_the_way = OnTheWay::Direct { events, is_alone },
            (on_the_way, _) => *on_the_way = OnTheWay::Batches { batches: [batch].into(), is_alone },
        }
        if producer != DIRECT
            && let Some(broker) = leader.and_then(|leader| self.brokers.get_mut(&leader))
        {
            broker.add(producer);
        }
        Ticket { queue: number, partition: queue.partition, producer, is_alone, since: now }
    }

    /// Notes answers.
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
        let is_idle = match &mut queue.on_the_way {
            OnTheWay::Nothing => return,
            OnTheWay::Direct { events: left, .. } => {
                *left = left.saturating_sub(events);
                if *left > 0 {
                    return;
                }
                true
            }
            OnTheWay::Batches { batches, .. } => {
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
            queue.on_the_way = OnTheWay::Nothing;
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

    /// Moves what waits for a partition to be chosen to the queues of its partitions, if they are known now; else sends it.
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

    /// Sends the batches of a broker that wait and whose producer has a request free.
    fn send_waiting(&mut self, leader: i32, now: Instant, released: &mut Released<T>) {
        let mut index = 0;
        while let Some(&queue) = self.brokers.get(&leader).and_then(|broker| broker.ready.get(index)) {
            if !self.has_room(Some(leader), self.producer(queue)) {
                index += 1;
                continue;
            }
            self.brokers.get_mut(&leader).and_then(|broker| broker.ready.remove(index));
            self.queues[queue].is_listed = false;
            if self.queues[queue].on_the_way == OnTheWay::Nothing {
                self.release(queue, now, released);
            }
        }
    }

    /// Sends the next batch of a queue, and gives up events that are too old: their deliveries have been answered, or will be before
    /// the broker could. Events behind a batch of unknown end are too old after half the time.
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

    /// To be called many times a second: looks for batches that are late, adjusts the windows, and sends what can be sent.
    /// Returns the number of producers that are needed, without the direct one.
    pub(super) fn tick(&mut self, now: Instant, released: &mut Released<T>) -> usize {
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            for queue in &mut self.queues {
                let OnTheWay::Batches { batches, .. } = &mut queue.on_the_way else { continue };
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

    /// Learns the leader of each partition of a topic; none if the cluster does not have the topic.
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

    /// Forgets brokers that lead no partition and owe no answer.
    pub(super) fn forget_brokers(&mut self) {
        let queues = &self.queues;
        self.brokers.retain(|id, _| {
            queues.iter().any(|queue| {
                queue.leader == Some(*id)
                    || matches!(&queue.on_the_way, OnTheWay::Batches { batches, .. }
                        if batches.iter().any(|batch| batch.leader == Some(*id)))
            })
        });
    }

    /// All events that wait; they are not sent.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.queues
            .iter_mut()
            .flat_map(|queue| queue.waiting.drain(..))
            .map(|waiting| waiting.event)
            .collect()
    }

    /// Returns each broker with its batches on their way and the limit of requests in flight.
    pub(super) fn windows(&self) -> impl Iterator<Item = (i32, usize, usize)> {
        self.brokers.iter().map(|(&id, broker)| {
            let producers = broker.window.producers.min(self.producers);
            (id, broker.on_the_way.iter().sum(), (producers * self.requests).max(1))
        })
    }
}

mod broker;
mod queue;
#[cfg(test)]
mod tests;
