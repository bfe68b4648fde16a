//! Decode: splits a body into records, each a slice of the body, or gives the reason for quarantine.
//!
//! Nothing is serialized: key order, duplicate keys, `0.09000`, escapes, numbers of any length and white space inside a
//! record stay byte for byte. Only the fields for the key and the time are read. Nesting can be as deep as the body is
//! long: `serde_json` skips a [`RawValue`] without recursion.
//!
//! `decode` cannot fail. A body without records is kept whole: after ten refusals in a row Nexudus disables the webhook.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::outcome::QuarantineReason;
use crate::signature::BYTE_ORDER_MARK;

/// Maximum number of records in one delivery. Nexudus sends one. Without a maximum, 4 MiB of `[{},{},…]` would become
/// 1.4 million events: hundreds of megabytes of memory, and more messages than the producer's queue takes.
pub const MAX_RECORDS: usize = 1_000;

/// The content of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// At least one record.
    Records(Vec<Record>),
    /// An empty array.
    Empty,
    /// No records. The body is kept whole.
    Unreadable(QuarantineReason),
}

/// One record of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The bytes of the record, a slice of the body.
    pub value: Bytes,
    /// The message key: the text of the field that the configuration names, else of `UniqueId`.
    pub key: Option<Bytes>,
    /// The time of the change, as RFC 3339 in UTC.
    pub updated_on: Option<Bytes>,
}

/// Splits a body into up to `max_records` records. `key_field` is the name of the field that makes the message key.
pub fn decode(body: &Bytes, key_field: &str, max_records: usize) -> Content {
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let Ok(text) = simdutf8::basic::from_utf8(unmarked) else {
        return Content::Unreadable(QuarantineReason::NotJson);
    };
    let mut scan = Scan { body, text, key_field, max_records, at: 0, records: Vec::new(), count: 0 };
    let mut json = serde_json::Deserializer::from_str(text);
    match json.deserialize_any(&mut scan).and_then(|()| json.end()) {
        Ok(()) if scan.count > max_records => Content::Unreadable(QuarantineReason::TooManyRecords),
        Ok(()) if scan.count == 0 => Content::Empty,
        Ok(()) => Content::Records(scan.records),
        // Only a bad body needs this second scan, which distinguishes `not_json` from `not_records`.
        Err(_) => Content::Unreadable(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => QuarantineReason::NotRecords,
            Err(_) => QuarantineReason::NotJson,
        }),
    }
}

/// The state of the scan of a body.
struct Scan<'a> {
    body: &'a Bytes,
    /// The body without its byte order mark.
    text: &'a str,
    key_field: &'a str,
    max_records: usize,
    /// The offset in `text` after the last record.
    at: usize,
    /// The records found so far. Above the maximum they are only counted, so that their number costs no memory.
    records: Vec<Record>,
    count: usize,
}

/// Reads an array of records, or one record.
impl<'de> Visitor<'de> for &mut Scan<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        // Before the first brace of a record there are only white space and punctuation.
        let start = self.offset_of(self.at, '{');
        let mut last_end = start + 1;
        let mut fields = Fields::default();
        while let Some(name) = object.next_key_seed(NameSeed(self.key_field))? {
            let value = object.next_value::<&RawValue>()?.get();
            last_end = value.as_ptr() as usize - self.text.as_ptr() as usize + value.len();
            fields.see(&name, value);
        }
        self.at = self.offset_of(last_end, '}') + 1;
        self.add(start..self.at, &fields);
        Ok(())
    }
}

/// Reads an element of the array, which has to be a record.
impl<'de> DeserializeSeed<'de> for &mut Scan<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Scan<'a> {
    /// Returns the offset of a mark that the parser has found after `start`.
    fn offset_of(&self, start: usize, mark: char) -> usize {
        start + self.text[start..].find(mark).unwrap_or_default()
    }

    fn add(&mut self, range: Range<usize>, fields: &Fields<'a>) {
        self.count += 1;
        if self.count > self.max_records {
            self.records = Vec::new();
            return;
        }
        let key = |value: Option<&str>| value.and_then(|value| self.key(value));
        let record = Record {
            value: self.body.slice_ref(self.text[range].as_bytes()),
            key: key(fields.key).or_else(|| key(fields.unique_id)),
            updated_on: fields.updated_on.and_then(|value| self.time(value)),
        };
        self.records.push(record);
    }

    /// Returns the key in the JSON of a field: the text of a number, or of a string that is not empty. No other value makes a
    /// key.
    fn key(&self, raw: &str) -> Option<Bytes> {
        match raw.as_bytes().first()? {
            b'"' => self.string(raw).filter(|text| !text.is_empty()),
            b'-' | b'0'..=b'9' => Some(self.body.slice_ref(raw.as_bytes())),
            _ => None,
        }
    }

    fn time(&self, raw: &str) -> Option<Bytes> {
        let text = self.string(raw)?;
        match time::in_utc(std::str::from_utf8(&text).ok()?)? {
            time::Utc::AsWritten => Some(text),
            time::Utc::Converted(converted) => Some(converted.into()),
        }
    }

    fn string(&self, raw: &str) -> Option<Bytes> {
        match serde_json::from_str::<Text<'_>>(raw).ok()?.0 {
            Cow::Borrowed(text) => Some(self.body.slice_ref(text.as_bytes())),
            Cow::Owned(text) => Some(text.into()),
        }
    }
}

/// A JSON string; borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields that the bridge reads, as JSON. Of duplicate fields the last one counts, as in other JSON parsers.
#[derive(Default)]
struct Fields<'a> {
    key: Option<&'a str>,
    unique_id: Option<&'a str>,
    updated_on: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn see(&mut self, name: &Name, value: &'a str) {
        if name.is_key {
            self.key = Some(value);
        }
        if name.is_unique_id {
            self.unique_id = Some(value);
        }
        if name.is_updated_on {
            self.updated_on = Some(value);
        }
    }
}

/// The roles of a field, by its name. One field can have several: the configured key field can be `UniqueId` or `UpdatedOn`.
struct Name {
    is_key: bool,
    is_unique_id: bool,
    is_updated_on: bool,
}

/// Reads the name of a field and compares it with the name of the key field. It compares bytes, since a name may hold half of a
/// surrogate pair.
struct NameSeed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Name, E> {
        Ok(Name {
            is_key: name == self.0.as_bytes(),
            is_unique_id: name == b"UniqueId",
            is_updated_on: name == b"UpdatedOn",
        })
    }
}

/// Times as .NET writes them.
mod time {
    use jiff::Timestamp;
    use jiff::civil::DateTime;

    /// A time in UTC as RFC 3339.
    pub(super) enum Utc {
        /// The text of the field is already in UTC.
        AsWritten,
        /// The converted text. The text of the field had another offset, or none; a time without an offset is in UTC.
        Converted(String),
    }

    /// Reads a time such as `2024-03-31T09:05:07`, with 0 to 9 fractional digits, and with `Z`, an offset or nothing at the end.
    /// Returns `None` for any other text, and for the years 0, 1 and 9999, which stand for a missing time.
    pub(super) fn in_utc(text: &str) -> Option<Utc> {
        const SECONDS: usize = "2024-03-31T09:05:07".len();
        const SHAPE: &[u8; SECONDS] = b"0000-00-00T00:00:00";
        let head = text.as_bytes().get(..SECONDS)?;
        let fits =
            |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
        // .NET writes `DateTime.MinValue` or `MaxValue`, in any time zone, where there is no time.
        let is_placeholder = matches!(&head[..4], b"0000" | b"0001" | b"9999");
        if is_placeholder || !head.iter().zip(SHAPE).all(fits) {
            return None;
        }
        let zone = text[SECONDS..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        match zone {
            "Z" => text.parse::<Timestamp>().ok().map(|_| Utc::AsWritten),
            "" => text.parse::<DateTime>().ok().map(|_| Utc::Converted(format!("{text}Z"))),
            _ => text.parse::<Timestamp>().ok().map(|time| Utc::Converted(time.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
