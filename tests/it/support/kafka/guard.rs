//! One broker process (or another server's), which ends with the test process whatever happens to that.
//!
//! The broker is a child of a few lines of shell (`tests/support-kafka/guard.sh`), which reads from a pipe
//! whose other end is held here alone. When the test process ends, by itself or by SIGKILL, the pipe ends,
//! and the shell kills the broker and removes its directory. Signals go the same way, as lines, so they also
//! reach a broker in a container.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// Run by `sh -c`; its arguments are a name, the directory to remove, and the broker's command.
pub(crate) const SCRIPT: &str = include_str!("../../../support-kafka/guard.sh");

/// A running broker and the shell that watches over it.
pub(crate) struct Guard {
    shell: Child,
    /// None once ended: closing it is the order to kill and clean up.
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
            // Ctrl-C is for the tests; their end is what ends the broker.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let orders = shell.stdin.take();
        let echoes = BufReader::new(shell.stdout.take().expect("standard output is a pipe"));
        Ok(Self { shell, orders, echoes })
    }

    /// Sends a signal (`TERM`, `STOP`, `CONT`) and returns when it was sent. False: the broker had ended, perhaps of this
    /// signal: then the shell may end before it has echoed. [`Self::kill`] waits for the end.
    pub(crate) fn signal(&mut self, name: &str) -> bool {
        let Some(orders) = &mut self.orders else { return false };
        if writeln!(orders, "{name}").is_err() {
            return false;
        }
        let mut echo = String::new();
        matches!(self.echoes.read_line(&mut echo), Ok(length) if length > 0)
    }

    /// Whether the broker has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Kills the broker, keeps its data, and returns its exit status: 137 unless it had ended before.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.signal("KILL");
        // Before the pipe is closed: its end would be the order to remove the data.
        self.shell.wait().expect("the guard is our child")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.shell.wait().expect("the guard is our child");
    }
}
