//! `config`: a configuration is checked and shown, and is read from files, pipes and variables.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::bridge::SECRET;
use crate::support::program::{err, out, program, run};

#[test]
fn a_configuration_is_checked_and_shown_with_origins_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    std::fs::write(
        &file,
        format!("[sources.default]\nsecrets = [{SECRET:?}]\n[kafka]\nconfirm_timeout = \"3s\"\n"),
    )
    .expect("written");
    let path = file.display().to_string();
    let check = run(&["config", "check", "--config", &path]);
    assert_eq!(check.status.code(), Some(0), "{}", err(&check));
    let json = |arguments: &[&str], code: i32| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", err(&output));
        serde_json::from_str::<serde_json::Value>(&out(&output)).expect("JSON")
    };
    let verdict = json(&["config", "check", "--json", "--config", &path], 0);
    assert_eq!((&verdict["valid"], &verdict["file"]), (&true.into(), &path.as_str().into()), "{verdict}");
    let document = json(&["config", "show", "--json", "--config", &path], 0);
    let setting = |key: &str| {
        let settings = document["settings"].as_array().expect("a list").iter();
        settings
            .filter(|setting| setting["key"] == key)
            .map(|setting| &setting["value"])
            .next()
            .expect("shown")
    };
    assert_eq!(setting("kafka.confirm_timeout"), "3s");
    assert_eq!(setting("sources.default.secrets"), &serde_json::json!(["***"]));
    assert!(!document.to_string().contains(SECRET), "{document}");
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[ingress]\nlisten = \"nowhere\"\n").expect("written");
    let verdict = json(&["config", "check", "--json", "--config", &wrong.display().to_string()], 2);
    assert_eq!(verdict["valid"], false, "{verdict}");
    assert_eq!(verdict["mistakes"].as_array().map(Vec::len), Some(2), "{verdict}");
    let shown = program()
        .args(["config", "show", "--config", &path])
        .env("NEXUDUS_BRIDGE__KAFKA__PROPERTIES__SASL_PASSWORD", "hush")
        .output()
        .expect("it runs");
    let text = out(&shown);
    for line in
        ["kafka.confirm_timeout = \"3s\"", "sources.default.secrets = [\"***\"]", "log.level = \"info\""]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    for origin in [path.as_str(), "# default", "NEXUDUS_BRIDGE__KAFKA__PROPERTIES__SASL_PASSWORD"] {
        assert!(text.contains(origin), "{origin} in\n{text}");
    }
    assert!(!text.contains(SECRET) && !text.contains("hush"), "{text}");
}

#[test]
fn all_mistakes_are_on_standard_error_with_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    std::fs::write(
        &file,
        "[ingress]\nlisten = \"nowhere\"\n[kafka.properties]\n\"acks\" = \"0\"\n\"no.such\" = \"1\"\n",
    )
    .expect("written");
    let path = file.display().to_string();
    for command in [&["serve", "--config", &path][..], &["config", "check", "--config", &path]] {
        let output = run(command);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{command:?}");
        let text = err(&output);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"error: the configuration has 4 mistakes:"), "{text}");
        let mistakes =
            ["ingress.listen = \"nowhere\"", "\"acks\" = \"0\"", "\"no.such\"", "no source is configured"];
        for (line, mistake) in lines[1..].iter().zip(mistakes) {
            assert!(line.starts_with("  ") && line.contains(mistake), "{mistake} in\n{text}");
            assert!(line.contains("expected") || !line.contains("nowhere"), "{line}");
            assert!(line.ends_with(&format!("(from {path})")) || line.contains("no source"), "{line}");
        }
        assert_eq!((lines.len(), text.matches("error:").count()), (5, 1), "{text}");
    }
    let whole = folder.path().join("whole.toml");
    std::fs::write(
        &whole,
        "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n[sources.default]\nsecrets = [\"x\"]\n",
    )
    .expect("written");
    let output = run(&["serve", "--config", &whole.display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "librdkafka refuses it as a whole: {}", err(&output));
    let tokens = folder.path().join("tokens.toml");
    std::fs::write(
        &tokens,
        "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n[sources.default]\nsecrets = [\"x\"]\n\
         [kafka.oauth]\ntoken_endpoint = \"https://localhost/\"\nclient_id = \"x\"\nclient_secret = \"x\"\n",
    )
    .expect("written");
    let output = program()
        .args(["serve", "--config", &tokens.display().to_string()])
        .env("SSL_CERT_FILE", "/no/such/file")
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("the program can be run");
    assert_eq!(output.status.code(), Some(2), "no certificate authority is trusted: {}", err(&output));
    assert!(err(&output).contains("[kafka.oauth] cannot be used"), "{}", err(&output));
    assert_eq!(run(&["serve", "--config", "/no/such/file"]).status.code(), Some(2));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["send"]).status.code(), Some(2));
}

#[test]
fn a_configuration_can_be_read_from_standard_input_or_a_process_substitution() {
    let text = format!("[sources.default]\nsecrets = [{SECRET:?}]\n[ingress]\nmax_in_flight = 5\n");
    let mut shell = std::process::Command::new("bash");
    shell.args([
        "-c",
        "\"$0\" config show --config <(cat) && \"$0\" config show --config /dev/stdin <<<\"$1\"",
    ]);
    shell
        .arg(program().get_program())
        .arg(&text)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = shell.spawn().expect("bash can be run");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        out(&output).matches("ingress.max_in_flight = 5 ").count(),
        2,
        "{}{}",
        out(&output),
        err(&output)
    );
}

#[test]
fn a_secret_file_with_a_blank_line_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, secret) = (folder.path().join("bridge.toml"), folder.path().join("secret"));
    std::fs::write(&secret, format!("{SECRET}\n\n")).expect("written");
    std::fs::write(&file, format!("[sources.default]\nsecret_files = [{secret:?}]\n")).expect("written");
    let (file, secret) = (file.display().to_string(), secret.display().to_string());
    for arguments in [&["config", "check", "--config", &file][..], &["sign", "--secret-file", &secret]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let warning = err(&output);
        assert!(warning.contains("warning: ") && warning.contains("has a blank line"), "{warning}");
        assert!(warning.contains(&secret) && !warning.contains(SECRET), "{warning}");
    }
}
