//! Moments on the command line.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use crate::config::duration;

/// Parses a moment: RFC 3339, a date or a time without a zone (both in UTC), or a duration before now. The error lists these forms.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_at(text, Timestamp::now())
}

fn moment_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let in_utc = |time: DateTime| Offset::UTC.to_timestamp(time).ok();
    let ago = || SignedDuration::try_from(duration::parse(text).ok()?).ok();
    None.or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| text.parse::<DateTime>().ok().and_then(in_utc))
        .or_else(|| now.checked_sub(ago()?).ok())
        .ok_or_else(|| {
            "expected a time (2026-01-02T03:04:05Z), a date (2026-01-02) or how long ago (90m, 2days)"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_in_utc_or_how_long_ago() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.678+02:00", "2026-01-02T01:04:05.678Z"),
            ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
            ("2026-01-02 03:04", "2026-01-02T03:04:00Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
            ("90m", "2026-03-01T10:30:00Z"),
            ("1day 2h", "2026-02-28T10:00:00Z"),
        ] {
            assert_eq!(moment_at(text, now).unwrap(), time.parse().unwrap(), "{text}");
        }
        for text in ["", "yesterday", "12", "2026-13-01", "2026-02-30", "-2h", "99999999999999years"] {
            let error = moment_at(text, now).unwrap_err();
            assert!(error.contains("2026-01-02T03:04:05Z"), "{text}: {error}");
        }
    }
}
