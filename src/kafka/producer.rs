//! The producer: takes events for Kafka, and keeps the librdkafka producers that send them.
//!
//! The first of them is made at start, and has one request in flight for each broker. More are made when a broker needs more
//! requests in flight, and given up when they are not needed. A librdkafka producer with a fatal
//! error (an impossible sequence number, no right to be idempotent) is replaced by a new one, and so is one that no longer works while
//! a new one does. Messages in flight of the old one get their answers first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::Client as Native;
use rdkafka::error::KafkaResult;

use super::client::{Client, Offsets, Reports, Sent};
use super::confirm::{Pending, Unconfirmed};
use super::context::{Context, contain};
use super::oauth::{Tokens, hand_over, set_password};
use super::queue::PublishQueue;
use super::settings::{describe, producer_config};
use super::statistics::Recorder;
use super::status::Status;
use crate::back_off::BackOff;
use crate::config::{Config, OAuth};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::telemetry::limit::LogLimit;
use crate::token::{TokenError, TokenServer};
use crate::vital::Part;

/// Time-out of a new librdkafka producer for reading the topics, before it is used.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Minimum time between two replacements: back-off over replacements in a row.
const REPLACE: BackOff = BackOff { first: Duration::from_millis(500), longest: Duration::from_secs(10) };

/// Age of a client after which the back-off starts again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The bridge's producer.
pub struct Producer {
    queue: Arc<PublishQueue>,
    replacing: Mutex<Replacing>,
    /// Its password can change.
    config: Mutex<ClientConfig>,
    /// Upper bound of the time between handing a message to librdkafka and its delivery report.
    message_timeout: Duration,
    /// The task that fetches tokens, if librdkafka's producers sign in with tokens.
    tokens: Mutex<Option<Tokens>>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
}

struct Replacing {
    born: Instant,
    /// Number of replacements in a row, without a client that reached [`STABLE_AFTER`].
    replacements: u32,
    /// Replaced clients. They end here, where that may block, once no request uses them any more.
    retired: Vec<(Arc<Client>, Instant)>,
    /// No new client could be made.
    failed: LogLimit,
}

/// Interval of [`PublishQueue::tick`].
const TICK: Duration = Duration::from_millis(50);

/// The wait after a further producer could not be made.
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Time after a replacement in which calls may still use the old client; such a call takes microseconds.
const IN_USE: Duration = Duration::from_secs(1);

impl Producer {
    /// Makes a producer; it connects by itself, in the background.
    ///
    /// # Errors
    /// What librdkafka says of the configuration, without its values.
    pub fn new(config: &Config, status: Arc<Status>, metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        let message_timeout = config.kafka.confirm_timeout;
        let config = producer_config(config);
        let (ask, asked) = sync_channel(1);
        let demand = move |demand| {
            ask.try_send(demand).ok(); // one is being looked at
        };
        let queue = Arc::new(PublishQueue::new(&config, message_timeout, Arc::clone(&metrics), demand));
        let replacing = Replacing {
            born: Instant::now(),
            replacements: 1,
            retired: Vec::new(),
            failed: LogLimit::default(),
        };
        let producer = Arc::new(Self {
            queue,
            replacing: Mutex::new(replacing),
            config: Mutex::new(config),
            message_timeout,
            tokens: Mutex::default(),
            status,
            metrics,
        });
        let client = producer.make(true).map_err(|error| describe(&error))?;
        producer.queue.use_clients(vec![client]);
        let weak = Arc::downgrade(&producer);
        let thread = thread::Builder::new().name("kafka-producers".to_owned());
        thread.spawn(move || serve(&weak, &asked)).map_err(|error| error.to_string())?;
        let queue = Arc::downgrade(&producer.queue);
        let thread = thread::Builder::new().name("kafka-scheduler".to_owned());
        thread.spawn(move || tick(&queue)).map_err(|error| error.to_string())?;
        Ok(producer)
    }

    /// Makes a librdkafka producer. The first one sends events directly, and its statistics stand for all
    /// where they are about brokers.
    fn make(&self, is_first: bool) -> KafkaResult<Arc<Client>> {
        let is_in_use = Arc::new(AtomicBool::new(true));
        let recorder = Recorder {
            metrics: Arc::clone(&self.metrics),
            is_in_use: Arc::clone(&is_in_use),
            is_first,
            windows: {
                let queue = Arc::downgrade(&self.queue);
                Arc::new(move || queue.upgrade().map(|queue| queue.windows()).unwrap_or_default())
            },
        };
        let context = Context { status: Arc::clone(&self.status), statistics: Some(recorder) };
        let queue = Arc::downgrade(&self.queue);
        let answered = Box::new(move |sent: Sent, result| match queue.upgrade() {
            Some(queue) => queue.answered(sent, result),
            None => drop(sent.answer(result)),
        });
        let mut config = self.config.lock().clone();
        if is_first {
            // With one request in flight librdkafka makes batches of what arrives meanwhile.
            config.remove("max.in.flight.requests.per.connection");
            config.set("max.in.flight", "1");
        }
        let reports = Reports { context, answered, offsets: Offsets::default() };
        let client = Arc::new(Client::new(&config, reports, is_in_use)?);
        self.show_token(&client);
        self.renew_password(&client);
        Ok(client)
    }

    /// Fetches tokens from now on, in the runtime in which this is called, and signs in with them; those of an earlier call
    /// are used until the first one comes. The task that fetches them holds `part`.
    ///
    /// # Errors
    /// The token server's certificates or address cannot be used.
    pub fn sign_in(self: &Arc<Self>, oauth: &OAuth, part: Option<Part>) -> Result<(), TokenError> {
        let server = TokenServer::new(oauth)?;
        let producer = Arc::downgrade(self);
        let mut tokens = self.tokens.lock();
        let fetching = Tokens::fetch(server, tokens.as_ref(), move |fetched| {
            let _held = &part;
            let Some(producer) = producer.upgrade() else { return };
            producer.status.set_no_token(fetched.err().map(TokenError::to_string));
            if let Ok(token) = fetched {
                for client in &*producer.queue.clients() {
                    hand_over(client.native(), token);
                }
            }
        });
        *tokens = Some(fetching);
        Ok(())
    }

    /// Signs in with this name and password from now on.
    ///
    /// # Errors
    /// Why they cannot be used; then the former ones stay.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), String> {
        let mut config = self.config.lock();
        for client in &*self.queue.clients() {
            set_password(client.native(), name, password)?;
        }
        config.set("sasl.username", name).set("sasl.password", password);
        Ok(())
    }

    /// Takes an event for Kafka; it is sent in a batch with others that wait for its partition.
    ///
    /// # Errors
    /// [`Unconfirmed`] at once when the queue is full or the message cannot be sent; it never waits.
    pub fn publish(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        self.queue.submit(event, false)
    }

    /// Publishes an event in a batch of its own, so that a refusal is about this event and no other.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub fn publish_alone(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        self.queue.submit(event, true)
    }

    /// Gives a new client the latest token.
    fn show_token(&self, client: &Client) {
        if let Some(tokens) = &*self.tokens.lock() {
            tokens.with_latest(|token| hand_over(client.native(), token));
        }
    }

    /// Gives a new client the password, which may have changed since its configuration was copied.
    fn renew_password(&self, client: &Client) {
        let config = self.config.lock();
        if let (Some(name), Some(password)) = (config.get("sasl.username"), config.get("sasl.password")) {
            set_password(client.native(), name, password).ok(); // `set_password` has reported the error
        }
    }

    /// The state of the contact with the cluster.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Upper bound of the time between handing a message to librdkafka and its delivery report.
    pub(super) fn message_timeout(&self) -> Duration {
        self.message_timeout
    }

    /// Calls `ask` with the first librdkafka producer, for metadata.
    pub(super) fn with_client<T>(&self, ask: impl FnOnce(&Native<Reports>) -> T) -> T {
        ask(self.queue.clients()[0].native())
    }

    /// Has the librdkafka producers besides the first read the topics again. Partitions that were added since they were made
    /// are unknown to them otherwise, for up to five minutes.
    pub(super) fn refresh_others(&self, timeout: Duration) {
        for client in self.queue.clients().iter().skip(1) {
            client.native().fetch_metadata(None, timeout).ok(); // the next round asks again
        }
    }

    /// The events that have no answer yet.
    pub(super) fn queue(&self) -> &PublishQueue {
        &self.queue
    }

    /// Replaces the librdkafka producers if one of them has had a fatal error, with back-off. Returns true if they were replaced.
    pub(super) fn replace_if_dead(&self) -> bool {
        let mut replacing = self.replacing.lock();
        self.end_retired(&mut replacing.retired);
        let fatal = |client: &Arc<Client>| client.native().fatal_error();
        let Some((code, why)) = self.queue.clients().iter().find_map(fatal) else { return false };
        let why = format!("{code:?}: {why}");
        let age = replacing.born.elapsed();
        if age < REPLACE.wait(replacing.replacements) {
            return false;
        }
        match self.make(true) {
            Ok(fresh) => {
                tracing::error!(reason = %why, "the Kafka producer has died and is replaced");
                self.replace(&mut replacing, fresh);
                replacing.replacements =
                    if age > STABLE_AFTER { 1 } else { replacing.replacements.saturating_add(1) };
                true
            }
            Err(error) => {
                if let Some(left_out) = replacing.failed.allow() {
                    let error = describe(&error);
                    tracing::error!(reason = %why, error, left_out, "the Kafka producer has died and no new one can be made");
                }
                false
            }
        }
    }

    /// Replaces the librdkafka producers if a new one reaches the cluster. Returns true if they were replaced. Blocks for at most
    /// `timeout`.
    pub(super) fn replace_if_another_works(&self, why: &str, probe: &str, timeout: Duration) -> bool {
        let mut replacing = self.replacing.lock();
        let Ok(fresh) = self.make(true) else { return false };
        if fresh.native().fetch_metadata(Some(probe), timeout).is_err() {
            return false;
        }
        tracing::warn!(reason = why, "the Kafka producer is replaced by a new one");
        self.replace(&mut replacing, fresh);
        true
    }

    fn replace(&self, replacing: &mut Replacing, fresh: Arc<Client>) {
        let old = self.put_in_use(vec![fresh]);
        self.metrics.producer_rebuilds.inc();
        replacing.born = Instant::now();
        self.retire(replacing, old.iter());
    }

    /// Uses these librdkafka producers from now on, and gives back the former ones.
    fn put_in_use(&self, clients: Vec<Arc<Client>>) -> Arc<Vec<Arc<Client>>> {
        let old = self.queue.use_clients(clients);
        // A password or a token that came after they were made went to the former ones only.
        for client in &*self.queue.clients() {
            self.renew_password(client);
            self.show_token(client);
        }
        old
    }

    fn retire<'a>(&self, replacing: &mut Replacing, clients: impl Iterator<Item = &'a Arc<Client>>) {
        for client in clients {
            client.is_in_use.store(false, Ordering::Release);
            replacing.retired.push((Arc::clone(client), Instant::now()));
        }
    }

    /// Makes or gives up librdkafka producers until there are `needed` besides the first. Returns false if one could not be made.
    fn adjust(&self, needed: usize) -> bool {
        let wanted = needed + 1;
        let mut fresh = Vec::new();
        for _ in self.queue.clients().len()..wanted {
            let Ok(client) = self.make(false) else { break };
            // It connects and knows the topics before it is used.
            if client.native().fetch_metadata(None, READY_WITHIN).is_err() {
                break;
            }
            fresh.push(client);
        }
        let mut replacing = self.replacing.lock();
        let mut clients = Vec::clone(&self.queue.clients());
        let spare = clients.split_off(clients.len().min(wanted));
        clients.extend(fresh);
        let are_all_there = clients.len() >= wanted;
        tracing::debug!(producers = clients.len(), "the number of Kafka producers is changed");
        self.put_in_use(clients);
        self.retire(&mut replacing, spare.iter());
        drop(spare);
        self.end_retired(&mut replacing.retired);
        are_all_there
    }

    /// Ends retired producers that no request uses any more, and that have answered everything or never will.
    fn end_retired(&self, retired: &mut Vec<(Arc<Client>, Instant)>) {
        retired.retain(|(client, since)| {
            let in_use = if client.in_flight() > 0 { IN_USE + self.message_timeout } else { IN_USE };
            Arc::strong_count(client) > 1 || since.elapsed() < in_use
        });
    }

    /// Waits for what is on its way, then gives up on the rest, so that dropping the producer does not hang. Blocks.
    /// Gives back how many messages were given up.
    pub fn close(&self, timeout: Duration) -> usize {
        self.queue.close(timeout)
    }
}

/// Looks after the scheduler until the queue is dropped.
fn tick(queue: &Weak<PublishQueue>) {
    while let Some(queue) = queue.upgrade() {
        contain(|| queue.tick());
        drop(queue);
        thread::park_timeout(TICK);
    }
}

/// Adjusts the number of librdkafka producers on demand, until the producer is dropped.
fn serve(producer: &Weak<Producer>, asked: &Receiver<usize>) {
    let mut not_before = Instant::now();
    while let Ok(needed) = asked.recv() {
        let Some(producer) = producer.upgrade() else { return };
        if Instant::now() >= not_before && !producer.adjust(needed) {
            not_before = Instant::now() + MAKE_AGAIN_AFTER;
        }
    }
}
