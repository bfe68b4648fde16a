//! The log: its format, level and bounds. It goes to standard error, since commands write data to standard output.
//!
//! A thread writes the lines (`writer`), so logging never waits for standard error and never fails.
//!
//! `docs/observability.md` lists the fields. Their names never change; the text of `message` may change. Clients can cause
//! lines of libraries, so each of these lines is written at most once in [`INTERVAL`](super::limit::INTERVAL).

mod writer;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use self::writer::Queue;
use super::limit::LogLimits;
use crate::config::{Log, LogFormat};

/// Maximum time that the end of the process waits until the last lines are written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The running log. Its drop waits until the last lines are written, for a second at most.
#[derive(Debug)]
#[must_use = "dropping it is the end of the log"]
pub struct Logger {
    queue: Arc<Queue>,
}

impl Logger {
    /// Returns the numbers of dropped lines: because the queue was full, and because they could not be written.
    pub fn dropped_lines(&self) -> Arc<[AtomicU64; 2]> {
        Arc::clone(&self.queue.dropped)
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.queue.drain(LAST_LINES);
    }
}

/// Starts logging for the rest of the process, panics included. A second call changes nothing.
///
/// # Errors
/// The system has no thread left.
pub fn start(log: &Log) -> io::Result<Logger> {
    let filter = EnvFilter::try_new(directives(&log.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = io::stderr();
    let colour = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
    // Not `Stderr`: a blocked write would hold its lock, and every other print would wait.
    let queue = Queue::start(File::from(stderr.as_fd().try_clone_to_owned()?))?;
    let lines = fmt().with_env_filter(filter).with_writer(Arc::clone(&queue)).with_ansi(colour);
    let lines = lines.log_internal_errors(false); // otherwise the library prints them itself, and panics if that fails
    let started = match log.format {
        LogFormat::Text => lines.with_target(false).finish().with(LibraryLines::default()).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.finish().with(LibraryLines::default()).try_init()
        }
    };
    if started.is_ok() {
        // The hook of the standard library writes several lines of text, and blocks if standard error is not read.
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(Logger { queue })
}

/// Logs a panic. It must not panic itself, since that would abort the process.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let error = panic.payload_as_str().unwrap_or_default();
    let current = std::thread::current();
    let thread = current.name().unwrap_or_default();
    tracing::error!(place, thread, error, "a thread panicked");
}

/// Returns the filter of a configured level. `actix_http` logs each malformed request as an error, so these lines are written
/// only at `debug` and `trace`. The lines of `actix_server` about its workers are noise at `info`.
fn directives(level: &str) -> String {
    match level {
        "debug" | "trace" => level.to_owned(),
        "info" => format!("{CLIENTS_ERRORS}=off,actix_server=warn,info"),
        other => format!("{CLIENTS_ERRORS}=off,{other}"),
    }
}

/// The module of `actix-http` that logs the errors of clients.
const CLIENTS_ERRORS: &str = "actix_http::h1::dispatcher";

/// Limits the lines of libraries, each place in their code by itself. Lines of `debug` and `trace` are not limited.
#[derive(Default)]
struct LibraryLines {
    limits: LogLimits<Identifier>,
}

impl<S: Subscriber> Layer<S> for LibraryLines {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let line = event.metadata();
        if line.target().starts_with("nexudus_bridge") || *line.level() > Level::INFO {
            return true;
        }
        self.limits.allow(line.callsite()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::registry;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_with_its_place_thread_and_words() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let thread = std::thread::Builder::new().name("some-thread".to_owned()).spawn(|| {
            tracing::subscriber::with_default(registry().with(lines), || panic!("on {}", "purpose"));
        });
        assert!(thread.unwrap().join().is_err());
        std::panic::set_hook(before);
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in ["ERROR", "a thread panicked", "src/telemetry/log.rs:", "some-thread", "on purpose"] {
            assert!(text.contains(part), "no {part}: {text}");
        }
    }

    #[test]
    fn a_library_s_line_comes_once_and_ours_and_those_asked_for_come_each_time() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines).with(LibraryLines::default()), || {
            for _ in 0..100 {
                tracing::error!(target: "actix_http", "a client's");
                tracing::info!(target: "actix_http", "another");
                tracing::warn!("ours");
                tracing::debug!(target: "actix_http", "asked for");
            }
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let lines_with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        let counts = ["a client's", "another", "ours", "asked for"].map(lines_with);
        assert_eq!(counts, [1, 1, 100, 100], "{text}");
    }
}
