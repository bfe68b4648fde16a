//! `[redelivery]`: the memory of deliveries that were confirmed and not answered.

use std::time::Duration;

use super::reader::Section;
use super::reader::values::{duration, integer, minutes, ms, size};

/// `[redelivery]`: the bounds of the memory of deliveries that were confirmed without being answered.
#[derive(Debug, Clone)]
pub struct Redelivery {
    /// How long one is remembered after its confirmation.
    pub ttl: Duration,
    /// How many are; 0 switches the memory off.
    pub max_entries: usize,
    /// How many bytes they may use together.
    pub max_bytes: usize,
}

/// Reads the section.
pub(super) fn redelivery(mut section: Section<'_>) -> Redelivery {
    let redelivery = Redelivery {
        ttl: section.get("ttl", "1h", duration(ms(1_000), minutes(24 * 60))),
        max_entries: size(section.get("max_entries", "10000", integer(0, 10_000_000))),
        max_bytes: size(section.get("max_bytes", "8388608", integer(1024, 16 << 30))),
    };
    section.close();
    redelivery
}
