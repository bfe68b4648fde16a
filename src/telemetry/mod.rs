//! What the bridge tells those who run it, beside its metrics: the [`log`], in bounded amount ([`limit`]).

pub mod limit;
pub mod log;
