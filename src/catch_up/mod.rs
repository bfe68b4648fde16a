//! Catch-up: reads records that changed during an outage of webhooks over the API, and publishes them with a mark.
//!
//! In reading order: [`entities`] is data (where the records of each action are, and to which location they belong),
//! [`since`] has the arguments, [`bridge`] the outages of a running bridge; [`window`] has the range of time for each action, [`survey`] finds the records that
//! changed since, [`fetch`] reads one in full, [`location`] finds its location, [`run`] publishes each.
//! Deletions and signals leave no record that could be read; the summary names them.

pub mod bridge;
pub mod entities;
pub mod fetch;
pub mod location;
pub mod run;
pub mod since;
pub mod survey;
pub mod window;
