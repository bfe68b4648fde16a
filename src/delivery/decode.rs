//! Decode: splits a body into records, each a slice of the body, or gives the reason for quarantine.
//!
//! The body is scanned once and nothing is serialized: key order, duplicate keys, `0.09000`, escapes, numbers of any
//! length and white space inside a record stay byte for byte. Only the fields for the key and the time are read. Nesting
//! can be as deep as the body is long: skipping a value needs no stack.
//!
//! It cannot fail: a body that is not records is kept whole, since a refusal would make Nexudus try it ten times and
//! then switch the webhook off.

mod json;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

use self::json::{Name, Walk};
use crate::outcome::QuarantineReason;
use crate::signature::BYTE_ORDER_MARK;

/// Maximum number of records in one delivery. Nexudus sends one. Without a maximum, 4 MiB of `[{},{},…]` would become
/// 1.4 million events: hundreds of megabytes of memory, and more messages than the producer's queue takes.
pub const MAX_RECORDS: usize = 1_000;

/// The content of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Records, at least one.
    Records(Vec<Record>),
    /// An empty array.
    Empty,
    /// No records; the body is kept whole.
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

/// Finds the records of a body, up to `max_records`; `key_field` names the field that makes their keys.
pub fn decode(body: &Bytes, key_field: &str, max_records: usize) -> Content {
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let Ok(text) = simdutf8::basic::from_utf8(unmarked) else {
        return Content::Unreadable(QuarantineReason::NotJson);
    };
    let scan = Scan { body, text, key_field, max_records };
    match scan.records() {
        Some(Found { count: 0, .. }) => Content::Empty,
        Some(Found { count, .. }) if count > max_records => {
            Content::Unreadable(QuarantineReason::TooManyRecords)
        }
        Some(Found { records, .. }) => Content::Records(records),
        // Only a bad body pays for the second scan, which tells `not_json` from `not_records`.
        None => Content::Unreadable(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => QuarantineReason::NotRecords,
            Err(_) => QuarantineReason::NotJson,
        }),
    }
}

/// A body that is being read: `text` is the body without its byte order mark.
struct Scan<'a> {
    body: &'a Bytes,
    text: &'a str,
    key_field: &'a str,
    max_records: usize,
}

/// The records found so far. Above the maximum they are only counted, so that their number costs no memory.
struct Found {
    records: Vec<Record>,
    count: usize,
}

impl<'a> Scan<'a> {
    fn records(&self) -> Option<Found> {
        let start = self.skip_space(0);
        let mut found = Found { records: Vec::with_capacity(1), count: 0 };
        let end = match self.text.as_bytes().get(start)? {
            b'[' => self.array(start + 1, &mut found)?,
            b'{' => self.record(start, &mut found)?,
            _ => return None,
        };
        (self.skip_space(end) == self.text.len()).then_some(found)
    }

    /// Reads records up to the bracket that closes the array; returns the offset after it.
    fn array(&self, start: usize, found: &mut Found) -> Option<usize> {
        let mut at = self.skip_space(start);
        if self.text.as_bytes().get(at)? == &b']' {
            return Some(at + 1);
        }
        loop {
            at = self.skip_space(self.record(at, found)?);
            match self.text.as_bytes().get(at)? {
                b',' => at = self.skip_space(at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// Reads the object that begins at `start`; returns the offset after it.
    fn record(&self, start: usize, found: &mut Found) -> Option<usize> {
        let mut fields = Fields::default();
        let end = Walk(self.text.as_bytes()).object(start, |name, value| fields.see(self, &name, value))?;
        found.count += 1;
        if found.count > self.max_records {
            found.records = Vec::new();
            return Some(end);
        }
        let key = |value: Option<Range<usize>>| value.and_then(|value| self.key(&self.text[value]));
        let key = key(fields.key).or_else(|| key(fields.unique_id));
        let updated_on = fields.updated_on.and_then(|value| self.time(&self.text[value]));
        found.records.push(Record { value: self.slice(start..end), key, updated_on });
        Some(end)
    }

    /// The text of a number or of a string that is not empty; nothing else makes a key.
    fn key(&self, raw: &'a str) -> Option<Bytes> {
        match raw.as_bytes().first()? {
            b'"' => self.string(raw).filter(|text| !text.is_empty()),
            b'-' | b'0'..=b'9' => Some(self.body.slice_ref(raw.as_bytes())),
            _ => None,
        }
    }

    fn time(&self, raw: &'a str) -> Option<Bytes> {
        let text = self.string(raw)?;
        match time::in_utc(std::str::from_utf8(&text).ok()?)? {
            time::Utc::AsWritten => Some(text),
            time::Utc::Converted(converted) => Some(converted.into()),
        }
    }

    fn string(&self, raw: &'a str) -> Option<Bytes> {
        match serde_json::from_str::<Text<'a>>(raw).ok()?.0 {
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

/// A string; borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Offsets of the fields that the bridge reads. Of duplicate fields the last one counts, as in other JSON parsers.
#[derive(Default)]
struct Fields {
    key: Option<Range<usize>>,
    unique_id: Option<Range<usize>>,
    updated_on: Option<Range<usize>>,
}

impl Fields {
    fn see(&mut self, scan: &Scan<'_>, name: &Name, value: Range<usize>) {
        let text = &scan.text.as_bytes()[name.text.clone()];
        if name.escaped {
            let quoted = &scan.text[name.text.start - 1..name.text.end + 1];
            // A name that is not valid Unicode (half of a surrogate pair) is none of these fields.
            if let Ok(Text(text)) = serde_json::from_str(quoted) {
                self.see_plain(scan.key_field, text.as_bytes(), value);
            }
        } else {
            self.see_plain(scan.key_field, text, value);
        }
    }

    /// `UniqueId` may be the key field too.
    #[inline]
    fn see_plain(&mut self, key_field: &str, name: &[u8], value: Range<usize>) {
        if name == b"UniqueId" {
            self.unique_id = Some(value.clone());
        }
        if name == b"UpdatedOn" {
            self.updated_on = Some(value.clone());
        }
        if name == key_field.as_bytes() {
            self.key = Some(value);
        }
    }
}

/// Times as .NET writes them.
mod time {
    use jiff::Timestamp;
    use jiff::civil::DateTime;

    /// A time in UTC as RFC 3339.
    pub(super) enum Utc {
        /// It was in UTC.
        AsWritten,
        /// It had another offset, or none; times without an offset are in UTC.
        Converted(String),
    }

    /// Reads `2024-03-31T09:05:07`, with 0 to 9 fractional digits and `Z`, an offset or nothing behind. A time in the years
    /// 0, 1 and 9999 is a placeholder and no time.
    pub(super) fn in_utc(text: &str) -> Option<Utc> {
        const SECONDS: usize = "2024-03-31T09:05:07".len();
        const SHAPE: &[u8; SECONDS] = b"0000-00-00T00:00:00";
        let head = text.as_bytes().get(..SECONDS)?;
        let fits =
            |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
        // `DateTime.MinValue` and `MaxValue`, which .NET writes where there is no time, in whatever zone.
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
