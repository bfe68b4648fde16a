//! On a terminal, and what may not reach it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nexudus_bridge::double::demo;
use serde_json::Value;

use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};
use crate::support::program::{out, program};

/// Runs `webhooks apply` with these options and this answer on a terminal, which `script` (of util-linux) stands for. Gives its
/// exit code and what is to be seen.
fn apply(tenant: &Tenant, more: &str, answer: &str) -> (Option<i32>, String) {
    let (program, file) = (env!("CARGO_BIN_EXE_nexudus-bridge"), tenant.file());
    let command = format!("{program} webhooks apply --config {} {more}", file.display());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux has script");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(answer.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    (output.status.code(), out(&output))
}

#[test]
fn an_apply_asks_before_it_writes() {
    let tenant = Tenant::with(SOURCES);
    let apply = |more, answer| apply(&tenant, more, answer);
    let (code, told) = apply("", "n\n");
    assert!(
        told.contains("Write 5 webhooks in Nexudus? [y/N]") && told.contains("Nothing was written."),
        "{told}"
    );
    assert_eq!(told.matches("Plan: 5 to create").count(), 1, "{told}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(1), 0));
    let (code, told) = apply("--source north", "y\n");
    assert!(told.contains("Write 1 webhook in Nexudus?"), "{told}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 1));
    let (code, told) = apply("--yes", "");
    assert!(!told.contains("[y/N]"), "{told}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5));
}

#[test]
fn who_is_asked_sees_the_plan_wherever_standard_output_goes() {
    let tenant = Tenant::with(SOURCES);
    let file = tenant.folder().join("out");
    let to_file = format!("> {}", file.display());
    for more in [to_file.clone(), "--json".to_owned(), format!("--json {to_file}")] {
        let (code, told) = apply(&tenant, &more, "n\n");
        let (before, _) =
            told.split_once("Write 5 webhooks in Nexudus? [y/N]").unwrap_or_else(|| panic!("{told}"));
        assert!(before.contains("+ default TeamUpdated") && before.contains("Plan: 5 to create"), "{told}");
        assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(1), 0), "{told}");
    }
    // The object stays alone on standard output.
    let (code, _) = apply(&tenant, &format!("--json {to_file}"), "y\n");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5));
    let text = std::fs::read_to_string(&file).expect("written");
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(document["created"].as_array().map(Vec::len), Some(5));
    // Nobody is asked: nothing but the object.
    let (code, told) = apply(&tenant, "--json", "");
    assert!(code == Some(0) && told.starts_with('{') && told.trim_end().lines().count() == 1, "{told}");
}

#[test]
fn what_nexudus_keeps_does_nothing_to_a_terminal() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let location = demo::LOCATIONS[0];
    let team = tenant.webhook("/TeamUpdated");
    let url = format!("\"{PUBLIC}/webhooks/TeamUpdated?\\u001b[2J\\u0007\\n+ default Forged\"");
    tenant.nexudus.change_webhook(team, &[("URL", &url)]).expect("there");
    let url = format!("{PUBLIC}/webhooks/TeamCreated?\u{1b}[2J\u{7}\n? default Forged");
    tenant.nexudus.add_webhook(location, "TeamCreated", &url, true).expect("known");
    for command in ["plan", "apply", "status"] {
        // As on a terminal: nothing is stripped on the way.
        let mut run = program();
        run.args(["webhooks", command, "--config"]).arg(tenant.file());
        run.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
        let output = run.output().expect("the program can be run");
        let told = out(&output);
        assert!(output.status.success() && told.contains("TeamCreated"), "{told:?}");
        assert!(!told.contains("\u{1b}[2J") && !told.contains('\u{7}'), "{told:?}");
        assert!(!told.contains("\n+ default Forged") && !told.contains("\n? default Forged"), "{told:?}");
    }
}
