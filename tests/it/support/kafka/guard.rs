//! One process of a broker or another server, which ends with the test process in every case.
//!
//! The process is a child of a short shell script (`tests/support-kafka/guard.sh`), which reads from a pipe. Only the test
//! process has the other end of the pipe. When the test process ends, even by SIGKILL, the pipe ends. The shell then kills the
//! broker and removes its directory. Signals are sent as lines through the same pipe, so they also reach a broker in a container.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// The script for `sh -c`. Its arguments are a name, the directory to remove, and the broker's command.
pub(crate) const SCRIPT: &str = include_str!("../../../support-kafka/guard.sh");

/// A running broker and the shell that watches it.
pub(crate) struct Guard {
    shell: Child,
    /// `None` after the end. Closing the pipe is the order to kill the broker and to remove its directory.
    orders: Option<ChildStdin>,
    echoes: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts `command`, which has to run [`SCRIPT`].
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let mut shell = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C must reach only the tests, whose end then ends the broker.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let orders = shell.stdin.take();
        let echoes = BufReader::new(shell.stdout.take().expect("standard output is a pipe"));
        Ok(Self { shell, orders, echoes })
    }

    /// Sends a signal (`TERM`, `STOP`, `CONT`) and returns when it was sent. Returns false if the broker has ended, perhaps
    /// because of this signal: the shell may then end before it has confirmed the signal. [`Self::kill`] waits for the end.
    pub(crate) fn signal(&mut self, name: &str) -> bool {
        let Some(orders) = &mut self.orders else { return false };
        if writeln!(orders, "{name}").is_err() {
            return false;
        }
        let mut echo = String::new();
        matches!(self.echoes.read_line(&mut echo), Ok(length) if length > 0)
    }

    /// Returns the exit status of the broker; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Kills the broker, keeps its data, and returns its exit status: 137 unless it had ended before.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.signal("KILL");
        // The pipe is closed after this wait, since its end would be the order to remove the data.
        self.shell.wait().expect("the guard is our child")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.shell.wait().expect("the guard is our child");
    }
}
