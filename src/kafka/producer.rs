//! Publishing: events into the Kafka client.
//!
//! The client batches what waits for a partition; a full queue is an error at once, never a wait. A second client that
//! sends each message in a batch of its own is made when first needed: only its word says that an error is about one
//! message (see [`super::confirm`]). A client that has died for good (librdkafka's fatal errors: it saw a sequence that
//! cannot be, or may not be idempotent) is replaced by a new one, and so is one that is of no use any more where a new one
//! works; what is pending in the old one gets its answer.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::FutureProducerContext;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::confirm::{Pending, Unconfirmed};
use super::context::Context;
use super::oauth::{Tokens, hand_over, set_password};
use super::settings::{describe, producer_config};
use super::statistics::{Queues, Recorder, Role};
use super::status::Status;
use crate::config::{Config, OAuth};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::telemetry::limit::Limit;
use crate::token::{TokenError, TokenServer};
use crate::vital::Part;

/// The waits before a dead client is replaced, when the last one lived shortly: from the first, doubled, up to the second.
const REPLACE_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A client that lived so long was well.
const LIVED_WELL: Duration = Duration::from_secs(60);

type Inner = FutureProducer<Context>;

/// The bridge's producer.
pub struct Producer {
    clients: ArcSwap<Clients>,
    replacing: Mutex<Replacing>,
    /// Its password can change.
    config: Mutex<ClientConfig>,
    /// After so long no message has been without an answer.
    message_timeout: Duration,
    /// Where clients sign in with tokens.
    tokens: Mutex<Option<Tokens>>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
}

/// The clients of one life.
struct Clients {
    main: Inner,
    /// Sends every message alone. Made when a batch was refused for the first time.
    alone: OnceLock<Inner>,
    making_alone: Mutex<()>,
    queues: Arc<Queues>,
}

struct Replacing {
    born: Instant,
    wait: Duration,
    /// Replaced clients. They end here, where that may block, once no request uses them any more.
    retired: Vec<(Arc<Clients>, Instant)>,
    /// No new client could be made.
    failed: Limit,
}

/// How long a request may use a client that it took just before that was replaced: a call of microseconds.
const IN_USE: Duration = Duration::from_secs(1);

impl Producer {
    /// Makes a producer; it connects by itself, in the background.
    ///
    /// # Errors
    /// What librdkafka says of the configuration, without its values.
    pub fn new(config: &Config, status: Arc<Status>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let message_timeout = config.kafka.confirm_timeout;
        let config = producer_config(config);
        let clients = Clients::new(&config, &status, &metrics).map_err(|error| describe(&error))?;
        clients.queues.take_over(&metrics);
        let replacing = Replacing {
            born: Instant::now(),
            wait: REPLACE_AFTER.0,
            retired: Vec::new(),
            failed: Limit::default(),
        };
        Ok(Self {
            clients: ArcSwap::from_pointee(clients),
            replacing: Mutex::new(replacing),
            config: Mutex::new(config),
            message_timeout,
            tokens: Mutex::default(),
            status,
            metrics,
        })
    }

    /// Fetches tokens from now on, in the runtime in which this is called, and signs in with them; those of an earlier call
    /// are used until the first one comes. The task that fetches them holds `part`.
    ///
    /// # Errors
    /// The token server's certificates or address cannot be used.
    pub fn sign_in(self: &Arc<Self>, oauth: &OAuth, part: Option<Part>) -> Result<(), TokenError> {
        let server = TokenServer::new(oauth)?;
        let producer = Arc::downgrade(self);
        let mut tokens = lock(&self.tokens);
        let fetching = Tokens::fetch(server, tokens.as_ref(), move |fetched| {
            let _held = &part;
            let Some(producer) = producer.upgrade() else { return };
            producer.status.set_no_token(fetched.err().map(TokenError::to_string));
            if let Ok(token) = fetched {
                producer.clients.load().each().for_each(|client| hand_over(client.client(), token));
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
        let mut config = lock(&self.config);
        for client in self.clients.load().each() {
            set_password(client.client(), name, password)?;
        }
        config.set("sasl.username", name).set("sasl.password", password);
        Ok(())
    }

    /// Hands an event to the client, which batches it with what else waits for its partition.
    ///
    /// # Errors
    /// [`Unconfirmed`] at once when the client does not take it; it never waits.
    pub fn publish(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        send(&self.clients.load().main, event, false)
    }

    /// Publishes an event in a batch of its own, so that a refusal is about this event and no other.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub fn publish_alone(&self, event: &Event) -> Result<Pending, Unconfirmed> {
        let clients = self.clients.load_full();
        let made = |client: &Inner| {
            self.show_token(client);
            self.renew_password(client);
        };
        let alone = clients.alone(&self.config(), &self.status, &self.metrics, made);
        send(alone.map_err(|error| Unconfirmed::new(&error, true))?, event, true)
    }

    /// Hands the token that is there already to a client that was made just now.
    fn show_token(&self, client: &Inner) {
        if let Some(tokens) = &*lock(&self.tokens) {
            tokens.with_latest(|token| hand_over(client.client(), token));
        }
    }

    fn config(&self) -> ClientConfig {
        lock(&self.config).clone()
    }

    /// Gives a client that was made just now the password, which may have changed since the client's own was read.
    fn renew_password(&self, client: &Inner) {
        let config = lock(&self.config);
        if let (Some(name), Some(password)) = (config.get("sasl.username"), config.get("sasl.password")) {
            set_password(client.client(), name, password).ok(); // the first call for these has reported it
        }
    }

    /// The state of the contact with the cluster.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// After so long no message has been without an answer.
    pub(super) fn message_timeout(&self) -> Duration {
        self.message_timeout
    }

    /// Does something with the client, for metadata.
    pub(super) fn with_client<T>(&self, ask: impl FnOnce(&Client<FutureProducerContext<Context>>) -> T) -> T {
        ask(self.clients.load_full().main.client())
    }

    /// Replaces the clients if one of them has died for good; not at once if the last ones died young. Returns whether
    /// they were replaced. Blocks while the old ones end.
    pub(super) fn replace_if_dead(&self) -> bool {
        let mut replacing = lock(&self.replacing);
        self.bury(&mut replacing.retired);
        let clients = self.clients.load_full();
        let Some(why) = clients.death() else { return false };
        let age = replacing.born.elapsed();
        if age < replacing.wait {
            return false;
        }
        match Clients::new(&self.config(), &self.status, &self.metrics) {
            Ok(fresh) => {
                tracing::error!(reason = %why, "the Kafka producer has died and is replaced");
                self.take_over(&mut replacing, fresh);
                let wait = if age > LIVED_WELL { REPLACE_AFTER.0 } else { replacing.wait * 2 };
                replacing.wait = wait.min(REPLACE_AFTER.1);
                true
            }
            Err(error) => {
                if let Some(left_out) = replacing.failed.left_out() {
                    let error = describe(&error);
                    tracing::error!(reason = %why, error, left_out, "the Kafka producer has died and no new one can be made");
                }
                false
            }
        }
    }

    /// Replaces clients that are of no use any more, unless a new one finds no cluster either; whether they were replaced.
    /// Blocks for as long as the new one may take, which is `patience`.
    pub(super) fn replace_if_another_works(&self, why: &str, probe: &str, patience: Duration) -> bool {
        let mut replacing = lock(&self.replacing);
        let Ok(fresh) = Clients::new(&self.config(), &self.status, &self.metrics) else { return false };
        self.show_token(&fresh.main);
        if fresh.main.client().fetch_metadata(Some(probe), patience).is_err() {
            return false;
        }
        tracing::warn!(reason = why, "the Kafka producer is replaced by a new one");
        self.take_over(&mut replacing, fresh);
        true
    }

    fn take_over(&self, replacing: &mut Replacing, fresh: Clients) {
        let fresh = Arc::new(fresh);
        let old = self.clients.swap(Arc::clone(&fresh));
        old.queues.retire();
        fresh.queues.take_over(&self.metrics);
        self.renew_password(&self.clients.load().main);
        self.show_token(&self.clients.load().main);
        self.metrics.producer_rebuilds.inc();
        replacing.born = Instant::now();
        replacing.retired.push((old, Instant::now()));
    }

    /// Ends replaced clients that no request uses any more, and that have answered everything or never will.
    fn bury(&self, retired: &mut Vec<(Arc<Clients>, Instant)>) {
        retired.retain(|(clients, since)| {
            let pending = clients.each().any(|client| client.in_flight_count() > 0);
            let in_use = if pending { IN_USE + self.message_timeout } else { IN_USE };
            Arc::strong_count(clients) > 1 || since.elapsed() < in_use
        });
    }

    /// Waits for what is under way, then gives up on the rest, so that dropping the producer does not hang. Blocks.
    /// Gives back how many messages were given up.
    pub fn close(&self, patience: Duration) -> usize {
        let clients = self.clients.load_full();
        let mut left = 0;
        for producer in clients.each() {
            if producer.flush(patience).is_err() {
                left += usize::try_from(producer.in_flight_count()).unwrap_or(0);
                producer.purge(PurgeConfig::default().queue().inflight());
                producer.flush(Duration::from_millis(100)).ok(); // the purged messages' reports
            }
        }
        left
    }
}

impl Clients {
    fn new(config: &ClientConfig, status: &Arc<Status>, metrics: &Arc<Metrics>) -> KafkaResult<Self> {
        let queues = Arc::default();
        let context = context(status, metrics, &queues, Role::Main);
        let main = config.create_with_context(context)?;
        Ok(Self { main, alone: OnceLock::new(), making_alone: Mutex::new(()), queues })
    }

    fn alone(
        &self,
        config: &ClientConfig,
        status: &Arc<Status>,
        metrics: &Arc<Metrics>,
        made: impl FnOnce(&Inner),
    ) -> KafkaResult<&Inner> {
        let _one_at_a_time = lock(&self.making_alone);
        if let Some(producer) = self.alone.get() {
            return Ok(producer);
        }
        let mut config = config.clone();
        config.set("batch.num.messages", "1").remove("batch.size");
        let context = context(status, metrics, &self.queues, Role::Alone);
        let producer = config.create_with_context(context)?;
        let producer = self.alone.get_or_init(|| producer);
        made(producer);
        Ok(producer)
    }

    fn each(&self) -> impl Iterator<Item = &Inner> {
        [Some(&self.main), self.alone.get()].into_iter().flatten()
    }

    /// Why one of the clients cannot send anything any more.
    fn death(&self) -> Option<String> {
        self.each()
            .find_map(|producer| producer.client().fatal_error())
            .map(|(code, why)| format!("{code:?}: {why}"))
    }
}

fn context(status: &Arc<Status>, metrics: &Arc<Metrics>, queues: &Arc<Queues>, role: Role) -> Context {
    let recorder = Recorder { metrics: Arc::clone(metrics), queues: Arc::clone(queues), role };
    Context { status: Arc::clone(status), statistics: Some(recorder) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(producer: &Inner, event: &Event, alone: bool) -> Result<Pending, Unconfirmed> {
    let mut headers = Some(OwnedHeaders::new_with_capacity(14));
    event.headers(|key, value| {
        headers = headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
    });
    let mut record = FutureRecord::<[u8], [u8]>::to(&event.stream.topic).payload(&event.value);
    record.key = event.key.as_deref();
    record.headers = headers;
    match producer.send_result(record) {
        Ok(delivery) => Ok(Pending::new(delivery, alone)),
        // The client refuses by itself what is about this message only: it has not met a batch yet.
        Err((error, _record)) => Err(Unconfirmed::new(&error, true)),
    }
}
