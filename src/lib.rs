//! nexudus-bridge: receives Nexudus webhooks and publishes them to Kafka.
#![cfg_attr(not(test), warn(missing_docs))]

pub mod action;
pub mod event;
pub mod outcome;
pub mod signature;
