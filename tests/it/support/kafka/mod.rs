//! Apache Kafka for the tests: real brokers, started once per test binary or for one test alone.
//!
//! - [`plain`]: the shared broker. Every test makes topics of its own on it ([`Broker::topic`]).
//! - [`secured`]: the shared broker behind TLS, passwords and access rights.
//! - [`OwnBroker`]: a broker that a test may kill, stop and start again.
//! - [`OwnCluster`]: three such brokers, each behind a proxy.
//! - [`Client`]: creates topics and reads them, on any of these. A read returns everything up to the end of the log, so an
//!   unexpected message is found as well as a missing one.
//!
//! `runtime` finds the programs of Kafka. Without them, tests fail and tell what to install. No broker outlives the test process,
//! even if that process is killed (`guard`).
//!
//! All functions block. An async test calls them from a multi-threaded runtime, or when no other task has to run.

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

/// The variable with the bootstrap address of a running cluster. If it is set, [`plain`] uses that cluster and starts nothing.
pub(crate) const CLUSTER_VARIABLE: &str = "NEXUDUS_BRIDGE_TEST_KAFKA";

/// Time-out of a broker's start. Three seconds are usual, ten on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The shared broker without TLS or passwords.
pub(crate) struct Broker {
    bootstrap: String,
    /// `None` for a cluster from the environment.
    _server: Option<Server>,
}

/// Returns the shared broker, which the first call starts.
///
/// # Panics
/// If there is none, with what to install. It is not started a second time: later calls panic with the same reason.
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

    /// Returns the address for clients: `host:port`, or several for a cluster from the environment.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Returns a client of the broker, for topics and for reading.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.bootstrap)
    }

    /// Creates a topic for one test and returns its name: `prefix` and a unique part.
    pub(crate) fn topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique(prefix);
        self.client().create_topic(&name, partitions, &[]);
        name
    }
}

/// Returns `prefix` and a unique part, for names of topics and groups on a shared broker.
pub(crate) fn unique(prefix: &str) -> String {
    let random = uuid::Uuid::now_v7().simple().to_string();
    format!("{prefix}-{}", &random[20..])
}

/// Creates a topic on a broker without authentication, and waits until every partition has a leader. See
/// [`Client::create_topic`].
#[track_caller]
pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    Client::new(bootstrap).create_topic(name, partitions, configs);
}

/// Returns all messages of a topic on a broker without authentication, once there are `expected`. See [`Client::consume_all`].
#[track_caller]
pub(crate) fn consume_all(bootstrap: &str, topic: &str, expected: usize, timeout: Duration) -> Vec<Consumed> {
    Client::new(bootstrap).consume_all(topic, expected, timeout)
}

/// Returns all messages that are now in a topic on a broker without authentication. See [`Client::read_to_end`].
#[track_caller]
pub(crate) fn read_to_end(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    Client::new(bootstrap).read_to_end(topic)
}
