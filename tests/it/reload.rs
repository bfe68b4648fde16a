//! Reload: secrets are rotated and sources are added under load, and an invalid configuration changes nothing.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nexudus_bridge::signature::SigningKey;

use crate::support::bridge::{MAX_WAIT, http_client};
use crate::support::kafka::{plain, unique};
use crate::support::program::{Running, field, program};

/// A bridge whose one source reads its secrets from two files.
struct Rotated {
    folder: tempfile::TempDir,
    program: Running,
    ingress: String,
    admin: String,
    prefix: String,
}

impl Rotated {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), "")
    }

    /// Starts it with more settings, whose files are in the folder.
    fn start_in(folder: tempfile::TempDir, more: &str) -> Self {
        let prefix = format!("{}.", unique("it"));
        let rotated = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
        rotated("first", "old secret\n");
        rotated("second", "old secret\n");
        rotated("bridge.toml", &settings(folder.path(), &prefix, more));
        let program = Running::serve(&folder.path().join("bridge.toml"));
        let line = program.line_with("the bridge is listening");
        let (ingress, admin) = (field(&line, "ingress").to_owned(), field(&line, "admin").to_owned());
        program.line_with("topics were created");
        Self { folder, program, ingress, admin, prefix }
    }

    fn write(&self, file: &str, text: &str) {
        // A rename replaces the file in one step, as container platforms do.
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.folder.path().join(file)).expect("put in its place");
    }

    fn write_settings(&self, more: &str) {
        self.write("bridge.toml", &settings(self.folder.path(), &self.prefix, more));
    }

    /// Returns the status of a delivery, which is sent again while the broker does not have a new topic yet.
    async fn status(&self, path: &str, secret: &str, record: &str) -> u16 {
        let begun = std::time::Instant::now();
        loop {
            let status = post(&http_client(), &self.ingress, path, secret, record).await;
            if status != 503 || begun.elapsed() > MAX_WAIT {
                return status;
            }
        }
    }

    async fn reloads(&self, result: &str) -> u64 {
        let metrics =
            http_client().get(format!("http://{}/metrics", self.admin)).send().await.expect("answered");
        let text = metrics.text().await.expect("text");
        let series = format!("nexudus_bridge_reloads_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series)).expect("the series exists");
        value.parse().expect("a number")
    }
}

fn settings(folder: &Path, prefix: &str, more: &str) -> String {
    let file = |name| folder.join(name).display().to_string();
    format!(
        "[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[topics]\nprefix = {prefix:?}\n\
         [sources.default]\nsecret_files = [{:?}, {:?}]\n{more}\n[kafka]\nbootstrap_servers = {:?}\n",
        file("first"),
        file("second"),
        plain().bootstrap(),
    )
}

async fn post(http: &reqwest::Client, ingress: &str, path: &str, secret: &str, record: &str) -> u16 {
    let signature = SigningKey::new(secret).expect("not empty").sign(record.as_bytes());
    let request =
        http.post(format!("http://{ingress}/webhooks/{path}")).header("X-Nexudus-Hook-Signature", signature);
    request.body(record.to_owned()).send().await.expect("the bridge answers").status().as_u16()
}

/// While the files hold both secrets, both are valid. A sender that changes to the new secret during this time is never refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_secret_under_load_refuses_nothing() {
    let bridge = Rotated::start();
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":1}"#).await, 401);
    // After the first confirmation, the topic exists on all brokers.
    assert_eq!(bridge.status("BookingCreate", "old secret", r#"{"Id":3}"#).await, 200);
    let topic = format!("{}BookingCreate", bridge.prefix);
    let before = plain().client().read_to_end(&topic).len();
    let (renewed, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (numbers, turned) = (Arc::new(AtomicUsize::new(10)), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (http, ingress) = (http_client(), bridge.ingress.clone());
            let (renewed, ended, numbers) = (Arc::clone(&renewed), Arc::clone(&ended), Arc::clone(&numbers));
            let turned = Arc::clone(&turned);
            tokio::spawn(async move {
                let (mut sent, mut put_off, mut has_turned) = (0, 0, false);
                while !ended.load(Ordering::Acquire) && sent < 20_000 {
                    let turns = renewed.load(Ordering::Acquire);
                    let secret = if turns { "new secret" } else { "old secret" };
                    let record = format!(r#"{{"Id":{}}}"#, numbers.fetch_add(1, Ordering::Relaxed));
                    match post(&http, &ingress, "BookingCreate", secret, &record).await {
                        200 => sent += 1,
                        503 => put_off += 1, // because of Kafka, on a busy machine; the event may be on the topic
                        status => panic!("{status} for the {secret}"),
                    }
                    if turns && !has_turned {
                        has_turned = true;
                        turned.fetch_add(1, Ordering::Release);
                    }
                }
                (sent, put_off)
            })
        })
        .collect();
    // A changed file needs no signal: the bridge reads it every ten seconds.
    bridge.write("second", "new secret\n");
    bridge.program.line_with("sources and secrets were taken over");
    renewed.store(true, Ordering::Release);
    // When each sender has an answer to a delivery with the new secret, no delivery with the old one is in flight.
    let begun = std::time::Instant::now();
    while turned.load(Ordering::Acquire) < senders.len() {
        assert!(begun.elapsed() < MAX_WAIT, "the senders have stopped");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bridge.write("first", "new secret\n");
    bridge.program.signal("HUP");
    bridge.program.line_with("sources and secrets were taken over");
    assert_eq!(bridge.status("BookingCreate", "old secret", r#"{"Id":2}"#).await, 401);
    ended.store(true, Ordering::Release);
    let (mut sent, mut put_off) = (0, 0);
    for sender in senders {
        let counts = sender.await.expect("no delivery was refused");
        (sent, put_off) = (sent + counts.0, put_off + counts.1);
    }
    assert!(sent > 0, "{sent} confirmed, {put_off} put off");
    assert_eq!((bridge.reloads("ok").await, bridge.reloads("failed").await), (2, 0));
    let there = plain().client().consume_at_least(&topic, before + sent, MAX_WAIT).len();
    assert!(there <= before + sent + put_off, "{there} messages of {sent} confirmed and {put_off} put off");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_changes_nothing_and_its_mistakes_are_logged() {
    let bridge = Rotated::start();
    bridge.write("second", "");
    bridge.write_settings("signatur = \"off\"");
    bridge.program.signal("HUP");
    let line = bridge.program.line_with("not reloaded");
    assert!(!line.contains("old secret"), "{line}");
    bridge.program.line_with("error=sources.default.signatur");
    assert_eq!(bridge.status("BookingCreate", "old secret", r#"{"Id":1}"#).await, 200);
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":1}"#).await, 401);
    assert_eq!(bridge.reloads("ok").await, 0);
    assert!(bridge.reloads("failed").await >= 1, "a failed reload is tried again");
    // A corrected configuration is taken over without another signal.
    bridge.write("second", "new secret");
    bridge.write_settings("");
    bridge.program.line_with("sources and secrets were taken over");
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":2}"#).await, 200);
    plain().client().consume_all(&format!("{}BookingCreate", bridge.prefix), 2, MAX_WAIT);
}

/// Settings show `***` for both values.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_of_kafka_that_needs_a_restart_is_named_and_its_file_is_watched() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key-password");
    fs::write(&file, "hush-1").expect("written");
    let more = |password: &str| {
        format!(
            "[kafka.properties]\n\"sasl.password\" = {password:?}\n[kafka.property_files]\n\"ssl.key.password\" = {file:?}"
        )
    };
    let named = |line: &str| line.replace('\\', "");
    let bridge = Rotated::start_in(folder, &more("hush-1"));
    bridge.write("key-password", "hush-2");
    let line = bridge.program.line_with("only a restart changes");
    assert!(named(&line).ends_with(r#"settings="kafka.property_files."ssl.key.password"""#), "{line}");
    bridge.program.line_with("sources and secrets were taken over");
    bridge.write_settings(&more("hush-2"));
    bridge.program.signal("HUP");
    let line = bridge.program.line_with("only a restart changes");
    assert!(named(&line).ends_with(r#"settings="kafka.properties."sasl.password"""#), "{line}");
    let after = bridge.program.lines_until("sources and secrets were taken over");
    assert!(!format!("{line}{after:?}").contains("hush"), "{line}{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_from_a_pipe_stays_in_force_and_a_reload_reports_that_it_cannot_be_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["first", "second"] {
        fs::write(folder.path().join(file), "old secret").expect("written");
    }
    let prefix = format!("{}.", unique("it"));
    let mut program = program();
    program.args(["serve", "--config", "/dev/stdin"]).stdin(Stdio::piped());
    let mut running = Running::start(&mut program);
    running.write(&settings(folder.path(), &prefix, ""));
    let line = running.line_with("the bridge is listening");
    let ingress = field(&line, "ingress").to_owned();
    running.line_with("topics were created");
    running.signal("HUP");
    let refused = running.line_with("not reloaded");
    assert!(refused.contains("/dev/stdin is a pipe") && refused.contains("restart"), "{refused}");
    let status = post(&http_client(), &ingress, "BookingCreate", "other secret", r#"{"Id":1}"#).await;
    assert_eq!(status, 401);
    let status = post(&http_client(), &ingress, "BookingCreate", "old secret", r#"{"Id":1}"#).await;
    assert!([200, 503].contains(&status), "the former configuration stays: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_sources_and_actions_get_their_topics_and_settings_that_need_a_restart_are_named() {
    let bridge = Rotated::start();
    assert_eq!(bridge.status("north/BookingCreate", "of the north", r#"{"Id":1}"#).await, 404);
    bridge.write_settings(
        "extra_actions = [\"SomethingNew\"]\n[sources.north]\nsecrets = [\"of the north\"]\n[log]\nformat = \"json\"",
    );
    bridge.program.signal("HUP");
    assert!(bridge.program.line_with("only a restart changes").contains("log.format"));
    let before = bridge.program.lines_until("sources and secrets were taken over");
    if !before.iter().any(|line| line.contains("topics were created")) {
        bridge.program.line_with("topics were created");
    }
    assert_eq!(bridge.status("north/BookingCreate", "of the north", r#"{"Id":1}"#).await, 200);
    assert_eq!(bridge.status("SomethingNew", "old secret", r#"{"Id":2}"#).await, 200);
    let client = plain().client();
    client.consume_all(&format!("{}BookingCreate", bridge.prefix), 1, MAX_WAIT);
    client.consume_all(&format!("{}SomethingNew", bridge.prefix), 1, MAX_WAIT);
    assert_eq!(
        bridge.status("BookingCreate", "of the north", r#"{"Id":3}"#).await,
        401,
        "each has its own secrets"
    );
}
