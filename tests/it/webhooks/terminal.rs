//! Commands on a terminal: questions, waits, and text that must not control the terminal.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use nexudus_double::{Fault, Matching, RetryAfter, demo};
use serde_json::Value;

use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};
use crate::support::program::{err, out, program};

/// A command on a terminal, which `script` (of util-linux) provides.
struct OnTerminal {
    child: Child,
    shown: String,
}

impl OnTerminal {
    /// Starts `webhooks` with these arguments, as a shell reads them.
    fn start(tenant: &Tenant, arguments: &str) -> Self {
        Self::command(tenant, &format!("webhooks {arguments}"))
    }

    /// Starts a command with its arguments, as a shell reads them.
    fn command(tenant: &Tenant, command: &str) -> Self {
        let (program, file) = (env!("CARGO_BIN_EXE_nexudus-bridge"), tenant.file());
        let command = format!("{program} --config {} {command}", file.display());
        let child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux has script");
        Self { child, shown: String::new() }
    }

    /// Waits until the terminal shows `text`.
    fn wait_for(&mut self, text: &str) {
        let output = self.child.stdout.as_mut().expect("piped");
        let mut buffer = [0; 4096];
        let seen = self.shown.len();
        while !self.shown[seen..].contains(text) {
            let read = output.read(&mut buffer).expect("readable");
            assert!(read > 0, "no {text:?} in {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Waits until the terminal shows `text`, then types a line.
    fn answer(&mut self, text: &str, line: &str) {
        self.wait_for(text);
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    /// Waits for the end; returns the exit code and all that the terminal showed.
    fn end(mut self) -> (Option<i32>, String) {
        let stdin = self.child.stdin.take(); // closing it would end the terminal
        let output = self.child.wait_with_output().expect("it ends");
        drop(stdin);
        (output.status.code(), self.shown + &out(&output))
    }
}

/// Runs `webhooks apply` with these options and this answer on a terminal. Returns its exit code and the text on the terminal.
fn apply(tenant: &Tenant, more: &str, answer: &str) -> (Option<i32>, String) {
    let mut apply = OnTerminal::start(tenant, &format!("apply {more}"));
    let input = apply.child.stdin.as_mut().expect("piped");
    input.write_all(answer.as_bytes()).expect("it reads");
    apply.end()
}

#[test]
fn an_apply_asks_before_it_writes() {
    let tenant = Tenant::with(SOURCES);
    let apply = |more, answer| apply(&tenant, more, answer);
    let (code, printed) = apply("", "n\n");
    assert!(
        printed.contains("Write 5 webhooks in Nexudus? [y/N]") && printed.contains("Nothing was written."),
        "{printed}"
    );
    assert_eq!(printed.matches("Plan: 5 to create").count(), 1, "{printed}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(1), 0));
    let (code, printed) = apply("--source north", "y\n");
    assert!(printed.contains("Write 1 webhook in Nexudus?"), "{printed}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 1));
    let (code, printed) = apply("--yes", "");
    assert!(!printed.contains("[y/N]"), "{printed}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5));
}

#[test]
fn the_plan_is_shown_before_the_question_even_if_standard_output_is_redirected() {
    let tenant = Tenant::with(SOURCES);
    let file = tenant.folder().join("out");
    let to_file = format!("> {}", file.display());
    // If standard error and standard output are not the terminal, the question is written to the terminal device.
    let log = format!("2> {}", tenant.folder().join("log").display());
    let elsewhere = [to_file.clone(), log.clone(), format!("{to_file} {log}")];
    let with_json = elsewhere.clone().map(|elsewhere| format!("--json {elsewhere}"));
    for more in elsewhere.into_iter().chain(with_json).chain(["--json".to_owned()]) {
        let (code, printed) = apply(&tenant, &more, "n\n");
        let (before, _) =
            printed.split_once("Write 5 webhooks in Nexudus? [y/N]").unwrap_or_else(|| panic!("{printed}"));
        assert!(
            before.contains("+ default TeamUpdated") && before.contains("Plan: 5 to create"),
            "{printed}"
        );
        assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(1), 0), "{printed}");
    }
    // Standard output has only the object.
    let (code, _) = apply(&tenant, &format!("--json {to_file}"), "y\n");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5));
    let text = std::fs::read_to_string(&file).expect("written");
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(document["created"].as_array().map(Vec::len), Some(5));
    // Without a question, only the object is printed.
    let (code, printed) = apply(&tenant, "--json", "");
    assert!(
        code == Some(0) && printed.starts_with('{') && printed.trim_end().lines().count() == 1,
        "{printed}"
    );
}

#[test]
fn an_apply_lists_again_after_the_answer() {
    let tenant = Tenant::with(SOURCES);
    // Somebody else applies everything while the question waits.
    let mut late = OnTerminal::start(&tenant, "apply");
    late.wait_for("Write 5 webhooks in Nexudus? [y/N] ");
    tenant.apply();
    late.answer("", "y");
    let (code, shown) = late.end();
    assert!(
        shown.contains("Somebody else has changed") && shown.contains("No changes. 5 webhooks match"),
        "{shown}"
    );
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5), "{shown}");

    // Somebody else applies a part; the question is about the rest.
    for id in ["/TeamUpdated", "/north/BookingCreate"].map(|path| tenant.webhook(path)) {
        tenant.nexudus.remove_webhook(id);
    }
    let mut late = OnTerminal::start(&tenant, "apply");
    late.wait_for("Write 2 webhooks in Nexudus? [y/N] ");
    tenant.prints(&["webhooks", "apply", "--source", "north"], 0);
    late.answer("", "y");
    late.answer("Write 1 webhook in Nexudus? [y/N] ", "y");
    let (code, shown) = late.end();
    assert!(shown.contains("Applied: 1 created, 0 changed, 0 failed."), "{shown}");
    assert_eq!((code, tenant.nexudus.webhooks().len()), (Some(0), 5), "{shown}");
}

#[test]
fn an_enable_lists_disabled_webhooks_and_who_disabled_them_and_asks() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let [create, team] = ["/webhooks/BookingCreate", "/TeamUpdated"].map(|path| tenant.webhook(path));
    for (id, errors) in [(create, "10"), (team, "9")] {
        tenant.nexudus.change_webhook(id, &[("Active", "false"), ("ErrorCount", errors)]).expect("exists");
    }
    let active = || [create, team].map(|id| tenant.nexudus.webhook(id).expect("exists").active);
    let mut enable = OnTerminal::start(&tenant, "enable");
    enable.answer("Enable 2 webhooks in Nexudus? [y/N] ", "n");
    let (code, shown) = enable.end();
    assert!(
        shown.contains(&format!("default BookingCreate {create}: disabled by Nexudus, failures: 10")),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("default TeamUpdated {team}: disabled by a person, failures: 9")),
        "{shown}"
    );
    assert!(shown.contains("Nothing was written."), "{shown}");
    assert_eq!((code, active()), (Some(1), [false, false]));
    let mut enable = OnTerminal::start(&tenant, "enable BookingCreate 2> /dev/null");
    enable.answer("Enable 1 webhook in Nexudus? [y/N] ", "y");
    assert_eq!((enable.end().0, active()), (Some(0), [true, false]));
    let (code, shown) = OnTerminal::start(&tenant, "enable --yes").end();
    assert!(!shown.contains("[y/N]"), "{shown}");
    assert_eq!((code, active()), (Some(0), [true, true]));
    let (code, shown) = OnTerminal::start(&tenant, "enable").end();
    assert!(code == Some(0) && !shown.contains("[y/N]"), "no question without a change: {shown}");
}

#[test]
fn texts_from_nexudus_cannot_control_a_terminal() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let location = demo::LOCATIONS[0];
    let team = tenant.webhook("/TeamUpdated");
    let url = format!("\"{PUBLIC}/webhooks/TeamUpdated?\\u001b[2J\\u0007\\n+ default Forged\"");
    tenant.nexudus.change_webhook(team, &[("URL", &url)]).expect("exists");
    let url = format!("{PUBLIC}/webhooks/TeamCreated?\u{1b}[2J\u{7}\n? default Forged");
    tenant.nexudus.add_webhook(location, "TeamCreated", &url, true).expect("known");
    for command in ["plan", "apply", "status"] {
        // As on a terminal, so that no style is removed.
        let mut run = program();
        run.args(["webhooks", command, "--config"]).arg(tenant.file());
        run.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
        let output = run.output().expect("the program can be run");
        let printed = out(&output);
        assert!(output.status.success() && printed.contains("TeamCreated"), "{printed:?}");
        assert!(!printed.contains("\u{1b}[2J") && !printed.contains('\u{7}'), "{printed:?}");
        assert!(
            !printed.contains("\n+ default Forged") && !printed.contains("\n? default Forged"),
            "{printed:?}"
        );
    }
}

/// A wait can last minutes. A command shows its reason and its length.
#[test]
fn a_wait_shows_its_reason_and_its_length_with_and_without_a_terminal() {
    const REASON: &str = "for the end of Nexudus's throttling";
    std::thread::scope(|scope| {
        for command in
            ["webhooks plan", "webhooks status", "webhooks enable", "catch-up --since 1h --dry-run"]
        {
            for terminal in [false, true] {
                scope.spawn(move || {
                    let tenant = Tenant::with(SOURCES);
                    tenant.nexudus.fault(
                        Matching::get("/api/sys/businesses"),
                        Fault::Throttled(409, RetryAfter::Seconds(4)),
                    );
                    let (code, printed) = if terminal {
                        OnTerminal::command(&tenant, command).end()
                    } else {
                        let output = tenant.run(&command.split(' ').collect::<Vec<_>>());
                        assert!(!out(&output).contains("waiting"), "{command}: {}", out(&output));
                        (output.status.code(), err(&output))
                    };
                    assert_eq!(code, Some(0), "{command}: {printed}");
                    let line = printed.lines().find(|line| line.contains("waiting")).unwrap_or_default();
                    let has_length = line.contains(" 4.00 s ") || line.contains(" 3.9");
                    assert!(has_length && line.contains(REASON), "{command}: {printed:?}");
                });
            }
        }
    });
}
