//! The sender: acts as Nexudus does, for `send`, `demo` and the tests.
//!
//! In reading order: [`payloads`] has a body for every action, [`delivery`] signs one and makes its URL, [`post`] sends
//! it and tries again as Nexudus does, [`bodies`] has the bodies to send, [`load`] sends many at once and measures.

pub mod bodies;
pub mod delivery;
#[cfg(test)]
pub(crate) mod double;
pub mod load;
pub mod payloads;
pub mod post;

pub use self::post::client;
