//! `[log]`: format and level.

use super::reader::Section;
use super::reader::values::{text, word};

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// The format of a line.
    pub format: LogFormat,
    /// The level, or directives such as `info,nexudus_bridge=debug`.
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads the section.
pub(super) fn log(mut section: Section<'_>) -> Log {
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        format: section.get("format", "text", word(FORMATS)),
        level: section.get("level", "info", |value| {
            let text = text(value)?;
            match tracing_subscriber::EnvFilter::try_new(&text) {
                Ok(_) if !text.is_empty() => Ok(text),
                _ => Err("is not a log level, expected error, warn, info, debug, trace or directives such as info,nexudus_bridge=debug".into()),
            }
        }),
    };
    section.close();
    log
}
