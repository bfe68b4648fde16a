//! The output of commands: failures of the output do not change what a command does, and its text cannot control a terminal.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, ExitStatus, Stdio};

use nexudus_double::demo;

use crate::support::bridge::{SECRET, TestBridge};
use crate::support::kafka::{Client, free_port, plain, unique};
use crate::support::nexudus::{SOURCES, Tenant};
use crate::support::program::{err, out, program};

/// A standard output or standard error that fails.
#[derive(Debug, Clone, Copy)]
enum Sink {
    /// A pipe whose reader has closed it, as with `| head -1`.
    ClosedPipe,
    /// A full disk.
    Full,
}

impl Sink {
    fn stdio(self) -> Stdio {
        match self {
            Self::ClosedPipe => std::io::pipe().expect("a pipe").1.into(),
            Self::Full => File::options().write(true).open("/dev/full").expect("Linux has it").into(),
        }
    }
}

/// Standard output and standard error, each failing, and the exit code of an otherwise successful command. Only a standard output
/// on a full disk is a failure.
const SINKS: [(Sink, Sink, i32); 3] = [
    (Sink::ClosedPipe, Sink::ClosedPipe, 0),
    (Sink::ClosedPipe, Sink::Full, 0),
    (Sink::Full, Sink::ClosedPipe, 1),
];

#[track_caller]
fn ends(mut command: Command, (out, err, code): (Sink, Sink, i32)) {
    let status: ExitStatus =
        command.stdout(out.stdio()).stderr(err.stdio()).status().expect("the program can be run");
    assert_eq!(status.code(), Some(code), "{command:?} with {out:?} and {err:?}");
}

/// Returns the program with the cluster and topics of a test.
fn on(bootstrap: &str, prefix: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command
        .args(arguments)
        .env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", bootstrap)
        .env("NEXUDUS_BRIDGE__TOPICS__PREFIX", prefix)
        .env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", format!("[{SECRET:?}]"));
    command
}

#[test]
fn topics_are_created_although_the_output_fails() {
    let kafka: Client = plain().client();
    for sink in SINKS {
        let prefix = format!("{}.", unique("output"));
        let mut command = on(plain().bootstrap(), &prefix, &["topics", "apply"]);
        command.env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__ACTIONS", "[\"BookingCreate\"]");
        ends(command, sink);
        let topics = kafka.topics();
        for name in ["BookingCreate", "quarantine"] {
            assert!(topics.contains(&format!("{prefix}{name}")), "{name} with {sink:?}");
        }
    }
}

#[test]
fn webhooks_are_written_although_the_output_fails() {
    for sink in SINKS {
        let tenant = Tenant::with(SOURCES);
        let webhooks = |arguments: &[&str]| {
            let mut command = program();
            command.arg("webhooks").args(arguments).arg("--config").arg(tenant.file());
            command
        };
        ends(webhooks(&["apply", "--yes"]), sink);
        assert_eq!(tenant.nexudus.webhooks().len(), 5, "{sink:?}");
        for webhook in tenant.nexudus.webhooks() {
            let off = [("Active", "false"), ("ErrorCount", "10")];
            tenant.nexudus.change_webhook(webhook.id, &off).expect("exists");
        }
        ends(webhooks(&["enable"]), sink);
        let off = tenant.nexudus.webhooks().iter().filter(|webhook| !webhook.active).count();
        assert_eq!(off, 0, "{sink:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_although_the_output_fails() {
    let bridge = TestBridge::on_apache(&["BookingCreate", "TeamUpdated"], &[]).await;
    let prefix = bridge.name_of("");
    let url = format!("http://{}", bridge.ingress);
    for (number, sink) in SINKS.into_iter().enumerate() {
        // An unknown action is a note on standard error before anything is sent.
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().write_all(br#"[{"Id":1},{"Id":2}]"#).expect("written");
        let payload = file.path().display().to_string();
        let send = ["send", "BokingCreate", "--payload", &payload, "--secret", SECRET, "--url", &url];
        ends(on(plain().bootstrap(), &prefix, &send), sink);
        bridge.topic("quarantine", number + 1);
        let replay = ["quarantine", "replay", "--action", "BokingCreate", "--as", "BookingCreate"];
        ends(on(plain().bootstrap(), &prefix, &replay), sink);
        bridge.topic("BookingCreate", 2 * (number + 1));
    }
    let sources = "[sources.default]\nsecrets = [\"test-secret\"]\nbusiness_id = 1999000001\nactions = [\"TeamUpdated\"]\n";
    let tenant = Tenant::with(sources);
    let kafka =
        format!("[kafka]\nbootstrap_servers = {:?}\n[topics]\nprefix = {prefix:?}\n", plain().bootstrap());
    tenant.configure(&format!("{}{kafka}{sources}", tenant.section("")));
    let old = [("CreatedOn", "\"2020-01-01T00:00:00Z\""), ("UpdatedOn", "\"2020-01-01T00:00:00Z\"")];
    for id in tenant.nexudus.ids("Team") {
        tenant.nexudus.change("Team", id, &old).expect("exists");
    }
    let mut team = tenant.nexudus.example("Team", demo::LOCATIONS[0]).expect("known");
    team.set("CreatedOn", "2026-03-01T10:00:00Z");
    team.set("UpdatedOn", "2026-03-02T12:00:00Z");
    tenant.nexudus.add("Team", demo::LOCATIONS[0], team).expect("known");
    for (number, sink) in SINKS.into_iter().enumerate() {
        let mut command = program();
        command.args(["catch-up", "--since", "2026-03-02T10:00:00Z", "--entity", "Team", "--config"]);
        command.arg(tenant.file());
        ends(command, sink);
        bridge.topic("TeamUpdated", number + 1);
    }
}

#[test]
fn dev_runs_although_its_banner_cannot_be_written() {
    for sink in [Sink::ClosedPipe, Sink::Full] {
        let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
        let [port, kafka, admin] = ports.each_ref().map(String::as_str);
        let mut command = program();
        command.args(["dev", "--port", port, "--kafka-port", kafka, "--admin-port", admin]);
        let mut dev = command.stdout(sink.stdio()).stderr(Stdio::piped()).spawn().expect("it can be run");
        // Only standard output fails in this test; the log is read to its end.
        let mut log = std::io::BufReader::new(dev.stderr.take().expect("piped")).lines();
        let lines = log.by_ref().map_while(Result::ok);
        let seen: Vec<String> = lines.take_while(|line| !line.contains("the bridge is listening")).collect();
        let sent =
            program().args(["send", "BookingCreate", "--url", &format!("http://127.0.0.1:{port}")]).output();
        let sent = sent.expect("it can be run");
        Command::new("kill").arg(dev.id().to_string()).status().expect("it can be run");
        let status = dev.wait().expect("it ends");
        assert!(sent.status.success() && status.success(), "{sink:?} {sent:?} {status} {seen:?}");
    }
}

#[test]
fn a_full_disk_is_an_error_with_its_reason() {
    for arguments in [&["actions"][..], &["actions", "--json"], &["completions", "bash"], &["demo"]] {
        let mut command = program();
        command.args(arguments).stdout(Sink::Full.stdio());
        let output = command.stderr(Stdio::piped()).output().expect("the program can be run");
        let printed = err(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {printed}");
        assert!(
            printed.contains("cannot write to standard output: No space left"),
            "{arguments:?} {printed}"
        );
    }
}

/// Text that would clear a terminal, colour it, ring its bell, and forge lines. The second character is a C1 control.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7}\r\nconfirmed in 1 ms\n";

#[track_caller]
fn is_harmless(text: &str) {
    assert!(!text.contains(['\u{9b}', '\u{7}', '\r']) && !text.contains("\u{1b}[2J"), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("confirmed in 1 ms")), "{text:?}");
}

/// Runs the program as on a terminal, so that no style is removed.
fn as_on_a_terminal(arguments: &[&str]) -> std::process::Output {
    let mut command = program();
    command.args(arguments).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    command.output().expect("the program can be run")
}

/// Starts a server that sends each of `answers` to one request, and then ends.
fn serve(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().expect("a client connects");
            let mut request = Vec::new();
            let mut part = [0; 1024];
            // Reads the head and, of a delivery, the body, which ends with the bracket of its array.
            while !(request.ends_with(b"]") || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n"))
            {
                let read = stream.read(&mut part).expect("a request");
                assert!(read > 0, "a whole request");
                request.extend_from_slice(&part[..read]);
            }
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        }
    });
    url
}

#[test]
fn answers_of_servers_cannot_control_a_terminal() {
    let problem = serde_json::json!({"title": HOSTILE, "detail": HOSTILE, "cause": HOSTILE}).to_string();
    let receipt = serde_json::json!({"status": HOSTILE, "events": [{"id": HOSTILE, "topic": HOSTILE, "partition": 0, "offset": 0}]});
    let answers = [("400 Bad Request", problem), ("200 OK", receipt.to_string())];
    for count in ["1", "2"] {
        for (status, body) in &answers {
            let url = serve(vec![(status, body.clone()), (status, body.clone())]);
            let arguments = ["send", "BookingCreate", "--secret", "x", "--url", &url, "--count", count];
            let output = as_on_a_terminal(&arguments);
            let seen = format!("{}{}", out(&output), err(&output));
            assert!(seen.contains("31m"), "{seen}");
            is_harmless(&seen);
        }
    }
    let url = serve(vec![("503 Service Unavailable", HOSTILE.to_owned())]);
    let output = as_on_a_terminal(&["health", "--url", &url]);
    assert!(err(&output).contains("not ready"), "{}", err(&output));
    is_harmless(&err(&output));
}

#[test]
fn names_of_locations_cannot_control_a_terminal() {
    let tenant =
        Tenant::with("[sources.default]\nsecrets = [\"x\"]\nbusiness_id = 42\nactions = [\"TeamUpdated\"]\n");
    tenant.nexudus.add_location(77, HOSTILE);
    let file = tenant.file().display().to_string();
    let output = as_on_a_terminal(&["webhooks", "plan", "--config", &file]);
    assert!(err(&output).contains("business_id = 77"), "{}", err(&output));
    is_harmless(&err(&output));
}

#[test]
fn json_on_a_terminal_escapes_control_characters_and_has_the_same_value() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let team = tenant.webhook("/TeamUpdated");
    let error = serde_json::to_string(HOSTILE).expect("JSON");
    tenant.nexudus.change_webhook(team, &[("LastError", &error)]).expect("exists");
    let inner = format!(
        "{} webhooks status --json --config {}",
        env!("CARGO_BIN_EXE_nexudus-bridge"),
        tenant.file().display()
    );
    let mut script = Command::new("script");
    let output =
        script.args(["--quiet", "--return", "--command", &inner, "/dev/null"]).stdin(Stdio::null()).output();
    let text = out(&output.expect("util-linux has script"));
    is_harmless(text.trim_end_matches("\r\n"));
    let on_terminal: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(on_terminal, tenant.json(&["webhooks", "status"], 0));
    assert!(on_terminal.to_string().contains("31m"), "{on_terminal}");
}

#[test]
fn in_a_pipe_no_text_is_shortened() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let team = tenant.webhook("/TeamUpdated");
    let long = format!("begin {} end", "x".repeat(300));
    tenant.nexudus.change_webhook(team, &[("LastError", &format!("{long:?}"))]).expect("exists");
    let table = tenant.prints(&["webhooks", "status"], 0);
    assert!(table.contains(&long), "{table}");
}
