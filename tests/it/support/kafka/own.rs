//! A broker for one test, which may kill it, stop it and start it again.
//!
//! The broker has one listener for the test itself, and optionally a second one whose clients are sent to a proxy. A Kafka client
//! follows the address that the broker advertises, so a proxy in front of an ordinary listener would see only its first request.
//! The test can read through the direct listener while the proxy is cut.

use std::ffi::OsString;
use std::net::SocketAddr;

use super::client::Client;
use super::ports::free_port;
use super::server::{Place, Server, Setup};
use super::unique;

/// Short time-outs: a killed broker can return only when the controller has removed its former registration, after nine seconds
/// by default.
const RETURNS_QUICKLY: [(&str, &str); 2] =
    [("broker.session.timeout.ms", "1500"), ("broker.heartbeat.interval.ms", "200")];

/// A private broker. Dropping it ends it.
pub(crate) struct OwnBroker {
    server: Server,
}

impl OwnBroker {
    /// Starts a broker with default settings.
    ///
    /// # Panics
    /// If it does not start, with the end of its log; if no program is found, with what to install.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a broker with these settings, which take precedence over the others: `[("message.max.bytes", "2000")]`.
    pub(crate) fn start_with(properties: &[(&str, &str)]) -> Self {
        Self::launch(None, properties)
    }

    /// Starts a broker that clients can also reach through a proxy. A client that connects to [`OwnBroker::behind_proxy`] gets
    /// the address `proxy` for all further connections. Start the proxy first, then call `proxy.retarget(broker.behind_proxy())`.
    pub(crate) fn start_behind(proxy: SocketAddr, properties: &[(&str, &str)]) -> Self {
        Self::launch(Some(proxy), properties)
    }

    fn launch(proxy: Option<SocketAddr>, properties: &[(&str, &str)]) -> Self {
        let setup = |place: &Place| {
            let mut setup = Setup::plain(place);
            if let Some(proxy) = proxy {
                setup.properties = proxied(place, proxy);
            }
            let all = RETURNS_QUICKLY.iter().chain(properties);
            setup.properties.extend(all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
            setup
        };
        match Server::start(setup) {
            Ok(server) => Self { server },
            Err(reason) => panic!("{reason}"),
        }
    }

    /// Returns the address for clients, as text.
    pub(crate) fn bootstrap(&self) -> String {
        self.server.bootstrap()
    }

    /// Returns the address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.place.address()
    }

    /// Returns the address that the proxy of [`OwnBroker::start_behind`] connects to.
    pub(crate) fn behind_proxy(&self) -> SocketAddr {
        self.server.place.behind_proxy()
    }

    /// Returns a client of the broker, for topics and for reading.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.bootstrap())
    }

    /// Creates a topic and returns its name: `prefix` and a unique part.
    pub(crate) fn topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique(prefix);
        self.client().create_topic(&name, partitions, &[]);
        name
    }

    /// Limits the bytes per second that all clients of this `client.id` may produce (a quota).
    pub(crate) fn limit_producers(&self, client_id: &str, bytes_per_second: u32) {
        let arguments: Vec<OsString> = [
            "kafka.admin.ConfigCommand",
            "--bootstrap-server",
            &self.bootstrap(),
            "--alter",
            "--add-config",
            &format!("producer_byte_rate={bytes_per_second}"),
            "--entity-type",
            "clients",
            "--entity-name",
            client_id,
        ]
        .map(OsString::from)
        .to_vec();
        self.server.tool(&arguments).unwrap_or_else(|reason| panic!("cannot set a quota: {reason}"));
    }

    /// Ends the process at once (SIGKILL). Its data stays for [`OwnBroker::restart`].
    pub(crate) fn kill(&self) {
        self.server.kill();
    }

    /// Stops the process (SIGSTOP): connections stay open, and requests get no answer.
    pub(crate) fn stop_process(&self) {
        assert!(self.server.signal("STOP"), "the broker is not running");
    }

    /// Continues a stopped process (SIGCONT).
    pub(crate) fn continue_process(&self) {
        assert!(self.server.signal("CONT"), "the broker is not running");
    }

    /// Starts the broker again on the same ports and data, and returns when it answers. Kills it first if it still runs.
    pub(crate) fn restart(&self) {
        self.server.kill();
        if let Err(reason) = self.server.launch() {
            panic!("{reason}");
        }
    }

    /// Starts the broker again on a port that it never had, so a client with only the old address does not find it.
    pub(crate) fn restart_elsewhere(&mut self) {
        self.server.kill();
        self.server.move_to(free_port());
        self.restart();
    }
}

/// Returns the listeners of a broker whose second one advertises a proxy.
pub(super) fn proxied(place: &Place, proxy: SocketAddr) -> Vec<(String, String)> {
    let [port, controller, behind] = place.ports;
    let host = place.listen_host;
    let listeners =
        format!("PLAINTEXT://{host}:{port},PROXIED://{host}:{behind},CONTROLLER://127.0.0.1:{controller}");
    let lines = [
        ("listeners", listeners),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port},PROXIED://{proxy}")),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
    ];
    lines.map(|(key, value)| (key.to_owned(), value)).to_vec()
}
