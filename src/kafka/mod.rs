//! Kafka: every use of librdkafka.
//!
//! In reading order: [`settings`] are the clients', `oauth` gives them tokens. [`producer`] takes events and keeps librdkafka's
//! producers, each a `client`; `queue` holds the events, `scheduler` decides when each is sent (`partition` by key, `window` how
//! many at a time), [`confirm`] waits for the answer and sorts errors. [`status`] is the state of the cluster
//! (`context`, `statistics` and [`watch`] write it), and `producer_health` finds a producer that no longer works. [`topics`] plans and
//! creates topics (`creation` sends the request), [`preparation`] keeps them as wanted, [`topic_state`]
//! holds the result. [`contact`] checks for commands whether a cluster accepts connections, [`consumer`] reads back,
//! [`progress`] remembers what was done with what was read, [`embedded`] is a broker inside the process.

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
