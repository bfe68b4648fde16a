//! The double's clock, which tests put forward, and times as Json.NET writes them.

use jiff::{SignedDuration, Timestamp};

/// A clock that is so far ahead of the machine's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    pub(super) fn now(self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    pub(super) fn shift(&mut self, by: SignedDuration) {
        self.ahead += by;
    }
}

/// UTC with up to 7 fractional digits and without trailing zeros, as just after a save.
pub(super) fn text(time: Timestamp) -> String {
    let text = format!("{time:.7}");
    let short = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

/// UTC to the second, as read from the database.
pub(super) fn text_to_the_second(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Reads a time of a record or of a filter: seconds, their fraction and the `Z` may be missing; always UTC.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bare = text.trim_end_matches(['Z', 'z']);
    let time: jiff::civil::DateTime = bare.parse().ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_up_to_seven_fractional_digits_and_no_trailing_zeros() {
        for (time, written, second) in [
            ("2026-03-02T09:15:27.411519876Z", "2026-03-02T09:15:27.4115198Z", "2026-03-02T09:15:27Z"),
            ("2026-03-02T09:15:27.05Z", "2026-03-02T09:15:27.05Z", "2026-03-02T09:15:27Z"),
            ("2026-03-02T09:15:20Z", "2026-03-02T09:15:20Z", "2026-03-02T09:15:20Z"),
        ] {
            let time = time.parse().unwrap();
            assert_eq!((text(time), text_to_the_second(time)), (written.to_owned(), second.to_owned()));
        }
    }

    #[test]
    fn times_are_read_with_and_without_seconds_and_zone() {
        let noon: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        for text in
            ["2026-03-02T12:00", "2026-03-02T12:00Z", "2026-03-02T12:00:00", "2026-03-02T12:00:00.000Z"]
        {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn the_clock_is_ahead_by_what_it_was_shifted() {
        let mut clock = Clock::default();
        clock.shift(SignedDuration::from_hours(24));
        let ahead = clock.now().duration_since(Timestamp::now());
        assert!(ahead > SignedDuration::from_hours(23) && ahead <= SignedDuration::from_hours(24), "{ahead}");
    }
}
