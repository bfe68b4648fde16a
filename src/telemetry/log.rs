//! The log: its format, its level and its bounds. Written to standard error, so that data on standard output stays clean.
//!
//! The names of fields are the README's, the same in every line; what a line says for people is in `message` and may
//! change. A library's lines are not ours to bound one by one, and a stranger's connections can cause some, so each of
//! them comes once in [`INTERVAL`](super::limit::INTERVAL) at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::limit::Limit;
use crate::config::{Log, LogFormat};

/// Starts logging for the rest of the process. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(directives(&log.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let started = match log.format {
        LogFormat::Text => lines.with_target(false).finish().with(Others::default()).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.finish().with(Others::default()).try_init()
        }
    };
    if started.is_ok() && log.format == LogFormat::Json {
        // A panic's own words are several lines of text.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let error = panic.payload_as_str().unwrap_or_default();
            tracing::error!(place, error, "a thread panicked");
        }));
    }
}

/// A plain level is meant for the bridge; what the HTTP server says of its workers at `info` is noise beside it.
fn directives(level: &str) -> String {
    match level {
        "info" => "info,actix_server=warn".to_owned(),
        other => other.to_owned(),
    }
}

/// Bounds the lines of libraries, each by its place in their code. Who asks for `debug` or `trace` gets all of those.
#[derive(Default)]
struct Others {
    limits: Mutex<HashMap<Identifier, Limit>>,
}

impl<S: Subscriber> Layer<S> for Others {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let line = event.metadata();
        if line.target().starts_with("nexudus_bridge") || *line.level() > Level::INFO {
            return true;
        }
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.entry(line.callsite()).or_default().left_out().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::registry;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_library_s_line_comes_once_and_ours_and_those_asked_for_come_each_time() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines).with(Others::default()), || {
            for _ in 0..100 {
                tracing::error!(target: "actix_http", "a stranger's");
                tracing::info!(target: "actix_http", "another");
                tracing::warn!("ours");
                tracing::debug!(target: "actix_http", "asked for");
            }
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines_with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        let counts = ["a stranger's", "another", "ours", "asked for"].map(lines_with);
        assert_eq!(counts, [1, 1, 100, 100], "{text}");
    }
}
