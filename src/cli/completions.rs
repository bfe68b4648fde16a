//! `completions`: a script that completes commands and options in a shell.

use std::process::ExitCode;

use clap_complete::Shell;

use super::help;
use super::output::Output;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = Output::stdout();
    out.bytes(script(args.shell).as_bytes());
    out.end(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let mut command = help::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new(); // the generator panics where it cannot write
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete 4.6 ends the word `nexudus-bridge` in the state `nexudus__bridge` and names the states of its commands
    // `nexudus__subcmd__bridge__subcmd__…`, so bash never reaches them. A version without the fault has nothing to replace.
    match shell {
        Shell::Bash => script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")),
        _ => script.into_owned(),
    }
}
