//! Nexudus's REST API, as far as the bridge uses it: credentials, rate limits, answers.
//!
//! In reading order: [`pace`] holds the rate limits, `auth` and `sign_in` the tokens, `session` sends one request and reads its answer.
//! [`client`] is the interface for other modules, [`wait`] has its waits, [`record`] is one record, [`listing`] reads all pages of a
//! list. Nexudus documents the unusual: throttling by 409, failures with status 200, updates by PUT on the collection.

mod auth;
pub mod client;
mod error;
pub mod listing;
pub mod pace;
pub mod record;
mod session;
mod sign_in;
pub mod wait;

pub use self::client::ApiClient;
pub use self::error::{ApiError, ErrorKind};
