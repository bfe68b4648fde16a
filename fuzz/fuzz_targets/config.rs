//! The configuration: any file and any variables. Inputs are structured, so a corpus makes itself.
#![no_main]

#[path = "../../tests/invariants/config.rs"]
mod config;
#[path = "../../tests/invariants/topic.rs"]
mod topic;

libfuzzer_sys::fuzz_target!(|written: config::Written| {
    config::loading_names_each_mistake_and_shows_no_secret(&written);
});
