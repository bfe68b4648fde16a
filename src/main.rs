//! The `nexudus-bridge` program: see `nexudus-bridge --help`.

use std::process::ExitCode;

/// For librdkafka's allocations too. glibc's allocator spends a tenth of a delivery's time on putting freed pieces
/// together again.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    nexudus_bridge::cli::main()
}
