//! The contestants: processes of their own, what they use of the machine, and their end.
//!
//! A [`Contestant`] is killed by its id when it is dropped, also while a panic unwinds. The floor ends by itself when
//! the bench is gone, too.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::floor::Messages;
use crate::kafka::free_port;

/// How long a contestant may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The wait between two looks at its readiness.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The unit of times in `/proc`, the same on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A running contestant.
pub(crate) struct Contestant {
    child: Child,
    address: SocketAddr,
    /// Its configuration and log.
    _directory: Option<TempDir>,
}

impl Contestant {
    /// This program as a floor.
    pub(crate) fn floor(bootstrap: &str, topic: &str, messages: Messages) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let value = messages.to_possible_value().expect("no kind is hidden");
        command
            .args(["--floor", topic, "--bootstrap", bootstrap, "--messages", value.get_name()])
            .env_clear();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the floor cannot be started")?;
        let mut floor = Self { child, address: loopback(0), _directory: None };
        let mut line = String::new();
        BufReader::new(floor.child.stdout.take().expect("it is a pipe")).read_line(&mut line)?;
        floor.address = line.trim().parse().context("the floor did not say where it listens")?;
        Ok(floor)
    }

    /// The bridge, once it is ready.
    pub(crate) async fn bridge(
        program: &Path,
        bootstrap: &str,
        prefix: &str,
        secret: &str,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let [ingress, admin] = [free_port(), free_port()].map(loopback);
        let settings = format!(
            "[ingress]\nlisten = \"{ingress}\"\n[admin]\nlisten = \"{admin}\"\n\
             [kafka]\nbootstrap_servers = \"{bootstrap}\"\n[topics]\nprefix = \"{prefix}\"\ncreate = false\n\
             [sources.default]\nsecrets = [\"{secret}\"]\n"
        );
        let file = directory.path().join("nexudus-bridge.toml");
        fs::write(&file, settings)?;
        let log = directory.path().join("log");
        let mut command = Command::new(program);
        // Without an environment, so that no setting comes from there.
        command.arg("serve").arg("--config").arg(&file).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().context("the bridge cannot be started")?;
        let mut bridge = Self { child, address: ingress, _directory: Some(directory) };
        bridge.wait_until_ready(admin, &log).await?;
        Ok(bridge)
    }

    /// Where it takes deliveries.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time that it has used so far, in its own code and in the system's.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        const USER_AND_SYSTEM: std::ops::Range<usize> = 11..13; // proc(5), counted from behind the program's name
        let stat = self.look("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("no program name in /proc")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let times = fields.get(USER_AND_SYSTEM).context("no processor times in /proc")?;
        let ticks = times.iter().map(|ticks| ticks.parse::<u64>()).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.look("status")?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    fn look(&self, what: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{what}", self.child.id());
        fs::read_to_string(&path).with_context(|| path)
    }

    async fn wait_until_ready(&mut self, admin: SocketAddr, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !is_ready(admin).await.unwrap_or(false) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                bail!("the bridge is not ready ({ended:?}), its log:\n{}", fs::read_to_string(log)?);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn is_ready(admin: SocketAddr) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}
