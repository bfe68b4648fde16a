//! Catch-up: reads records that changed during an outage of webhooks over the API, and publishes them with a mark.
//!
//! In reading order:
//!
//! - [`entities`] is data: the path and the location of the records of each action.
//! - [`since`] has the arguments, and [`bridge`] reads the outages of a running bridge.
//! - [`ranges`] has the time range of each action, and [`survey`] finds the records that changed in their ranges.
//! - [`fetch`] reads a record in full and finds its location, and [`run`] publishes each record.
//!
//! Deletions and signals leave no record that could be read. The result names their actions.

pub mod bridge;
pub mod entities;
pub mod fetch;
pub mod ranges;
pub mod run;
pub mod since;
pub mod survey;
