//! The real program, run as a user runs it: with arguments, a file, signals and an exit code.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bridge::MAX_WAIT;

/// The path of the program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nexudus-bridge");

/// Returns a command that runs the program without variables of this machine that could configure it.
pub(crate) fn program() -> Command {
    isolated(PROGRAM)
}

/// Returns a command that runs the program itself, without variables of this machine that could configure the program.
pub(crate) fn isolated(command: &str) -> Command {
    let mut command = Command::new(command);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEXUDUS_BRIDGE") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env_remove("CARGO").current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program can be run")
}

/// Returns standard output as text.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Returns standard error as text.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Returns the value of a header in an object of `tail --json`; null if there is none of that name.
pub(crate) fn header<'a>(event: &'a Value, name: &str) -> &'a Value {
    let headers = event["headers"].as_array().expect("a list").iter();
    headers
        .filter(|header| header["name"] == name)
        .map(|header| &header["value"])
        .next()
        .unwrap_or(&Value::Null)
}

/// A running program. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts the program.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be run");
        let (sender, lines) = channel();
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for pipe in pipes {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// Starts `serve` with this configuration file.
    pub(crate) fn serve(file: &Path) -> Self {
        Self::start(program().args(["serve", "--config"]).arg(file))
    }

    /// Writes `text` to standard input, which the command has made a pipe, and closes it.
    pub(crate) fn write(&mut self, text: &str) {
        let mut input = self.child.stdin.take().expect("a pipe, written once");
        input.write_all(text.as_bytes()).expect("the program reads it");
    }

    /// Waits for a line that contains `text`, on either output, and returns it.
    pub(crate) fn line_with(&self, text: &str) -> String {
        self.lines_until(text).pop().expect("it ends with the line")
    }

    /// Waits for a line that contains `text`. Returns it with all lines since the last call.
    pub(crate) fn lines_until(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + MAX_WAIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let found = line.contains(text);
            seen.push(line);
            if found {
                return seen;
            }
        }
        panic!("no line with {text:?} in\n{}", seen.join("\n"));
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} cannot be sent");
    }

    /// Returns the maximum of the resident memory in bytes, as Linux counts it (`VmHWM`).
    pub(crate) fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        let kilobytes: u64 = peak.and_then(|text| text.trim().parse().ok()).expect("a number of kB");
        kilobytes * 1024
    }

    /// Resets the maximum of the resident memory, and returns the resident bytes at this time.
    pub(crate) fn reset_peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
        self.peak_bytes()
    }

    /// Waits for the end of the program. Returns its exit status, and its output since the last call.
    pub(crate) fn ended(mut self, within: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                break status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            super::kafka::pause(Duration::from_millis(20));
        };
        let rest: Vec<String> = self.lines.iter().collect();
        (status, rest.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended already
        self.child.wait().ok();
        if let Some(pipe) = &mut self.child.stdout {
            pipe.read_to_end(&mut Vec::new()).ok();
        }
    }
}

/// Returns the value after `name=` in a log line.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let at = line.find(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}")) + name.len() + 1;
    line[at..].split_whitespace().next().expect("a value")
}
