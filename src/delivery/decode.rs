//! Decode: a body as records, each a slice of it, or the reason why it cannot be.
//!
//! The body is walked once and nothing is printed anew: key order, duplicate keys, `0.09000`, escapes, numbers of any
//! length and white space inside a record stay byte for byte. Of a record only the few fields are looked at that make
//! the key and the time. Nesting may be as deep as the body is long: what is skipped needs no stack.
//!
//! It cannot fail: a body that is not records is kept whole, since a refusal would make Nexudus try it ten times and
//! then switch the webhook off.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::outcome::QuarantineReason;
use crate::signature::BYTE_ORDER_MARK;

/// What a body holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Records, at least one.
    Records(Vec<Record>),
    /// An empty array.
    Empty,
    /// Nothing that could be published as records.
    Unreadable(QuarantineReason),
}

/// One record of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Its bytes, a slice of the body.
    pub value: Bytes,
    /// Its key: the text of the field that the configuration names, else of `UniqueId`.
    pub key: Option<Bytes>,
    /// When it was changed, as RFC 3339 in UTC.
    pub updated_on: Option<Bytes>,
}

/// Finds the records of a body; `key_field` names the field that makes their keys.
pub fn decode(body: &Bytes, key_field: &str) -> Content {
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let Ok(text) = simdutf8::basic::from_utf8(unmarked) else {
        return Content::Unreadable(QuarantineReason::NotJson);
    };
    let scan = Scan { body, text, key_field };
    match scan.records() {
        Some(records) if records.is_empty() => Content::Empty,
        Some(records) => Content::Records(records),
        // Which of the two it is takes a second look that only bad bodies pay for.
        None => Content::Unreadable(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => QuarantineReason::NotRecords,
            Err(_) => QuarantineReason::NotJson,
        }),
    }
}

/// A body being read: `text` is all of it but a byte order mark.
struct Scan<'a> {
    body: &'a Bytes,
    text: &'a str,
    key_field: &'a str,
}

impl<'a> Scan<'a> {
    fn records(&self) -> Option<Vec<Record>> {
        let start = self.skip_space(0);
        let mut records = Vec::with_capacity(1);
        let end = match self.text.as_bytes().get(start)? {
            b'[' => self.array(start + 1, &mut records)?,
            b'{' => self.record(start, &mut records)?,
            _ => return None,
        };
        (self.skip_space(end) == self.text.len()).then_some(records)
    }

    /// Reads records up to the bracket that closes the array; gives back the place behind it.
    fn array(&self, start: usize, records: &mut Vec<Record>) -> Option<usize> {
        let mut at = self.skip_space(start);
        if self.text.as_bytes().get(at)? == &b']' {
            return Some(at + 1);
        }
        loop {
            at = self.skip_space(self.record(at, records)?);
            match self.text.as_bytes().get(at)? {
                b',' => at = self.skip_space(at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// Reads the object that begins at `start`; gives back the place behind it.
    fn record(&self, start: usize, records: &mut Vec<Record>) -> Option<usize> {
        let mut json = Deserializer::from_str(&self.text[start..]);
        let fields = FieldsOf { key_field: self.key_field }.deserialize(&mut json).ok()?;
        let end = start + json.into_iter::<IgnoredAny>().byte_offset();
        let key = fields
            .key
            .and_then(|raw| self.key(raw))
            .or_else(|| fields.unique_id.and_then(|raw| self.key(raw)));
        let updated_on = fields.updated_on.and_then(|raw| self.time(raw));
        records.push(Record { value: self.slice(start..end), key, updated_on });
        Some(end)
    }

    /// The text of a number or of a string that is not empty; nothing else makes a key.
    fn key(&self, raw: &'a RawValue) -> Option<Bytes> {
        match raw.get().as_bytes().first()? {
            b'"' => self.string(raw).filter(|text| !text.is_empty()),
            b'-' | b'0'..=b'9' => Some(self.body.slice_ref(raw.get().as_bytes())),
            _ => None,
        }
    }

    fn time(&self, raw: &'a RawValue) -> Option<Bytes> {
        let text = self.string(raw)?;
        match time::in_utc(std::str::from_utf8(&text).ok()?)? {
            time::Utc::AsWritten => Some(text),
            time::Utc::Converted(converted) => Some(converted.into()),
        }
    }

    fn string(&self, raw: &'a RawValue) -> Option<Bytes> {
        match serde_json::from_str::<Text<'a>>(raw.get()).ok()?.0 {
            Cow::Borrowed(text) => Some(self.body.slice_ref(text.as_bytes())),
            Cow::Owned(text) => Some(text.into()),
        }
    }

    fn slice(&self, range: Range<usize>) -> Bytes {
        self.body.slice_ref(&self.text.as_bytes()[range])
    }

    fn skip_space(&self, at: usize) -> usize {
        let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        at + self.text.as_bytes()[at..].iter().take_while(|byte| space(byte)).count()
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of a record that the bridge looks at; of duplicates the last, as JSON parsers do.
#[derive(Default)]
struct Fields<'a> {
    key: Option<&'a RawValue>,
    unique_id: Option<&'a RawValue>,
    updated_on: Option<&'a RawValue>,
}

struct FieldsOf<'k> {
    key_field: &'k str,
}

impl<'de> DeserializeSeed<'de> for FieldsOf<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key_seed(NameOf { key_field: self.key_field })? {
            if name == Name::default() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = Some(map.next_value::<&RawValue>()?);
            if name.key {
                fields.key = value;
            }
            if name.unique_id {
                fields.unique_id = value;
            }
            if name.updated_on {
                fields.updated_on = value;
            }
        }
        Ok(fields)
    }
}

/// Which of the looked-at fields a name is; `UniqueId` may be the key field too.
#[derive(Default, PartialEq, Eq)]
struct Name {
    key: bool,
    unique_id: bool,
    updated_on: bool,
}

struct NameOf<'k> {
    key_field: &'k str,
}

impl<'de> DeserializeSeed<'de> for NameOf<'_> {
    type Value = Name;

    /// As bytes, since a name may hold half of a surrogate pair, which no text can.
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameOf<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Name, E> {
        let is = |known: &str| name == known.as_bytes();
        Ok(Name { key: is(self.key_field), unique_id: is("UniqueId"), updated_on: is("UpdatedOn") })
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
        self.visit_bytes(name.as_bytes())
    }
}

/// Times as .NET writes them.
mod time {
    use jiff::Timestamp;
    use jiff::civil::DateTime;

    /// A time in UTC as RFC 3339.
    pub(super) enum Utc {
        /// It was that already.
        AsWritten,
        /// It had another offset, or none: Nexudus's times are in UTC.
        Converted(String),
    }

    /// Reads `2024-03-31T09:05:07`, with 0 to 9 fractional digits and `Z`, an offset or nothing behind.
    pub(super) fn in_utc(text: &str) -> Option<Utc> {
        const SECONDS: usize = "2024-03-31T09:05:07".len();
        const SHAPE: &[u8; SECONDS] = b"0000-00-00T00:00:00";
        let head = text.as_bytes().get(..SECONDS)?;
        let fits =
            |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
        if !head.iter().zip(SHAPE).all(fits) {
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
