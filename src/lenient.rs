//! Readers of text, JSON and numbers of remote APIs that accept each form with a clear meaning.
//!
//! Servers write `expires_in` as `604799`, `604799.0` or `"604799"`, and some put a byte order mark before JSON. A reader
//! that takes only one form turns such an answer into a failure or, worse, into a default.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use serde_json::Value;

/// UTF-8's byte order mark. RFC 8259 allows a reader to ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Largest float below which every integer is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Returns a body without the byte order mark before it.
pub fn body(bytes: Vec<u8>) -> Bytes {
    let mut body = Bytes::from(bytes);
    if body.starts_with(BYTE_ORDER_MARK) {
        body.advance(BYTE_ORDER_MARK.len());
    }
    body
}

/// Returns a whole number: `10`, `10.0`, `"10"` and `"10.0"` are all 10.
pub fn integer(value: &Value) -> Option<i64> {
    let exact = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    };
    exact.or_else(|| number(value).filter(|n| n.fract() == 0.0 && n.abs() < EXACT).map(|n| n as i64))
}

/// Returns a number of seconds, with or without a fraction; `None` for a negative one.
pub fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(number(value)?).ok()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    }
}

/// Returns text on one line, without characters that control a terminal or reorder what it shows.
pub fn one_line(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || reorders(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_read_in_every_form_in_which_it_is_written() {
        for (value, whole, duration) in [
            (json!(604_799), Some(604_799), Some(604_799.0)),
            (json!(604_799.0), Some(604_799), Some(604_799.0)),
            (json!("604799"), Some(604_799), Some(604_799.0)),
            (json!(" 604799.0 "), Some(604_799), Some(604_799.0)),
            (json!(1e1), Some(10), Some(10.0)),
            (json!(20.5), None, Some(20.5)),
            (json!("20.5"), None, Some(20.5)),
            (json!(0), Some(0), Some(0.0)),
            (json!(-5), Some(-5), None),
            (json!("-5"), Some(-5), None),
            (json!(9_223_372_036_854_775_807_i64), Some(i64::MAX), Some(9_223_372_036_854_775_807.0)),
            (json!("9223372036854775807"), Some(i64::MAX), Some(9_223_372_036_854_775_807.0)),
            (json!(1e17), None, Some(1e17)),
            (json!("soon"), None, None),
            (json!(""), None, None),
            (json!("NaN"), None, None),
            (json!("inf"), None, None),
            (json!(null), None, None),
            (json!(true), None, None),
            (json!([1]), None, None),
        ] {
            assert_eq!(integer(&value), whole, "{value}");
            assert_eq!(seconds(&value), duration.map(Duration::from_secs_f64), "{value}");
        }
    }

    #[test]
    fn a_byte_order_mark_before_a_body_is_skipped() {
        assert_eq!(body(b"\xEF\xBB\xBF{}".to_vec()), "{}");
        assert_eq!(body(b"{}\xEF\xBB\xBF".to_vec()), Bytes::from_static(b"{}\xEF\xBB\xBF"));
        assert_eq!(body(Vec::new()), "");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{9b}31m\u{202E}é"), "a b [2J 31m é");
    }
}
