//! Output of commands: standard output, messages on standard error, tables, styles, numbers and times.
//!
//! [`Output`] is the only way to standard output, and [`error`], [`warning`] and their kind are the only way to standard
//! error. Neither can break a command off, so a command that changes something finishes whatever happens to its output. Both
//! clean what they print (see `clean`) and drop styles where nobody wants them (pipes, `NO_COLOR`). A style is never the
//! only sign of something: the words are enough.

mod asker;
pub(super) mod clean;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;

pub use self::asker::Asker;
pub use self::clean::one_line;

/// Standard output of one command.
///
/// Writing never fails: the first failure is kept, what follows is dropped, and [`Output::end`] makes the failure the result
/// of the command.
pub struct Output {
    stream: Box<dyn Write + Send>,
    styles: bool,
    is_terminal: bool,
    failure: Option<io::Error>,
}

impl Output {
    /// Standard output of the process.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let styles = AutoStream::choice(&stdout) != ColorChoice::Never;
        let is_terminal = stdout.is_terminal();
        Self { stream: Box::new(stdout), styles, is_terminal, failure: None }
    }

    /// Another stream, which is no terminal.
    #[cfg(test)]
    pub(in crate::cli) fn to(stream: Box<dyn Write + Send>) -> Self {
        Self { stream, styles: false, is_terminal: false, failure: None }
    }

    /// Prints one line; line breaks in `text` become spaces.
    pub fn line(&mut self, text: impl fmt::Display) {
        let text = text.to_string().replace(['\n', '\t'], " ");
        self.block(text);
    }

    /// Prints lines, and a line break behind the last.
    pub fn block(&mut self, text: impl fmt::Display) {
        self.bytes(clean::lines(&format!("{text}\n"), self.styles).as_bytes());
    }

    /// Prints one JSON document on a line of its own.
    pub fn json(&mut self, document: &impl Serialize) {
        match serde_json::to_string(document) {
            Ok(text) => self.json_text(&text),
            Err(error) => self.failure = self.failure.take().or_else(|| Some(error.into())),
        }
    }

    /// Prints text that is JSON, with a line break behind it. Only a terminal gets other bytes, which mean the same.
    pub fn json_text(&mut self, text: &str) {
        let clean = if self.is_terminal { clean::json(text) } else { text.to_owned() };
        self.bytes(format!("{clean}\n").as_bytes());
    }

    /// Writes bytes as they are: for data that is no text, or text of ours that has to keep its control characters.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.stream.write_all(bytes).and_then(|()| self.stream.flush()).err();
        }
    }

    /// Returns true until writing has failed.
    pub fn is_open(&self) -> bool {
        self.failure.is_none()
    }

    /// Ends a command with this exit code. A reader that has closed the pipe (`| head`) has read enough; that is no failure.
    ///
    /// # Errors
    /// Standard output could not be written.
    pub fn end(self, code: ExitCode) -> anyhow::Result<ExitCode> {
        match self.failure {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(code),
        }
    }
}

/// Prints an error to standard error.
pub fn error(text: impl fmt::Display) {
    labelled(ERROR, "error:", text);
}

/// Prints an error of several lines to standard error. Not for text from elsewhere, which could forge lines.
pub fn error_lines(text: impl fmt::Display) {
    to_stderr(&format!("{} {text}\n", styled(ERROR, "error:")));
}

/// Prints what failed to standard error, where the command goes on.
pub fn failed(text: impl fmt::Display) {
    labelled(ERROR, "failed:", text);
}

/// Prints a warning to standard error.
pub fn warning(text: impl fmt::Display) {
    labelled(WARNING, "warning:", text);
}

/// Prints a note to standard error.
pub fn note(text: impl fmt::Display) {
    labelled(WARNING, "note:", text);
}

/// Prints a hint to standard error.
pub fn hint(text: impl fmt::Display) {
    labelled(WARNING, "hint:", text);
}

/// Prints lines without a label to standard error. Not for text from elsewhere, which could forge lines.
pub fn message(text: impl fmt::Display) {
    to_stderr(&format!("{text}\n"));
}

fn labelled(style: Style, label: &str, text: impl fmt::Display) {
    let text = text.to_string().replace(['\n', '\t'], " ");
    to_stderr(&format!("{} {text}\n", styled(style, label)));
}

/// Standard error may be closed or full; a command does not end because of it.
fn to_stderr(text: &str) {
    let stderr = io::stderr();
    let text = clean::lines(text, AutoStream::choice(&stderr) != ColorChoice::Never);
    stderr.lock().write_all(text.as_bytes()).ok();
}

/// Returns true if a person can read standard output as it is printed.
pub fn is_stdout_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns true if a person can read standard error as it is printed.
pub fn is_stderr_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns the number of columns of the terminal behind standard output; none in a pipe or file, where nothing is shortened.
pub fn columns() -> Option<usize> {
    let columns = console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
    columns.filter(|_| is_stdout_terminal())
}

/// Headings, and the subject of a line.
pub const HEADING: Style = Style::new().bold();
/// Failures.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Warnings.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Successes and additions.
pub const ADDED: Style = AnsiColor::Green.on_default();
/// Details.
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
    /// Makes a table with this heading. A `>` aligns a column to the right, for numbers.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heading.map(|name| name.trim_start_matches('>')));
        for (column, name) in table.column_iter_mut().zip(heading) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row; each cell becomes one line.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells.map(|cell| one_line(cell.as_bytes())));
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

/// Returns `text` in a style.
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

/// Returns a number with its thousands apart: `12,345`.
pub fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Returns an offset, or `unknown` if Kafka did not name it.
pub fn offset(offset: Option<i64>) -> String {
    offset.map_or("unknown".to_owned(), |offset| offset.to_string())
}

/// Returns a number and a noun: `1 event`, `1,200 events`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Returns exit code 0 for success, else 1.
pub fn exit(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A spinner on standard error, if that is a terminal.
pub fn spinner() -> ProgressBar {
    if !is_stderr_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar of this style on standard error, if that is a terminal and there is more than one thing to wait for.
pub fn progress(count: u64, style: ProgressStyle) -> ProgressBar {
    if count < 2 || !is_stderr_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(count).with_style(style)
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
        let mut table = Table::new(["NAME", ">COUNT"]);
        table.row(["é😀".to_owned(), "7".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "NAME    COUNT\né😀         7\nlonger");
    }

    /// A stream that takes so many bytes and then fails.
    struct Failing(usize, io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failure_ends_the_output_and_nothing_else_and_a_closed_pipe_is_none() {
        for (kind, fails) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let stream = Box::new(Failing(3, kind));
            let mut out = Output::to(stream);
            out.line("ab");
            assert!(out.is_open());
            out.block("cd");
            out.block("ef");
            out.json(&1);
            assert!(!out.is_open());
            assert_eq!(out.end(ExitCode::SUCCESS).is_err(), fails, "{kind}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let (reader, writer) = io::pipe().unwrap();
        let mut out = Output { is_terminal: true, ..Output::to(Box::new(writer)) };
        out.line(styled(ERROR, "a\n+ forged"));
        out.json(&"\u{9b}");
        drop(out);
        assert_eq!(io::read_to_string(reader).unwrap(), "a + forged\n\"\\u009b\"\n");
    }
}
