//! Writer of the log: a bounded queue of lines, and a thread that writes them to standard error.
//!
//! Logging never waits and never fails. A line is dropped and counted if the queue is full or if it cannot be written.
//! `tracing-appender` has not enough of this: it does not count failed writes or bound bytes, and at the end of the process it
//! may print with a macro that panics if standard output is closed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::telemetry::limit::LogLimit;

/// Maximum number of lines that wait to be written.
const LINES: usize = 4096;

/// Maximum number of bytes that wait to be written.
const BYTES: usize = 2 * 1024 * 1024;

/// Pause before another attempt to write to a non-blocking pipe that is full.
const RETRY: Duration = Duration::from_millis(20);

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signals a new line to the writer, and the last written line to threads that wait for the end.
    changed: Condvar,
    queue_full: AtomicU64,
    write_failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// True if the writer holds a line that it has not written yet.
    is_writing: bool,
}

impl Queue {
    /// Starts a thread that writes all lines to `out`. The thread lives as long as the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let mut writer = Writer { out, is_torn: false };
        let (lines, limit) = (Arc::clone(&queue), LogLimit::default());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut reported = 0;
            loop {
                let line = lines.next();
                // A panic must not end the only thread that writes the log.
                let written = catch_unwind(AssertUnwindSafe(|| writer.write(&line)));
                let is_written = matches!(written, Ok(Ok(())));
                lines.finished(line.len(), is_written);
                if is_written {
                    lines.report_dropped(&mut reported, &limit);
                }
            }
        })?;
        Ok(queue)
    }

    /// Returns the number of dropped lines: because the queue was full, and because they could not be written.
    pub(super) fn dropped(&self) -> [u64; 2] {
        [&self.queue_full, &self.write_failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Waits until all lines are written or dropped, but not longer than `time_out`.
    pub(super) fn drain(&self, time_out: Duration) {
        let pending = |state: &mut State| state.is_writing || !state.lines.is_empty();
        self.changed.wait_while_for(&mut self.lock(), pending, time_out);
    }

    fn push(&self, line: &[u8]) {
        let line = line.to_vec();
        let mut state = self.lock();
        if state.lines.len() >= LINES || state.bytes + line.len() > BYTES {
            self.queue_full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                return line;
            }
            self.changed.wait(&mut state);
        }
    }

    fn finished(&self, bytes: usize, is_written: bool) {
        if !is_written {
            self.write_failed.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = self.lock();
        state.bytes -= bytes;
        state.is_writing = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Logs the number of dropped lines once the writer has caught up. `reported` is the number in the log so far.
    fn report_dropped(&self, reported: &mut u64, limit: &LogLimit) {
        let [queue_full, write_failed] = self.dropped();
        let total = queue_full + write_failed;
        if total > *reported && self.lock().lines.is_empty() && limit.allow().is_some() {
            *reported = total;
            tracing::warn!(queue_full, write_failed, "log lines were dropped since the start");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Takes one line per call, as `tracing-subscriber` writes them.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    out: W,
    /// True if the last line is written in part.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?; // otherwise the next line would be broken, too
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    rest = &rest[bytes..];
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
