//! The log: its JSON form as documented in `docs/observability.md`, and the number of its lines, which no flood increases much.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::bridge::{MAX_WAIT, SECRET, http_client, sign};
use crate::support::program::Running;
use crate::support::say;
use crate::support::wire::Wire;

/// Maximum number of lines that a flood may cause. Each kind of line is logged once in ten seconds.
const TENS: usize = 60;

/// Returns the fields of log lines that `docs/observability.md` documents.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/observability.md");
    let table = page.split("| field | meaning |").nth(1).expect("the table of fields");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    names.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Returns a line of the log as one object, and asserts that all its fields are documented.
#[track_caller]
fn object(line: &str) -> Map<String, Value> {
    let object: Map<String, Value> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let documented = documented();
    for field in object.keys() {
        assert!(documented.contains(field), "docs/observability.md has no {field}: {line}");
        assert_eq!(line.matches(&format!("{field:?}:")).count(), 1, "{field} occurs twice: {line}");
    }
    for always in ["timestamp", "level", "target", "message"] {
        assert!(object[always].is_string(), "{always}: {line}");
    }
    object
}

/// The program on an embedded broker.
struct Bridge {
    program: Running,
    ingress: String,
    file: PathBuf,
    folder: tempfile::TempDir,
    seen: Vec<String>,
}

impl Bridge {
    fn start(broker: &EmbeddedBroker, confirm_timeout: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "[ingress]\nlisten = \"127.0.0.1:0\"\nshutdown_grace = \"5s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [kafka]\nbootstrap_servers = {:?}\nconfirm_timeout = {confirm_timeout:?}\n[topics]\ncreate = false\n[log]\nformat = \"json\"\n\
             [sources.default]\nsecrets = [{SECRET:?}]\n{more}",
            broker.bootstrap_servers(),
        );
        std::fs::write(&file, text).expect("written");
        let program = Running::serve(&file);
        let seen = program.lines_until("the bridge is listening");
        let line = object(seen.last().expect("the line"));
        let ingress = line["ingress"].as_str().expect("an address").to_owned();
        let mut bridge = Self { program, ingress, file, folder, seen };
        bridge.wait_for("are missing on the cluster"); // the cluster has answered
        bridge
    }

    /// Waits for a line, and keeps it with the lines before it.
    fn wait_for(&mut self, text: &str) {
        self.seen.extend(self.program.lines_until(text));
    }

    /// Posts a body, and returns the status.
    async fn post(&self, http: &reqwest::Client, path: &str, signature: &str, body: &str) -> u16 {
        let url = format!("http://{}/webhooks/{path}", self.ingress);
        let request = http.post(url).header("X-Nexudus-Hook-Signature", signature).body(body.to_owned());
        request.send().await.expect("an answer").status().as_u16()
    }

    /// Stops the program, and returns all its lines.
    fn stop(mut self) -> Vec<String> {
        self.program.signal("TERM");
        let (_, rest) = self.program.ended(MAX_WAIT);
        self.seen.extend(rest.lines().map(str::to_owned));
        drop(self.folder);
        self.seen
    }
}

fn broker() -> EmbeddedBroker {
    let topics = ["BookingCreate", "quarantine"].map(|action| (format!("nexudus.{action}"), 3)).into();
    EmbeddedBroker::start(None, topics).expect("an embedded broker starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_json_log_is_one_object_with_the_documented_fields() {
    let broker = broker();
    let mut bridge = Bridge::start(&broker, "10s", "[sources.open]\nsignature = \"off\"\n");
    let http = http_client();
    assert_eq!(bridge.post(&http, "BookingCreate", &sign(b"no json"), "no json").await, 200);
    bridge.wait_for("kept on the quarantine topic");
    assert_eq!(bridge.post(&http, "BookingCreate", &sign(b"other"), "[]").await, 401);
    bridge.wait_for("\"outcome\":\"invalid_signature\"");
    assert_eq!(bridge.post(&http, "\u{1b}[31m\"\n", "00", "[]").await, 404);
    bridge.wait_for("\"outcome\":\"unknown_action\"");
    let right = std::fs::read_to_string(&bridge.file).expect("readable");
    for (text, expected) in [
        (format!("{right}[surces]\nx = 1\n"), "not reloaded"),
        (right.replace("\"5s\"", "\"6s\""), "sources and secrets were taken over"),
    ] {
        std::fs::write(&bridge.file, text).expect("written");
        bridge.program.signal("HUP");
        bridge.wait_for(expected);
    }
    drop(broker);
    bridge.wait_for("kafka client: ");
    assert_eq!(bridge.post(&http, "BookingCreate", &sign(b"[{}]"), "[{}]").await, 503);
    bridge.wait_for("\"outcome\":\"broker\"");
    let lines: Vec<Map<String, Value>> = bridge.stop().iter().map(|line| object(line)).collect();

    let with = |field: &str, value: &str| {
        lines.iter().find(|line| line.get(field).is_some_and(|found| found == value)).expect(value)
    };
    let quarantined = with("reason", "not_json");
    assert_eq!(quarantined["topic"], "nexudus.quarantine");
    assert_eq!(
        (&quarantined["source"], &quarantined["action"]),
        (&"default".into(), &"BookingCreate".into())
    );
    assert!(quarantined["partition"].is_i64() && quarantined["offset"].is_i64(), "{quarantined:?}");
    let refused = with("outcome", "broker");
    assert_eq!((&refused["level"], &refused["left_out"]), (&"WARN".into(), &0.into()), "{refused:?}");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("no Kafka broker")), "{refused:?}");
    assert!(with("message", "not reloaded")["error"].as_str().is_some_and(|text| text.contains("surces")));
    assert_eq!(
        with("message", "only a restart changes these settings")["settings"],
        "ingress.shutdown_grace"
    );
}

#[test]
fn every_field_that_the_code_writes_is_documented() {
    let documented = documented();
    let mut fields = 0;
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).expect("readable");
        for call in text.split("tracing::").skip(1) {
            let levels = ["error!(", "warn!(", "info!(", "debug!("];
            let Some(arguments) = levels.iter().find_map(|level| call.strip_prefix(level)) else { continue };
            // Fields are before the message. Text in quotes or brackets belongs to a value.
            let before = arguments.split(['"']).next().expect("a part");
            for argument in before.split(',').map(str::trim).filter(|argument| !argument.is_empty()) {
                let name = argument.split('=').next().expect("a part").trim().trim_start_matches(['%', '?']);
                if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                    assert!(
                        documented.contains(name),
                        "{}: docs/observability.md does not know {name}",
                        path.display()
                    );
                    fields += 1;
                }
            }
        }
    }
    assert!(fields > 40, "found {fields} fields");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_under_load_writes_tens_of_lines() {
    let broker = broker();
    let mut bridge = Bridge::start(&broker, "500ms", "");
    drop(broker);
    bridge.wait_for("kafka client: ");
    let begun = Instant::now();
    // Long enough for the lines with the number of suppressed lines, which are logged after ten seconds.
    let enough = move |answered| answered > 1000 && begun.elapsed() > Duration::from_secs(12);
    let refused = flood(&bridge, 200, enough, "BookingCreate", sign(b"[{}]"), "[{}]", 503).await;
    let lines = bridge.stop();
    say(&format!(
        "{refused} deliveries refused in an outage of {:?}: {} lines",
        begun.elapsed(),
        lines.len()
    ));
    assert!(lines.len() <= TENS, "{} lines:\n{}", lines.len(), lines.join("\n"));
    let left_out = lines.iter().filter_map(|line| object(line).get("left_out")?.as_u64()).sum::<u64>();
    assert!(left_out > 0, "no line was suppressed");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_quarantined_deliveries_and_wrong_signatures_write_tens_of_lines() {
    let broker = broker();
    let bridge = Bridge::start(&broker, "10s", "");
    let enough = |answered| answered >= 2000;
    let kept = flood(&bridge, 16, enough, "BookingCreate", sign(b"no json"), "no json", 200).await;
    let wrong = flood(&bridge, 16, enough, "BookingCreate", sign(b"other"), "[{}]", 401).await;
    let scanned = scan(&bridge.ingress, 200).await;
    let lines = bridge.stop();
    say(&format!(
        "{kept} quarantined, {wrong} with a wrong signature, {scanned} connections of a scanner: {} lines",
        lines.len()
    ));
    assert!(lines.len() <= TENS, "{} lines:\n{}", lines.len(), lines.join("\n"));
}

/// Posts the same delivery until `enough` is true for the number of answers. Returns that number; all have this status.
async fn flood(
    bridge: &Bridge,
    senders: usize,
    enough: impl Fn(usize) -> bool + Copy + Send + 'static,
    path: &str,
    signature: String,
    body: &'static str,
    expected: u16,
) -> usize {
    let http = http_client();
    let answered = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..senders)
        .map(|_| {
            let url = format!("http://{}/webhooks/{path}", bridge.ingress);
            let (http, answered, signature) = (http.clone(), Arc::clone(&answered), signature.clone());
            tokio::spawn(async move {
                while !enough(answered.load(Ordering::Relaxed)) {
                    let request = http.post(&url).header("X-Nexudus-Hook-Signature", &signature).body(body);
                    let status = request.send().await.expect("an answer").status();
                    assert_eq!(status, expected);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.expect("a sender ends");
    }
    answered.load(Ordering::Relaxed)
}

/// Connects, and sends invalid HTTP or heads without end. Returns the number of connections.
async fn scan(ingress: &str, connections: usize) -> usize {
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 300 * 1024]].concat();
    for number in 0..connections {
        let mut wire: Wire<TcpStream> =
            Wire::connect(ingress.parse().expect("an address")).await.expect("connected");
        let bytes: &[u8] = if number % 2 == 0 { &endless } else { b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" };
        wire.send(bytes).await.ok(); // the bridge may close the connection before the end
        wire.reply().await.ok();
    }
    connections
}
