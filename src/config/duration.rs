//! Durations such as `500ms`, `10s`, `1m 30s`, `2days`.

use std::time::Duration;

use jiff::fmt::friendly::{Designator, SpanParser, SpanPrinter};
use jiff::{Span, SpanRelativeTo, SpanRound, Unit};

/// The error for a text that is not a duration.
pub const NOT_A_DURATION: &str = "expected a number and a unit such as \"10s\" or \"500ms\"";

/// Reads a duration; a day has 24 hours.
///
/// # Errors
/// [`NOT_A_DURATION`] for any other text. Negative durations are refused, and so are months and years, since their lengths differ.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let span = SpanParser::new().parse_span(text).map_err(|_| NOT_A_DURATION)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| NOT_A_DURATION)?;
    duration.try_into().map_err(|_| NOT_A_DURATION)
}

/// Returns a duration in the form that [`parse`] reads, in units up to days.
pub fn show(duration: Duration) -> String {
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let span = Span::try_from(duration).and_then(|span| span.round(days)).unwrap_or_default();
    SpanPrinter::new().designator(Designator::HumanTime).span_to_string(&span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_in_common_units() {
        for (text, milliseconds, shown) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "1m 30s"),
            ("1m30s", 90_000, "1m 30s"),
            ("5min", 300_000, "5m"),
            ("1h 500ms", 3_600_500, "1h 500ms"),
            ("24h", 86_400_000, "1d"),
            ("1day 2h", 93_600_000, "1d 2h"),
            ("2weeks", 1_209_600_000, "14d"),
            ("0s", 0, "0s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(show(duration), shown, "{text}");
            assert_eq!(parse(shown), Ok(duration), "{shown}");
        }
        for text in ["", "10", "s", "-2h", "2h ago", "soon", "1month", "99999999999999years"] {
            assert_eq!(parse(text), Err(NOT_A_DURATION), "{text}");
        }
    }
}
