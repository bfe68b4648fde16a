//! A record of the API: its fields in their order, each value as the JSON text that the API sent.
//!
//! An update must send the whole record back, and numbers keep their zeros (`0.0900`). So only changed fields are parsed
//! and serialized; unknown fields keep their text.

use std::fmt;

use bytes::Bytes;
use hashlink::LinkedHashMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::lenient;

/// A JSON object whose values are kept as text. Of two fields with one name, the last counts, as for Json.NET. `Debug` shows the
/// names of the fields only: records hold personal data.
#[derive(Clone, Serialize, Deserialize)]
pub struct RawRecord(LinkedHashMap<String, Box<RawValue>>);

impl RawRecord {
    /// Returns the names and the JSON texts of the fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// Returns the JSON text of a field.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.get())
    }

    /// Returns a field as a Rust value; `None` if it is absent, null or of another type.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    /// Returns a field that is a whole number, in any form.
    pub fn integer(&self, name: &str) -> Option<i64> {
        lenient::integer(&self.get(name)?)
    }

    /// Returns a field that is a list of whole numbers, each in any form.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        self.get::<Vec<Value>>(name)?.iter().map(lenient::integer).collect()
    }

    /// Returns a field that is a time.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        read_time(&self.get::<String>(name)?)
    }

    /// Returns the `Id` of the record.
    pub fn id(&self) -> Option<i64> {
        self.integer("Id")
    }

    /// Sets a field at its position; a new field comes last.
    pub fn set(&mut self, name: &str, value: impl Serialize) {
        self.0.replace(name.to_owned(), to_raw_value(&value).expect("plain values become JSON"));
    }

    /// Returns the record as compact JSON.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("JSON remains JSON").into()
    }
}

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads a time as Nexudus writes it: UTC with `Z`, with up to seven fractional digits, or without a zone, which counts as UTC.
pub fn read_time(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> RawRecord {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn unchanged_fields_stay_byte_for_byte() {
        let json = r#"{"Id":1414848001,"Price":0.0900,"Name":"Jos\u00e9 é 😀","X":{"b":1.0,"a":[ 1, 2 ]},"Big":123456789012345678901234567890,"Active":false}"#;
        let mut record = record(json);
        assert_eq!(record.to_json(), json.as_bytes());
        record.set("Active", true);
        record.set("New", "a\"b");
        let expected = json.replace("\"Active\":false}", r#""Active":true,"New":"a\"b"}"#);
        assert_eq!(record.to_json(), expected.as_bytes());
    }

    #[test]
    fn a_field_of_another_type_reads_as_none() {
        let record = record(r#"{"Id":7,"URL":"x\/y","Active":null,"ErrorCount":"3","A":1,"A":2}"#);
        assert_eq!((record.id(), record.get::<String>("URL").as_deref()), (Some(7), Some("x/y")));
        assert_eq!((record.get::<bool>("Active"), record.get::<u64>("ErrorCount")), (None, None));
        assert_eq!(
            (record.get::<u8>("A"), record.raw("ErrorCount"), record.raw("B")),
            (Some(2), Some("\"3\""), None)
        );
        assert_eq!((record.integer("ErrorCount"), record.integer("URL")), (Some(3), None));
        let lists = self::record(r#"{"A":[1,"2",3.0],"B":[1,"x"],"C":7}"#);
        assert_eq!(["A", "B", "C"].map(|name| lists.integers(name)), [Some(vec![1, 2, 3]), None, None]);
        assert_eq!(format!("{record:?}"), r#"{"Id", "URL", "Active", "ErrorCount", "A"}"#);
    }

    #[test]
    fn times_are_read_with_and_without_a_zone_or_fraction() {
        for (text, utc) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.1234567Z"),
            ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ] {
            assert_eq!(read_time(text).map(|time| time.to_string()).as_deref(), Some(utc), "{text}");
        }
        assert_eq!(read_time("yesterday"), None);
    }
}
