//! Routing: the events of any kept message.
//!
//! `cargo +nightly fuzz run -s none route -- -len_control=0 -max_len=2000`: inputs are structured, so a corpus makes itself, and
//! short ones say little.
#![no_main]

#[path = "../../tests/invariants/body.rs"]
mod body;
#[path = "../../tests/invariants/route.rs"]
mod route;
#[path = "../../tests/invariants/topic.rs"]
mod topic;

libfuzzer_sys::fuzz_target!(|kept: route::Kept| {
    route::events_keep_bytes_and_have_valid_topics_and_the_documented_ids(&kept);
});
