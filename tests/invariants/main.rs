//! What holds for every input, however hostile: the signature, decoding, routing, the configuration, the HTTP surface.
//!
//! Each file states its invariants as functions of the input and has their property tests, which are bounded and part of
//! `cargo test`. The fuzz targets in `fuzz/` take in the same files and let libFuzzer look for inputs without end.

mod body;
mod config;
mod decode;
mod fold;
mod http;
mod request;
mod route;
mod topic;
