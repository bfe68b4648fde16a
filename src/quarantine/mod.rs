//! Messages of the quarantine topic: their fields and positions, filters, and publishing them again.

pub mod filters;
pub mod messages;
pub mod position;
pub mod publisher;
pub mod replay;
pub mod row;
