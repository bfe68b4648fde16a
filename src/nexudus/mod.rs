//! Nexudus's REST API, as far as the bridge needs it: who we are, at what pace we ask, what an answer means.
//!
//! In reading order: [`pace`] says when the next request may go out, `auth` and `sign_in` as whom, `session` makes an answer of it,
//! [`client`] is what others ask, [`wait`] what it waits for, [`record`] holds one that came back, [`listing`] reads all pages of them. Facts about the API that look odd
//! here (throttling by 409, failure with status 200, updates by PUT on the collection) are documented by Nexudus. What
//! webhooks there should be is the business of `webhooks`.

mod auth;
pub mod client;
mod error;
pub mod listing;
pub mod pace;
pub mod record;
mod session;
mod sign_in;
pub mod time;
pub mod wait;

pub use self::client::Client;
pub use self::error::{ApiError, ErrorKind};
