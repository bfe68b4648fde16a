//! The reader of the bridge's log. It keeps the last lines. A fault can make it stop reading or close the pipe.

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pipe::fcntl_setpipe_size;

use crate::kafka::pause;

/// The smallest size of a pipe on Linux, which some lines fill.
const PIPE_BYTES: usize = 4096;

const LINES_KEPT: usize = 40;

/// Pause of a reader that does not read.
const PAUSE: Duration = Duration::from_millis(10);

const RELOADED: &str = "sources and secrets were taken over";

const READS: u8 = 0;
const WAITS: u8 = 1;
const GONE: u8 = 2;

/// The log of all processes of a bridge.
#[derive(Default)]
pub(crate) struct Log {
    lines: Arc<Mutex<Lines>>,
    /// State of the reader of the present process.
    reader: Arc<AtomicU8>,
}

#[derive(Default)]
struct Lines {
    last: VecDeque<String>,
    reloads: usize,
}

impl Log {
    /// Makes the pipe that the next process writes its log to.
    pub(crate) fn open(&mut self) -> PipeWriter {
        self.hang_up();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        fcntl_setpipe_size(&writer, PIPE_BYTES).expect("a pipe can be that small");
        self.reader = Arc::new(AtomicU8::new(READS));
        let (lines, state) = (Arc::clone(&self.lines), Arc::clone(&self.reader));
        std::thread::spawn(move || read(reader, &state, &lines));
        writer
    }

    /// Stops reading: the pipe fills, and writing blocks.
    pub(crate) fn block(&self) {
        self.reader.store(WAITS, Ordering::SeqCst);
    }

    /// Continues to read.
    pub(crate) fn go_on(&self) {
        self.reader.store(READS, Ordering::SeqCst);
    }

    /// Closes the pipe of the present process: writing fails.
    pub(crate) fn hang_up(&self) {
        self.reader.store(GONE, Ordering::SeqCst);
    }

    /// Returns the number of configurations that the bridge has reloaded.
    pub(crate) fn reloads(&self) -> usize {
        lock(&self.lines).reloads
    }

    /// Returns the last lines.
    pub(crate) fn last_lines(&self) -> String {
        lock(&self.lines).last.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

fn read(mut pipe: PipeReader, state: &AtomicU8, lines: &Mutex<Lines>) {
    let (mut bytes, mut line) = ([0; 1024], Vec::new());
    loop {
        match state.load(Ordering::SeqCst) {
            READS => {}
            WAITS => {
                pause(PAUSE);
                continue;
            }
            _ => return,
        }
        let count = match pipe.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        for byte in &bytes[..count] {
            if *byte == b'\n' {
                lock(lines).add(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
}

impl Lines {
    fn add(&mut self, line: String) {
        self.reloads += usize::from(line.contains(RELOADED));
        self.last.push_back(line);
        if self.last.len() > LINES_KEPT {
            self.last.pop_front();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
