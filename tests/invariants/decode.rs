//! Invariants of decoding, which is compared with `serde_json`: the records of a body, their bounds, keys and times.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use nexudus_bridge::delivery::decode::{Content, MAX_RECORDS, Record, decode};
use nexudus_bridge::outcome::QuarantineReason;
use nexudus_bridge::signature::BYTE_ORDER_MARK;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Key fields. Any field can be one, even `UniqueId` and `UpdatedOn`.
const KEY_FIELDS: [&str; 4] = ["Id", "UniqueId", "UpdatedOn", "\u{e9}\""];

/// A body decodes to the records that `serde_json` finds in it, byte for byte, or to the reason why it has none.
pub(crate) fn decoding_agrees_with_serde_json(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let expected = reference(&body);
    for key_field in KEY_FIELDS {
        match (decode(&body, key_field, MAX_RECORDS), &expected) {
            (Content::Records(records), Ok(expected)) => {
                let values: Vec<&[u8]> = records.iter().map(|record| &record.value[..]).collect();
                assert_eq!(values, expected.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
                for record in &records {
                    assert!(body.as_ptr_range().contains(&record.value.as_ptr()), "a slice of the body");
                    fields_are_those_of(record, key_field);
                }
            }
            (Content::Empty, Ok(expected)) => assert!(expected.is_empty()),
            (Content::Unreadable(reason), Err(expected)) => assert_eq!(reason, *expected),
            (content, expected) => panic!("{content:?}, expected {expected:?}"),
        }
    }
}

/// Returns the records of a body, found by `serde_json`.
fn reference(body: &[u8]) -> Result<Vec<&str>, QuarantineReason> {
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let text = std::str::from_utf8(unmarked).map_err(|_| QuarantineReason::NotJson)?;
    let items = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(items) => items,
        Err(_) => vec![serde_json::from_str(text).map_err(|_| QuarantineReason::NotJson)?],
    };
    let objects: Option<Vec<&str>> =
        items.into_iter().map(|item| Some(item.get()).filter(|text| text.starts_with('{'))).collect();
    let objects = objects.ok_or(QuarantineReason::NotRecords)?;
    if objects.len() > MAX_RECORDS { Err(QuarantineReason::TooManyRecords) } else { Ok(objects) }
}

fn fields_are_those_of(record: &Record, key_field: &str) {
    let fields: Fields<'_> = serde_json::from_slice(&record.value).expect("a record is an object");
    let key = fields.last(key_field).and_then(key).or_else(|| fields.last("UniqueId").and_then(key));
    assert_eq!(record.key.as_deref(), key.as_deref().map(str::as_bytes));
    let written = fields.last("UpdatedOn").and_then(|raw| serde_json::from_str::<String>(raw).ok());
    let expected = written.as_deref().and_then(instant);
    match (&record.updated_on, expected) {
        (Some(time), Some(expected)) => {
            let text = std::str::from_utf8(time).expect("RFC 3339 is ASCII");
            assert!(
                text.ends_with('Z') && text.parse().is_ok_and(|time: Timestamp| time == expected),
                "{text} of {written:?}"
            );
        }
        (time, expected) => assert_eq!((time, expected), (&None, None), "{written:?}"),
    }
}

/// Returns the text of a number, or of a string that is not empty.
fn key(raw: &str) -> Option<String> {
    match raw.as_bytes()[0] {
        b'"' => serde_json::from_str(raw).ok().filter(|text: &String| !text.is_empty()),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

/// Returns the moment of a time in .NET's format: in UTC, unless it has an offset.
fn instant(text: &str) -> Option<Timestamp> {
    let shaped = text.len() >= 19
        && text.bytes().zip(*b"0000-00-00T00:00:00").all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte == shape,
        });
    if !shaped {
        return None;
    }
    if ["0000", "0001", "9999"].contains(&&text[..4]) {
        return None;
    }
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    match zone {
        "" => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp()),
        _ => text.parse().ok(),
    }
}

/// The names and values of an object, as they are written.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn last(&self, wanted: &str) -> Option<&'a str> {
        // A name with half of a surrogate pair is not text, and no wanted name.
        let named = |name: &str| serde_json::from_str::<String>(name).is_ok_and(|name| name == wanted);
        self.0.iter().rev().find(|(name, _)| named(name)).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(&'de str, &'de str)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    pairs.push((name.get(), value.get()));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs).map(Self)
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            "\"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|[+-][01][0-9]:00|)\"",
            any::<String>().prop_map(|text| serde_json::to_string(&text).expect("text")),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                object(inner),
            ]
        })
    }

    fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let known = prop::sample::select(
            &["\"Id\"", "\"I\\u0064\"", "\"UniqueId\"", "\"UpdatedOn\"", "\"\\udc00\""][..],
        );
        let any = any::<String>().prop_map(|name| serde_json::to_string(&name).expect("text"));
        let name = prop_oneof![known.prop_map(str::to_owned), any];
        let field = (name, value).prop_map(|(name, value)| format!("{name}: {value}"));
        proptest::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",\n")))
    }

    proptest! {
        #[test]
        fn of_records(objects in proptest::collection::vec(object(json()), 1..5), space in "[ \t\r\n]{0,2}") {
            let body = format!("{space}[{space}{}{space}]{space}", objects.join(&format!("{space},{space}")));
            prop_assert_eq!(reference(body.as_bytes()).expect("records"), objects);
            decoding_agrees_with_serde_json(body.as_bytes());
        }

        #[test]
        fn of_nearly_json(body in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}") {
            decoding_agrees_with_serde_json(body.as_bytes());
        }

        #[test]
        fn of_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            decoding_agrees_with_serde_json(&body);
        }
    }
}
