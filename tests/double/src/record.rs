//! A record as ordered fields, each value kept as the text that it came in; and times as Json.NET writes them.
//!
//! Nexudus writes numbers such as `0.09000` and escapes of its own; a record that was parsed and printed anew would have
//! other bytes. So a change of a field replaces that field's text and leaves every other byte where it was.

use std::fmt;

use jiff::Timestamp;
use nexudus_bridge::sender::payloads::wire_body;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A record: its fields in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    fields: Vec<(String, String)>,
}

/// Text that is no JSON object, nor an array of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a record, expected a JSON object or an array of one: {0}")]
pub struct NotARecord(String);

impl Record {
    /// Reads an object, or an array of one such as a delivery's body. White space between tokens is dropped.
    ///
    /// # Errors
    /// [`NotARecord`] for all else.
    pub fn parse(json: impl AsRef<[u8]>) -> Result<Self, NotARecord> {
        let text = std::str::from_utf8(json.as_ref()).map_err(|error| NotARecord(error.to_string()))?;
        let compact = wire_body(text);
        let wrong = |error: serde_json::Error| NotARecord(error.to_string());
        if compact.starts_with(b"[") {
            let [record]: [Self; 1] = serde_json::from_slice(&compact).map_err(wrong)?;
            return Ok(record);
        }
        serde_json::from_slice(&compact).map_err(wrong)
    }

    /// The record's bytes, compact.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = vec![b'{'];
        for (place, (name, value)) in self.fields.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(quoted(name).as_bytes());
            json.push(b':');
            json.extend_from_slice(value.as_bytes());
        }
        json.push(b'}');
        json
    }

    /// The fields in their order, values as JSON text.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A field's value as JSON text.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// A field that is a string.
    pub fn text(&self, field: &str) -> Option<String> {
        serde_json::from_str(self.get(field)?).ok()
    }

    /// A field that is a whole number.
    pub fn number(&self, field: &str) -> Option<i64> {
        self.get(field)?.parse().ok()
    }

    /// Whether a field is `true`.
    pub fn is_true(&self, field: &str) -> bool {
        self.get(field) == Some("true")
    }

    /// The field `Id`; 0 where there is none.
    pub fn id(&self) -> i64 {
        self.number("Id").unwrap_or_default()
    }

    /// Replaces a field's value, or adds the field at the end. `json` is written as it is.
    pub fn set(&mut self, field: &str, json: impl Into<String>) {
        let json = json.into();
        match self.fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, value)) => *value = json,
            None => self.fields.push((field.to_owned(), json)),
        }
    }

    /// [`Record::set`] with a string.
    pub fn set_text(&mut self, field: &str, text: &str) {
        self.set(field, quoted(text));
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("strings can be written")
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    record.fields.push((name, value.get().to_owned()));
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// UTC with up to 7 fractional digits and without trailing zeros, as just after a save.
pub(super) fn time_text(time: Timestamp) -> String {
    let text = format!("{time:.7}");
    let short = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

/// UTC to the second, as read from the database.
pub(super) fn time_to_the_second(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Reads a time of a record or of a filter: seconds, their fraction and the `Z` may be missing; always UTC.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let bare = text.trim_end_matches(['Z', 'z']);
    let time: jiff::civil::DateTime = bare.parse().ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexudus_bridge::action::catalogue::ENTRIES;
    use nexudus_bridge::sender::payloads::payload;

    #[test]
    fn every_fixture_keeps_its_bytes() {
        for entry in &ENTRIES {
            let body = wire_body(payload(entry.name).unwrap());
            let record = Record::parse(&body).unwrap();
            assert_eq!([b"[", record.to_json().as_slice(), b"]"].concat(), body, "{}", entry.name);
        }
    }

    #[test]
    fn a_change_touches_one_field_only() {
        let mut record =
            Record::parse(r#"{ "Rate": 0.09000, "N": "a\u2028/é", "Id": 7, "L": [1, 2] }"#).unwrap();
        assert_eq!((record.id(), record.text("N").as_deref()), (7, Some("a\u{2028}/é")));
        record.set("Id", "8");
        record.set_text("More", "\"");
        assert_eq!(
            String::from_utf8(record.to_json()).unwrap(),
            r#"{"Rate":0.09000,"N":"a\u2028/é","Id":8,"L":[1,2],"More":"\""}"#
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for json in ["", "[]", "[{},{}]", "[1]", "\"x\"", "{\"a\":}"] {
            assert!(Record::parse(json).is_err(), "{json}");
        }
        assert!(Record::parse(b"\xff").is_err());
    }

    #[test]
    fn times_have_up_to_seven_fractional_digits_and_no_trailing_zeros() {
        for (time, written, second) in [
            ("2026-03-02T09:15:27.411519876Z", "2026-03-02T09:15:27.4115198Z", "2026-03-02T09:15:27Z"),
            ("2026-03-02T09:15:27.05Z", "2026-03-02T09:15:27.05Z", "2026-03-02T09:15:27Z"),
            ("2026-03-02T09:15:20Z", "2026-03-02T09:15:20Z", "2026-03-02T09:15:20Z"),
        ] {
            let time = time.parse().unwrap();
            assert_eq!((time_text(time), time_to_the_second(time)), (written.to_owned(), second.to_owned()));
        }
    }

    #[test]
    fn times_are_read_with_and_without_seconds_and_zone() {
        let noon: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        for text in
            ["2026-03-02T12:00", "2026-03-02T12:00Z", "2026-03-02T12:00:00", "2026-03-02T12:00:00.000Z"]
        {
            assert_eq!(parse_time(text), Some(noon), "{text}");
        }
        assert_eq!(parse_time("yesterday"), None);
    }
}
