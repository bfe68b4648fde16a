//! A running consumer, started as in its README. It ends with the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kafka::{GUARD_SCRIPT, Guard};
use crate::wait_until;

/// Upper bound of the time from SIGTERM to the end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Exit status of a shell whose command was killed.
const KILLED: i32 = 128 + 9;

/// One process of a consumer group.
pub(crate) struct Member {
    name: String,
    guard: Guard,
    folder: tempfile::TempDir,
}

impl Member {
    pub(crate) fn start(name: &str, command: &[PathBuf], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("consumer-").tempdir().expect("a temporary directory");
        let log_folder = folder.path().join("log");
        std::fs::create_dir(&log_folder).expect("our own directory");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(GUARD_SCRIPT).arg("guard").arg(&log_folder).args(command);
        shell.envs(environment.iter().copied());
        let guard = Guard::start(shell).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        Self { name: name.to_owned(), guard, folder }
    }

    pub(crate) fn log(&self) -> String {
        let log: &Path = &self.folder.path().join("log/broker.log");
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Returns the newest value of a counter in the log, such as `applied`.
    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        let log = self.log();
        let text = log.rsplit_once(&format!(" {name}="))?.1;
        text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())].parse().ok()
    }

    /// Fails with the log if the process has ended.
    pub(crate) fn is_running(&mut self) {
        if let Some(status) = self.guard.ended() {
            panic!("{} has ended ({status}):\n{}", self.name, self.log());
        }
    }

    /// Ends the process with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.is_running();
        let status = self.guard.kill();
        assert_eq!(status.code(), Some(KILLED), "{} had ended before it was killed", self.name);
    }

    /// Ends the process with SIGTERM, asserts the exit status 0, and returns the log.
    pub(crate) fn stop(mut self) -> String {
        self.is_running();
        self.guard.signal("TERM");
        let mut ended = None;
        let begun = Instant::now();
        wait_until(&format!("{} ends after SIGTERM:\n{}", self.name, self.log()), ENDS_WITHIN, || {
            ended = self.guard.ended();
            ended.is_some()
        });
        let log = self.log();
        assert!(ended.is_some_and(|status| status.success()), "{} ended with {ended:?}:\n{log}", self.name);
        assert!(
            log.contains("stopped applied="),
            "{} ended too soon ({:?}):\n{log}",
            self.name,
            begun.elapsed()
        );
        log
    }
}
