//! The signature: folding and verifying, for any body.
//!
//! `cargo +nightly fuzz run -s none fold fuzz/corpus/fold src/sender/payloads`: the sender's payloads are seeds.
#![no_main]

#[path = "../../tests/invariants/fold.rs"]
mod fold;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    fold::folding_and_verifying_agree_with_the_slow_reference(body);
    fold::a_signature_is_64_hexadecimal_digits(body);
});
