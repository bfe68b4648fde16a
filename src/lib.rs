//! nexudus-bridge: receives Nexudus webhooks, verifies each signature, publishes every event to a Kafka topic named
//! after its action, and answers 2xx only once the broker has confirmed it.
//!
//! One delivery's way, and the modules in reading order:
//!
//! | step | module | what happens |
//! | --- | --- | --- |
//! | receive | [`http`], [`delivery::address`], [`delivery::admission`] | head judged, body read in bounded time and bytes |
//! | verify | [`delivery::verify`], [`signature`] | the HMAC as .NET computes it, by the source's policy |
//! | decode | [`delivery::decode`] | records as slices of the body, never printed anew |
//! | route | [`delivery::route`], [`event`] | topic, key, CloudEvents attributes |
//! | publish, confirm | [`delivery`], [`kafka`] | handed to librdkafka; one delivery report for each event |
//! | respond | [`outcome`], [`http`] | 200 with the offsets, or a problem document |
//!
//! Around it: [`action`] is Nexudus's catalogue, [`config`] what the user says, [`metrics`] and [`telemetry`] what the
//! bridge says, [`recent`] the latest setbacks and events, [`app`] starts and stops it all, [`quarantine`] reads and publishes kept
//! messages, [`sender`] acts as Nexudus does, [`tail`], [`asyncapi`] and [`demo`] are behind the commands of these names, [`outgoing`] is how we ask others over HTTP, [`lenient`] reads their answers,
//! [`back_off`] is the time between attempts, [`vital`] ends a bridge that a panic has broken, [`cli`] is the program.
//! `ARCHITECTURE.md` tells who may use whom, and why things are as they are.

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
