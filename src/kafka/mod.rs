//! Kafka: everything that knows librdkafka.
//!
//! In reading order: [`settings`] are the clients', `oauth` hands them tokens, [`producer`] takes events, [`confirm`]
//! waits for the broker's word and sorts its errors, [`status`] is what the client knows of the cluster (`context`,
//! `statistics` and [`watch`] write it), `usefulness` doubts a producer that no longer serves, [`topics`] plans and creates (`creation`
//! sends the request), [`preparation`] keeps the topics as wanted, [`topic_state`] holds its result, [`contact`]
//! checks for commands whether a cluster accepts connections, [`consumer`] reads back, [`progress`] remembers what was done
//! with what was read, [`embedded`] is a broker inside the process.

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
pub mod progress;
mod queue;
mod scheduler;
pub mod settings;
mod statistics;
pub mod status;
pub mod topic_state;
pub mod topics;
mod usefulness;
pub mod watch;
mod window;
