//! Invariants that hold for every input: of the signature, decoding, routing, the configuration and the HTTP surface.
//!
//! Each file states its invariants as functions of the input and has their property tests, which are bounded and part of `cargo
//! test`. The fuzz targets in `fuzz/` include the same files and let libFuzzer search for inputs without a bound.

mod body;
mod config;
mod decode;
mod fold;
mod http;
mod request;
mod route;
mod topic;
