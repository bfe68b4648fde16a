//! Durations such as `500ms`, `10s`, `1m 30s`, `2days`.

use std::time::Duration;

use jiff::fmt::friendly::{Designator, SpanParser, SpanPrinter};
use jiff::{Span, SpanRelativeTo, SpanRound, Unit};

/// The error for a text that is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number and a unit such as \"10s\" or \"500ms\"")]
pub struct NotADuration;

/// Reads a duration; a day has 24 hours.
///
/// # Errors
/// [`NotADuration`] for any other text. Negative durations are refused, and so are months and years, since their lengths differ.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let span = SpanParser::new().parse_span(text).map_err(|_| NotADuration)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| NotADuration)?;
    duration.try_into().map_err(|_| NotADuration)
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
            assert_eq!(parse(text), Err(NotADuration), "{text}");
        }
    }
}
