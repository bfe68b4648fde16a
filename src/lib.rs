//! nexudus-bridge receives Nexudus's webhooks, verifies each signature, publishes every record to Kafka, and answers 2xx after
//! the broker has confirmed all of them.
//!
//! The stages of a delivery, and their modules:
//!
//! | stage | module | what happens |
//! | --- | --- | --- |
//! | address, admit | [`http`], [`delivery::address`], [`delivery::admission`] | judges the head, counts the delivery |
//! | receive | [`http`] | reads the body in bounded time and bytes |
//! | verify | [`delivery::verify`], [`signature`] | compares the signature with the HMAC, by the policy of the source |
//! | decode | [`delivery::decode`] | splits the body into records, each a slice of it |
//! | route | [`delivery::route`], [`event`] | makes events: topic, key, CloudEvents attributes |
//! | publish, confirm | [`delivery`], [`kafka`] | sends each event, and waits for its delivery report |
//! | answer | [`outcome`], [`http`] | 200 with the offsets, or a problem document |
//!
//! `ARCHITECTURE.md` lists what each module is responsible for, the modules that it may import, and the reasons for the
//! design.

pub mod action;
pub mod app;
pub mod asyncapi;
pub mod back_off;
pub mod catch_up;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod event;
pub mod http;
pub mod kafka;
pub mod lenient;
pub mod metrics;
pub mod nexudus;
pub mod outage;
pub mod outcome;
pub mod outgoing;
pub mod quarantine;
pub mod recent;
pub mod sender;
pub mod signature;
pub mod tail;
pub mod telemetry;
pub mod token;
pub mod vital;
pub mod webhooks;
