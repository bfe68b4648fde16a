//! One replica: the bridge of the chaos test, and the answers of its admin listener.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nexudus_bridge::signature::SigningKey;

use crate::bridge::{Bridge, PROGRAM};
use crate::stage::Stage;
use crate::wait_until;

/// Time-out of an answer of the admin listener.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Minimum number of deliveries that count as traffic. A smaller number could come from the test itself.
const TRAFFIC: f64 = 50.0;

/// A bridge behind nginx.
pub(crate) struct Replica {
    bridge: Bridge,
    /// A stage of its own, so that the senders' stage records no outage in which a connection may break.
    stage: Arc<Stage>,
    shutdown_delay: Duration,
}

impl Replica {
    /// Starts a replica of `program`, which can be another version.
    pub(crate) fn start(
        program: &Path,
        bootstrap: &str,
        prefix: &str,
        confirm_timeout: Duration,
        shutdown_delay: Duration,
        secret: &str,
    ) -> Self {
        let stage = Arc::new(Stage::new(SigningKey::new(secret).expect("not empty")));
        let bridge = Bridge::start(
            program,
            bootstrap,
            prefix,
            confirm_timeout,
            shutdown_delay,
            &[secret],
            Arc::clone(&stage),
        );
        let replica = Self { bridge, stage, shutdown_delay };
        replica.wait_until_ready();
        replica
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.bridge.address()
    }

    /// Stops the replica (SIGTERM) and waits for its end. During its `shutdown_delay` the replica has to answer that it is not
    /// ready, and still has to confirm deliveries.
    pub(crate) fn drain(&mut self) {
        self.bridge.send_sigterm();
        if !self.shutdown_delay.is_zero() {
            wait_until("it is not ready any more", || {
                ask(self.bridge.admin(), "/readyz").is_some_and(|(status, _)| status == 503)
            });
            let before = self.confirmed();
            wait_until("it confirms deliveries still", || self.confirmed() > before);
        }
        self.bridge.wait_for_end();
    }

    pub(crate) fn kill(&mut self) {
        self.bridge.kill();
    }

    /// Starts the replica again, with the program of this build.
    pub(crate) fn start_again(&mut self) {
        self.bridge.use_program(Path::new(PROGRAM));
        self.bridge.start_again();
        self.wait_until_ready();
    }

    /// Ends the replica. Returns the findings about this end and all earlier ones.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.bridge.stop();
        self.stage.seen().wrong.examples.clone()
    }

    /// Returns the running version, by the metrics of the replica.
    pub(crate) fn version(&self) -> String {
        let (_, metrics) = ask(self.bridge.admin(), "/metrics").expect("it is running");
        let version = metrics.lines().find_map(|line| {
            line.strip_prefix("nexudus_bridge_build_info{")?.split_once("version=\"")?.1.split('"').next()
        });
        version.expect("build_info has the version").to_owned()
    }

    pub(crate) fn peak_mib(&self) -> Option<f64> {
        self.bridge.peak_mib()
    }

    /// Returns the number of deliveries that the present process has confirmed, by its metrics.
    pub(crate) fn confirmed(&self) -> f64 {
        let (_, metrics) = ask(self.bridge.admin(), "/metrics").expect("it is running");
        let of_confirmed = metrics.lines().filter(|line| {
            line.starts_with("nexudus_bridge_deliveries_total{") && line.contains("outcome=\"confirmed\"")
        });
        of_confirmed.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub(crate) fn wait_for_traffic(&self) {
        wait_until("a replica has traffic", || self.confirmed() > TRAFFIC);
    }

    fn wait_until_ready(&self) {
        wait_until("a replica is ready", || {
            ask(self.bridge.admin(), "/readyz").is_some_and(|(status, _)| status == 200)
        });
    }
}

/// Returns status and body of an answer of the admin listener; `None` without an answer.
fn ask(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
