//! A cluster of three brokers for one test, which may kill, stop and start each of them.
//!
//! Every broker is a controller, too (KRaft), so the cluster needs two of three. Topics have three replicas, of which two must be
//! in sync. Clients that connect through the proxies use the proxies for all brokers. The brokers connect to each other directly,
//! and so does the test ([`OwnCluster::client`]).

use std::net::SocketAddr;
use std::thread;

use super::client::Client;
use super::own::proxied;
use super::runtime::Runtime;
use super::server::{Place, Server, Setup};

/// Number of brokers of a cluster.
pub(crate) const BROKERS: usize = 3;

/// Number of attempts with other ports, if another process has taken one.
const ATTEMPTS: usize = 3;

/// Heap of a broker: three of them have to fit on a small machine.
const HEAP: &str = "-Xmx256m";

const PROPERTIES: [(&str, &str); 8] = [
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    // Nine seconds by default; shorter to save time.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    // Ten minutes by default. With this interval a killed leader leads again soon after its restart.
    ("leader.imbalance.check.interval.seconds", "5"),
];

/// A private cluster. Dropping it ends it.
pub(crate) struct OwnCluster {
    brokers: [Server; BROKERS],
}

impl OwnCluster {
    /// Starts a cluster whose brokers clients can also reach through these proxies. Afterwards, connect each proxy to
    /// [`OwnCluster::behind_proxy`]. Brokers are counted from 0; Kafka's own numbers are larger by one.
    ///
    /// # Panics
    /// If the cluster does not start, with the end of a broker's log; if no program is found, with what to install.
    pub(crate) fn start_behind(proxies: [SocketAddr; BROKERS]) -> Self {
        let mut failure = String::new();
        for _ in 0..ATTEMPTS {
            match Self::launch(proxies) {
                Ok(cluster) => return cluster,
                Err(reason) if reason.contains("BindException") => failure = reason,
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("{failure}");
    }

    fn launch(proxies: [SocketAddr; BROKERS]) -> Result<Self, String> {
        let runtime = Runtime::find()?;
        if matches!(runtime, Runtime::Docker { .. }) {
            return Err(
                "a cluster of three brokers needs Java and Maven: in containers they would not find each \
                        other on loopback"
                    .to_owned(),
            );
        }
        let mut places = Vec::new();
        for _ in 0..BROKERS {
            places.push(Place::new(runtime.listen_host())?);
        }
        let voter = |(index, place): (usize, &Place)| format!("{}@127.0.0.1:{}", index + 1, place.ports[1]);
        let voters = places.iter().enumerate().map(voter).collect::<Vec<_>>().join(",");
        let prepare = &|(index, place): (usize, Place)| {
            let mut setup = Setup::plain(&place);
            setup.heap = HEAP;
            setup.properties = proxied(&place, proxies[index]);
            let own = [("node.id", (index + 1).to_string()), ("controller.quorum.voters", voters.clone())];
            setup.properties.extend(own.map(|(key, value)| (key.to_owned(), value)));
            setup.properties.extend(PROPERTIES.map(|(key, value)| (key.to_owned(), value.to_owned())));
            Server::prepare(runtime, place, setup)
        };
        // Each preparation runs a Java process for some seconds, so they run side by side.
        let prepared: Result<Vec<Server>, String> = thread::scope(|scope| {
            let each = places.into_iter().enumerate();
            let preparing: Vec<_> = each.map(|place| scope.spawn(move || prepare(place))).collect();
            preparing.into_iter().map(|one| one.join().expect("the thread printed the reason")).collect()
        });
        let Ok(brokers) = prepared?.try_into() else { unreachable!("as many brokers as places") };
        let cluster = Self { brokers };
        cluster.start_again(&[0, 1, 2])?;
        Ok(cluster)
    }

    /// Returns the address that the proxy of this broker connects to.
    pub(crate) fn behind_proxy(&self, broker: usize) -> SocketAddr {
        self.brokers[broker].place.behind_proxy()
    }

    /// Returns a client that connects without the proxies, for topics and for reading.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.brokers.each_ref().map(Server::bootstrap).join(","))
    }

    /// Ends the process at once (SIGKILL). Its data stays.
    pub(crate) fn kill(&self, broker: usize) {
        self.brokers[broker].kill();
    }

    /// Stops the process (SIGSTOP): connections stay open, and requests get no answer.
    pub(crate) fn stop_process(&self, broker: usize) {
        assert!(self.brokers[broker].signal("STOP"), "broker {broker} is not running");
    }

    /// Continues a stopped process (SIGCONT).
    pub(crate) fn continue_process(&self, broker: usize) {
        assert!(self.brokers[broker].signal("CONT"), "broker {broker} is not running");
    }

    /// Ends the process in order (SIGTERM), as a rolling restart does, and waits for its end. Kills it if this takes too long.
    pub(crate) fn shut_down(&self, broker: usize) {
        self.brokers[broker].shut_down();
    }

    /// Starts stopped brokers side by side, on the same ports and data. Returns when each of them answers.
    ///
    /// # Errors
    /// The end of a broker's log.
    pub(crate) fn start_again(&self, brokers: &[usize]) -> Result<(), String> {
        for &broker in brokers {
            self.brokers[broker].spawn()?;
        }
        brokers.iter().try_for_each(|&broker| self.brokers[broker].wait_until_ready())
    }
}
