//! Kafka: every use of librdkafka.
//!
//! In reading order:
//!
//! | modules | purpose |
//! | --- | --- |
//! | [`settings`], `oauth` | settings and credentials of all clients |
//! | [`producer`], `client` | takes events; keeps librdkafka's producers, each a `client` |
//! | `queue`, `scheduler`, `partition`, `window` | hold the events, and decide when each is sent |
//! | [`confirm`] | waits for delivery reports, and sorts errors |
//! | [`status`], `context`, `statistics`, [`watch`] | the state of the cluster, and the modules that write it |
//! | `producer_health` | detects a producer that no longer works |
//! | [`topics`], `creation`, [`preparation`], [`topic_state`] | plan and create topics, retry, hold the result |
//! | [`contact`] | checks for commands whether a cluster accepts connections |
//! | [`consumer`], [`progress`] | read topics, and store which messages are processed |
//! | [`embedded`] | a broker inside the process |

mod client;
pub mod confirm;
pub mod consumer;
pub mod contact;
mod context;
mod creation;
pub mod embedded;
mod oauth;
mod partition;
pub mod preparation;
pub mod producer;
mod producer_health;
pub mod progress;
mod queue;
mod scheduler;
pub mod settings;
mod statistics;
pub mod status;
pub mod topic_state;
pub mod topics;
pub mod watch;
mod window;
