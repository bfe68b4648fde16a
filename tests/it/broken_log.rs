//! The log is not part of the data path. While standard error fails or blocks, deliveries are confirmed, readiness is right,
//! and the program stops in order.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use rustix::pipe::fcntl_setpipe_size;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::support::bridge::{MAX_WAIT, SECRET, http_client, sign};
use crate::support::kafka::{free_port, pause};
use crate::support::program::{PROGRAM, isolated, program};

/// Maximum wait for a state. Many programs run at the same time, on a machine that may be shared.
const WITHIN: Duration = Duration::from_secs(4 * MAX_WAIT.as_secs());

/// The smallest size of a pipe on Linux, which a few lines fill.
const PIPE_BYTES: usize = 4096;

/// A standard error that fails or blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// A device without space.
    FullDevice,
    /// A file that cannot grow any more. The last line fits in part.
    FullFile,
    /// A pipe whose reader has closed it.
    ClosedPipe,
    /// A pipe whose reader does not read.
    UnreadPipe,
}

/// The moment at which standard error breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Start,
    Load,
    KafkaRestart,
    Stop,
}

const ALL_MOMENTS: [Moment; 4] = [Moment::Start, Moment::Load, Moment::KafkaRestart, Moment::Stop];

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_device_delays_nothing() {
    play(Sink::FullDevice, &[Moment::Start]).await; // a device cannot break after the start
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_that_cannot_grow_delays_nothing() {
    play(Sink::FullFile, &ALL_MOMENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_into_a_closed_pipe_delays_nothing() {
    play(Sink::ClosedPipe, &ALL_MOMENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_into_an_unread_pipe_delays_nothing() {
    play(Sink::UnreadPipe, &ALL_MOMENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_terminal_is_no_failure() {
    for format in ["text", "json"] {
        let terminal =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a new terminal");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("text");
        const NO_CONTROLLING_TERMINAL: i32 = 0o400; // O_NOCTTY
        let mut options = OpenOptions::new();
        let other_end = options.read(true).write(true).custom_flags(NO_CONTROLLING_TERMINAL).open(name);
        let mut bridge = Bridge::start(format, program(), other_end.expect("it opens").into());
        bridge.wait_for_ready(200).await;
        drop(terminal);
        bridge.signal("HUP"); // as the kernel does when the terminal closes
        bridge.wait_for("nexudus_bridge_log_lines_dropped_total{reason=\"write_failed\"}").await;
        assert_eq!(bridge.post(true).await, 200);
        bridge.signal("TERM");
        assert_eq!(bridge.ended().await.code(), Some(0), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_ends_with_its_exit_code_although_standard_error_is_unread() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for (setting, value, code) in
        [("NEXUDUS_BRIDGE__INGRESS__LISTEN", address.as_str(), 1), ("NEXUDUS_BRIDGE__NONSENSE", "1", 2)]
    {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        fcntl_setpipe_size(&writer, PIPE_BYTES).expect("it can be that small");
        writer.write_all(&[b'x'; PIPE_BYTES]).expect("the pipe is empty");
        let mut command = program();
        command.arg("serve").env(setting, value).env("NEXUDUS_BRIDGE__ADMIN__LISTEN", "127.0.0.1:0");
        command.env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", "[\"s\"]");
        let child = command.stdout(Stdio::null()).stderr(writer).spawn().expect("the program can be run");
        assert_eq!(ended(child).await.code(), Some(code), "{setting}");
        drop(reader);
    }
}

#[test]
fn commands_end_with_their_exit_code_if_standard_error_is_full() {
    let nothing_listens = format!("http://127.0.0.1:{}", free_port());
    let cases: [(&[&str], i32); 4] = [
        (&["health", "--url", &nothing_listens], 1),
        (&["config", "check", "--config", "/nowhere/at-all.toml"], 2),
        (&["send", "BookingCreate", "--url", &nothing_listens, "--secret-file", "/nowhere"], 2),
        (&["topics", "plan", "--config", "/nowhere/at-all.toml"], 2),
    ];
    for (arguments, code) in cases {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let ended = program().args(arguments).stdout(Stdio::null()).stderr(full).status();
        assert_eq!(ended.expect("the program can be run").code(), Some(code), "{arguments:?}");
    }
}

/// Runs all cases of a sink at the same time, each on its own thread.
async fn play(sink: Sink, moments: &[Moment]) {
    let cases = moments.iter().flat_map(|&moment| [(moment, "text"), (moment, "json")]);
    let running: Vec<_> = cases
        .map(|(moment, format)| {
            let runtime = Handle::current();
            let running = move || runtime.block_on(case(sink, moment, format));
            let name = format!("{sink:?} from {moment:?} on, {format}");
            std::thread::Builder::new().name(name).spawn(running).expect("a thread")
        })
        .collect();
    let failed = running.into_iter().filter_map(|case| {
        let name = case.thread().name().expect("named").to_owned();
        case.join().is_err().then_some(name)
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Runs a bridge whose standard error breaks at this moment.
async fn case(sink: Sink, broken_from: Moment, format: &'static str) {
    let mut stderr = Stderr::new(sink, broken_from);
    let (command, end) = stderr.command();
    let mut bridge = Bridge::start(format, command, end);
    bridge.wait_for_ready(200).await;
    let dropped = match sink {
        Sink::UnreadPipe => "nexudus_bridge_log_lines_dropped_total{reason=\"queue_full\"}",
        _ => "nexudus_bridge_log_lines_dropped_total{reason=\"write_failed\"}",
    };

    if broken_from == Moment::Load {
        stderr.break_now(&bridge);
    }
    let mut statuses = Vec::new();
    for number in 0..40 {
        statuses.push((number % 2 == 0, bridge.post(number % 2 == 0)));
    }
    for (signed, status) in statuses {
        assert_eq!(status.await, if signed { 200 } else { 401 });
    }

    if broken_from == Moment::KafkaRestart {
        stderr.break_now(&bridge);
    }
    drop(bridge.broker.take());
    bridge.wait_for_ready(503).await;
    bridge.broker = Some(broker(bridge.kafka_port));
    bridge.wait_for_ready(200).await;
    bridge.deliver_until_confirmed().await;
    if broken_from != Moment::Stop {
        bridge.log_until_dropped(dropped).await;
        assert_eq!(bridge.ready().await, 200);
    }

    if broken_from == Moment::Stop {
        stderr.break_now(&bridge);
    }
    let broker = bridge.broker.as_ref().expect("started again");
    broker.round_trip(Duration::from_secs(5));
    let in_flight = bridge.post(true);
    bridge.wait_for("nexudus_bridge_in_flight_deliveries").await;
    bridge.signal("TERM");
    broker.clear_faults(); // the delivery in flight keeps its delay
    assert_eq!(in_flight.await, 200);
    assert_eq!(bridge.ended().await.code(), Some(0));
}

/// The program's standard error, which the test controls.
struct Stderr {
    sink: Sink,
    is_broken: Arc<AtomicBool>,
    folder: TempDir,
    reader: Option<PipeReader>,
}

impl Stderr {
    fn new(sink: Sink, broken_from: Moment) -> Self {
        let is_broken = Arc::new(AtomicBool::new(broken_from == Moment::Start));
        Self { sink, is_broken, folder: tempfile::tempdir().expect("a folder"), reader: None }
    }

    /// Returns the command that runs the program, and its standard error.
    fn command(&mut self) -> (Command, Stdio) {
        let is_broken = self.is_broken.load(Ordering::SeqCst);
        match self.sink {
            Sink::FullDevice => {
                let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
                (program(), full.into())
            }
            Sink::FullFile => {
                let file = File::create(self.file()).expect("our own folder");
                if !is_broken {
                    return (program(), file.into());
                }
                let mut command = isolated("prlimit");
                command.arg("--fsize=1000").arg(PROGRAM);
                (command, file.into())
            }
            Sink::ClosedPipe | Sink::UnreadPipe => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                fcntl_setpipe_size(&writer, PIPE_BYTES).expect("it can be that small");
                match self.sink {
                    Sink::ClosedPipe if is_broken => drop(reader),
                    _ if is_broken => self.reader = Some(reader),
                    _ => self.read(reader),
                }
                (program(), writer.into())
            }
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    /// Reads until the pipe breaks. Then closes the pipe, or keeps it open without reading.
    fn read(&mut self, mut reader: PipeReader) {
        let is_broken = Arc::clone(&self.is_broken);
        if self.sink == Sink::UnreadPipe {
            self.reader = Some(reader.try_clone().expect("another one"));
        }
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while !is_broken.load(Ordering::SeqCst) && reader.read(&mut bytes).is_ok_and(|bytes| bytes > 0) {}
        });
    }

    fn break_now(&self, bridge: &Bridge) {
        self.is_broken.store(true, Ordering::SeqCst);
        if self.sink == Sink::FullFile {
            let bytes = self.file().metadata().expect("exists").len() + 50;
            let limited = Command::new("prlimit")
                .args(["--pid", &bridge.child.id().to_string(), &format!("--fsize={bytes}")])
                .status();
            assert!(limited.is_ok_and(|status| status.success()), "prlimit (util-linux) limits it");
        }
    }
}

/// The program on an embedded broker. The test chooses its ports, since the log that names them may be lost.
struct Bridge {
    child: Child,
    broker: Option<EmbeddedBroker>,
    kafka_port: u16,
    ingress: String,
    admin: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Bridge {
    fn start(format: &str, mut command: Command, stderr: Stdio) -> Self {
        let kafka_port = free_port();
        let broker = broker(kafka_port);
        let [ingress, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        write_configuration(&file, format, &ingress, &admin, broker.bootstrap_servers());
        command.args(["serve", "--config"]).arg(file).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().expect("the program can be run");
        Self { child, broker: Some(broker), kafka_port, ingress, admin, http: http_client(), _folder: folder }
    }

    /// Posts a delivery, signed or not, and returns the status.
    fn post(&self, signed: bool) -> impl Future<Output = u16> + Send + use<> {
        let signature = if signed { sign(b"[{}]") } else { "00".repeat(32) };
        let request = self.http.post(format!("http://{}/webhooks/BookingCreate", self.ingress));
        let request = request.header("X-Nexudus-Hook-Signature", signature).body("[{}]");
        let answer = tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() });
        async { answer.await.expect("it is answered") }
    }

    async fn deliver_until_confirmed(&self) {
        let begun = Instant::now();
        while self.post(true).await != 200 {
            assert!(begun.elapsed() < WITHIN, "nothing is confirmed after Kafka's restart");
        }
    }

    /// Causes log lines until this counter has increased.
    async fn log_until_dropped(&self, counter: &str) {
        let begun = Instant::now();
        while self.value(counter).await == 0.0 {
            assert!(begun.elapsed() < WITHIN, "{counter} does not move");
            for status in [(); 100].map(|()| self.post(true)) {
                assert_eq!(status.await, 200);
            }
        }
    }

    /// Returns the status of `/readyz`; 0 while nothing listens.
    async fn ready(&self) -> u16 {
        let answer = self.http.get(format!("http://{}/readyz", self.admin)).send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }

    async fn wait_for_ready(&mut self, status: u16) {
        let begun = Instant::now();
        while self.ready().await != status {
            let ended = self.child.try_wait().expect("a child process");
            assert!(ended.is_none(), "the program has ended: {ended:?}");
            assert!(begun.elapsed() < WITHIN, "/readyz does not answer {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn value(&self, series: &str) -> f64 {
        let answer = self.http.get(format!("http://{}/metrics", self.admin)).send().await.expect("an answer");
        let text = answer.text().await.expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until the metric is not zero.
    async fn wait_for(&self, series: &str) {
        let begun = Instant::now();
        while self.value(series).await == 0.0 {
            assert!(begun.elapsed() < WITHIN, "{series} stays at zero");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent");
    }

    async fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child).await
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended
        self.child.wait().ok();
    }
}

fn broker(port: u16) -> EmbeddedBroker {
    let topics = ["BookingCreate", "quarantine"].map(|action| (format!("nexudus.{action}"), 3));
    let topics: Vec<(String, i32)> = topics.into();
    let begun = Instant::now();
    loop {
        match EmbeddedBroker::start(Some(port), topics.clone()) {
            Ok(broker) => return broker,
            // The former broker's connections may end a moment later.
            Err(error) => assert!(begun.elapsed() < MAX_WAIT, "{error}"),
        }
        pause(Duration::from_millis(50));
    }
}

async fn ended(mut child: Child) -> ExitStatus {
    wait(&mut child).await
}

async fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child process") {
            return status;
        }
        if begun.elapsed() > WITHIN {
            child.kill().ok();
            panic!("the program does not end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn write_configuration(file: &Path, format: &str, ingress: &str, admin: &str, bootstrap: &str) {
    let text = format!(
        "[ingress]\nlisten = {ingress:?}\nshutdown_grace = \"60s\"\n[admin]\nlisten = {admin:?}\n\
         [kafka]\nbootstrap_servers = {bootstrap:?}\nconfirm_timeout = \"30s\"\n[topics]\ncreate = false\n\
         [log]\nformat = {format:?}\nlevel = \"info,nexudus_bridge=trace\"\n[sources.default]\nsecrets = [{SECRET:?}]\n"
    );
    std::fs::write(file, text).expect("our own folder");
}
