//! `man`: the help of all commands as man pages, for packages and images.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::help;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory, such as /usr/local/share/man/man1; created if it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes `nexudus-bridge.1` and a page for each command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(help::command(), folder));
    written.with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
