//! `[redelivery]`: the memory of deliveries that were confirmed but not answered.

use std::time::Duration;

use super::reader::Section;
use super::reader::values::{duration, integer, minutes, ms, size};

/// The bounds of the redelivery memory.
#[derive(Debug, Clone)]
pub struct Redelivery {
    /// Time for which a delivery is remembered after its confirmation.
    pub ttl: Duration,
    /// Maximum number of deliveries; 0 disables the memory.
    pub max_entries: usize,
    /// Maximum number of bytes in total.
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
