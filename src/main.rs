//! The `nexudus-bridge` program: see `nexudus-bridge --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexudus_bridge::cli::main()
}
