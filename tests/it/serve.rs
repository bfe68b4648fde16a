//! The real program with a real Apache Kafka, used as a platform team does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::bridge::{MAX_WAIT, SECRET, http_client, sign};
use crate::support::kafka::{plain, unique};
use crate::support::program::{Running, err, field, out, run};

/// Writes a configuration of ten lines, and returns it with the prefix of its topics.
fn ten_lines() -> (tempfile::TempDir, PathBuf, String) {
    let prefix = format!("{}.", unique("it"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    let text = format!(
        "[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = {:?}\n\
         [topics]\nprefix = {prefix:?}\n[sources.default]\nsecrets = [{SECRET:?}]\n",
        plain().bootstrap(),
    );
    std::fs::write(&file, text).expect("written");
    (folder, file, prefix)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_deliveries_are_confirmed_and_read_back_byte_for_byte() {
    let (_folder, file, prefix) = ten_lines();
    let bridge = Running::serve(&file);
    let url = format!("http://{}", field(&bridge.line_with("the bridge is listening"), "ingress"));
    bridge.line_with("topics were created");
    let output = run(&[
        "send",
        "BookingCreate",
        "--count",
        "10000",
        "--concurrency",
        "64",
        "--url",
        &url,
        "--secret",
        SECRET,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let summary: serde_json::Value = serde_json::from_str(&out(&output)).expect("a summary");
    let answers = summary["answers"].as_array().expect("a list");
    assert_eq!((answers.len(), &answers[0]["answer"]), (1, &"confirmed".into()), "{summary}");
    assert_eq!((&answers[0]["count"], &summary["events"]), (&10_000.into(), &10_000.into()), "{summary}");

    let fixture = nexudus_bridge::sender::payloads::payload("BookingCreate").expect("a payload");
    let template =
        nexudus_bridge::sender::payloads::Template::new(nexudus_bridge::sender::payloads::wire_body(fixture));
    let expected: BTreeSet<Vec<u8>> = (0..10_000)
        .map(|n| {
            let body = template.copy(n);
            body[1..body.len() - 1].to_vec()
        })
        .collect();
    assert_eq!(expected.len(), 10_000);
    let topic = format!("{prefix}BookingCreate");
    let values: BTreeSet<Vec<u8>> = plain()
        .client()
        .consume_all(&topic, 10_000, MAX_WAIT)
        .into_iter()
        .map(|message| message.value)
        .collect();
    assert!(values == expected, "the values on the topic differ from the sent ones");

    bridge.signal("TERM");
    let (status, log) = bridge.ended(MAX_WAIT);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("everything in flight was settled"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_that_was_answered_200() {
    let (_folder, file, prefix) = ten_lines();
    let bridge = Running::serve(&file);
    let ingress = field(&bridge.line_with("the bridge is listening"), "ingress").to_owned();
    bridge.line_with("topics were created");
    let http = http_client();
    let confirmed = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..32)
        .map(|sender| {
            let (http, ingress, confirmed) = (http.clone(), ingress.clone(), Arc::clone(&confirmed));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0..2000 {
                    let record = format!(r#"{{"Id":{},"FullName":"José"}}"#, sender * 10_000 + n);
                    let request = http
                        .post(format!("http://{ingress}/webhooks/CoworkerUpdate"))
                        .header("X-Nexudus-Hook-Signature", sign(record.as_bytes()))
                        .body(record.clone());
                    match request.send().await {
                        Ok(reply) if reply.status() == 200 => {
                            confirmed.fetch_add(1, Ordering::Relaxed);
                            acknowledged.push(record);
                        }
                        Ok(reply) => {
                            assert_eq!(reply.status(), 503, "{}", reply.text().await.unwrap_or_default());
                            return acknowledged;
                        }
                        Err(_) => return acknowledged, // the listener is closed
                    }
                }
                acknowledged
            })
        })
        .collect();
    while confirmed.load(Ordering::Relaxed) < 2000 {
        assert!(!senders.iter().all(|sender| sender.is_finished()), "deliveries were refused from the start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bridge.signal("TERM");
    let mut acknowledged = BTreeSet::new();
    for sender in senders {
        acknowledged.extend(sender.await.expect("a sender ends"));
    }
    let (status, log) = bridge.ended(MAX_WAIT);
    assert_eq!(status.code(), Some(0), "{log}");
    let all = 32 * 2000;
    assert!(acknowledged.len() >= 2000 && acknowledged.len() < all, "{} of {all}", acknowledged.len());
    let topic = format!("{prefix}CoworkerUpdate");
    let values: BTreeSet<String> = plain()
        .client()
        .read_to_end(&topic)
        .into_iter()
        .map(|message| String::from_utf8(message.value).expect("text"))
        .collect();
    let lost: Vec<&String> = acknowledged.difference(&values).collect();
    assert!(
        lost.is_empty(),
        "{} of {} were answered 200 and are not on the topic",
        lost.len(),
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_program_at_once() {
    let (_folder, file, _) = ten_lines();
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, text.replace("[admin]", "shutdown_delay = \"60s\"\n[admin]")).expect("written");
    // One repetition that is ignored is enough: on a busy machine it may arrive too late.
    let mut attempts = 0..5;
    loop {
        let bridge = Running::serve(&file);
        let admin = field(&bridge.line_with("the bridge is listening"), "admin").to_owned();
        bridge.signal("INT");
        bridge.line_with("stopping");
        bridge.signal("TERM"); // a repetition of the first: some supervisors signal a process and its group
        tokio::time::sleep(Duration::from_millis(500)).await;
        let runs_on = http_client().get(format!("http://{admin}/healthz")).send().await.is_ok();
        bridge.signal("TERM");
        let (status, _) = bridge.ended(Duration::from_secs(15));
        assert_eq!(status.code(), Some(1));
        if runs_on {
            break;
        }
        assert!(attempts.next().is_some(), "each repetition ended the program");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_body_or_signature_is_in_the_log_or_the_metrics() {
    let (_folder, file, _) = ten_lines();
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, format!("{text}url_tokens = [\"hush-token\"]\n[log]\nlevel = \"debug\"\n"))
        .expect("written");
    let bridge = Running::serve(&file);
    let line = bridge.line_with("the bridge is listening");
    bridge.line_with("topics were created");
    let http = http_client();
    let body = r#"[{"Id":1,"FullName":"Private Person","AccessPincode":"4711"}]"#;
    let right = sign(body.as_bytes());
    for (query, signature) in [
        ("?token=hush-token", right.as_str()),
        ("?token=hush-token", "00"),
        ("?token=wrong-token", &right),
        ("?token=hush-token", &right.replace('A', "B")),
    ] {
        let url = format!("http://{}/webhooks/CoworkerCreate{query}", field(&line, "ingress"));
        let reply = http.post(url).header("X-Nexudus-Hook-Signature", signature).body(body).send().await;
        reply.expect("an answer");
    }
    let metrics =
        http.get(format!("http://{}/metrics", field(&line, "admin"))).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    bridge.signal("TERM");
    let (_, log) = bridge.ended(MAX_WAIT);
    assert!(log.contains("refused"), "{log}");
    for private in [SECRET, "hush-token", "wrong-token", "Private Person", "4711", &right] {
        assert!(!log.contains(private), "{private} in the log:\n{log}");
        assert!(!metrics.contains(private), "{private} in the metrics");
    }
}
