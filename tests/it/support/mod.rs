//! Helpers that the tests share.

pub(crate) mod bridge;
pub(crate) mod browser;
pub(crate) mod collector;
pub(crate) mod compose;
pub(crate) mod guarded;
pub(crate) mod kafka;
pub(crate) mod nexudus;
pub(crate) mod program;
pub(crate) mod prometheus;
pub(crate) mod promql;
pub(crate) mod proxy;
pub(crate) mod tls_front;
pub(crate) mod tokens;
pub(crate) mod wire;

/// Prints a figure that a test measured, for those who run it with `--nocapture`.
#[allow(clippy::print_stdout, reason = "it is for people")]
pub(crate) fn say(figure: &str) {
    println!("{figure}");
}

/// Compiles a JSON Schema of 2020-12 that checks formats too.
pub(crate) fn validator(schema: &serde_json::Value) -> jsonschema::Validator {
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(schema).expect("a schema that can be compiled")
}
