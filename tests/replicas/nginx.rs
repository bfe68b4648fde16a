//! The real nginx with the users' configuration (`deploy/nginx/nexudus-bridge.conf`), as a process of the test's own.
//!
//! The test replaces only addresses and the folder of the logs in this file, and adds the usual parts of an nginx.conf.
//! `tests/run` fetches the program.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nexudus_bridge::outgoing::use_ring;

use crate::kafka::guard::{Guard, SCRIPT};
use crate::kafka::{Authority, free_port, pause};

const OURS: &str = include_str!("../../deploy/nginx/nexudus-bridge.conf");

/// Time-out of the start.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The usual parts: one process, so that killing it ends nginx, and folders of the test for temporary files.
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
    https: SocketAddr,
    authority: Authority,
    folder: PathBuf,
    _guard: Guard,
}

impl Nginx {
    /// Starts nginx in front of two bridges, and waits until it listens. Beside the HTTPS of the file it listens for plain HTTP,
    /// which the senders use.
    pub(crate) fn start(bridges: [SocketAddr; 2]) -> Self {
        let [address, https] = [free_port(), free_port()].map(|port| (Ipv4Addr::LOCALHOST, port).into());
        let authority = Authority::new("replicas");
        // The guard removes the folder.
        let folder = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a folder").keep();
        prepare(&folder, &ours(&folder, address, https, bridges), &authority);
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
        Self { address, https, authority, folder, _guard: guard }
    }

    /// Returns the address for senders.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of requests that nginx passed on to a second replica, since the first did not answer or answered 503.
    pub(crate) fn passed_on(&self) -> usize {
        let log = fs::read_to_string(self.folder.join("nexudus-bridge.log")).expect("nginx writes it");
        let upstreams = log.lines().filter_map(|line| line.split_once(" upstream "));
        upstreams.filter(|(_, upstreams)| upstreams.contains(", ")).count()
    }
}

/// Returns the users' file with the addresses of the test.
fn ours(folder: &Path, address: SocketAddr, https: SocketAddr, bridges: [SocketAddr; 2]) -> String {
    let logs = format!("{}/", folder.display());
    let mut text = OURS.to_owned();
    for (theirs, here, times) in [
        ("server 10.0.0.11:8080 ", format!("server {} ", bridges[0]), 1),
        ("server 10.0.0.12:8080 ", format!("server {} ", bridges[1]), 1),
        ("\n    listen 443 ssl;", format!("\n    listen {https} ssl;\n    listen {address};"), 1),
        (" /etc/nginx/tls/", format!(" {logs}"), 2),
        (" /var/log/nginx/", format!(" {logs}"), 2),
    ] {
        assert_eq!(text.matches(theirs).count(), times, "{theirs:?} in deploy/nginx/nexudus-bridge.conf");
        text = text.replace(theirs, &here);
    }
    text
}

/// Writes a whole configuration and a certificate for `localhost`.
fn prepare(folder: &Path, ours: &str, authority: &Authority) {
    let server = authority.server();
    fs::write(folder.join("bridge.crt"), server.certificate).expect("our own folder");
    fs::write(folder.join("bridge.key"), server.key).expect("our own folder");
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

/// Runs nginx to its end with these arguments.
fn nginx(folder: &Path, more: &[&str]) -> Output {
    let output = Command::new("nginx").args(arguments(folder)).args(more).output();
    output.unwrap_or_else(|error| {
        panic!("nginx cannot be run ({error}); tests/run fetches it, or install it and put it into PATH")
    })
}

/// The file serves HTTPS with changed addresses and paths only, in TLS 1.2 and 1.3 and no older version.
#[tokio::test]
async fn nginx_terminates_tls() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let nginx = Nginx::start([nowhere; 2]);
    use_ring();
    let authority = reqwest::Certificate::from_pem(nginx.authority.pem.as_bytes()).expect("PEM");
    let url = |path: &str| format!("https://localhost:{}{path}", nginx.https.port());
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().expect("a client");
    let elsewhere = client.get(url("/")).send().await.expect("answered over TLS");
    assert_eq!(elsewhere.status(), 404);
    // No bridge runs, so a request that is passed on fails: nginx passes on the path of deliveries only.
    let delivery = client.post(url("/webhooks/BookingCreate")).body("{}").send().await.expect("answered");
    assert_eq!(delivery.status(), 502);
    let plain =
        OURS.lines().map(str::trim).filter(|line| line.starts_with("listen ") && !line.contains("ssl"));
    assert_eq!(plain.count(), 0, "the file listens for plain HTTP");
}
