//! A [`Reader`] of whole topics, for `tail`, `demo` and `quarantine`.
//!
//! A reader assigns its partitions itself. It joins no group and commits nothing, so it needs no rights on groups. Calls that
//! block in librdkafka (listing topics, requesting offsets, destroying the client) run on a thread of their own.
//!
//! Invariant: [`Reader::open`] returns within some seconds if nothing listens at the address, else within [`CONTACT_TIMEOUT`]. A
//! permanent fault (a wrong password, missing rights, no such topic) is an error with librdkafka's message.

mod lister;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::mpsc as channel;
use tokio::time::{Instant, timeout_at};

use self::lister::{Ends, Lister, Report};
use super::contact::{NoConnection, reach};
use super::oauth::{Tokens, hand_over};
use super::settings::{apply, connection_config};
use crate::config::duration;
use crate::config::{Kafka, OAuth};
use crate::token::{TokenError, TokenServer};

/// Time-out of the first contact, and of each list of topics.
pub const CONTACT_TIMEOUT: Duration = Duration::from_secs(10);

/// librdkafka requires a group for `assign`, although it never joins it.
const GROUP: &str = "nexudus-bridge-reader";

/// Which topics to read.
pub enum Selection {
    /// These topics; each must exist.
    Named(Vec<String>),
    /// Topics whose name matches the predicate, also those that are created later.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
    /// These partitions of one topic, each from its own offset; [`Start`] does not apply. Each must exist.
    From {
        /// The topic.
        topic: String,
        /// First offset to read, by partition.
        offsets: BTreeMap<i32, i64>,
    },
}

/// The position at which reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message of each partition.
    Beginning,
    /// After the last message that exists when the reader is opened. A topic that appears later is read from its beginning.
    End,
    /// At the first message of each partition with this timestamp or a later one; without such a message as [`Start::End`].
    Since(Timestamp),
}

/// The position at which reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Reading does not end: the reader waits for new messages.
    Never,
    /// After the last message that exists when the reader is opened.
    End,
}

/// A message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Time at which the message was produced or appended, by `message.timestamp.type` of the topic.
    pub timestamp: Option<Timestamp>,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The headers in their order; a header's value may be null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// The reason why topics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// librdkafka refuses the settings.
    #[error("the Kafka client refuses its settings: {0}")]
    Settings(String),
    /// No address accepts a connection.
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    /// An address accepts connections, and no broker answers in time.
    #[error(
        "no answer from Kafka at {servers} within {}: {detail} (is that a Kafka listener, and of this security.protocol?)",
        duration::show(CONTACT_TIMEOUT)
    )]
    Unreachable {
        /// `kafka.bootstrap_servers`.
        servers: String,
        /// The client's last error.
        detail: String,
    },
    /// The cluster refuses the credentials: user, password, token or certificate.
    #[error("Kafka refuses the connection: {0}")]
    Authentication(String),
    /// There is no token to sign in with.
    #[error("no token to sign in with: {0}")]
    Token(#[from] TokenError),
    /// The cluster refuses the right to read.
    #[error("Kafka refuses to hand out messages: {0}")]
    Authorization(String),
    /// The cluster refuses the right to commit progress.
    #[error("progress cannot be remembered: the Kafka user needs READ on the group {0}")]
    GroupAuthorization(&'static str),
    /// A topic does not exist, or the user has no right to see it.
    #[error("no topic {} on the cluster, or no right to see it", .0.join(", "))]
    UnknownTopic(Vec<String>),
    /// A topic has fewer partitions.
    #[error("topic {topic} has no partition {partition}, it has 0 to {}", .partitions - 1)]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The missing partition.
        partition: i32,
        /// Number of partitions of the topic.
        partitions: i32,
    },
    /// Another error from which librdkafka does not recover by itself.
    #[error("the Kafka client has failed: {0}")]
    Client(String),
}

/// A reader of whole topics. Reading ends when it is dropped.
pub struct Reader {
    consumer: Arc<StreamConsumer<LastError>>,
    /// The reports of the lister: one for the first list, then one for each list with new partitions.
    reports: channel::UnboundedReceiver<Result<Report, ReadError>>,
    /// With [`Stop::End`]: the offset after the last message to read, by topic and partition.
    ends: Option<Ends>,
    /// True if all partitions belong to one topic.
    one_topic: bool,
    /// Number of partitions that are read; 0 if no topic is selected or visible to the user.
    pub partitions: usize,
    named: bool,
    /// With [`Start::Since`]: older messages are dropped.
    since: Option<Timestamp>,
    /// Present if the client signs in with tokens.
    _tokens: Option<Tokens>,
    /// Dropped last, so that the lister destroys the consumer on its own thread.
    _stop: mpsc::Sender<()>,
}

impl Reader {
    /// Connects, finds the topics and assigns their partitions.
    ///
    /// # Errors
    /// [`ReadError`]: librdkafka refuses the settings, the cluster refuses or does not answer, or a named topic is missing.
    pub async fn open(
        kafka: &Kafka,
        selection: Selection,
        start: Start,
        stop: Stop,
    ) -> Result<Self, ReadError> {
        let consumer = new_consumer(&client_config(kafka, stop))?;
        reach(&kafka.bootstrap_servers).await?;
        let deadline = Instant::now() + CONTACT_TIMEOUT;
        let signed_in = timeout_at(deadline, sign_in(&consumer, kafka.oauth.as_ref())).await;
        let tokens = signed_in.unwrap_or(Err(TokenError::Silent))?;
        let (report, reports) = channel::unbounded_channel();
        let (waker, stopped) = mpsc::channel();
        let named = matches!(selection, Selection::Named(_) | Selection::From { .. });
        let lister =
            Lister { consumer: consumer.clone(), selection, start, stop, known: HashMap::new(), report };
        let spawned =
            thread::Builder::new().name("topic-lister".to_owned()).spawn(move || lister.run(&stopped));
        spawned.map_err(|error| ReadError::Client(error.to_string()))?;
        let mut reader = Self {
            consumer,
            reports,
            ends: (stop == Stop::End).then(Ends::new),
            one_topic: false,
            partitions: 0,
            named,
            since: if let Start::Since(time) = start { Some(time) } else { None },
            _tokens: tokens,
            _stop: waker,
        };
        match timeout_at(deadline, reader.contact()).await {
            Ok(contact) => contact.map(|()| reader),
            Err(_) => Err(ReadError::Unreachable {
                servers: kafka.bootstrap_servers.clone(),
                detail: reader.consumer.context().last_error(),
            }),
        }
    }

    /// Returns the next message, or `None` after the last one with [`Stop::End`]. Waits while brokers are down. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`] for a permanent fault.
    pub async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        while self.ends.as_ref().is_none_or(|ends| !ends.is_empty()) {
            let received = tokio::select! {
                received = self.consumer.recv() => received.map(|message| Message::of(&message)),
                Some(report) = self.reports.recv() => {
                    self.adopt(report?)?;
                    continue;
                }
            };
            match received {
                Ok(message) if self.since.is_some() && message.timestamp < self.since => {}
                Ok(message) => {
                    let Some(ends) = &mut self.ends else { return Ok(Some(message)) };
                    if reached(ends, &message) {
                        return Ok(Some(message));
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => self.partition_has_ended(partition),
                Err(error) => self.judge(&error)?,
            }
        }
        Ok(None)
    }

    /// Waits for the first report of the lister, or for an error from which librdkafka does not recover.
    async fn contact(&mut self) -> Result<(), ReadError> {
        loop {
            tokio::select! {
                report = self.reports.recv() => {
                    let ended = || Err(ReadError::Client("its thread has failed".to_owned()));
                    return self.adopt(report.unwrap_or_else(ended)?);
                }
                received = self.consumer.recv() => {
                    if let Err(error) = received {
                        self.judge(&error)?;
                    }
                }
            }
        }
    }

    /// Assigns the partitions that the lister has found.
    fn adopt(&mut self, report: Report) -> Result<(), ReadError> {
        if let Some(ends) = &mut self.ends {
            *ends = report.ends;
            let mut topics = ends.keys().map(|(topic, _)| topic);
            let first = topics.next();
            self.one_topic = topics.all(|topic| Some(topic) == first);
        }
        self.partitions += report.starts.count();
        if report.starts.count() > 0 {
            let assigned = self.consumer.incremental_assign(&report.starts);
            assigned.map_err(|error| ReadError::Client(error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the error of a permanent fault; logs any other error.
    fn judge(&self, error: &KafkaError) -> Result<(), ReadError> {
        let reason = self.consumer.context().last_error();
        match error {
            KafkaError::MessageConsumption(code) => match code {
                Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed => {
                    return Err(ReadError::Authentication(reason));
                }
                Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                    return Err(ReadError::Authorization(reason));
                }
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition if self.named => {
                    return Err(ReadError::Client(reason));
                }
                Code::GroupAuthorizationFailed => {} // the reader never joins its group
                Code::AllBrokersDown => {
                    tracing::warn!(error = %reason, "no Kafka broker is connected; retrying")
                }
                _ => tracing::debug!(error = %reason, "error of the Kafka client"),
            },
            KafkaError::MessageConsumptionFatal(_) => return Err(ReadError::Client(reason)),
            other => return Err(ReadError::Client(other.to_string())),
        }
        Ok(())
    }

    /// Ends a partition at the event that it has no further message. The last offset can be the marker of a transaction, which is no
    /// message. rdkafka's event does not contain the topic, so it is used only for readers of one topic.
    fn partition_has_ended(&mut self, partition: i32) {
        if let Some(ends) = self.ends.as_mut().filter(|_| self.one_topic) {
            ends.retain(|(_, number), _| *number != partition);
        }
    }
}

/// Makes a consumer, which connects in the background.
pub(super) fn new_consumer(config: &ClientConfig) -> Result<Arc<StreamConsumer<LastError>>, ReadError> {
    let consumer = config.create_with_context(LastError::default());
    consumer.map(Arc::new).map_err(|error| ReadError::Settings(error.to_string()))
}

/// Gives a consumer its first token and starts a task that gives it each new one. Returns `None` if it signs in without tokens.
pub(super) async fn sign_in(
    consumer: &Arc<StreamConsumer<LastError>>,
    oauth: Option<&OAuth>,
) -> Result<Option<Tokens>, TokenError> {
    let Some(oauth) = oauth else { return Ok(None) };
    let server = TokenServer::new(oauth)?;
    let token = server.fetch().await?;
    hand_over(consumer.client(), &token);
    let consumer = Arc::downgrade(consumer);
    Ok(Some(Tokens::fetch(server, Some(token), true, move |fetched| {
        if let (Some(consumer), Ok(token)) = (consumer.upgrade(), fetched) {
            hand_over(consumer.client(), token);
        }
    })))
}

/// Returns true if `message` is before the end of its partition. Removes the partition from `ends` at its last message.
fn reached(ends: &mut Ends, message: &Message) -> bool {
    let partition = (message.topic.clone(), message.partition);
    let Some(&end) = ends.get(&partition) else { return false };
    if message.offset + 1 >= end {
        ends.remove(&partition);
    }
    message.offset < end
}

impl Message {
    /// Returns the value of the first header with this name; `None` also for a null value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name)?.1.as_deref()
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }
}

/// Returns the configuration of a consumer. librdkafka ignores properties of the user that are only for producers. The bridge's own
/// properties override the user's.
pub(super) fn client_config(kafka: &Kafka, stop: Stop) -> ClientConfig {
    let mut config = connection_config(kafka);
    config.set("group.id", GROUP).set("client.id", GROUP);
    apply(&mut config, &kafka.properties);
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "earliest"); // if retention has deleted the next offset
    config.set("allow.auto.create.topics", "false");
    config.set("enable.partition.eof", if stop == Stop::End { "true" } else { "false" });
    config.set("fetch.wait.max.ms", "100"); // new partitions wait for the end of the current fetch
    config.set("queued.max.messages.kbytes", "16384"); // memory for messages read ahead; 64 MiB by default
    config.set("statistics.interval.ms", "0");
    config
}

/// Receives the errors of librdkafka.
#[derive(Default)]
pub(super) struct LastError {
    last_error: Mutex<Option<String>>,
}

impl LastError {
    /// Returns librdkafka's message about its last error.
    pub(super) fn last_error(&self) -> String {
        self.last_error.lock().clone().unwrap_or_else(|| "the brokers are silent".to_owned())
    }

    /// Notes an error of a call, unless librdkafka has reported a more precise one.
    pub(super) fn note(&self, error: &KafkaError) {
        self.last_error.lock().get_or_insert_with(|| error.to_string());
    }
}

impl ClientContext for LastError {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility != "CONFWARN" {
            tracing::debug!(facility, "kafka client: {message}"); // CONFWARN is about properties for producers
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF) => {} // the end of a partition, no error
            // An earlier error is the reason for this one.
            Some(Code::AllBrokersDown) => {
                self.last_error.lock().get_or_insert_with(|| reason.to_owned());
            }
            _ => *self.last_error.lock() = Some(reason.to_owned()),
        }
    }
}

impl ConsumerContext for LastError {}

#[cfg(test)]
mod tests;
