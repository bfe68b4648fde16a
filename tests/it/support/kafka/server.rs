//! One broker: its directory, its settings, its process, and the wait until it answers.
//!
//! The shared, the secured and the private broker differ only in their [`Setup`]. The data is in a directory of its own under the
//! system's temporary directory, and is removed with the broker.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::READY_WITHIN;
use super::client::{Client, pause};
use super::guard::Guard;
use super::ports::free_port;
use super::runtime::Runtime;

const COMMON_PROPERTIES: &str = include_str!("../../../support-kafka/server.properties");
const LOG_PROPERTIES: &str = include_str!("../../../support-kafka/log4j2.properties");

/// Java options for a small footprint: several brokers have to fit on a small machine.
const JVM: [&str; 3] = ["-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Heap of a broker: enough for a few hundred partitions.
const HEAP: &str = "-Xmx384m";

/// The cluster's id. Any valid id would do, since every broker is a cluster of its own.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// Number of attempts with other ports, if another process has taken one.
const PORT_ATTEMPTS: usize = 3;

const LOG_LINES_SHOWN: usize = 30;

/// Maximum time for an orderly end. Without a controller a broker cannot hand over its partitions.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Interval at which a process is checked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The directory and the ports of a broker.
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// The port for clients, for the controller, and for clients with a proxy or a certificate.
    pub(super) ports: [u16; 3],
    pub(super) listen_host: &'static str,
}

impl Place {
    pub(super) fn new(listen_host: &'static str) -> Result<Self, String> {
        let directory =
            tempfile::Builder::new().prefix("kafka-").tempdir().map_err(|error| error.to_string())?;
        let ports = [free_port(), free_port(), free_port()];
        // The guard removes the directory, since it outlives this process: a killed process runs no destructors.
        Ok(Self { directory: directory.keep(), ports, listen_host })
    }

    /// Returns the name of the container.
    pub(super) fn name(&self) -> String {
        self.directory.file_name().expect("it was made under a name").to_string_lossy().into_owned()
    }

    /// Returns the address for clients.
    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[0]).into()
    }

    /// Returns the address that a proxy connects to.
    pub(super) fn behind_proxy(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[2]).into()
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, content).expect("a file in our own temporary directory");
        path
    }
}

/// The settings in which brokers differ.
pub(super) struct Setup {
    /// Lines of server.properties.
    pub(super) properties: Vec<(String, String)>,
    /// Names and passwords that exist from the start (SCRAM).
    pub(super) users: Vec<(String, String)>,
    /// The client that checks whether the broker is ready.
    pub(super) client: Client,
    /// The option that bounds Java's heap.
    pub(super) heap: &'static str,
}

impl Setup {
    /// Returns the setup of a broker with one listener, without TLS and authentication.
    pub(super) fn plain(place: &Place) -> Self {
        let [port, controller, _] = place.ports;
        let host = place.listen_host;
        let lines = [
            ("listeners", format!("PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}")),
            ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ];
        let properties = lines.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Self { properties, users: Vec::new(), client: Client::new(&place.address().to_string()), heap: HEAP }
    }
}

/// A broker of this test process. Dropping it ends it and removes its data.
pub(super) struct Server {
    pub(super) place: Place,
    runtime: &'static Runtime,
    client: Client,
    heap: &'static str,
    /// `None` while the broker is stopped.
    guard: Mutex<Option<Guard>>,
}

impl Server {
    /// Starts a broker and waits until it answers.
    pub(super) fn start(setup: impl Fn(&Place) -> Setup) -> Result<Self, String> {
        let runtime = Runtime::find()?;
        let mut failure = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let place = Place::new(runtime.listen_host())?;
            let setup = setup(&place);
            let server = Self::prepare(runtime, place, setup)?;
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(reason) if reason.contains("BindException") => failure = reason,
                Err(reason) => return Err(reason),
            }
        }
        Err(failure)
    }

    /// Makes a broker that can be launched for the first time.
    pub(super) fn prepare(runtime: &'static Runtime, place: Place, setup: Setup) -> Result<Self, String> {
        let Setup { properties, users, client, heap } = setup;
        let server = Self { place, runtime, client, heap, guard: Mutex::new(None) };
        server.format(&properties, &users)?;
        Ok(server)
    }

    /// Writes the settings and makes an empty log directory.
    fn format(&self, properties: &[(String, String)], users: &[(String, String)]) -> Result<(), String> {
        let place = &self.place;
        let mut text = COMMON_PROPERTIES.to_owned();
        let data = place.directory.join("data");
        let quorum = format!("1@127.0.0.1:{}", place.ports[1]);
        let own = [("log.dirs", data.display().to_string()), ("controller.quorum.voters", quorum)];
        let own = own.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in own.chain(properties.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
            writeln!(text, "{key}={value}").expect("a string takes everything");
        }
        let settings = place.write("server.properties", &text);
        place.write("log4j2.properties", LOG_PROPERTIES);
        let mut arguments: Vec<OsString> = vec![self.log_option()];
        arguments.extend(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"].map(OsString::from));
        arguments.push(settings.into());
        for (name, password) in users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                arguments.push("--add-scram".into());
                arguments.push(format!("{mechanism}=[name={name},password={password}]").into());
            }
        }
        self.runtime.tool(place, false, &arguments)
    }

    /// Starts the process on the existing data, and waits until it answers.
    pub(super) fn launch(&self) -> Result<(), String> {
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Starts the process without waiting: a member of a cluster answers only after other members have started.
    pub(super) fn spawn(&self) -> Result<(), String> {
        let mut arguments: Vec<OsString> = JVM.map(OsString::from).to_vec();
        arguments.extend([self.heap.into(), self.log_option(), "kafka.Kafka".into()]);
        arguments.push(self.place.directory.join("server.properties").into());
        *self.guard() = Some(Guard::start(self.runtime.broker(&self.place, &arguments))?);
        Ok(())
    }

    /// Waits until the process answers.
    pub(super) fn wait_until_ready(&self) -> Result<(), String> {
        let has_ended = || self.guard().as_mut().is_none_or(|guard| guard.ended().is_some());
        self.client.wait_until_ready(READY_WITHIN, has_ended).map_err(|reason| {
            let log = last_lines(&self.place.directory.join("broker.log"), LOG_LINES_SHOWN);
            format!("the Kafka broker did not start: {reason}. The end of its log:\n{log}")
        })
    }

    /// Gives a stopped broker another port for its clients.
    pub(super) fn move_to(&mut self, port: u16) {
        let left = std::mem::replace(&mut self.place.ports[0], port);
        let settings = self.place.directory.join("server.properties");
        let text = fs::read_to_string(&settings).expect("we wrote it");
        fs::write(&settings, text.replace(&format!(":{left}"), &format!(":{port}"))).expect("our own file");
        self.client = Client::new(&self.bootstrap());
    }

    /// Ends the process at once (SIGKILL) and keeps its data.
    pub(super) fn kill(&self) {
        if let Some(guard) = self.guard().take() {
            guard.kill();
        }
    }

    /// Ends the process in order (SIGTERM) and waits for its end. Kills it if this takes too long.
    pub(super) fn shut_down(&self) {
        self.signal("TERM");
        let deadline = Instant::now() + ENDS_WITHIN;
        while Instant::now() < deadline && self.guard().as_mut().is_some_and(|guard| guard.ended().is_none())
        {
            pause(LOOK_EVERY);
        }
        self.kill();
    }

    /// Sends the process a signal. Returns false if no process runs.
    pub(super) fn signal(&self, name: &str) -> bool {
        self.guard().as_mut().is_some_and(|guard| guard.signal(name))
    }

    /// Runs one of Kafka's tools against this broker.
    pub(super) fn tool(&self, arguments: &[OsString]) -> Result<(), String> {
        let mut all = vec![self.log_option()];
        all.extend_from_slice(arguments);
        self.runtime.tool(&self.place, true, &all)
    }

    pub(super) fn bootstrap(&self) -> String {
        self.place.address().to_string()
    }

    fn log_option(&self) -> OsString {
        let mut option = OsString::from("-Dlog4j2.configurationFile=");
        option.push(self.place.directory.join("log4j2.properties"));
        option
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard().take());
        // The guard has removed the directory, unless the broker was stopped or in a container. An error is ignored.
        fs::remove_dir_all(&self.place.directory).ok();
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
