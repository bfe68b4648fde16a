//! `completions`: a script that completes commands and options in a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::output::Output;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new(); // the generator panics where it cannot write
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let mut out = Output::stdout();
    out.bytes(&script);
    out.end(ExitCode::SUCCESS)
}
