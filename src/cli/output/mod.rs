//! Output of commands: standard output, messages on standard error, tables, styles, numbers and times.
//!
//! Only [`Output`] writes to standard output. Only [`error`], [`warning`] and similar functions write to standard error. Writing
//! never fails, so a command that changes something finishes even if its output cannot be written. The text is cleaned (`clean`),
//! and has no styles in pipes and with `NO_COLOR`. A style never has a meaning that the text lacks.

pub(super) mod clean;
mod question;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

pub use self::clean::one_line;
pub use self::question::{can_ask, confirms, show};

/// The end of a command. The number is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// With `--detailed-exitcode`: there are differences.
    Differs = 3,
}

impl Exit {
    /// Returns [`Exit::Done`] for success, else [`Exit::Failed`].
    pub fn of(success: bool) -> Self {
        if success { Self::Done } else { Self::Failed }
    }

    /// Returns [`Exit::Differs`] if there are differences and `--detailed-exitcode` is given.
    pub fn of_comparison(detailed: bool, differs: bool) -> Self {
        if detailed && differs { Self::Differs } else { Self::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Standard output of one command. The first failure is kept, and all later output is dropped.
pub struct Output {
    stream: Box<dyn Write + Send>,
    styles: bool,
    /// True if standard output is a terminal.
    pub is_terminal: bool,
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

    /// Prints one line; line breaks in `text` become spaces.
    pub fn line(&mut self, text: impl fmt::Display) {
        self.block(joined(text));
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

    /// Prints JSON text and a line break. On a terminal, control characters are escaped; the value stays the same.
    pub fn json_text(&mut self, text: &str) {
        let clean = if self.is_terminal { clean::json(text) } else { text.to_owned() };
        self.bytes(format!("{clean}\n").as_bytes());
    }

    /// Writes bytes unchanged: for binary data, or for the program's own text with control characters.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.stream.write_all(bytes).and_then(|()| self.stream.flush()).err();
        }
    }

    /// Returns true until writing has failed.
    pub fn is_open(&self) -> bool {
        self.failure.is_none()
    }

    /// Ends a command. A pipe that its reader has closed (`| head`) is no failure.
    ///
    /// # Errors
    /// Standard output could not be written.
    pub fn end(self, exit: Exit) -> anyhow::Result<Exit> {
        match self.failure {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(exit),
        }
    }
}

/// Prints an error to standard error.
pub fn error(text: impl fmt::Display) {
    labelled(ERROR, "error:", joined(text));
}

/// Prints an error of several lines to standard error. Not for text of other systems, which could forge lines.
pub fn error_lines(text: impl fmt::Display) {
    labelled(ERROR, "error:", text);
}

/// Prints a failure to standard error. The command continues after this failure.
pub fn failed(text: impl fmt::Display) {
    labelled(ERROR, "failed:", joined(text));
}

/// Prints a warning to standard error.
pub fn warning(text: impl fmt::Display) {
    labelled(WARNING, "warning:", joined(text));
}

/// Prints a note to standard error.
pub fn note(text: impl fmt::Display) {
    labelled(WARNING, "note:", joined(text));
}

/// Prints a hint to standard error.
pub fn hint(text: impl fmt::Display) {
    labelled(WARNING, "hint:", joined(text));
}

/// Prints lines without a label to standard error. Not for text of other systems, which could forge lines.
pub fn message(text: impl fmt::Display) {
    let stderr = io::stderr();
    let styles = AutoStream::choice(&stderr) != ColorChoice::Never;
    let text = clean::lines(&format!("{text}\n"), styles);
    stderr.lock().write_all(text.as_bytes()).ok(); // standard error may be closed or full
}

fn labelled(style: Style, label: &str, text: impl fmt::Display) {
    message(format_args!("{} {text}", styled(style, label)));
}

fn joined(text: impl fmt::Display) -> String {
    text.to_string().replace(['\n', '\t'], " ")
}

/// Returns the number of columns of the terminal on standard output; `None` for a pipe or a file, where nothing is shortened.
pub fn columns() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns.into())
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

/// A mistake in the arguments that clap cannot detect, with the argument and the remedy. The exit code is 2, as for errors of clap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Returns rows under a bold heading, in columns two spaces apart. A `>` aligns a column to the right, for numbers. Each cell
/// becomes one line.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.map(|name| name.trim_start_matches('>')));
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| one_line(cell.as_bytes()))));
    for (column, name) in table.column_iter_mut().zip(heading) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines[0] = styled(HEADING, &lines[0]);
    lines.join("\n")
}

/// Returns `text` in a style.
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns a duration with three digits and a suitable unit: `734 µs`, `1.23 ms`, `45.6 s`, `2 m 03 s`.
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
    let decimals = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.decimals$}")
}

/// Returns a number with separators of thousands: `12,345`.
pub fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Returns an offset, or `unknown` if Kafka did not return it.
pub fn offset(offset: Option<i64>) -> String {
    offset.map_or("unknown".to_owned(), |offset| offset.to_string())
}

/// Returns a number and a noun: `1 event`, `1,200 events`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Returns a spinner, which is shown if standard error is a terminal.
pub fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// Returns the style of a template of indicatif. `{rate}` is the rate per second without decimals.
pub fn progress_style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        write!(out, "{}/s", grouped(state.per_sec().round() as u64)).ok(); // a bar may be cut short
    };
    ProgressStyle::with_template(template).expect("the template is right").with_key("rate", rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Output {
        /// Another stream, which is no terminal.
        pub(in crate::cli) fn to(stream: Box<dyn Write + Send>) -> Self {
            Self { stream, styles: false, is_terminal: false, failure: None }
        }
    }

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
        let rows = [["é😀".to_owned(), "7".to_owned()], ["longer".to_owned(), String::new()]];
        let table = table(["NAME", ">COUNT"], rows);
        let text = anstream::adapter::strip_str(&table).to_string();
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
            let mut out = Output::to(Box::new(Failing(3, kind)));
            out.line("ab");
            assert!(out.is_open());
            out.block("cd");
            out.block("ef");
            out.json(&1);
            assert!(!out.is_open());
            assert_eq!(out.end(Exit::Done).is_err(), fails, "{kind}");
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
