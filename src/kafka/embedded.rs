//! A Kafka broker inside the process, for `dev`, `demo` and the fault tests: librdkafka's mock cluster.
//!
//! It serves Kafka clients, with groups and commits, on 127.0.0.1 only. It has no TLS, SASL, ACLs or admin requests. It keeps messages
//! in memory: about 5 MiB or 100,000 messages for each partition, then it drops the oldest. A request for the metadata of an unknown
//! topic creates the topic.
//!
//! The mock cluster has a thread of its own, to which [`EmbeddedBroker`] sends commands. A small TCP forwarder on this thread serves a
//! fixed port, because the mock cluster binds random ports only.
#![expect(
    unsafe_code,
    reason = "rdkafka wraps neither the advertised address nor the group settings of the mock cluster"
)]

mod forwarder;

use std::error::Error;
use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaType};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::settings::keep_openssl_until_the_end;

/// An error code of Kafka's protocol, for [`EmbeddedBroker::fail_produce`].
pub use rdkafka::types::RDKafkaRespErr;

/// The id of the only broker.
const BROKER: i32 = 1;

/// Requests of consumer groups, each with the newest version that the mock cluster reads correctly. By default it also offers newer
/// versions, but reads them in the older format. librdkafka uses none of the newer versions.
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

/// A running broker. Dropping it stops the broker.
pub struct EmbeddedBroker {
    address: String,
    /// The address of the mock cluster itself.
    cluster_address: String,
    /// `None` only during the drop: the closed channel ends the thread.
    commands: Option<UnboundedSender<Command>>,
    stopped: mpsc::Receiver<()>,
}

/// librdkafka's mock cluster. It stays on its thread, since it is not `Send`.
type Cluster<'a> = MockCluster<'a, DefaultClientContext>;

/// A call that runs on the thread of the cluster.
type Command = Box<dyn FnOnce(&Cluster<'_>) + Send>;

impl EmbeddedBroker {
    /// Starts a broker on a port of 127.0.0.1 and creates topics, each with its number of partitions. With `None` or 0 the system
    /// chooses the port. Blocks for some 10 ms.
    ///
    /// # Errors
    /// [`EmbeddedError`]: the port is in use, a topic cannot be made, or the system has no resources.
    pub fn start(port: Option<u16>, topics: Vec<(String, i32)>) -> Result<Self, EmbeddedError> {
        let listener = port.map(listen).transpose()?;
        let (commands, queue) = unbounded_channel();
        let (report, started) = mpsc::sync_channel(1);
        let (stopping, stopped) = mpsc::channel();
        let body = move || {
            if let Err(error) = run(listener, queue, &report) {
                report
                    .send(Err(EmbeddedError::Start(error.to_string())))
                    .expect("the starter waits for the report");
            }
            drop(stopping); // wakes `drop` of the handle
        };
        let thread = thread::Builder::new().name("embedded-broker".to_owned()).spawn(body);
        thread.map_err(|error| EmbeddedError::Start(error.to_string()))?;
        let started = started.recv().map_err(|_| EmbeddedError::Start("its thread has failed".to_owned()))?;
        let [address, cluster_address] = started?;
        let broker = Self { address, cluster_address, commands: Some(commands), stopped };
        for (api, newest) in GROUP_VERSIONS {
            broker
                .ask(move |cluster| cluster.apiversion(api, Some(0), Some(newest)))
                .expect("the request exists");
        }
        for (name, partitions) in topics {
            broker.create_topic(&name, partitions)?;
        }
        Ok(broker)
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
        let refused = |reason| EmbeddedError::Topic { topic: name.to_owned(), reason };
        if partitions < 1 {
            return Err(refused(format!("{partitions} partitions, expected at least 1")));
        }
        let topic = name.to_owned();
        self.ask(move |cluster| cluster.create_topic(&topic, partitions, 1)).map_err(|error| {
            refused(match error {
                KafkaError::MockCluster(code) => code.to_string(),
                _ => "its name holds a NUL".to_owned(),
            })
        })
    }

    /// Answers each of the next produce requests with one of these errors. `RD_KAFKA_RESP_ERR__TRANSPORT` closes the connection
    /// instead.
    pub fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        let errors = errors.to_vec();
        self.ask(move |cluster| cluster.request_errors(RDKafkaApiKey::Produce, &errors));
    }

    /// Closes all connections and accepts none, until [`EmbeddedBroker::up`]. Written messages are kept.
    pub fn down(&self) {
        self.ask(|cluster| cluster.broker_down(BROKER)).expect("the broker exists");
    }

    /// Accepts connections again, on the same port.
    pub fn up(&self) {
        self.ask(|cluster| cluster.broker_up(BROKER)).expect("the broker exists");
    }

    /// Delays every answer by `delay`, in whole milliseconds.
    pub fn round_trip(&self, delay: Duration) {
        self.ask(move |cluster| cluster.broker_round_trip_time(BROKER, delay)).expect("the broker exists");
    }

    /// Ends all faults: errors that are left, the delay, and refused connections.
    pub fn clear_faults(&self) {
        self.ask(|cluster| cluster.clear_request_errors(RDKafkaApiKey::Produce));
        self.round_trip(Duration::ZERO);
        self.up();
    }

    /// Runs a call on the thread of the cluster and returns its result. A call takes microseconds, so async code may use this function.
    ///
    /// librdkafka's thread can miss the wake-up of an operation and sleep for a second. So this function opens connections to the
    /// cluster while it waits, which wake the thread.
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(&Cluster<'_>) -> T + Send + 'static) -> T {
        let (reply, answer) = mpsc::sync_channel(1);
        let command: Command = Box::new(move |cluster| {
            reply.send(command(cluster)).expect("the caller waits for the answer");
        });
        let commands = self.commands.as_ref().expect("taken by drop only");
        commands.send(command).expect("the thread lives as long as the handle");
        loop {
            match answer.recv_timeout(WAKE_INTERVAL) {
                Err(mpsc::RecvTimeoutError::Timeout) => drop(TcpStream::connect(&self.cluster_address)),
                answer => return answer.expect("the thread answers every command"),
            }
        }
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
        listener.set_nonblocking(true)?; // tokio requires it
        Ok(listener)
    });
    listener.map_err(|source| EmbeddedError::Listen { address, source })
}

/// The body of the thread: makes the cluster, reports its addresses, runs commands and accepts connections until the handle is dropped.
fn run(
    listener: Option<TcpListener>,
    mut commands: UnboundedReceiver<Command>,
    report: &mpsc::SyncSender<Result<[String; 2], EmbeddedError>>,
) -> Result<(), Box<dyn Error>> {
    let client = client()?;
    let cluster = client.mock_cluster().ok_or("librdkafka makes no mock cluster")?;
    let cluster_address = cluster.bootstrap_servers();
    let address = match &listener {
        Some(listener) => listener.local_addr()?,
        None => cluster_address.parse()?,
    };
    set_up(&client, address);
    // The runtime is dropped before the cluster, so that the forwarded connections end first.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        if let Some(listener) = listener {
            tokio::spawn(forwarder::run(listener.try_into()?, cluster_address.clone()));
        }
        report.send(Ok([address.to_string(), cluster_address]))?;
        while let Some(command) = commands.recv().await {
            command(&cluster);
        }
        Ok(())
    })
}

/// Makes a client with a mock cluster of its own, which ends with the client.
fn client() -> KafkaResult<Client> {
    keep_openssl_until_the_end();
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Emerg).set("log_level", "0"); // its log is not used
    config.set("test.mock.num.brokers", "1");
    let native = config.create_native_config()?;
    Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext)
}

/// Sets the advertised address of the client's cluster, and the time that a group waits.
fn set_up(client: &Client, address: SocketAddr) {
    let host = CString::new(address.ip().to_string()).expect("an address holds no NUL");
    // SAFETY: the client is borrowed, so its pointer is valid, and it has a mock cluster. The host ends with NUL and is copied.
    unsafe {
        let cluster = bindings::rd_kafka_handle_mock_cluster(client.native_ptr());
        bindings::rd_kafka_mock_broker_set_host_port(cluster, BROKER, host.as_ptr(), address.port().into());
        bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, GROUP_DELAY_MS);
    }
}

#[cfg(test)]
mod tests;
