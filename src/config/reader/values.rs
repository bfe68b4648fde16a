//! Reads single values. The error describes the expected value. For messages and the log, [`redacted`] hides the secrets in an
//! address.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use ::config::{Value, ValueKind};
use strum::VariantNames;
use url::Url;

use super::{Read, from_file};
use crate::config::duration::{self, NOT_A_DURATION};

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
pub(in crate::config) fn duration(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&Value) -> Read<Duration> {
    move |value| {
        let read = text(value).map_err(|_| NOT_A_DURATION).and_then(|text| duration::parse(&text));
        let read = read.map_err(|wrong| format!("is not a duration, {wrong}"))?;
        let is_in_bounds = duration::parse(least)? <= read && read <= duration::parse(most)?;
        if is_in_bounds { Ok(read) } else { Err(format!("is out of bounds, expected {least} to {most}")) }
    }
}

/// Reads a number within bounds. In the environment the number is a text.
pub(in crate::config) fn number<T: FromStr + PartialOrd + Display + Copy>(
    least: T,
    most: T,
) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let text = match &value.kind {
            ValueKind::I64(number) => number.to_string(),
            ValueKind::Float(number) => format!("{number:?}"), // `1.0` keeps its point, so it is not read as an integer
            ValueKind::String(text) if !from_file(value) => text.replace('_', ""),
            _ => String::new(),
        };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("is not a number in bounds, expected {least} to {most}"))
    }
}

pub(in crate::config) fn boolean(value: &Value) -> Read<bool> {
    let read = match &value.kind {
        ValueKind::Boolean(boolean) => Some(*boolean),
        ValueKind::String(text) if !from_file(value) => text.parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| "is not true or false".into())
}

/// Reads one of the names of an enum's variants.
pub(in crate::config) fn variant<T: FromStr + VariantNames>(value: &Value) -> Read<T> {
    text(value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let known = format!("{:?}", T::VARIANTS);
        format!("is not one of {}", known.trim_matches(['[', ']']))
    })
}

/// Reads an http or https address without user and fragment, and without a query unless `allows_query`. `wrong` is the error for
/// a text that is not such an address, `misplaced` the error for one with a part that is not allowed.
pub(in crate::config) fn http_url(
    allows_query: bool,
    wrong: impl Display,
    misplaced: impl Display,
) -> impl Fn(&Value) -> Read<Url> {
    move |value| {
        let url = text(value).ok().and_then(|text| Url::parse(&text).ok());
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
        let url = url.ok_or_else(|| wrong.to_string())?;
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_allowed = is_bare && (allows_query || url.query().is_none());
        if is_allowed { Ok(url) } else { Err(misplaced.to_string()) }
    }
}

pub(in crate::config) fn not_empty(text: String) -> Read<String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

pub(in crate::config) fn non_empty_text(value: &Value) -> Read<String> {
    text(value).and_then(not_empty)
}

/// Returns the text of an address with its user, password, query values and fragment replaced by `***`.
///
/// The text need not be a valid address, since messages about mistakes show it, too.
pub fn redacted(address: &str) -> String {
    let Some((user, rest)) = address.rsplit_once('@') else { return without_query(address) };
    let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
    // If the `@` is in a query or fragment, a password could be anywhere after the scheme.
    match user.contains(['?', '#']) {
        true => format!("{scheme}://***"),
        false => format!("{scheme}://***@{}", without_query(rest)),
    }
}

fn without_query(text: &str) -> String {
    let (text, fragment) = text.split_once('#').map_or((text, ""), |(text, _)| (text, "#***"));
    let Some((path, query)) = text.split_once('?') else { return format!("{text}{fragment}") };
    let value = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    let query: Vec<String> = query.split('&').map(value).collect();
    format!("{path}?{}{fragment}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{MINIMAL, from_file, mistakes};

    #[test]
    fn users_passwords_query_values_and_fragments_are_hidden() {
        for (address, shown) in [
            ("https://h:1/p/", "https://h:1/p/"),
            ("https://c/v1?api-key=hush&b=hush", "https://c/v1?api-key=***&b=***"),
            ("https://c/v1?hush", "https://c/v1?***"),
            ("c:4317?api-key=hush", "c:4317?api-key=***"),
            ("https://me:hush@idp/t?x=hush#hush", "https://***@idp/t?x=***#***"),
            ("https://me:hu/sh@idp/t", "https://***@idp/t"),
            ("https://me:hu#sh@idp", "https://***"),
            ("https://c?api-key=hu@sh", "https://***"),
            ("", ""),
        ] {
            assert_eq!(redacted(address), shown);
        }
    }

    #[test]
    fn no_setting_and_no_mistake_shows_a_query_value() {
        let tokens = "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
                      [kafka.oauth]\nclient_id = \"b\"\nclient_secret = \"s\"\ntoken_endpoint = \"https://idp/t?key=hush\"\n";
        let config = from_file(&format!("{MINIMAL}{tokens}"), &[]).unwrap();
        let shown = config.show();
        assert!(shown.contains("\"https://idp/t?key=***\""), "{shown}");
        assert!(!format!("{shown}{config:?}").contains("key=hush"), "{shown}");
        for wrong in [
            "[telemetry]\notlp_endpoint = \"https://c/v1?api-key=hush\"",
            "[telemetry]\notlp_endpoint = \"c:4317?api-key=hush\"",
            "[nexudus]\ntoken = \"t\"\npublic_url = \"https://h?token=hush\"",
            "[ingress]\nlisten = \"http://h?token=hush\"",
        ] {
            let found = mistakes(&format!("{MINIMAL}{wrong}"), &[]);
            assert!(
                found.len() == 1 && found[0].contains("=***") && !found[0].contains("=hush"),
                "{found:?}"
            );
        }
    }
}
