//! The bridge as users run it: the program, a file, signals. A test can kill it and start it again on the same ports.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::kafka::{free_port, pause};
use crate::log::Log;
use crate::stage::Stage;

/// The program of this build.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nexudus-bridge");

/// Time-out of the start; long, for a debug build on a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// Time-out of the end after SIGTERM: the grace period, and the time that the manual adds to it.
const ENDS_WITHIN: Duration = Duration::from_secs(25);

/// Time-out of a reload after SIGHUP.
const RELOADS_WITHIN: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(10);

const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// A bridge, running or stopped. Dropping it kills it.
pub(crate) struct Bridge {
    program: PathBuf,
    child: Option<Child>,
    ingress: SocketAddr,
    admin: SocketAddr,
    settings: String,
    directory: TempDir,
    stage: Arc<Stage>,
    memory: Arc<Memory>,
    log: Log,
}

/// The maximum of the resident memory over all processes of the bridge.
#[derive(Default)]
struct Memory {
    /// The id of the process; 0 while there is none.
    process: AtomicU32,
    peak_kib: AtomicU64,
}

impl Bridge {
    /// Starts a bridge of `program` with these secrets and waits until it listens. After SIGTERM it still accepts deliveries for
    /// `shutdown_delay`.
    pub(crate) fn start(
        program: &Path,
        bootstrap: &str,
        prefix: &str,
        confirm_timeout: Duration,
        shutdown_delay: Duration,
        secrets: &[&str],
        stage: Arc<Stage>,
    ) -> Self {
        let [ingress, admin] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let settings = format!(
            "[ingress]\nlisten = \"{ingress}\"\nshutdown_delay = \"{}ms\"\nshutdown_grace = \"10s\"\n\
             [admin]\nlisten = \"{admin}\"\n\
             [kafka]\nbootstrap_servers = \"{bootstrap}\"\nconfirm_timeout = \"{}ms\"\n\
             [topics]\nprefix = \"{prefix}\"\ncreate = false\n\
             [log]\nlevel = \"info,nexudus_bridge=debug\"\n",
            shutdown_delay.as_millis(),
            confirm_timeout.as_millis()
        );
        let directory = tempfile::Builder::new().prefix("chaos-").tempdir().expect("a temporary directory");
        let memory = Arc::new(Memory::default());
        let watched = Arc::downgrade(&memory);
        std::thread::spawn(move || {
            while let Some(memory) = watched.upgrade() {
                memory.look();
                drop(memory);
                pause(MEMORY_EVERY);
            }
        });
        let mut bridge = Self {
            program: program.to_owned(),
            child: None,
            ingress,
            admin,
            settings,
            directory,
            stage,
            memory,
            log: Log::default(),
        };
        bridge.configure(secrets);
        bridge.launch();
        bridge
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.ingress
    }

    /// Returns the address for metrics and readiness.
    #[allow(dead_code, reason = "the test of replicas asks for them")]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Writes the configuration with these secrets for the next start.
    fn configure(&self, secrets: &[&str]) {
        let settings = format!("{}[sources.default]\nsecrets = {secrets:?}\n", self.settings);
        fs::write(self.directory.path().join("nexudus-bridge.toml"), settings).expect("our own directory");
    }

    /// Makes the running bridge accept these secrets and no others (SIGHUP), and waits for the reload. No delivery may be refused
    /// meanwhile.
    pub(crate) fn use_secrets(&self, secrets: &[&str]) {
        let before = self.log.reloads();
        self.configure(secrets);
        self.signal("HUP");
        let deadline = Instant::now() + RELOADS_WITHIN;
        while self.log.reloads() == before {
            assert!(Instant::now() < deadline, "the secrets are not taken over: {}", self.log.last_lines());
            pause(LOOK_EVERY);
        }
    }

    fn signal(&self, name: &str) {
        let process = self.memory.process.load(Ordering::Relaxed).to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status();
        assert!(process != "0" && sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent");
    }

    /// Sets the program of the next start.
    #[allow(dead_code, reason = "the test of replicas rolls from another version")]
    pub(crate) fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    fn launch(&mut self) {
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.directory.path().join("nexudus-bridge.toml"))
            .env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log.open());
        let mut child = command.spawn().expect("the program can be run");
        self.memory.process.store(child.id(), Ordering::Relaxed);
        let deadline = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(self.ingress).is_err() {
            let ended = child.try_wait().expect("it is ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the bridge does not start: {}",
                self.log.last_lines()
            );
            pause(LOOK_EVERY);
        }
        self.child = Some(child);
        self.stage.bridge_is_back();
    }

    /// Kills the bridge (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.stage.outage_begins();
        self.kill_quietly();
    }

    fn kill_quietly(&mut self) {
        self.memory.look();
        self.memory.process.store(0, Ordering::Relaxed);
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    /// Starts the bridge again on the same ports.
    pub(crate) fn start_again(&mut self) {
        self.launch();
    }

    /// Stops the bridge (SIGTERM) and waits for its end. Any other exit status than 0 is a finding.
    pub(crate) fn stop(&mut self) {
        self.send_sigterm();
        self.wait_for_end();
    }

    /// Sends SIGTERM.
    pub(crate) fn send_sigterm(&self) {
        self.stage.outage_begins();
        self.memory.look();
        if self.child.is_some() {
            self.signal("TERM");
        }
    }

    /// Waits for the end of a bridge after SIGTERM. Any other exit status than 0 is a finding.
    pub(crate) fn wait_for_end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let deadline = Instant::now() + ENDS_WITHIN;
        let ended = loop {
            match child.try_wait().expect("it is ours") {
                Some(status) => break status.to_string(),
                None if Instant::now() > deadline => {
                    child.kill().expect("it is ours");
                    child.wait().expect("it is ours");
                    break format!("no end within {ENDS_WITHIN:?}");
                }
                None => pause(LOOK_EVERY),
            }
        };
        self.memory.process.store(0, Ordering::Relaxed);
        if ended != "exit status: 0" {
            self.stage.seen().wrong.add(|| format!("after SIGTERM, the bridge ended with {ended}"));
        }
    }

    /// Stops the bridge (SIGTERM) and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Returns the maximum of the resident memory in MiB; `None` where the system does not report it.
    pub(crate) fn peak_mib(&self) -> Option<f64> {
        let kib = self.memory.peak_kib.load(Ordering::Relaxed);
        (kib > 0).then_some(kib as f64 / 1024.0)
    }

    /// Returns the reader of the bridge's log.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.kill_quietly();
    }
}

impl Memory {
    fn look(&self) {
        let process = self.process.load(Ordering::Relaxed);
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        self.peak_kib.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
    }
}
