//! The HTTP surface: anything that is written on a connection to a bridge, which is started once. Inputs are structured,
//! so a corpus makes itself.
#![no_main]

#[path = "../../tests/invariants/body.rs"]
mod body;
#[path = "../../tests/invariants/http.rs"]
mod http;

libfuzzer_sys::fuzz_target!(|pieces: http::Pieces| http::nothing_but_signed_records_reaches_a_topic(&pieces));
