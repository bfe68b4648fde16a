//! The HTTP surface: anything that is written on a connection to a bridge, which is started once.
//!
//! `cargo +nightly fuzz run -s none http -- -len_control=0 -max_len=2000`: inputs are structured, so a corpus makes itself, and
//! short ones say little.
#![no_main]

#[path = "../../tests/invariants/body.rs"]
mod body;
#[path = "../../tests/invariants/http.rs"]
mod http;
#[path = "../../tests/invariants/request.rs"]
mod request;

libfuzzer_sys::fuzz_target!(|pieces: request::Pieces| http::nothing_but_signed_records_reaches_a_topic(&pieces));
