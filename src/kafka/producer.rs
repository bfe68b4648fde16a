//! The producer: takes events for Kafka, and keeps the librdkafka producers that send them.
//!
//! The first librdkafka producer is made at start, and has one request in flight for each broker. More are made when a broker needs
//! more requests in flight, and dropped when they are no longer needed. A new librdkafka producer replaces:
//!
//! - one with a fatal error, such as an impossible sequence number or no right to be idempotent;
//! - one that no longer works although a new one does.
//!
//! Messages in flight of a replaced producer still get their answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;

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

/// Interval of [`PublishQueue::tick`].
const TICK: Duration = Duration::from_millis(50);

/// Wait after an additional producer could not be made.
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Time after a replacement in which calls may still use the old client; such a call takes microseconds.
const IN_USE: Duration = Duration::from_secs(1);

/// The bridge's producer.
pub struct Producer {
    /// The events that have no answer yet.
    pub(super) queue: Arc<PublishQueue>,
    replacing: Mutex<Replacing>,
    /// The configuration of new librdkafka producers. [`Producer::set_password`] changes it.
    config: Mutex<ClientConfig>,
    /// Upper bound of the time between handing a message to librdkafka and its delivery report.
    pub(super) message_timeout: Duration,
    /// The task that fetches tokens, if librdkafka's producers sign in with tokens.
    tokens: Mutex<Option<Tokens>>,
    /// The state of the contact with the cluster.
    pub status: Arc<Status>,
    metrics: Arc<Metrics>,
}

struct Replacing {
    made_at: Instant,
    /// Number of replacements in a row, without a client that reached [`STABLE_AFTER`].
    replacements: u32,
    /// Replaced clients, each with the time of its replacement. `Producer::end_retired` drops them.
    retired: Vec<(Arc<Client>, Instant)>,
    /// Rate limit of the log line that no new client can be made.
    failed: LogLimit,
}

impl Producer {
    /// Makes a producer, which connects in the background.
    ///
    /// # Errors
    /// librdkafka's reason, without values of the configuration.
    pub fn new(config: &Config, status: Arc<Status>, metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        let message_timeout = config.kafka.confirm_timeout;
        let config = producer_config(config);
        let (demand, demands) = sync_channel(1);
        let queue = Arc::new(PublishQueue::new(&config, message_timeout, Arc::clone(&metrics), demand));
        let replacing = Replacing {
            made_at: Instant::now(),
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
        thread.spawn(move || serve(&weak, &demands)).map_err(|error| error.to_string())?;
        let queue = Arc::downgrade(&producer.queue);
        let thread = thread::Builder::new().name("kafka-scheduler".to_owned());
        thread.spawn(move || tick(&queue)).map_err(|error| error.to_string())?;
        Ok(producer)
    }

    /// Makes a librdkafka producer. The first one sends events directly, and only its statistics set the gauges of brokers.
    fn make(&self, is_first: bool) -> KafkaResult<Arc<Client>> {
        let (queue, queue_of_answers) = (Arc::downgrade(&self.queue), Arc::downgrade(&self.queue));
        let recorder = Recorder {
            metrics: Arc::clone(&self.metrics),
            is_in_use: AtomicBool::new(true),
            is_first,
            windows: Box::new(move || queue.upgrade().map(|queue| queue.windows()).unwrap_or_default()),
        };
        let answered = Box::new(move |sent: Sent, result| match queue_of_answers.upgrade() {
            Some(queue) => queue.answered(sent, result),
            None => drop(sent.answer(result)),
        });
        let context = Context { status: Arc::clone(&self.status) };
        let mut config = self.config.lock().clone();
        if is_first {
            // With one request in flight, librdkafka batches the events that arrive meanwhile.
            config.set("max.in.flight", "1");
        }
        let reports = Reports { context, recorder, answered, offsets: Offsets::default() };
        let client = Arc::new(Client::new(&config, reports)?);
        self.authenticate(&client);
        Ok(client)
    }

    /// Starts to fetch tokens on the current runtime, and signs in with them. The token of an earlier call is used until the first new
    /// one arrives. The task that fetches tokens holds `part`.
    ///
    /// # Errors
    /// The token server's certificates or address cannot be used.
    pub fn sign_in(self: &Arc<Self>, oauth: &OAuth, part: Option<Part>) -> Result<(), TokenError> {
        let server = TokenServer::new(oauth)?;
        let producer = Arc::downgrade(self);
        let mut tokens = self.tokens.lock();
        let former = tokens.as_ref().and_then(|tokens| tokens.latest.lock().clone());
        let fetching = Tokens::fetch(server, former, false, move |fetched| {
            let _held = &part;
            let Some(producer) = producer.upgrade() else { return };
            producer.status.set_no_token(fetched.err().map(TokenError::to_string));
            if let Ok(token) = fetched {
                for client in producer.queue.clients.load().iter() {
                    hand_over(client.producer.client(), token);
                }
            }
        });
        *tokens = Some(fetching);
        Ok(())
    }

    /// Signs in with this name and password from now on.
    ///
    /// # Errors
    /// The reason why they cannot be used. New clients keep the former ones.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), String> {
        let mut config = self.config.lock();
        for client in self.queue.clients.load().iter() {
            set_password(client.producer.client(), name, password)?;
        }
        config.set("sasl.username", name).set("sasl.password", password);
        Ok(())
    }

    /// Queues an event. It is sent in a batch with other events that wait for its partition. Never waits.
    ///
    /// # Errors
    /// [`Unconfirmed`] if the queue is full, or if librdkafka refuses the message.
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

    /// Gives a new client the latest token and the password, which can be newer than the configuration that it was made with.
    fn authenticate(&self, client: &Client) {
        let client = client.producer.client();
        if let Some(tokens) = &*self.tokens.lock() {
            tokens.with_latest(|token| hand_over(client, token));
        }
        let config = self.config.lock();
        if let (Some(name), Some(password)) = (config.get("sasl.username"), config.get("sasl.password")) {
            set_password(client, name, password).ok(); // `Producer::set_password` has reported the error
        }
    }

    /// Requests the metadata of one topic, or of all topics, with the first librdkafka producer.
    pub(super) fn metadata(&self, topic: Option<&str>, timeout: Duration) -> KafkaResult<Metadata> {
        self.queue.clients.load()[0].producer.client().fetch_metadata(topic, timeout)
    }

    /// Reads the topics again with each librdkafka producer but the first. Otherwise they would not have new partitions for up to five
    /// minutes.
    pub(super) fn refresh_others(&self, timeout: Duration) {
        for client in self.queue.clients.load().iter().skip(1) {
            client.producer.client().fetch_metadata(None, timeout).ok(); // the next list of the watch tries again
        }
    }

    /// Replaces the librdkafka producers if one of them has had a fatal error, with back-off. Returns true if they were replaced.
    pub(super) fn replace_after_fatal_error(&self) -> bool {
        let mut replacing = self.replacing.lock();
        self.end_retired(&mut replacing.retired);
        let fatal = |client: &Arc<Client>| client.producer.client().fatal_error();
        let Some((code, why)) = self.queue.clients.load().iter().find_map(fatal) else { return false };
        let why = format!("{code:?}: {why}");
        let age = replacing.made_at.elapsed();
        if age < REPLACE.wait(replacing.replacements) {
            return false;
        }
        match self.make(true) {
            Ok(fresh) => {
                tracing::error!(reason = %why, "the Kafka producer has had a fatal error and is replaced");
                self.replace(&mut replacing, fresh);
                replacing.replacements =
                    if age > STABLE_AFTER { 1 } else { replacing.replacements.saturating_add(1) };
                true
            }
            Err(error) => {
                if let Some(left_out) = replacing.failed.allow() {
                    let error = describe(&error);
                    tracing::error!(reason = %why, error, left_out, "the Kafka producer has had a fatal error and no new one can be made");
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
        if fresh.producer.client().fetch_metadata(Some(probe), timeout).is_err() {
            return false;
        }
        tracing::warn!(reason = why, "the Kafka producer is replaced by a new one");
        self.replace(&mut replacing, fresh);
        true
    }

    fn replace(&self, replacing: &mut Replacing, fresh: Arc<Client>) {
        self.put_in_use(replacing, vec![fresh]);
        self.metrics.producer_rebuilds.inc();
        replacing.made_at = Instant::now();
    }

    /// Uses these librdkafka producers from now on, and retires the others.
    fn put_in_use(&self, replacing: &mut Replacing, clients: Vec<Arc<Client>>) {
        let former = self.queue.use_clients(clients);
        let clients = self.queue.clients.load();
        // A password or token that changed after the new clients were made went to the former clients only.
        clients.iter().for_each(|client| self.authenticate(client));
        let is_in_use = |former: &&Arc<Client>| clients.iter().any(|client| Arc::ptr_eq(client, former));
        for client in former.iter().filter(|former| !is_in_use(former)) {
            client.producer.context().recorder.is_in_use.store(false, Ordering::Release);
            replacing.retired.push((Arc::clone(client), Instant::now()));
        }
    }

    /// Makes or retires librdkafka producers until there are `needed` besides the first. Returns false if one could not be made.
    fn adjust(&self, needed: usize) -> bool {
        let wanted = needed + 1;
        let mut fresh = Vec::new();
        for _ in self.queue.clients.load().len()..wanted {
            let Ok(client) = self.make(false) else { break };
            // Connects and loads the topics before the client is used.
            if client.producer.client().fetch_metadata(None, READY_WITHIN).is_err() {
                break;
            }
            fresh.push(client);
        }
        let mut replacing = self.replacing.lock();
        let mut clients = Vec::clone(&self.queue.clients.load());
        clients.truncate(wanted);
        clients.extend(fresh);
        let are_all_there = clients.len() >= wanted;
        tracing::debug!(producers = clients.len(), "the number of Kafka producers is changed");
        self.put_in_use(&mut replacing, clients);
        self.end_retired(&mut replacing.retired);
        are_all_there
    }

    /// Drops retired clients that no request uses any more, and whose messages are answered or have timed out.
    fn end_retired(&self, retired: &mut Vec<(Arc<Client>, Instant)>) {
        retired.retain(|(client, since)| {
            let in_use =
                if client.producer.in_flight_count() > 0 { IN_USE + self.message_timeout } else { IN_USE };
            Arc::strong_count(client) > 1 || since.elapsed() < in_use
        });
    }

    /// Waits up to `timeout` until every message has its answer, then gives up the rest, so that dropping the producer does not hang.
    /// Blocks. Returns the number of messages that were given up.
    pub fn close(&self, timeout: Duration) -> usize {
        self.queue.close(timeout)
    }
}

/// Calls [`PublishQueue::tick`] at intervals until the queue is dropped.
fn tick(queue: &Weak<PublishQueue>) {
    while let Some(queue) = queue.upgrade() {
        contain(|| queue.tick());
        drop(queue);
        thread::park_timeout(TICK);
    }
}

/// Adjusts the number of librdkafka producers on demand, until the producer is dropped.
fn serve(producer: &Weak<Producer>, demands: &Receiver<usize>) {
    let mut not_before = Instant::now();
    while let Ok(needed) = demands.recv() {
        let Some(producer) = producer.upgrade() else { return };
        if Instant::now() >= not_before && contain(|| producer.adjust(needed)) != Some(true) {
            not_before = Instant::now() + MAKE_AGAIN_AFTER;
        }
    }
}
