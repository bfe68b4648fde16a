//! The command line: standard output, standard error and exit codes.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::support::bridge::{MAX_WAIT, SECRET, sign};
use crate::support::kafka::free_port;
use crate::support::program::{Running, err, header, out, program, run};

#[test]
fn the_demo_sends_every_action_and_reads_the_same_bytes_back() {
    let output = run(&["demo"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", err(&output));
    assert_eq!(text.matches("  identical").count(), 89, "{text}");
    assert!(text.contains("89 of 89 deliveries"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour in a pipe");
}

#[test]
fn dev_prints_a_curl_line_that_works_and_stops_in_order() {
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let [port, kafka, admin] = ports.each_ref().map(String::as_str);
    let dev =
        Running::start(program().args(["dev", "--port", port, "--kafka-port", kafka, "--admin-port", admin]));
    let curl =
        [dev.line_with("  curl"), dev.line_with("  -H 'X-Nexudus"), dev.line_with("  -H 'Content-Type")]
            .join("\n");
    dev.line_with("Ctrl-C");
    let answer = std::process::Command::new("sh").args(["-c", &curl]).output().expect("curl can be run");
    assert!(out(&answer).contains(r#""status":"confirmed""#), "{curl}\n{}{}", out(&answer), err(&answer));
    let url = format!("http://127.0.0.1:{port}");
    let sent = run(&["send", "all", "--url", &url]);
    assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    let bootstrap = format!("127.0.0.1:{kafka}");
    tail_prints_what_dev_has(&bootstrap);
    for path in ["", "/", "/readyz"] {
        let health = run(&["health", "--url", &format!("http://127.0.0.1:{admin}{path}")]);
        assert_eq!(health.status.code(), Some(0), "{}", err(&health));
    }
    let health = run(&["health", "--json", "--url", &format!("http://127.0.0.1:{admin}")]);
    let document: serde_json::Value = serde_json::from_str(&out(&health)).expect("JSON");
    assert!(document["ready"] == true && document["answer"].is_object(), "{document}");
    for (arguments, address) in [(["--port", port], port), (["--kafka-port", kafka], kafka)] {
        let free = free_port().to_string();
        let mut rest = vec!["dev", "--admin-port", "0"];
        rest.extend(if arguments[0] == "--port" { ["--kafka-port", "0"] } else { ["--port", &free] });
        rest.extend(arguments);
        let taken = run(&rest);
        assert_eq!(taken.status.code(), Some(1), "{}", err(&taken));
        let expected = format!("cannot listen on 127.0.0.1:{address}: Address already in use");
        assert!(err(&taken).contains(&expected), "{}", err(&taken));
        assert!(err(&taken).contains(&format!("; {} chooses another port", arguments[0])), "{}", err(&taken));
    }
    let mut rest = vec!["dev", "--port", "0", "--kafka-port", "0", "--admin-port", admin];
    let taken = run(&rest);
    assert!(err(&taken).contains("; --admin-port chooses another port"), "{}", err(&taken));
    rest = vec!["topics", "plan", "--json"];
    let plan = program().args(&rest).env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", &bootstrap).output();
    let plan = plan.expect("it runs");
    assert_eq!(plan.status.code(), Some(0), "{}", err(&plan));
    let document: serde_json::Value = serde_json::from_str(&out(&plan)).expect("JSON");
    assert_eq!(
        (&document["unchanged"], &document["create"]),
        (&90.into(), &serde_json::json!([])),
        "{document}"
    );
    dev.signal("INT");
    let (status, log) = dev.ended(MAX_WAIT);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "nothing went wrong: {log}");
}

/// `tail` finds the events of `send all` and of the curl line.
fn tail_prints_what_dev_has(bootstrap: &str) {
    let tail = run(&["tail", "--bootstrap", bootstrap, "--from", "beginning", "--json", "--count", "90"]);
    assert_eq!(tail.status.code(), Some(0), "{}", err(&tail));
    let lines: Vec<serde_json::Value> =
        out(&tail).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.len(), 90);
    assert!(lines.iter().all(|line| header(line, "ce_specversion") == "1.0" && line["value"].is_object()));
    let booking =
        run(&["tail", "bookingcreate", "--bootstrap", bootstrap, "--from", "beginning", "--count", "1"]);
    assert!(out(&booking).contains("BookingCreate"), "{}{}", out(&booking), err(&booking));
    for filter in [&["--since", "1h"][..], &["--from", "beginning", "--source", "default"]] {
        let tail = run(&[&["tail", "--bootstrap", bootstrap, "--json", "--count", "90"], filter].concat());
        assert_eq!((tail.status.code(), out(&tail).lines().count()), (Some(0), 90), "{}", err(&tail));
    }
    let keyed =
        ["tail", "CoworkerCreate", "--bootstrap", bootstrap, "--since", "1h", "--key", "42", "--count", "1"];
    let keyed = run(&keyed);
    assert!(out(&keyed).contains("  42  ") && out(&keyed).contains("José"), "{}{}", out(&keyed), err(&keyed));
    let waiting = Running::start(program().args(["tail", "--bootstrap", bootstrap]));
    let note = waiting.line_with("waiting for new events");
    assert!(note.contains("--from beginning shows earlier ones"), "{note}");
    drop(waiting);
}

#[test]
fn sign_and_verify_agree_with_dotnet_and_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (body, secret) = (file("body", "[\"é😀\"]"), file("secret", &format!("{SECRET}\n")));
    let signature = sign("[\"é😀\"]".as_bytes());
    let signed = run(&["sign", "--secret", SECRET, &body]);
    assert_eq!((out(&signed).as_str(), signed.status.code()), (format!("{signature}\n").as_str(), Some(0)));
    assert_eq!(out(&run(&["sign", "--secret-file", &secret, &body])), format!("{signature}\n"));
    let mut piped = program();
    piped.args(["sign", "--secret", SECRET]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().expect("the program can be run");
    child.stdin.take().expect("piped").write_all("[\"é😀\"]".as_bytes()).expect("written");
    assert_eq!(out(&child.wait_with_output().expect("it ends")), format!("{signature}\n"));
    let verified = run(&["verify", "--secret", SECRET, "--signature", &signature.to_lowercase(), &body]);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    assert!(out(&verified).contains("folded"), "{}", out(&verified));
    let wrong = run(&["verify", "--secret", "other", "--signature", &signature, &body]);
    assert_eq!(wrong.status.code(), Some(1), "{}", err(&wrong));
    let malformed = run(&["verify", "--secret", SECRET, "--signature", "abc", &body]);
    assert_eq!(malformed.status.code(), Some(2), "{}", err(&malformed));
    assert!(!format!("{}{}", err(&wrong), err(&malformed)).contains(SECRET));
}

#[test]
fn a_sample_is_the_body_that_send_posts_with_its_signature_and_its_record() {
    let body = out(&run(&["sample", "bookingcreate"]));
    assert!(body.starts_with("[{\"ResourceId\":") && body.ends_with("}]\n"), "{body}");
    assert_eq!(body.lines().count(), 1);
    let signed = run(&["sample", "6", "--signed", "--secret", SECRET]);
    let header = format!("x-nexudus-hook-signature: {}\n", sign(body.trim_end().as_bytes()));
    assert_eq!(out(&signed), format!("{header}{body}"), "{}", err(&signed));

    let all = out(&run(&["sample", "all"]));
    assert_eq!((all.lines().count(), all.lines().any(|line| line == body.trim_end())), (89, true));
    let objects = run(&["sample", "all", "--signed", "--secret", SECRET, "--json"]);
    let texts = out(&objects);
    for (line, body) in texts.lines().zip(all.lines()) {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!((&object["body"], &object["signature"]), (&body.into(), &sign(body.as_bytes()).into()));
        let record = body.strip_prefix('[').and_then(|it| it.strip_suffix(']')).expect("an array");
        assert!(line.ends_with(&format!(",\"record\":{record}}}")), "the record's own text: {line}");
        assert!(object["action"].is_string());
    }
    assert_eq!(texts.lines().count(), 89);
    let slip = run(&["sample", "BokingCreate"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(err(&slip).contains("did you mean BookingCreate?"), "{}", err(&slip));
}

#[test]
fn actions_lists_the_catalogue_for_people_and_programs() {
    let table = out(&run(&["actions"]));
    for text in ["HelDeskMessageCreated", "Customer CREATED", "Coworker Create", "signal"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&out(&run(&["actions", "--json"]))).expect("JSON");
    let list = json.as_array().expect("a list");
    assert_eq!(list.len(), 89);
    assert_eq!((&list[0]["id"], &list[0]["name"]), (&2.into(), &"CoworkerUpdate".into()));
}

#[test]
fn addresses_of_brokers_are_checked_on_the_command_line_too() {
    for command in [&["tail"][..], &["quarantine", "list"]] {
        let output = run(&[command, &["--bootstrap", "kafka://h:9092"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains("expected host:port"), "{}", err(&output));
    }
}

#[test]
fn health_exits_with_1_without_an_answer_and_send_without_a_confirmation() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(run(&["health", "--url", &nobody]).status.code(), Some(1));
    let health = run(&["health", "--json", "--url", &nobody]);
    let document: serde_json::Value = serde_json::from_str(&out(&health)).expect("JSON");
    assert_eq!((health.status.code(), &document["ready"]), (Some(1), &false.into()), "{document}");
    assert!(document["error"].as_str().expect("text").contains("cannot be reached"), "{document}");
    let sent = run(&["send", "BookingCreate", "--url", &nobody, "--count", "3"]);
    assert_eq!(sent.status.code(), Some(1), "{}{}", out(&sent), err(&sent));
    let unknown = run(&["send", "BokingCreate", "--url", &nobody]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("BookingCreate"), "{}", err(&unknown));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && out(&output).contains("nexudus-bridge"), "{shell}");
    }
}

#[test]
fn topics_are_planned_and_applied_with_exit_codes_for_scripts() {
    let prefix = format!("{}.", crate::support::kafka::unique("it"));
    let kafka = crate::support::kafka::plain().bootstrap();
    let topics = |arguments: &[&str]| {
        program()
            .arg("topics")
            .args(arguments)
            .env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", kafka)
            .env("NEXUDUS_BRIDGE__TOPICS__PREFIX", &prefix)
            .env("NEXUDUS_BRIDGE__TOPICS__PARTITIONS", "1")
            .env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", "[\"x\"]")
            .output()
            .expect("it runs")
    };
    let plan = topics(&["plan", "--detailed-exitcode", "--json"]);
    assert_eq!(plan.status.code(), Some(3), "{}", err(&plan));
    let document: serde_json::Value = serde_json::from_str(&out(&plan)).expect("JSON");
    let create = document["create"].as_array().expect("a list");
    assert_eq!((create.len(), &document["unchanged"], &create[0]["partitions"]), (90, &0.into(), &1.into()));
    assert!(
        create[0]["config"]["max.message.bytes"].is_string() && create[0]["replication_factor"].is_null()
    );
    let plan = topics(&["plan", "--detailed-exitcode"]);
    assert_eq!(plan.status.code(), Some(3), "{}", err(&plan));
    assert!(out(&plan).contains(&format!("+ {prefix}BookingCreate")), "{}", out(&plan));
    assert!(out(&plan).contains("Plan: 90 to create, 0 differ, 0 unchanged."), "{}", out(&plan));
    let apply = topics(&["apply"]);
    assert_eq!(apply.status.code(), Some(0), "{}", err(&apply));
    assert!(out(&apply).contains("Applied: 90 created, 0 failed."), "{}", out(&apply));
    let client = crate::support::kafka::plain().client();
    client.consume_all(&format!("{prefix}quarantine"), 0, Duration::from_secs(30));
    let again = topics(&["plan", "--detailed-exitcode"]);
    assert_eq!(again.status.code(), Some(0), "{}{}", out(&again), err(&again));
    assert!(out(&again).contains("No changes. 90 topics match the configuration."), "{}", out(&again));
}

#[test]
fn an_address_without_a_listener_is_named_within_seconds_with_the_remedy() {
    let port = free_port();
    let (nobody, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let kafka = format!("cannot connect to Kafka at {nobody}: connection refused; is it running there?");
    for (arguments, expected) in [
        (&["tail", "--bootstrap", &nobody][..], [kafka.as_str(), "--bootstrap"]),
        (&["quarantine", "list", "--bootstrap", &nobody], [&kafka, "--bootstrap"]),
        (&["topics", "plan"], [&kafka, "kafka.bootstrap_servers"]),
        (&["topics", "apply"], [&kafka, "nexudus-bridge dev"]),
        (
            &["send", "BookingCreate", "--url", &url],
            [&format!("cannot connect to {url}: "), "hint: is the bridge running there? --url names another"],
        ),
        (&["send", "all", "--url", &url], ["no connection", "hint: is the bridge running there?"]),
    ] {
        let begun = std::time::Instant::now();
        let mut command = program();
        command.args(arguments).env("NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS", &nobody);
        command.env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", "[\"x\"]");
        let output = command.output().expect("the program can be run");
        // The bound is 5 s; a stalled machine gets more. librdkafka's own time-outs are 10 s and 15 s.
        assert!(begun.elapsed() < Duration::from_secs(9), "{arguments:?} {:?}", begun.elapsed());
        let text = format!("{}{}", out(&output), err(&output));
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {text}");
        for expected in expected {
            assert!(text.contains(expected), "{arguments:?}: {expected} in {text}");
        }
        assert!(!text.contains("in state") && !text.contains("suppressed"), "{text}");
    }
}

#[test]
fn the_version_names_the_commit_and_librdkafka() {
    for option in ["-V", "--version"] {
        let text = out(&run(&[option]));
        let start = concat!("nexudus-bridge ", env!("CARGO_PKG_VERSION"), " (commit ");
        assert!(text.starts_with(start) && text.contains(", librdkafka 2."), "{text}");
    }
}

mod configuration;

#[test]
fn man_pages_are_written_for_each_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("share/man1");
    let written = run(&["man", &pages.display().to_string()]);
    assert_eq!(written.status.code(), Some(0), "{}", err(&written));
    for (page, text) in [
        ("nexudus-bridge.1", "catch\\-up"),
        ("nexudus-bridge-serve.1", "SIGHUP"),
        ("nexudus-bridge-topics-plan.1", "detailed\\-exitcode"),
        ("nexudus-bridge-quarantine-replay.1", "Examples"),
    ] {
        let path = pages.join(page);
        let content = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(content.starts_with(".ie") && content.contains(text), "{page}: {content}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let refused = run(&["man", &file.path().display().to_string()]);
    assert!(err(&refused).contains("cannot write man pages into"), "{}", err(&refused));
    assert_eq!(refused.status.code(), Some(1));
}
