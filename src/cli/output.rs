//! How commands print: tables, styles, numbers and times for people, and the quiet end of a closed pipe.
//!
//! Everything goes through `anstream`, which drops styles where they are not wanted (pipes, `NO_COLOR`), so nothing here
//! asks. A style is never the only sign of something: the words say it too.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Headings, and what a line is about.
pub const HEADING: Style = Style::new().bold();
/// What has failed.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What is as it should be, or new.
pub const ADDED: Style = AnsiColor::Green.on_default();
/// What is there for completeness.
pub const FAINT: Style = Style::new().dimmed();

/// A mistake in the arguments that only the command itself could see. Ends with exit code 2, as clap's own do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    /// The message: what was wrong, where, what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A table without lines: a bold heading, columns two spaces apart, as wide as its contents.
pub struct Table(comfy_table::Table);

impl Table {
    /// A table with this heading.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heading);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// Aligns a column, counted from 0, to the right: for numbers.
    pub fn align_right(&mut self, column: usize) {
        if let Some(column) = self.0.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

/// Without a line break at the end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.lines().enumerate() {
            let line = line.trim_end();
            match number {
                0 => write!(f, "{}", styled(HEADING, line))?,
                _ => write!(f, "\n{line}")?,
            }
        }
        Ok(())
    }
}

/// `text` in a style.
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

/// A duration with three digits and the unit that suits it: `734 µs`, `1.23 ms`, `45.6 s`, `2 m 03 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    // Each bound is where rounding would reach the next unit.
    match seconds {
        _ if seconds < 999.5e-6 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 0.9995 => format!("{} ms", three_digits(seconds * 1e3)),
        _ if seconds < 59.95 => format!("{} s", three_digits(seconds)),
        _ => {
            let seconds = seconds.round() as u64;
            format!("{} m {:02} s", seconds / 60, seconds % 60)
        }
    }
}

fn three_digits(number: f64) -> String {
    match number {
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A number with its thousands apart: `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as one line of text that does nothing to a terminal: what is not UTF-8 and every control character, line breaks
/// and escapes included, becomes a visible stand-in.
pub fn one_line(bytes: &[u8]) -> String {
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(visible).collect()
}

/// Prints one JSON object on a line of its own.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    serde_json::to_writer(&mut out, document)?;
    writeln!(out)
}

/// A bar of this style on standard error, if that is a terminal and there is more than one thing to wait for.
pub fn progress(count: u64, style: ProgressStyle) -> ProgressBar {
    if count < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(count).with_style(style)
}

/// The end of a command that has only printed. Whoever closed the pipe (`| head`) has seen enough; that is no failure.
///
/// # Errors
/// Any other failure to write.
pub fn printed(result: io::Result<()>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (micros, text) in [
            (0, "0 µs"),
            (734, "734 µs"),
            (999, "999 µs"),
            (1_000, "1.00 ms"),
            (9_994, "9.99 ms"),
            (9_996, "10.0 ms"),
            (123_456, "123 ms"),
            (999_499, "999 ms"),
            (999_600, "1.00 s"),
            (45_600_000, "45.6 s"),
            (59_960_000, "1 m 00 s"),
            (123_000_000, "2 m 03 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_table_is_its_columns_and_nothing_else() {
        let mut table = Table::new(["NAME", "COUNT"]);
        table.align_right(1);
        table.row(["é😀".to_owned(), "7".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "NAME    COUNT\né😀         7\nlonger");
    }

    #[test]
    fn what_could_move_a_terminals_cursor_is_not_printed() {
        assert_eq!(one_line(b"a\n\x1b[2Jb\xFF\x07"), "a \u{FFFD}[2Jb\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_end() {
        assert!(printed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(printed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
