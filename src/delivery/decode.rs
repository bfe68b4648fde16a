//! Decode: splits a body into records, each a slice of the body, or gives the reason for quarantine.
//!
//! Nothing is serialized: key order, duplicate keys, `0.09000`, escapes, numbers of any length and white space inside a
//! record stay byte for byte. Only the fields for the key and the time are read. Nesting can be as deep as the body is
//! long: `serde_json` skips a [`RawValue`] without recursion.
//!
//! `decode` cannot fail. A body that is neither a record nor an array of records is kept whole: after ten refusals in a row Nexudus disables the webhook.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
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
    /// Not records, or more than the maximum. The body is kept whole.
    Unreadable(QuarantineReason),
}

/// One record of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The bytes of the record, a slice of the body.
    pub value: Bytes,
    /// The message key: the text of the field `topics.key`, else of `UniqueId`.
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
        // The key field can be any field, so two of these names can be equal.
        let names = [self.key_field, "UniqueId", "UpdatedOn"];
        let mut values = [None; 3];
        while let Some((name, value)) = object.next_entry::<&RawValue, &RawValue>()? {
            let (name, value) = (text_of(name.get()), value.get());
            last_end = value.as_ptr() as usize - self.text.as_ptr() as usize + value.len();
            // Of duplicate fields the last one counts, as in other JSON parsers.
            for (kept, wanted) in values.iter_mut().zip(names) {
                if name.as_deref() == Some(wanted) {
                    *kept = Some(value);
                }
            }
        }
        self.at = self.offset_of(last_end, '}') + 1;
        self.add(start..self.at, values);
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

    /// Adds the record at `range`. Takes the JSON of its key field, its `UniqueId` and its `UpdatedOn`.
    fn add(&mut self, range: Range<usize>, [key, unique_id, updated_on]: [Option<&'a str>; 3]) {
        self.count += 1;
        if self.count > self.max_records {
            self.records = Vec::new();
            return;
        }
        let record = Record {
            value: self.body.slice_ref(self.text[range].as_bytes()),
            key: [key, unique_id].into_iter().flatten().find_map(|json| self.key(json)),
            updated_on: updated_on.and_then(|json| self.string(json)).and_then(in_utc),
        };
        self.records.push(record);
    }

    /// Returns the key in the JSON of a field: the text of a number, or of a string that is not empty. No other value makes a
    /// key.
    fn key(&self, json: &str) -> Option<Bytes> {
        match json.as_bytes().first()? {
            b'-' | b'0'..=b'9' => Some(self.body.slice_ref(json.as_bytes())),
            _ => self.string(json).filter(|text| !text.is_empty()),
        }
    }

    fn string(&self, json: &str) -> Option<Bytes> {
        match text_of(json)? {
            Cow::Borrowed(text) => Some(self.body.slice_ref(text.as_bytes())),
            Cow::Owned(text) => Some(text.into()),
        }
    }
}

/// Returns the text of a JSON string. `None` for any other value, and for a string with half of a surrogate pair.
fn text_of(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        true => serde_json::from_str(json).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

/// Returns a time of .NET in UTC, as RFC 3339. Takes a text such as `2024-03-31T09:05:07`, with 0 to 9 fractional digits, and
/// with `Z`, an offset or nothing (which means UTC) at the end. Returns `None` for any other text, and for the years 0, 1 and
/// 9999, which stand for a missing time.
fn in_utc(text: Bytes) -> Option<Bytes> {
    const SHAPE: &[u8; 19] = b"0000-00-00T00:00:00";
    let time = std::str::from_utf8(&text).ok()?;
    let (head, rest) = time.split_at_checked(SHAPE.len())?;
    let fits = |(byte, shape): (u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape };
    // .NET writes `DateTime.MinValue` or `MaxValue`, in any time zone, where there is no time.
    let is_placeholder = ["0000", "0001", "9999"].iter().any(|year| head.starts_with(year));
    if is_placeholder || !head.bytes().zip(SHAPE).all(fits) {
        return None;
    }
    match rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()) {
        "Z" => time.parse::<Timestamp>().is_ok().then(|| text.clone()),
        "" => time.parse::<DateTime>().is_ok().then(|| format!("{time}Z").into()),
        _ => Some(time.parse::<Timestamp>().ok()?.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
