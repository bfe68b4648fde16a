//! Decoding: the records of any body.
//!
//! `cargo +nightly fuzz run -s none decode fuzz/corpus/decode src/sender/payloads -- -dict=fuzz/json.dict`: the sender's
//! payloads are seeds.
#![no_main]

#[path = "../../tests/invariants/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|body: &[u8]| decode::decoding_agrees_with_serde_json(body));
