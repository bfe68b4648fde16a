//! Catch-up: reads records that changed during an outage of webhooks over the API, and publishes them with a mark.
//!
//! In reading order: [`entities`] is data (where the records of each action are, and to which location they belong),
//! [`since`] is from when on, as it is asked for; [`window`] says so for each action, [`survey`] finds the records that
//! changed since, [`fetch`] reads one in full, [`location`] tells to which location it belongs, [`run`] publishes each.
//! Deletions and signals leave no record that could be read; the summary names them.

pub mod entities;
pub mod fetch;
pub mod location;
pub mod run;
pub mod since;
pub mod survey;
pub mod window;
