//! Writer of the log: a bounded queue of lines, and a thread that writes them to standard error.
//!
//! Logging never waits and never fails. A line is dropped and counted if the queue is full or if it cannot be written.
//! `tracing-appender` is not sufficient: it does not count failed writes or bound bytes. At the end of the process it may print with
//! a macro that panics if standard output is closed.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use crate::telemetry::limit::LogLimit;

/// Maximum size of all lines that wait to be written.
const BYTES: usize = 2 * 1024 * 1024;

/// Minimum size that a line counts for, which limits the number of lines to 4096.
const LEAST_BYTES: usize = 512;

/// Pause before another attempt to write to a non-blocking pipe that is full.
const RETRY: Duration = Duration::from_millis(20);

/// Lines that wait to be written.
#[derive(Debug)]
pub(super) struct Queue {
    lines: Sender<Vec<u8>>,
    /// Size of all lines that are not written yet.
    pending: AtomicUsize,
    /// Numbers of dropped lines: because the queue was full, and because they could not be written.
    pub(super) dropped: Arc<[AtomicU64; 2]>,
}

impl Queue {
    /// Starts a thread that writes all lines to `out`. The thread lives as long as the process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let (sender, lines) = mpsc::channel::<Vec<u8>>();
        let queue = Arc::new(Self { lines: sender, pending: AtomicUsize::new(0), dropped: Arc::default() });
        let mut writer = Writer { out, is_torn: false };
        let (written, limit) = (Arc::clone(&queue), LogLimit::default());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut reported = 0;
            for line in lines {
                // A panic must not end the only thread that writes the log.
                let result = catch_unwind(AssertUnwindSafe(|| writer.write(&line)));
                written.pending.fetch_sub(size(&line), Ordering::AcqRel);
                if matches!(result, Ok(Ok(()))) {
                    written.report_dropped(&mut reported, &limit);
                } else {
                    written.dropped[1].fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(queue)
    }

    /// Waits until all lines are written or dropped, but not longer than `time_out`.
    pub(super) fn drain(&self, time_out: Duration) {
        let begun = Instant::now();
        while self.pending.load(Ordering::Acquire) > 0 && begun.elapsed() < time_out {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn push(&self, line: &[u8]) {
        let size = size(line);
        if self.pending.fetch_add(size, Ordering::AcqRel) + size > BYTES {
            self.pending.fetch_sub(size, Ordering::AcqRel);
            self.dropped[0].fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.lines.send(line.to_vec()).ok(); // the thread has the receiver as long as the process lives
    }

    /// Logs the number of dropped lines once the writer has caught up. `reported` is the number in the log so far.
    fn report_dropped(&self, reported: &mut u64, limit: &LogLimit) {
        let [queue_full, write_failed] = [0, 1].map(|index| self.dropped[index].load(Ordering::Relaxed));
        let total = queue_full + write_failed;
        let has_caught_up = self.pending.load(Ordering::Acquire) == 0;
        if total > *reported && has_caught_up && limit.allow().is_some() {
            *reported = total;
            tracing::warn!(queue_full, write_failed, "log lines were dropped since the start");
        }
    }
}

/// Returns the size that a line counts for.
fn size(line: &[u8]) -> usize {
    line.len().max(LEAST_BYTES)
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
