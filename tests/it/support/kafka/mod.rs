//! Apache Kafka for the tests: real brokers, started once per test binary or for one test alone.
//!
//! - [`plain`]: the shared broker. Every test makes topics of its own on it ([`Broker::topic`]).
//! - [`secured`]: the shared broker behind TLS, passwords and access rights.
//! - [`OwnBroker`]: one that a test may kill, stop and start again.
//! - [`OwnCluster`]: three of those, each behind a proxy.
//! - [`Client`]: topics and reading, for any of them. A read goes up to the end of the log and returns
//!   everything, so a message too many is seen as surely as a missing one.
//!
//! Where the program comes from is `runtime`'s business; without one, tests fail and say what to install. No
//! broker outlives the test process, not even a killed one (`guard`).
//!
//! All functions block. In an async test call them from a multi-threaded runtime, or where nothing else has
//! to go on.

#![allow(dead_code, unused_imports, reason = "each test uses some of it")]

pub(crate) mod certificates;
mod client;
mod cluster;
pub(crate) mod guard;
mod own;
mod ports;
mod runtime;
mod secured;
mod server;

use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use certificates::Authority;
pub(crate) use client::{Client, Consumed, PartitionState, pause};
pub(crate) use cluster::{BROKERS, OwnCluster};
pub(crate) use guard::{Guard, SCRIPT as GUARD_SCRIPT};
pub(crate) use own::OwnBroker;
pub(crate) use ports::free_port;
pub(crate) use runtime::{VERSION, java};
pub(crate) use secured::{Acl, Pattern, Resource, SecuredBroker, secured};

use server::{Server, Setup};

/// Names a running cluster by its bootstrap address; then [`plain`] uses that one and starts nothing.
pub(crate) const CLUSTER_VARIABLE: &str = "NEXUDUS_BRIDGE_TEST_KAFKA";

/// How long a broker may take until it answers. Three seconds are usual, on a busy machine ten.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The shared broker without TLS or passwords.
pub(crate) struct Broker {
    bootstrap: String,
    /// None when the cluster is somebody else's.
    _server: Option<Server>,
}

/// The shared broker, started by the first test that asks.
///
/// # Panics
/// When there is none to be had, with what to install; for each test again, without trying again.
#[track_caller]
pub(crate) fn plain() -> &'static Broker {
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    match BROKER.get_or_init(Broker::find) {
        Ok(broker) => broker,
        Err(reason) => panic!("{reason}"),
    }
}

impl Broker {
    fn find() -> Result<Self, String> {
        if let Some(address) = std::env::var_os(CLUSTER_VARIABLE).filter(|address| !address.is_empty()) {
            let bootstrap = address.to_string_lossy().into_owned();
            let client = Client::new(&bootstrap);
            return match client.wait_until_ready(READY_WITHIN, || false) {
                Ok(()) => Ok(Self { bootstrap, _server: None }),
                Err(reason) => Err(format!("{CLUSTER_VARIABLE} = \"{bootstrap}\" does not answer: {reason}")),
            };
        }
        let server = Server::start(Setup::plain)?;
        Ok(Self { bootstrap: server.bootstrap(), _server: Some(server) })
    }

    /// Where clients connect: `host:port`, of a cluster from the environment maybe several.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A client of it, for topics and for reading.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.bootstrap)
    }

    /// Makes a topic that no other test knows, and returns its name: `prefix` and something unique.
    pub(crate) fn topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique(prefix);
        self.client().create_topic(&name, partitions, &[]);
        name
    }
}

/// `prefix` and something that nobody else has, for names of topics and groups on a shared broker.
pub(crate) fn unique(prefix: &str) -> String {
    let random = uuid::Uuid::now_v7().simple().to_string();
    format!("{prefix}-{}", &random[20..])
}

/// Makes a topic on an open broker and waits until every partition has a leader. See
/// [`Client::create_topic`].
#[track_caller]
pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    Client::new(bootstrap).create_topic(name, partitions, configs);
}

/// All messages of a topic on an open broker, once there are `expected`. See [`Client::consume_all`].
#[track_caller]
pub(crate) fn consume_all(bootstrap: &str, topic: &str, expected: usize, timeout: Duration) -> Vec<Consumed> {
    Client::new(bootstrap).consume_all(topic, expected, timeout)
}

/// All messages that a topic on an open broker has at this moment. See [`Client::read_to_end`].
#[track_caller]
pub(crate) fn read_to_end(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    Client::new(bootstrap).read_to_end(topic)
}
