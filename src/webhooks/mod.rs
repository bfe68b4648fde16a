//! The webhooks in Nexudus: level-based reconciliation of wanted and existing ones.
//!
//! In reading order:
//!
//! - [`wanted`] derives the wanted webhooks from the configuration, and [`observed`] reads the existing ones.
//! - [`account`] connects to Nexudus, and [`plan`] compares the two sides.
//! - [`apply`] writes the differences, and [`status`] shows the state of each webhook.
//! - [`guardian`] re-enables webhooks while the bridge serves.
//!
//! The bridge never deletes a record, and never writes to records of others.

pub mod account;
pub mod apply;
pub mod guardian;
pub mod observed;
pub mod plan;
pub mod redact;
pub mod status;
pub mod wanted;

pub use self::account::{Account, AccountError, Look};
