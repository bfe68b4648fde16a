//! The `nexudus-bridge` program: see `nexudus-bridge --help`.

use std::process::ExitCode;

/// The allocator, also of librdkafka. glibc's allocator spends a tenth of a delivery's time on merging freed chunks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    nexudus_bridge::cli::main()
}
