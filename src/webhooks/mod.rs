//! The webhooks in Nexudus: level-based reconciliation of wanted and existing ones.
//!
//! In reading order: [`wanted`] has the webhooks that the configuration asks for, [`observed`] reads the existing ones
//! and finds their owner, [`plan`] compares the two, [`apply`] writes the difference, [`status`] shows how each one does, [`guardian`]
//! watches over them while the bridge serves.
//! Nothing here deletes a record, and records that are not ours are never written to.

pub mod account;
pub mod apply;
pub mod guardian;
pub mod observed;
pub mod plan;
pub mod redact;
pub mod status;
pub mod wanted;

pub use self::account::{Account, AccountError, Look};
