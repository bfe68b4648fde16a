//! Nexudus's REST API, as far as the bridge uses it: credentials, rate limits, answers.
//!
//! In reading order: [`pace`] holds the rate limits, `auth` and `sign_in` the tokens, `session` sends one request and reads its answer.
//! [`client`] is the interface for other modules, [`wait`] has its waits, [`record`] is one record, [`listing`] reads all pages of a
//! list.
//!
//! Three points of the API are unusual: it throttles with 409, it reports failures with status 200, and a record is updated by PUT
//! on its collection.

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
