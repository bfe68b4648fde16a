//! The completion scripts, in real shells.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::bridge::MAX_WAIT;
use crate::support::kafka::pause;
use crate::support::program::{err, out, run};

/// Typed keys with the Tab key, and the arguments that the program gets after the completion.
const TYPED: [(&str, &str); 6] = [
    ("ser\t", "serve"),
    ("topics pl\t--det\t", "topics plan --detailed-exitcode"),
    ("catch-up --dr\t", "catch-up --dry-run"),
    ("quarantine rep\t--ag\t", "quarantine replay --again"),
    ("webhooks stat\t--js\t", "webhooks status --json"),
    ("tail --from beg\t", "tail --from beginning"),
];

const INSTALL: &str = "install it (Debian: apt-get install zsh fish; or run tests/run)";

/// An interactive shell on a terminal of its own, which `script` (of util-linux) makes.
struct Shell {
    script: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Shell {
    /// Starts a shell with the prompt `ready>` and without the settings of the user.
    fn start(command: &str) -> Self {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
        script
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("PS1", "ready>")
            .env("TERM", "dumb");
        script.env("HOME", "/nonexistent").env("HISTFILE", "/dev/null").env("LC_ALL", "C.UTF-8");
        let mut script =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux has script");
        let keys = script.stdin.take().expect("piped");
        let mut screen = script.stdout.take().expect("piped");
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..read]);
                shown.lock().expect("the lock is not poisoned").push_str(&text);
            }
        });
        Self { script, keys, seen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
        self.keys.flush().expect("it reads");
    }

    /// Waits for a text on the screen, and drops everything up to its end.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let mut seen = self.seen.lock().expect("the lock is not poisoned");
            if let Some(at) = seen.find(text) {
                *seen = seen.split_off(at + text.len());
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no {text:?} in {seen:?}; if there is no such shell, {INSTALL}"
            );
            drop(seen);
            pause(Duration::from_millis(20));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.script.kill().ok(); // its shell gets SIGHUP
        self.script.wait().ok();
    }
}

/// Types each of [`TYPED`] into a shell that loads its script with `load`. A shell function replaces the program.
fn assert_completions(command: &str, shell: &str, load: &str) {
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), out(&run(&["completions", shell]))).expect("written");
    let mut terminal = Shell::start(command);
    terminal.wait_for("ready>");
    terminal.press(&format!("{load} {}\n", script.path().display()));
    terminal.wait_for("ready>");
    // The quotes make the typed line differ from its output.
    terminal.press("nexudus-bridge() { echo \"got\"\" [$*]\"; }\n");
    terminal.wait_for("ready>");
    for (keys, arguments) in TYPED {
        terminal.press(&format!("nexudus-bridge {keys}\n"));
        terminal.wait_for(&format!("got [{arguments}]"));
        terminal.wait_for("ready>");
    }
}

#[test]
fn bash_completes_commands_subcommands_and_options() {
    assert_completions("bash --norc --noprofile -i", "bash", "source");
}

#[test]
fn zsh_completes_commands_subcommands_and_options() {
    assert_completions("zsh -f -i", "zsh", "autoload -U compinit && compinit -D -u && source");
}

#[test]
fn fish_completes_commands_subcommands_and_options() {
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), out(&run(&["completions", "fish"]))).expect("written");
    let home = tempfile::tempdir().expect("a folder");
    for (keys, arguments) in TYPED {
        let Some((typed, "")) = keys.rsplit_once('\t') else { continue };
        // Earlier words are complete already.
        let words: Vec<&str> = arguments.split(' ').collect();
        let last = typed.rsplit(['\t', ' ']).next().expect("a word");
        let line = [&["nexudus-bridge"], &words[..words.len() - 1], &[last]].concat().join(" ");
        let ask = format!("source {}; complete --do-complete '{line}'", script.path().display());
        let mut fish = Command::new("fish");
        let offered = fish.args(["--no-config", "-c", &ask]).env("HOME", home.path()).output();
        let offered = offered.unwrap_or_else(|error| panic!("fish cannot be run ({error}); {INSTALL}"));
        let wanted = *words.last().expect("a word");
        let found = out(&offered).lines().any(|line| line.split('\t').next() == Some(wanted));
        assert!(found, "{line}: {}{}", out(&offered), err(&offered));
    }
}
