//! Confirmation by the operator before a command writes. The question is printed on the terminal even if the output of the command
//! is redirected.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};

use super::clean;

/// Returns true if standard input is a terminal. Otherwise no operator can answer, and a command writes without a question.
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Prints the question and reads the answer. Everything but `y` or `yes` means no.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn confirms(question: impl fmt::Display) -> io::Result<bool> {
    write(format_args!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let confirms = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !confirms {
        show("Nothing was written.")?;
    }
    Ok(confirms)
}

/// Shows lines on the terminal.
///
/// # Errors
/// The terminal cannot be written.
pub fn show(text: impl fmt::Display) -> io::Result<()> {
    write(format_args!("{text}\n"))
}

fn write(text: fmt::Arguments<'_>) -> io::Result<()> {
    let terminal = OpenOptions::new().write(true).open("/dev/tty");
    let choice = terminal.as_ref().map_or_else(|_| AutoStream::choice(&io::stderr()), AutoStream::choice);
    let text = clean::lines(&text.to_string(), choice != ColorChoice::Never);
    match terminal {
        Ok(mut terminal) => terminal.write_all(text.as_bytes()),
        Err(_) => io::stderr().write_all(text.as_bytes()),
    }
}
