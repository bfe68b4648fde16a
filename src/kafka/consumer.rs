//! Reading events back, for `tail`, `demo` and `quarantine`: a [`Reader`] of whole topics.
//!
//! It takes its partitions itself (`assign`): no group is joined and nothing is committed, so reading leaves no trace
//! on the cluster and needs no rights on groups. What blocks in librdkafka (listing topics, asking for offsets, the
//! destruction of the client) happens on a thread of its own, never on a worker of the runtime.
//!
//! Rule that must stay true: opening ends within some seconds where nothing listens, else within [`CONTACT_TIMEOUT`]. What a
//! wait cannot cure (a wrong password, missing rights, no such topic) is an error with the client's own words, not silence.

mod lister;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
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
    /// Exactly these; they must exist.
    Named(Vec<String>),
    /// Those whose name the predicate takes, now or later.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
    /// These partitions of one topic, each from this offset on, whatever [`Start`] says; they must exist.
    From {
        /// The topic.
        topic: String,
        /// By partition, the first offset to read.
        offsets: BTreeMap<i32, i64>,
    },
}

/// The start of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message that the cluster still has.
    Beginning,
    /// With the first message after [`Reader::open`] has returned. A topic that appears later is read from its beginning.
    End,
    /// With the first message of each partition whose timestamp is this or later; where there is none yet, as [`Start::End`].
    Since(Timestamp),
}

/// The end of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Never: wait for more.
    Never,
    /// After the last message that is there when the reader is opened.
    End,
}

/// One message as it lies on the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// When the producer made it, or the broker appended it, as the topic is configured.
    pub timestamp: Option<Timestamp>,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The headers in their order; a header's value may be null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value. None is a tombstone, which the bridge never writes.
    pub value: Option<Vec<u8>>,
}

/// Why topics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// librdkafka takes no such settings.
    #[error("the Kafka client refuses its settings: {0}")]
    Settings(String),
    /// Nothing accepts connections.
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    /// Connections are accepted and Kafka does not answer in time.
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
    /// A topic is not there, or hidden from us.
    #[error("no topic {} on the cluster, or no right to see it", .0.join(", "))]
    UnknownTopic(Vec<String>),
    /// A topic has fewer partitions.
    #[error("topic {topic} has no partition {partition}, it has 0 to {}", .partitions - 1)]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that it does not have.
        partition: i32,
        /// How many it has.
        partitions: i32,
    },
    /// Anything else that the client cannot get over by itself.
    #[error("the Kafka client has failed: {0}")]
    Client(String),
}

/// A reader of whole topics. Reading ends when it is dropped.
pub struct Reader {
    servers: String,
    consumer: Arc<StreamConsumer<Listener>>,
    /// The lister's reports: the first even if there is nothing to read, then whenever there are new partitions.
    reports: channel::UnboundedReceiver<Result<Report, ReadError>>,
    /// With [`Stop::End`]: by topic and partition, the offset behind the last message to read.
    ends: Option<Ends>,
    /// Whether all of them are of one topic.
    one_topic: bool,
    /// How many partitions are being read.
    partitions: usize,
    named: bool,
    /// With [`Start::Since`]: what is older is dropped.
    since: Option<Timestamp>,
    /// Present if the client signs in with tokens.
    _tokens: Option<Tokens>,
    /// Dropped last: the lister wakes up, lets go of the consumer and so destroys it on its own thread.
    _stop: mpsc::Sender<()>,
}

impl Reader {
    /// Connects, finds the topics and takes their partitions.
    ///
    /// # Errors
    /// [`ReadError`]: the settings are not librdkafka's, the cluster does not answer or refuses, a named topic is missing.
    pub async fn open(
        kafka: &Kafka,
        selection: Selection,
        start: Start,
        stop: Stop,
    ) -> Result<Self, ReadError> {
        let settings = |error: KafkaError| ReadError::Settings(error.to_string());
        let consumer =
            client_config(kafka, stop).create_with_context(Listener::default()).map_err(settings)?;
        let consumer: Arc<StreamConsumer<Listener>> = Arc::new(consumer);
        reach(&kafka.bootstrap_servers).await?;
        let deadline = Instant::now() + CONTACT_TIMEOUT;
        let tokens = match &kafka.oauth {
            Some(oauth) => Some(
                timeout_at(deadline, sign_in(&consumer, oauth)).await.unwrap_or(Err(TokenError::Silent))?,
            ),
            None => None,
        };
        let (report, reports) = channel::unbounded_channel();
        let (waker, stopped) = mpsc::channel();
        let named = matches!(selection, Selection::Named(_) | Selection::From { .. });
        let lister =
            Lister { consumer: consumer.clone(), selection, start, stop, known: HashMap::new(), report };
        let spawned =
            thread::Builder::new().name("topic-lister".to_owned()).spawn(move || lister.run(&stopped));
        spawned.map_err(|error| ReadError::Client(error.to_string()))?;
        let servers = kafka.bootstrap_servers.clone();
        let ends = (stop == Stop::End).then(Ends::new);
        let mut reader = Self {
            servers,
            consumer,
            reports,
            ends,
            one_topic: false,
            partitions: 0,
            named,
            since: if let Start::Since(time) = start { Some(time) } else { None },
            _tokens: tokens,
            _stop: waker,
        };
        match timeout_at(deadline, reader.contact()).await {
            Ok(contact) => contact.map(|()| reader),
            Err(_) => Err(reader.unreachable()),
        }
    }

    /// The next message. None once all is read that was there at the start ([`Stop::End`]); otherwise it waits, also for
    /// brokers to come back. May be cancelled without losing a message.
    ///
    /// # Errors
    /// [`ReadError`], if waiting does not help.
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

    /// Number of partitions that are read; 0 if no topic is selected or visible to the user.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Waits for the lister's first report, or for an error that makes it pointless. There are no messages before it.
    async fn contact(&mut self) -> Result<(), ReadError> {
        loop {
            tokio::select! {
                report = self.reports.recv() => {
                    let died = || Err(ReadError::Client("its thread has failed".to_owned()));
                    return self.adopt(report.unwrap_or_else(died)?);
                }
                received = self.consumer.recv() => {
                    if let Err(error) = received {
                        self.judge(&error)?;
                    }
                }
            }
        }
    }

    /// Begins to read what the lister has found. Only the reader assigns, so it knows each partition before its messages.
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

    /// Sorts a client error: an `Err` where waiting does not help, else a log line.
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
                Code::GroupAuthorizationFailed => {} // of the group that is never joined
                Code::AllBrokersDown => {
                    tracing::warn!(error = %reason, "no Kafka broker is connected, still trying")
                }
                _ => tracing::debug!(error = %reason, "the Kafka client reports an error and goes on"),
            },
            KafkaError::MessageConsumptionFatal(_) => return Err(ReadError::Client(reason)),
            other => return Err(ReadError::Client(other.to_string())),
        }
        Ok(())
    }

    fn unreachable(&self) -> ReadError {
        ReadError::Unreachable { servers: self.servers.clone(), detail: self.consumer.context().last_error() }
    }

    /// A partition can end in something that is no message (the mark of a transaction). librdkafka says that a partition
    /// is at its end, but rdkafka not of which topic, so this helps where there is only one.
    fn partition_has_ended(&mut self, partition: i32) {
        if let Some(ends) = self.ends.as_mut().filter(|_| self.one_topic) {
            ends.retain(|(_, number), _| *number != partition);
        }
    }
}

/// Gives a consumer its first token, and each that follows.
pub(super) async fn sign_in<C: Consumer<Listener> + Send + Sync + 'static>(
    consumer: &Arc<C>,
    oauth: &OAuth,
) -> Result<Tokens, TokenError> {
    let server = TokenServer::new(oauth)?;
    let token = server.fetch().await?;
    hand_over(consumer.client(), &token);
    let consumer = Arc::downgrade(consumer);
    Ok(Tokens::keep(server, token, move |fetched| {
        if let (Some(consumer), Ok(token)) = (consumer.upgrade(), fetched) {
            hand_over(consumer.client(), token);
        }
    }))
}

/// Whether `message` lies before its partition's end; takes note when it is the last one.
fn reached(ends: &mut Ends, message: &Message) -> bool {
    let place = (message.topic.clone(), message.partition);
    let Some(&end) = ends.get(&place) else { return false };
    if message.offset + 1 >= end {
        ends.remove(&place);
    }
    message.offset < end
}

impl Message {
    /// The value of the first header of that name; none if it is null too.
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

/// The user's properties are a producer's; librdkafka ignores those that mean nothing to a consumer. Ours come last.
pub(super) fn client_config(kafka: &Kafka, stop: Stop) -> ClientConfig {
    let mut config = connection_config(kafka);
    config.set("group.id", GROUP).set("client.id", GROUP);
    apply(&mut config, &kafka.properties);
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "earliest"); // where retention has overtaken us
    config.set("allow.auto.create.topics", "false");
    config.set("enable.partition.eof", if stop == Stop::End { "true" } else { "false" });
    config.set("fetch.wait.max.ms", "100"); // new partitions wait for the request that is on its way
    config.set("queued.max.messages.kbytes", "16384"); // memory for what is read ahead, 64 MiB by default
    config.set("statistics.interval.ms", "0");
    config
}

/// Receives the errors of librdkafka.
#[derive(Default)]
pub(super) struct Listener {
    last_error: Mutex<Option<String>>,
}

impl Listener {
    /// The client's last error in its own words.
    pub(super) fn last_error(&self) -> String {
        self.noted().clone().unwrap_or_else(|| "the brokers are silent".to_owned())
    }

    /// Notes an error of a call, unless librdkafka has reported a more precise one.
    pub(super) fn heard_of(&self, error: &KafkaError) {
        self.noted().get_or_insert_with(|| error.to_string());
    }

    fn noted(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock()
    }
}

impl ClientContext for Listener {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility != "CONFWARN" {
            tracing::debug!(facility, "kafka client: {message}"); // CONFWARN: of properties for producers
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF) => {} // no error
            Some(Code::AllBrokersDown) => drop(self.noted().get_or_insert_with(|| reason.to_owned())), // what came before says why
            _ => *self.noted() = Some(reason.to_owned()),
        }
    }
}

impl ConsumerContext for Listener {}

#[cfg(test)]
mod tests;
