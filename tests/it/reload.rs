//! Reload: secrets rotated and sources added under load, and nothing that is broken taken over.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nexudus_bridge::signature::SigningKey;

use crate::support::bridge::{PATIENCE, http_client};
use crate::support::kafka::{plain, unique};
use crate::support::program::{Running, field};

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
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = format!("{}.", unique("it"));
        let rotated = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
        rotated("first", "old secret\n");
        rotated("second", "old secret\n");
        rotated("bridge.toml", &settings(folder.path(), &prefix, ""));
        let program = Running::serve(&folder.path().join("bridge.toml"));
        let line = program.line_with("the bridge is listening");
        let (ingress, admin) = (field(&line, "ingress").to_owned(), field(&line, "admin").to_owned());
        program.line_with("topics were created");
        Self { folder, program, ingress, admin, prefix }
    }

    fn write(&self, file: &str, text: &str) {
        // In one step, as container platforms do: nobody sees half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.folder.path().join(file)).expect("put in its place");
    }

    fn write_settings(&self, more: &str) {
        self.write("bridge.toml", &settings(self.folder.path(), &self.prefix, more));
    }

    async fn status(&self, path: &str, secret: &str, record: &str) -> u16 {
        post(&http_client(), &self.ingress, path, secret, record).await
    }

    async fn reloads(&self, result: &str) -> u64 {
        let metrics =
            http_client().get(format!("http://{}/metrics", self.admin)).send().await.expect("answered");
        let text = metrics.text().await.expect("text");
        let series = format!("nexudus_bridge_reloads_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series)).expect("the series is there");
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

/// Both secrets are right from the time when both files are read until the old one is gone from them; a sender that uses
/// the old one until then, and the new one from when it was announced, is never refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_secret_under_load_refuses_nothing() {
    let bridge = Rotated::start();
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":1}"#).await, 401);
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
                        503 => put_off += 1, // for Kafka's sake, on a busy machine; it may be on the topic
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
    // The file alone, without a signal: it is looked at every ten seconds.
    bridge.write("second", "new secret\n");
    bridge.program.line_with("sources and secrets were taken over");
    renewed.store(true, Ordering::Release);
    // No delivery with the old secret is on its way any more once each sender has an answer to one with the new.
    let begun = std::time::Instant::now();
    while turned.load(Ordering::Acquire) < senders.len() {
        assert!(begun.elapsed() < PATIENCE, "the senders have stopped");
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
    assert!(sent > put_off, "{sent} confirmed, {put_off} put off");
    assert_eq!((bridge.reloads("ok").await, bridge.reloads("failed").await), (2, 0));
    let topic = format!("{}BookingCreate", bridge.prefix);
    let there = plain().client().consume_at_least(&topic, sent, PATIENCE).len();
    assert!(there <= sent + put_off, "{there} messages of {sent} confirmed and {put_off} put off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_changes_nothing_and_says_what_is_wrong() {
    let bridge = Rotated::start();
    bridge.write("second", "");
    bridge.write_settings("signatur = \"off\"");
    bridge.program.signal("HUP");
    let line = bridge.program.line_with("not reloaded");
    assert!(!line.contains("old secret"), "{line}");
    bridge.program.line_with("error=sources.default.signatur");
    assert_eq!(bridge.status("BookingCreate", "old secret", r#"{"Id":1}"#).await, 200);
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":1}"#).await, 401);
    assert_eq!((bridge.reloads("ok").await, bridge.reloads("failed").await), (0, 1));
    // Mended, it is taken over.
    bridge.write("second", "new secret");
    bridge.write_settings("");
    bridge.program.signal("HUP");
    bridge.program.line_with("sources and secrets were taken over");
    assert_eq!(bridge.status("BookingCreate", "new secret", r#"{"Id":2}"#).await, 200);
    plain().client().consume_all(&format!("{}BookingCreate", bridge.prefix), 2, PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_sources_and_actions_get_their_topics_and_what_needs_a_restart_is_named() {
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
    client.consume_all(&format!("{}BookingCreate", bridge.prefix), 1, PATIENCE);
    client.consume_all(&format!("{}SomethingNew", bridge.prefix), 1, PATIENCE);
    assert_eq!(
        bridge.status("BookingCreate", "of the north", r#"{"Id":3}"#).await,
        401,
        "each has its own secrets"
    );
    let url = format!("http://{}/console/state", bridge.admin);
    let state = http_client().get(url).send().await.expect("answered").text().await.expect("text");
    assert!(state.contains("sources.north.secrets") && !state.contains("of the north"), "{state}");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    let settings = state["settings"].as_array().expect("a list");
    let place = |key: &str| settings.iter().position(|s| s["key"] == key).unwrap_or_else(|| panic!("{key}"));
    assert!(
        place("sources.default.extra_actions") < place("log.format"),
        "in the order of the documentation"
    );
    assert_eq!(settings[place("log.format")]["value"], "\"text\"", "what needs a restart is not in force");
}
