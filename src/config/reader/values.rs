//! Reads single values. The error describes the expected value.

use std::net::SocketAddr;
use std::time::Duration;

use ::config::{Value, ValueKind};
use url::Url;

use super::{Read, from_environment, quoted};
use crate::config::duration::{self, NotADuration};

/// Reads any text.
pub(in crate::config) fn text(value: &Value) -> Read<String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        _ => Err("is not a text, expected it in quotes".into()),
    }
}

/// Reads `IP:port`, or `localhost:port`.
pub(in crate::config) fn address(value: &Value) -> Read<SocketAddr> {
    let wrong = || "is not an address, expected IP:port such as 127.0.0.1:8080".to_owned();
    let text = text(value).map_err(|_| wrong())?;
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(&text).parse().map_err(|_| wrong())
}

/// Reads a duration within bounds, such as `10s`.
pub(in crate::config) fn duration(least: Duration, most: Duration) -> impl Fn(&Value) -> Read<Duration> {
    move |value| {
        let read = text(value).ok().ok_or(NotADuration).and_then(|text| duration::parse(&text));
        let read = read.map_err(|wrong| format!("is not a duration, {wrong}"))?;
        if (least..=most).contains(&read) {
            return Ok(read);
        }
        let (least, most) = (duration::show(least), duration::show(most));
        Err(format!("is out of bounds, expected {least} to {most}"))
    }
}

/// Reads a whole number within bounds. In the environment the number is a text.
pub(in crate::config) fn integer(least: i64, most: i64) -> impl Fn(&Value) -> Read<i64> {
    move |value| {
        let read = match &value.kind {
            ValueKind::I64(number) => Some(*number),
            ValueKind::String(text) if !is_from_file(value) => text.replace('_', "").parse().ok(),
            _ => None,
        };
        read.filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("is not a number in bounds, expected {least} to {most}"))
    }
}

/// Reads a number within bounds. In the environment the number is a text.
pub(in crate::config) fn number(least: f64, most: f64) -> impl Fn(&Value) -> Read<f64> {
    move |value| {
        let read = match &value.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(number) => number.to_string().parse().ok(),
            ValueKind::String(text) if !is_from_file(value) => text.parse().ok(),
            _ => None,
        };
        read.filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("is not a number in bounds, expected {least} to {most}"))
    }
}

/// Reads `true` or `false`.
pub(in crate::config) fn boolean(value: &Value) -> Read<bool> {
    match &value.kind {
        ValueKind::Boolean(boolean) => Ok(*boolean),
        ValueKind::String(text) if !is_from_file(value) => text.parse().map_err(|_| ()),
        _ => Err(()),
    }
    .map_err(|()| "is not true or false".into())
}

/// Reads one of a few keywords.
pub(in crate::config) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let found = text(value).ok().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
            format!("is not one of {}", known.join(", "))
        })
    }
}

/// Returns whether a value comes from a file. A number in a variable or a default is a text.
fn is_from_file(value: &Value) -> bool {
    value.origin().is_some() && !from_environment(value)
}

/// Reads an http or https address without user and fragment, and without a query unless `allows_query`. `wrong` is the error for
/// a text that is not such an address, `misplaced` the error for one with a part that is not allowed.
pub(in crate::config) fn http_url(
    value: &Value,
    allows_query: bool,
    wrong: &str,
    misplaced: &str,
) -> Read<Url> {
    let url = text(value).ok().and_then(|text| Url::parse(&text).ok());
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let url = url.ok_or(wrong)?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if is_bare && (allows_query || url.query().is_none()) { Ok(url) } else { Err(misplaced.to_owned()) }
}

/// Returns a text unless it is empty.
pub(in crate::config) fn not_empty(text: String) -> Read<String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

/// Reads any text that is not empty.
pub(in crate::config) fn filled(value: &Value) -> Read<String> {
    text(value).and_then(not_empty)
}

/// Converts a number of items or bytes that was read with positive bounds.
pub(in crate::config) fn size(number: i64) -> usize {
    usize::try_from(number).expect("the bounds are positive")
}

pub(in crate::config) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(in crate::config) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}
