//! Telemetry other than metrics: the [`log`] with its rate limits ([`limit`]), and [`trace`]s of deliveries, which `export` sends
//! to a collector.

mod export;
pub mod limit;
pub mod log;
pub mod trace;
