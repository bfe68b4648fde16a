//! The log: its format and level. Written to standard error, so that data on standard output stays clean.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Starts logging for the rest of the process. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(directives(&log.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let started = match log.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    drop(started);
}

/// A plain level is meant for the bridge; what the HTTP server says of its workers at `info` is noise beside it.
fn directives(level: &str) -> String {
    match level {
        "info" => "info,actix_server=warn".to_owned(),
        other => other.to_owned(),
    }
}
