//! Times as Nexudus writes them: UTC with `Z`, up to seven fractional digits; some without a zone.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Reads a time; one without a zone counts as UTC.
pub fn read(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn times_are_read_with_and_without_a_zone_or_fraction() {
        for (text, utc) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.1234567Z"),
            ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ] {
            assert_eq!(read(text).map(|time| time.to_string()).as_deref(), Some(utc), "{text}");
        }
        assert_eq!(read("yesterday"), None);
    }
}
