//! The real nginx with the file that users take (`deploy/nginx/nexudus-bridge.conf`), as a process of the test's own.
//!
//! Only addresses and the folder of the logs are replaced in it; around it is what every nginx.conf has. `tests/run` fetches
//! the program.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::kafka::guard::{Guard, SCRIPT};
use crate::kafka::{free_port, pause};

const OURS: &str = include_str!("../../deploy/nginx/nexudus-bridge.conf");

/// How long it may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One process, so that killing it is the end of it; the folders for temporary files are the system's otherwise.
const AROUND: &str = "daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events { worker_connections 512; }
http {
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    include ours.conf;
}
";

/// A running nginx. Dropping it ends it and removes its folder.
pub(crate) struct Nginx {
    address: SocketAddr,
    folder: PathBuf,
    _guard: Guard,
}

impl Nginx {
    /// Starts it before two bridges, and waits until it listens.
    pub(crate) fn start(bridges: [SocketAddr; 2]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        // The guard removes it.
        let folder = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a folder").keep();
        prepare(&folder, &ours(&folder, address, bridges));
        let tested = nginx(&folder, &["-t"]);
        let said = String::from_utf8_lossy(&tested.stderr);
        assert!(tested.status.success() && !said.contains("[warn]"), "nginx says: {said}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("guard").arg(&folder);
        command.arg("nginx").args(arguments(&folder));
        let guard = Guard::start(command).unwrap_or_else(|reason| panic!("{reason}"));
        let deadline = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "nginx does not listen: {}", log());
            pause(LOOK_EVERY);
        }
        Self { address, folder, _guard: guard }
    }

    /// Where senders connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have gone to a second replica, since the first one did not answer or answered 503.
    pub(crate) fn passed_on(&self) -> usize {
        let log = fs::read_to_string(self.folder.join("nexudus-bridge.log")).expect("nginx writes it");
        let upstreams = log.lines().filter_map(|line| line.split_once(" upstream "));
        upstreams.filter(|(_, upstreams)| upstreams.contains(", ")).count()
    }
}

/// The users' file with the test's addresses.
fn ours(folder: &Path, address: SocketAddr, bridges: [SocketAddr; 2]) -> String {
    let logs = format!("{}/", folder.display());
    let mut text = OURS.to_owned();
    for (theirs, here, times) in [
        ("server 10.0.0.11:8080 ", format!("server {} ", bridges[0]), 1),
        ("server 10.0.0.12:8080 ", format!("server {} ", bridges[1]), 1),
        ("listen 80;", format!("listen {address};"), 1),
        (" /var/log/nginx/", format!(" {logs}"), 2),
    ] {
        assert_eq!(text.matches(theirs).count(), times, "{theirs:?} in deploy/nginx/nexudus-bridge.conf");
        text = text.replace(theirs, &here);
    }
    text
}

/// Writes a whole configuration.
fn prepare(folder: &Path, ours: &str) {
    fs::create_dir_all(folder.join("temp")).expect("our own folder");
    fs::write(folder.join("nginx.conf"), AROUND).expect("our own folder");
    fs::write(folder.join("ours.conf"), ours).expect("our own folder");
}

fn arguments(folder: &Path) -> [&std::ffi::OsStr; 6] {
    [
        "-p".as_ref(),
        folder.as_os_str(),
        "-c".as_ref(),
        "nginx.conf".as_ref(),
        "-e".as_ref(),
        "error.log".as_ref(),
    ]
}

/// Runs nginx to its end.
fn nginx(folder: &Path, more: &[&str]) -> Output {
    let output = Command::new("nginx").args(arguments(folder)).args(more).output();
    output.unwrap_or_else(|error| {
        panic!("nginx cannot be run ({error}); tests/run fetches it, or install it and put it into PATH")
    })
}

/// The lines for TLS, which are comments in the file, are right as well.
#[test]
fn the_lines_for_tls_are_accepted_by_nginx() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let server = crate::kafka::Authority::new("replicas").server();
    fs::write(path.join("bridge.crt"), server.certificate).expect("our own folder");
    fs::write(path.join("bridge.key"), server.key).expect("our own folder");
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let here = format!("listen 127.0.0.1:{} ssl;", free_port()); // -t opens it
    let text = ours(path, nowhere, [nowhere; 2]);
    let tls = text.replace(&format!("listen {nowhere};"), "").replace("#listen 443 ssl;", &here);
    let tls = tls.replace("#ssl_", "ssl_").replace("/etc/nginx/tls", &path.display().to_string());
    for line in [here.as_str(), "ssl_certificate ", "ssl_certificate_key ", "ssl_protocols "] {
        assert_eq!(tls.matches(&format!("\n    {line}")).count(), 1, "{line:?} in {tls}");
    }
    prepare(path, &tls);
    let tested = nginx(path, &["-t"]);
    let said = String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success() && !said.contains("[warn]"), "nginx says: {said}");
}
