//! A double of Nexudus: its REST API, and the sender of its webhooks with retries, `ErrorCount` and disabling. For tests,
//! and for the five-minute tour. The double sends no request to a real Nexudus.
//!
//! [`Nexudus::start`] starts a server on loopback. It derefs to its [`World`], which tests and the tour act on:
//!
//! ```no_run
//! use nexudus_double::{Fault, Effect, Limits, Matching, Nexudus, Options, demo};
//!
//! let nexudus = Nexudus::start(Options { limits: Limits::NONE, ..Options::default() })?;
//! nexudus.populate(Some("shared secret"));
//! nexudus.add_webhook(demo::LOCATIONS[0], "BookingCreate", "http://127.0.0.1:8080/webhooks/BookingCreate", true)?;
//! let booking = nexudus.example("Booking", demo::LOCATIONS[0])?;
//! nexudus.create("Booking", demo::LOCATIONS[0], booking)?; // is posted to the webhook
//! nexudus.fault(Matching::post("/api/sys/webhooks"), Fault::Cut(Effect::Done)); // the next create gets no answer
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! In reading order:
//!
//! - `record`, `message`, `behaviour` and `access` are data.
//! - `state` holds the data behind one lock, and `changes` changes it.
//! - `api` and `send` are the two sides of Nexudus: its API and the sender of webhooks.
//! - `server` is HTTP, and `tour` is the five-minute tour.

mod access;
mod api;
mod behaviour;
mod changes;
mod message;
mod record;
mod send;
mod server;
mod state;
pub mod tour;

pub use nexudus_bridge::nexudus::record::RawRecord;

pub use self::access::{Account, Limits};
pub use self::behaviour::{Behaviour, Effect, Fault, Matching, RetryAfter};
pub use self::changes::Webhook;
pub use self::message::{Journal, Request};
pub use self::server::Nexudus;
pub use self::state::{Options, World};

/// The demo's network and its administrator.
pub mod demo {
    pub use crate::access::{EMAIL, PASSWORD, administrator};
    pub use crate::changes::{LOCATIONS, NETWORK};
}
