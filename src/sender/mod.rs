//! The sender: acts as Nexudus does, for `send`, `demo` and the tests.
//!
//! In reading order:
//!
//! - [`payloads`] has a body for every action;
//! - [`delivery`] signs a body and makes its URL;
//! - [`post`] sends a delivery and retries as Nexudus does;
//! - [`bodies`] chooses the bodies to send;
//! - [`load`] sends many deliveries at once and measures the answers.

pub mod bodies;
pub mod delivery;
#[cfg(test)]
pub(crate) mod double;
pub mod load;
pub mod payloads;
pub mod post;

pub use self::post::client;
