//! The configuration: any file and any variables.
//!
//! `cargo +nightly fuzz run -s none config -- -len_control=0 -max_len=1000`: inputs are structured, so a corpus makes itself, and
//! short ones say little.
#![no_main]

#[path = "../../tests/invariants/config.rs"]
mod config;
#[path = "../../tests/invariants/topic.rs"]
mod topic;

libfuzzer_sys::fuzz_target!(|written: config::Written| {
    config::loading_names_each_mistake_and_shows_no_secret(&written);
});
