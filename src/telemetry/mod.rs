//! What the bridge tells those who run it, beside its metrics: the [`log`], in bounded amount ([`limit`]), and
//! [`trace`]s of deliveries, which `export` sends to a collector.

mod export;
pub mod limit;
pub mod log;
pub mod trace;
