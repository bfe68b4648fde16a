//! The bounded queue of events to publish. A scheduler decides when each event is sent, and by which producer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{Producer as _, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;

use super::client::{Client, Sending, Sent, Unsent};
use super::confirm::{Pending, Position, Unconfirmed};
use super::scheduler::{Batch, DIRECT, Released, Scheduler, Size, Ticket};
use super::settings::limits;
use crate::event::Event;
use crate::metrics::Metrics;

/// Maximum number of requests that an idempotent producer may have in flight for one broker.
const REQUESTS: usize = 5;

/// Time after which producers that are not needed are retired.
const RETIRE_AFTER: Duration = Duration::from_secs(30);

/// Time-out of one flush while the queue closes.
const FLUSH: Duration = Duration::from_millis(100);

/// All events that have no answer yet.
pub(super) struct PublishQueue {
    scheduled: Mutex<Scheduled>,
    /// The producers in use; the first one sends directly.
    pub(super) clients: ArcSwap<Vec<Arc<Client>>>,
    /// Number of messages without an answer, with its limit.
    messages: Bounded,
    bytes: Bounded,
    metrics: Arc<Metrics>,
    /// Receives the number of producers that are needed besides the first.
    demand: SyncSender<usize>,
}

struct Scheduled {
    scheduler: Scheduler<Unsent>,
    /// Time at which all producers were last needed.
    all_needed: Instant,
    /// Largest number of producers that were needed since then.
    most_needed: usize,
}

struct Bounded {
    count: AtomicUsize,
    limit: usize,
}

impl PublishQueue {
    pub(super) fn new(
        config: &ClientConfig,
        message_timeout: Duration,
        metrics: Arc<Metrics>,
        demand: SyncSender<usize>,
    ) -> Self {
        let [messages, bytes] = limits(config);
        let requests = config.get("max.in.flight").and_then(|limit| limit.parse().ok()).unwrap_or(REQUESTS);
        let now = Instant::now();
        Self {
            scheduled: Mutex::new(Scheduled {
                scheduler: Scheduler::new(requests.clamp(1, REQUESTS), message_timeout, now),
                all_needed: now,
                most_needed: 0,
            }),
            clients: ArcSwap::default(),
            messages: Bounded::new(messages),
            bytes: Bounded::new(bytes),
            metrics,
            demand,
        }
    }

    /// Uses these producers from now on, and returns the former ones, whose messages are still answered.
    pub(super) fn use_clients(&self, clients: Vec<Arc<Client>>) -> Arc<Vec<Arc<Client>>> {
        let mut scheduled = self.scheduled.lock();
        scheduled.scheduler.producers = clients.len() - 1;
        self.clients.swap(Arc::new(clients))
    }

    /// Queues an event, or sends it at once.
    ///
    /// # Errors
    /// The queue is full, or librdkafka refuses the message at once.
    pub(super) fn submit(&self, event: &Event, is_alone: bool) -> Result<Pending, Unconfirmed> {
        let (reply, answer) = oneshot::channel();
        let message = Unsent::new(event, reply);
        let size = Size { bytes: message.bytes(), is_alone };
        self.reserve(size.bytes)?;
        let mut message = Some(message);
        let ticket = self.scheduled.lock().scheduler.submit(
            &event.stream.topic,
            event.key.as_deref(),
            size,
            Instant::now(),
            || message.take().expect("it is called once"),
        );
        if let (Some(ticket), Some(message)) = (ticket, message)
            && let Err((unconfirmed, sent)) = self.client(ticket).send(message, &Sending::new(ticket, 1))
        {
            self.answered(sent, Err(unconfirmed));
            return Err(unconfirmed);
        }
        Ok(Pending { answer })
    }

    fn client(&self, ticket: Ticket) -> Arc<Client> {
        let clients = self.clients.load();
        // The number of producers may have been reduced since the ticket was made.
        Arc::clone(clients.get(ticket.producer).unwrap_or(&clients[0]))
    }

    /// Gives a message its answer, and sends the batches that may be sent now.
    pub(super) fn answered(&self, sent: Sent, result: Result<Position, Unconfirmed>) {
        let mut batches = VecDeque::new();
        self.answer(sent, result, &mut batches);
        self.send(batches);
    }

    /// Gives a message its answer, and adds the batches that may be sent now to `batches`.
    fn answer(
        &self,
        sent: Sent,
        result: Result<Position, Unconfirmed>,
        batches: &mut VecDeque<Batch<Unsent>>,
    ) {
        self.release(sent.bytes);
        let Some(answered) = sent.answer(result) else { return };
        let mut released = Released::default();
        let mut scheduled = self.scheduled.lock();
        scheduled.scheduler.answered(&answered, Instant::now(), &mut released);
        let refused = self.send_direct(&scheduled, &mut released.batches);
        drop(scheduled);
        batches.extend(released.batches);
        self.give_up(released.given_up, RDKafkaErrorCode::TimedOutQueue);
        for (unconfirmed, sent) in refused {
            self.answer(sent, Err(unconfirmed), batches);
        }
    }

    /// Removes the batches of the direct producer from `batches` and sends them. `_scheduled` shows that the caller holds the lock:
    /// a later event of the same partition must not get a ticket before. Returns the messages that librdkafka refuses.
    fn send_direct(
        &self,
        _scheduled: &Scheduled,
        batches: &mut Vec<Batch<Unsent>>,
    ) -> Vec<(Unconfirmed, Sent)> {
        let mut refused = Vec::new();
        for Batch { ticket, events } in batches.extract_if(.., |batch| batch.ticket.producer == DIRECT) {
            let (client, sending) = (self.client(ticket), Sending::new(ticket, events.len()));
            refused.extend(events.into_iter().filter_map(|message| client.send(message, &sending).err()));
        }
        refused
    }

    fn give_up(&self, events: Vec<Unsent>, code: RDKafkaErrorCode) {
        for message in events {
            self.release(message.bytes());
            message.give_up(code);
        }
    }

    fn send(&self, mut batches: VecDeque<Batch<Unsent>>) {
        while let Some(Batch { ticket, events }) = batches.pop_front() {
            let (client, batch) = (self.client(ticket), Sending::new(ticket, events.len()));
            for message in events {
                if let Err((unconfirmed, sent)) = client.send(message, &batch) {
                    self.answer(sent, Err(unconfirmed), &mut batches);
                }
            }
        }
    }

    /// Does the periodic work of the scheduler. To be called many times a second.
    pub(super) fn tick(&self) {
        let mut released = Released::default();
        let (needed, refused) = {
            let mut scheduled = self.scheduled.lock();
            let needed = scheduled.tick(Instant::now(), &mut released);
            (needed, self.send_direct(&scheduled, &mut released.batches))
        };
        self.send(released.batches.into());
        self.give_up(released.given_up, RDKafkaErrorCode::TimedOutQueue);
        for (unconfirmed, sent) in refused {
            self.answered(sent, Err(unconfirmed));
        }
        if let Some(needed) = needed {
            self.demand.try_send(needed).ok(); // an error means that a request is waiting already
        }
    }

    /// Sets the leader of each partition of these topics. A topic that the cluster does not have has an empty list.
    pub(super) fn set_leaders<'a>(&self, topics: impl Iterator<Item = (&'a str, Vec<i32>)>) {
        let Scheduled { scheduler, .. } = &mut *self.scheduled.lock();
        for (topic, leaders) in topics {
            scheduler.set_leaders(topic, &leaders, Instant::now());
        }
        scheduler.forget_brokers();
    }

    /// Returns each broker's id, its requests in flight, and their limit.
    pub(super) fn windows(&self) -> Vec<(i32, usize, usize)> {
        self.scheduled.lock().scheduler.windows().collect()
    }

    /// Waits up to `timeout` until every event has its answer, then gives up the rest. Returns the number of events that were given up.
    /// Blocks.
    pub(super) fn close(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        let clients = self.clients.load_full();
        while self.messages.count() > 0 && Instant::now() < deadline {
            let rest = deadline.saturating_duration_since(Instant::now());
            for client in &*clients {
                client.producer.flush(rest.min(FLUSH)).ok(); // an error means that messages are left
            }
        }
        let left = self.messages.count();
        if left > 0 {
            let waiting = self.scheduled.lock().scheduler.clear();
            self.give_up(waiting, RDKafkaErrorCode::PurgeQueue);
            let everything = PurgeConfig::default().queue().inflight();
            clients.iter().for_each(|client| client.producer.purge(everything));
            clients.iter().for_each(|client| drop(client.producer.flush(FLUSH))); // for the reports of purged messages
        }
        left
    }

    fn reserve(&self, bytes: usize) -> Result<(), Unconfirmed> {
        let full = Unconfirmed::new(Some(RDKafkaErrorCode::QueueFull), true);
        if !self.messages.add(1) {
            return Err(full);
        }
        if !self.bytes.add(bytes) {
            self.messages.subtract(1);
            return Err(full);
        }
        self.metrics.producer_queue_messages.inc();
        self.metrics.producer_queue_bytes.add(bytes.try_into().unwrap_or(i64::MAX));
        Ok(())
    }

    fn release(&self, bytes: usize) {
        self.messages.subtract(1);
        self.bytes.subtract(bytes);
        self.metrics.producer_queue_messages.dec();
        self.metrics.producer_queue_bytes.sub(bytes.try_into().unwrap_or(i64::MAX));
    }
}

impl Scheduled {
    /// Returns the new number of producers besides the first, if it is to change.
    fn tick(&mut self, now: Instant, released: &mut Released<Unsent>) -> Option<usize> {
        let (producers, needed) = (self.scheduler.producers, self.scheduler.tick(now, released));
        self.most_needed = self.most_needed.max(needed);
        if needed >= producers {
            (self.all_needed, self.most_needed) = (now, needed);
            return (needed > producers).then_some(needed);
        }
        (now.saturating_duration_since(self.all_needed) > RETIRE_AFTER).then_some(self.most_needed)
    }
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { count: AtomicUsize::new(0), limit }
    }

    /// Adds `count`, unless the sum would exceed the limit. Returns true if it was added.
    fn add(&self, count: usize) -> bool {
        let before = self.count.fetch_add(count, Ordering::AcqRel);
        // A message is always accepted while there is no other, as in librdkafka.
        let is_taken = before == 0 || before + count <= self.limit;
        if !is_taken {
            self.subtract(count);
        }
        is_taken
    }

    fn subtract(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::AcqRel);
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}
