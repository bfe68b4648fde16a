//! nexudus-bridge: receives Nexudus webhooks and publishes them to Kafka.

pub mod action;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod event;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod outcome;
pub mod sender;
pub mod signature;
pub mod telemetry;
