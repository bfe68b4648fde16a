//! Routing: the events of any kept message. Inputs are structured, so a corpus makes itself.
#![no_main]

#[path = "../../tests/invariants/body.rs"]
mod body;
#[path = "../../tests/invariants/route.rs"]
mod route;
#[path = "../../tests/invariants/topic.rs"]
mod topic;

libfuzzer_sys::fuzz_target!(|kept: route::Kept| {
    route::events_keep_bytes_have_lawful_topics_and_the_ids_that_are_promised(&kept);
});
