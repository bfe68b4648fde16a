//! A Kafka broker inside the process, for `dev`, `demo` and the fault tests: librdkafka's mock cluster.
//!
//! It serves Kafka clients, with groups and commits, on 127.0.0.1 only. It has no TLS, SASL, ACLs or admin requests. It keeps messages
//! in memory: about 5 MiB or 100,000 messages for each partition, then it drops the oldest. A request for the metadata of an unknown
//! topic creates the topic.
//!
//! Only the cluster's own thread calls it; [`EmbeddedBroker`] sends commands to this thread. A fixed port is a small TCP forwarder on
//! that thread, because the mock cluster binds random ports only.
#![expect(
    unsafe_code,
    reason = "rdkafka wraps neither the advertised address nor the group settings of the mock cluster"
)]

mod forwarder;

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::types::{RDKafkaApiKey, RDKafkaMockCluster, RDKafkaType};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::forwarder::Forwarder;
use super::settings::keep_openssl_until_the_end;

/// An error code of Kafka's protocol, for [`EmbeddedBroker::fail_produce`].
pub use rdkafka::types::RDKafkaRespErr;

/// The id of the only broker.
const BROKER: i32 = 1;

/// Requests of consumer groups with the newest version that the mock cluster understands. It offers newer versions, but reads them in
/// the format of these; librdkafka itself never uses them.
const GROUP_VERSIONS: [(RDKafkaApiKey, i16); 4] = [
    (RDKafkaApiKey::JoinGroup, 5),
    (RDKafkaApiKey::Heartbeat, 3),
    (RDKafkaApiKey::LeaveGroup, 1),
    (RDKafkaApiKey::SyncGroup, 3),
];

/// Time that a group waits for its first members. With Kafka's default every consumer of `dev` would wait 3 s.
const GROUP_DELAY_MS: i32 = 50;

/// Maximum time for which dropping an [`EmbeddedBroker`] waits for the cluster's end, which usually takes milliseconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which a cluster that has not answered is woken.
const WAKE_INTERVAL: Duration = Duration::from_millis(10);

/// Options of an embedded broker.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The port on 127.0.0.1; `None` or 0: the system chooses one.
    pub port: Option<u16>,
    /// Topics to create, with their numbers of partitions.
    pub topics: Vec<(String, i32)>,
}

/// The embedded broker, or a topic of it, cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The port is in use, or may not be used.
    #[error("cannot listen on {address} for the embedded broker")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// No thread, socket or cluster can be made.
    #[error("cannot start the embedded broker: {0}")]
    Start(String),
    /// The broker refuses a topic.
    #[error("cannot create the topic {topic:?} on the embedded broker: {reason}")]
    Topic {
        /// Its name.
        topic: String,
        /// Kafka's reason.
        reason: String,
    },
}

/// A running broker. It ends when this is dropped.
pub struct EmbeddedBroker {
    address: String,
    /// `None` only while it is dropped: the closed channel ends the thread.
    commands: Option<UnboundedSender<Command>>,
    stopped: mpsc::Receiver<()>,
}

/// A call that runs on the thread of the cluster.
type Command = Box<dyn FnOnce(&Cluster) + Send>;

impl EmbeddedBroker {
    /// Starts a broker and creates its topics. Blocks for some 10 ms.
    ///
    /// # Errors
    /// [`EmbeddedError`]: the port is in use, a topic cannot be made, or the system has no resources.
    pub fn start(options: Options) -> Result<Self, EmbeddedError> {
        let listener = options.port.map(listen).transpose()?;
        let (commands, queue) = unbounded_channel();
        let (report, started) = mpsc::sync_channel(1);
        let (stopping, stopped) = mpsc::channel();
        let body = move || {
            run(options.topics, listener, queue, &report);
            drop(stopping); // wakes the drop of the handle
        };
        let started = match thread::Builder::new().name("embedded-broker".to_owned()).spawn(body) {
            Ok(_) => started.recv(),
            Err(error) => return Err(EmbeddedError::Start(error.to_string())),
        };
        let address = started.map_err(|_| EmbeddedError::Start("its thread has failed".to_owned()))??;
        Ok(Self { address, commands: Some(commands), stopped })
    }

    /// Returns the address of the broker: `127.0.0.1:PORT`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.address
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`EmbeddedError::Topic`] if the topic exists, or its name is not valid.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let name = name.to_owned();
        self.ask(move |cluster| cluster.create_topic(&name, partitions))
    }

    /// Answers each of the next produce requests with one of these errors. `RD_KAFKA_RESP_ERR__TRANSPORT` closes the connection
    /// instead.
    pub fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        let errors = errors.to_vec();
        self.ask(move |cluster| cluster.fail_produce(&errors));
    }

    /// Answers metadata requests for a topic with an error, until [`EmbeddedBroker::clear_faults`] or `NO_ERROR`.
    pub fn topic_error(&self, topic: &str, error: RDKafkaRespErr) {
        let topic = topic.to_owned();
        self.ask(move |cluster| cluster.topic_error(&topic, error));
    }

    /// Closes all connections and accepts none, until [`EmbeddedBroker::up`]. Written messages are kept.
    pub fn down(&self) {
        self.ask(|cluster| cluster.set_up(false));
    }

    /// Accepts connections again, on the same port.
    pub fn up(&self) {
        self.ask(|cluster| cluster.set_up(true));
    }

    /// Delays every answer by `delay`, in whole milliseconds.
    pub fn round_trip(&self, delay: Duration) {
        self.ask(move |cluster| cluster.round_trip(delay));
    }

    /// Ends all faults: errors that are left, errors of topics, the delay, and refused connections.
    pub fn clear_faults(&self) {
        self.ask(Cluster::clear_faults);
    }

    /// Runs a call on the thread of the cluster and waits for its end. It takes microseconds, so async code may call it.
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(&Cluster) -> T + Send + 'static) -> T {
        let (reply, answer) = mpsc::sync_channel(1);
        let command: Command = Box::new(move |cluster| {
            reply.send(command(cluster)).expect("the caller waits for the answer");
        });
        let commands = self.commands.as_ref().expect("taken by drop only");
        commands.send(command).expect("the thread lives as long as the handle");
        answer.recv().expect("the thread answers every command")
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.commands = None;
        if self.stopped.recv_timeout(STOP_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the embedded broker did not stop in time; it ends with the process");
        }
    }
}

fn listen(port: u16) -> Result<TcpListener, EmbeddedError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?; // as tokio wants it
        Ok(listener)
    });
    listener.map_err(|source| EmbeddedError::Listen { address, source })
}

/// The body of the thread: makes the cluster, reports its address, runs commands and accepts connections until the handle is dropped.
fn run(
    topics: Vec<(String, i32)>,
    listener: Option<TcpListener>,
    mut commands: UnboundedReceiver<Command>,
    report: &mpsc::SyncSender<Result<String, EmbeddedError>>,
) {
    let failed = |error: io::Error| EmbeddedError::Start(error.to_string());
    let prepared = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let cluster = Cluster::new()?;
        kept_awake(&cluster.address(), || {
            cluster.limit_group_versions();
            topics.iter().try_for_each(|(name, partitions)| cluster.create_topic(name, *partitions))
        })?;
        let Some(listener) = listener else {
            let address = cluster.address();
            return Ok((runtime, cluster, None, address));
        };
        let address = listener.local_addr().map_err(failed)?;
        let forwarder = Forwarder { listener, to: cluster.address() };
        cluster.advertise(address);
        Ok((runtime, cluster, Some(forwarder), address.to_string()))
    };
    let (runtime, cluster, forwarder, address) = match prepared() {
        Ok(parts) => parts,
        Err(error) => return report.send(Err(error)).expect("the starter waits for the report"),
    };
    report.send(Ok(address)).expect("the starter waits for the report");
    let itself = cluster.address();
    runtime.block_on(async {
        if let Some(forwarder) = forwarder {
            tokio::spawn(forwarder.run());
        }
        while let Some(command) = commands.recv().await {
            kept_awake(&itself, || command(&cluster));
        }
    });
    drop(runtime); // ends the forwarded connections before their far end goes
}

/// Makes a call to the cluster and wakes librdkafka's thread by connections to it. Without them the thread can miss the wake-up of an
/// operation and sleep for a second.
fn kept_awake<T>(address: &str, work: impl FnOnce() -> T) -> T {
    let (working, done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while done.recv_timeout(WAKE_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                std::net::TcpStream::connect(address).ok(); // none where the broker is down
            }
        });
        let result = work();
        drop(working);
        result
    })
}

/// librdkafka's mock cluster. The raw pointer keeps it on its thread, since it is not `Send`.
struct Cluster {
    /// Valid from [`Cluster::new`] to drop.
    handle: *mut RDKafkaMockCluster,
    /// The topics with an error, for [`Cluster::clear_faults`].
    failing: RefCell<Vec<String>>,
    /// The client that librdkafka needs for a mock cluster. It outlives the cluster, since fields are dropped after `drop`.
    _client: Client<Silent>,
}

/// A context without log lines.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn stats_raw(&self, _: &[u8]) {}
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
}

impl Cluster {
    fn new() -> Result<Self, EmbeddedError> {
        let failed = |error: rdkafka::error::KafkaError| EmbeddedError::Start(error.to_string());
        keep_openssl_until_the_end();
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config.set("log_level", "0"); // from the first moment: without servers it would complain about having none
        let native = config.create_native_config().map_err(failed)?;
        let client = Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, Silent).map_err(failed)?;
        // SAFETY: the client's pointer is valid, and the client is kept for longer than the cluster.
        let handle = unsafe { bindings::rd_kafka_mock_cluster_new(client.native_ptr(), 1) };
        if handle.is_null() {
            return Err(EmbeddedError::Start("librdkafka makes no mock cluster".to_owned()));
        }
        // SAFETY: the handle is valid.
        unsafe { bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(handle, GROUP_DELAY_MS) };
        Ok(Self { handle, failing: RefCell::default(), _client: client })
    }

    /// The address of the cluster itself.
    fn address(&self) -> String {
        // SAFETY: the handle is valid; the string is the cluster's, ends with NUL and is copied here.
        let address = unsafe { CStr::from_ptr(bindings::rd_kafka_mock_cluster_bootstraps(self.handle)) };
        address.to_string_lossy().into_owned()
    }

    /// Advertises another address to clients.
    fn advertise(&self, address: SocketAddr) {
        let host = c_string(&address.ip().to_string());
        let port = i32::from(address.port());
        // SAFETY: the handle and the string are valid; the string is copied.
        unsafe { bindings::rd_kafka_mock_broker_set_host_port(self.handle, BROKER, host.as_ptr(), port) };
    }

    fn limit_group_versions(&self) {
        for (api, newest) in GROUP_VERSIONS {
            // SAFETY: the handle is valid.
            let code = unsafe { bindings::rd_kafka_mock_set_apiversion(self.handle, api.into(), 0, newest) };
            assert_eq!(code, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "the request exists");
        }
    }

    fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let refused = |reason: String| EmbeddedError::Topic { topic: name.to_owned(), reason };
        let Ok(c_name) = CString::new(name) else { return Err(refused("its name holds a NUL".to_owned())) };
        if partitions < 1 {
            return Err(refused(format!("{partitions} partitions, expected at least 1")));
        }
        // SAFETY: the handle and the string are valid; the string is copied.
        let code =
            unsafe { bindings::rd_kafka_mock_topic_create(self.handle, c_name.as_ptr(), partitions, 1) };
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        Err(refused(rdkafka::types::RDKafkaErrorCode::from(code).to_string()))
    }

    fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        let api = RDKafkaApiKey::Produce.into();
        // SAFETY: the handle is valid; the pointer and the length are those of one slice, which is copied.
        unsafe {
            bindings::rd_kafka_mock_push_request_errors_array(
                self.handle,
                api,
                errors.len(),
                errors.as_ptr(),
            );
        }
    }

    fn topic_error(&self, topic: &str, error: RDKafkaRespErr) {
        let c_topic = c_string(topic);
        // SAFETY: the handle and the string are valid; the string is copied.
        unsafe { bindings::rd_kafka_mock_topic_set_error(self.handle, c_topic.as_ptr(), error) };
        self.failing.borrow_mut().push(topic.to_owned());
    }

    fn set_up(&self, up: bool) {
        // SAFETY: the handle is valid. librdkafka takes either call in either state.
        let code = unsafe {
            match up {
                true => bindings::rd_kafka_mock_broker_set_up(self.handle, BROKER),
                false => bindings::rd_kafka_mock_broker_set_down(self.handle, BROKER),
            }
        };
        assert_eq!(code, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "the broker exists");
    }

    fn round_trip(&self, delay: Duration) {
        let delay = delay.as_millis().try_into().unwrap_or(i32::MAX);
        // SAFETY: the handle is valid.
        let code = unsafe { bindings::rd_kafka_mock_broker_set_rtt(self.handle, BROKER, delay) };
        assert_eq!(code, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "the broker exists");
    }

    fn clear_faults(&self) {
        // SAFETY: the handle is valid.
        unsafe { bindings::rd_kafka_mock_clear_request_errors(self.handle, RDKafkaApiKey::Produce.into()) };
        for topic in self.failing.take() {
            self.topic_error(&topic, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
        self.failing.take();
        self.round_trip(Duration::ZERO);
        self.set_up(true);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: the handle is valid and not used again; the client goes after it.
        unsafe { bindings::rd_kafka_mock_cluster_destroy(self.handle) };
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("hosts and topics hold no NUL")
}

#[cfg(test)]
mod tests;
