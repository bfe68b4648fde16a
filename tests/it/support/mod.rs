//! What the tests share.

pub(crate) mod bridge;
pub(crate) mod kafka;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod tokens;
