//! Examples of the documentation. A `toml` block passes `config check`. A `sh` block of the README and of the getting-started
//! page runs as written, against its own `dev`. The block below has the shape of the output. No test runs `console` and `text`,
//! which are for commands that need Docker, sudo, the network or more than a minute.

use std::fs;
use std::process::Output;

use super::page::{Block, Page, pages, repository};
use crate::support::kafka::certificates::Authority;
use crate::support::kafka::free_port;
use crate::support::program::{PROGRAM, Running, err, isolated, out, program};

/// A secret for every kind of secret file: it is text, and base32 for one-time passwords.
const SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// Checks a block as a configuration file. Files that it names exist during the check. A missing source and missing credentials
/// are set in the environment.
fn check_configuration(toml: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Authority::new("an authority").server();
    let mut text = String::new();
    for part in toml.split_inclusive('"') {
        let path = part
            .strip_suffix('"')
            .filter(|path| ["/run/secrets/", "/etc/"].iter().any(|p| path.starts_with(p)));
        let Some(path) = path else {
            text.push_str(part);
            continue;
        };
        let file = folder.path().join(path.trim_start_matches('/').replace('/', "-"));
        let content = match file.extension().and_then(|extension| extension.to_str()) {
            Some("pem" | "crt") => server.certificate.as_str(),
            Some("key") => server.key.as_str(),
            _ => SECRET,
        };
        fs::write(&file, content).expect("written");
        text.push_str(&format!("{}\"", file.display()));
    }
    let file = folder.path().join("example.toml");
    fs::write(&file, &text).expect("written");
    let mut command = program();
    let has = |key: &str| text.lines().any(|line| line.trim().starts_with(key));
    if !has("[sources.") {
        command.env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", format!("[{SECRET:?}]"));
    }
    if has("[nexudus") && !has("public_url") {
        command.env("NEXUDUS_BRIDGE__NEXUDUS__PUBLIC_URL", "https://hooks.example.com");
    }
    if has("[nexudus") && !has("token") && !has("username") {
        command.env("NEXUDUS_BRIDGE__NEXUDUS__TOKEN", SECRET);
    }
    command.args(["config", "check", "--config"]).arg(&file).output().expect("the program can be run")
}

fn blocks(pages: Vec<Page>, language: &str) -> Vec<(String, Block)> {
    let named = |page: Page| {
        let blocks = page.blocks().into_iter().filter(|block| block.language == language);
        blocks.map(|block| (page.name(), block)).collect::<Vec<_>>()
    };
    pages.into_iter().flat_map(named).collect()
}

#[test]
fn every_toml_block_of_the_documentation_passes_config_check() {
    let blocks = blocks(pages(), "toml");
    for (page, block) in &blocks {
        let output = check_configuration(&block.text);
        assert!(output.status.success(), "{page}:\n{}\n{}", block.text, err(&output));
    }
    assert!(blocks.len() > 5, "found {} blocks", blocks.len());
}

#[test]
fn the_example_file_passes_config_check() {
    let example = Page::read(&repository().join("deploy/nexudus-bridge.example.toml"));
    let output = check_configuration(&example.text);
    assert!(output.status.success(), "{}", err(&output));
}

#[test]
fn a_toml_block_with_a_wrong_setting_fails() {
    for (text, mistake) in [
        ("[kafka]\nconfirm_timeout = \"10\"\n", "kafka.confirm_timeout"),
        ("[sources.north]\nsecret_file = \"/run/secrets/north\"\n", "secret_file is not a setting"),
        ("[kafka.properties]\n\"ssl.ca.locaton\" = \"/etc/ca.pem\"\n", "ssl.ca.locaton"),
    ] {
        let output = check_configuration(text);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(err(&output).contains(mistake), "{}", err(&output));
    }
}

/// A `dev` on free ports, and the commands of a reader in a second terminal.
struct Reader {
    _dev: Running,
    ingress: u16,
    kafka: u16,
}

impl Reader {
    fn start() -> Self {
        let [ingress, kafka, admin] = [free_port(), free_port(), free_port()];
        let mut command = program();
        command.arg("dev");
        for (option, port) in [("--port", ingress), ("--kafka-port", kafka), ("--admin-port", admin)] {
            command.args([option, &port.to_string()]);
        }
        let dev = Running::start(&mut command);
        dev.lines_until("Ctrl-C ends it.");
        Self { _dev: dev, ingress, kafka }
    }

    /// Runs a block. `cargo run --` is the program that the tests have built; addresses get the free ports.
    fn run(&self, block: &str) -> Output {
        let Self { ingress, kafka, .. } = self;
        let cargo = format!(
            "cargo() {{\n  shift 2; name=$1; shift\n  case $name in\n    send) set -- --url http://127.0.0.1:{ingress} \"$@\" ;;\n    \
             tail) set -- --bootstrap 127.0.0.1:{kafka} \"$@\" ;;\n  esac\n  {PROGRAM} \"$name\" \"$@\"\n}}"
        );
        let block = block.replace("127.0.0.1:8080", &format!("127.0.0.1:{ingress}"));
        let script = format!("set -eu\n{cargo}\n{block}");
        isolated("sh").args(["-c", &script]).current_dir(repository()).output().expect("a shell can be run")
    }
}

/// Returns a text with each number, time and identifier replaced, so that two runs have the same shape. Only a terminal shortens
/// identifiers, with an ellipsis.
fn shape(text: &str) -> String {
    let is_value = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
    let mut lines = Vec::new();
    for line in text.replace('…', "").trim().lines() {
        let words = line.split_whitespace().map(|word| {
            let shown: String = word
                .chars()
                .map(|c| if is_value(c) && word.chars().any(|c| c.is_ascii_digit()) { '#' } else { c })
                .collect();
            let mut shape = String::new();
            for c in shown.chars() {
                let c = if ",.".contains(c) && shape.ends_with('#') { '#' } else { c };
                if c != '#' || !shape.ends_with('#') {
                    shape.push(c);
                }
            }
            if ["ms", "ms,", "s", "s,", "µs"].contains(&shape.as_str()) { "unit".to_owned() } else { shape }
        });
        lines.push(words.collect::<Vec<_>>().join(" "));
    }
    lines.join("\n")
}

#[test]
fn every_sh_block_runs_as_written_and_its_output_has_the_shape_shown() {
    let mut run = 0;
    for name in ["README.md", "docs/getting-started.md"] {
        let blocks = Page::read(&repository().join(name)).blocks();
        if !blocks.iter().any(|block| block.language == "sh") {
            continue;
        }
        let reader = Reader::start();
        for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
            let output = reader.run(&block.text);
            assert!(output.status.success(), "{name}:\n{}\n{}", block.text, err(&output));
            if let Some(shown) =
                blocks.get(index + 1).filter(|b| ["text", "json"].contains(&b.language.as_str()))
            {
                assert_eq!(shape(&out(&output)), shape(&shown.text), "{name}:\n{}", block.text);
            }
            run += 1;
        }
    }
    assert!(run > 0, "no block was run");
}

#[test]
fn a_failing_block_and_a_different_output_are_detected() {
    let reader = Reader::start();
    assert!(!reader.run("cargo run -- send NoSuchAction\n").status.success());
    assert!(!reader.run("false\ntrue\n").status.success());
    let sent = reader.run("cargo run -- send BookingCreate --count 3\n");
    assert!(out(&sent).contains("3 deliveries in "), "{}", err(&sent));
    assert_eq!(shape("1,000 deliveries in 939 ms, 1,065/s"), shape("3 deliveries in 1.2 s, 31/s"));
    assert_ne!(shape("3 deliveries in 1.2 s"), shape("3 events in 1.2 s"));
    assert_ne!(shape("a 1\nb 2"), shape("a 1"));
}
