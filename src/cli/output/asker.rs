//! The question before a command writes, on the terminal that standard input is.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};

use super::clean;

/// Asks a person, wherever the output of the command leads.
pub struct Asker {
    screen: Box<dyn Write>,
    styles: bool,
    shows_stdout: bool,
}

impl Asker {
    /// Returns an asker if standard input is a terminal. Without one nobody can answer, and the command writes without a
    /// question. `data_on_stdout` keeps the question off standard output.
    pub fn new(data_on_stdout: bool) -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let shows_stdout = stdout.is_terminal() && !data_on_stdout;
        let (screen, choice): (Box<dyn Write>, ColorChoice) = if stderr.is_terminal() {
            (Box::new(io::stderr()), AutoStream::choice(&stderr))
        } else if shows_stdout {
            (Box::new(io::stdout()), AutoStream::choice(&stdout))
        } else {
            match OpenOptions::new().write(true).open("/dev/tty") {
                Ok(terminal) => {
                    let choice = AutoStream::choice(&terminal);
                    (Box::new(terminal), choice)
                }
                Err(_) => (Box::new(io::stderr()), ColorChoice::Never),
            }
        };
        Some(Self { screen, styles: choice != ColorChoice::Never, shows_stdout })
    }

    /// Returns true if the person sees standard output.
    pub fn shows_stdout(&self) -> bool {
        self.shows_stdout
    }

    /// Shows lines to the person.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn show(&mut self, text: impl fmt::Display) -> io::Result<()> {
        self.write(&format!("{text}\n"))
    }

    /// Asks whether to write. Everything but `y` or `yes` means no.
    ///
    /// # Errors
    /// The terminal cannot be read or written.
    pub fn confirms(&mut self, question: impl fmt::Display) -> io::Result<bool> {
        self.write(&format!("{question} [y/N] "))?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let confirms = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        if !confirms {
            self.show("Nothing was written.")?;
        }
        Ok(confirms)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.screen.write_all(clean::lines(text, self.styles).as_bytes())?;
        self.screen.flush()
    }
}
