//! Catch-up: reads records that changed during an outage of webhooks over the API, and publishes them with a mark.
//!
//! In reading order: [`entities`] is data (where the records of each action are, and to which location they belong),
//! [`since`] has the arguments, [`bridge`] the outages of a running bridge; [`ranges`] has the time range for each action,
//! [`survey`] finds the records that changed in it, [`fetch`] reads one in full and finds its location, [`run`] publishes each.
//! Deletions and signals leave no record that could be read; the result names them.

pub mod bridge;
pub mod entities;
pub mod fetch;
pub mod ranges;
pub mod run;
pub mod since;
pub mod survey;
