//! An event as one complete line of JSON, as text where possible, else in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::kafka::consumer::Message;
use crate::sender::payloads::wire_body;

/// Returns `{"topic", "partition", "offset", "timestamp", "key", "headers", "value"}`.
///
/// - `headers` is a list of `{"name", "value"}` in the message's order, since a name can occur more than once.
/// - A value that is JSON is embedded with its numbers and escapes as they are. White space between tokens is removed only if the
///   text has line breaks.
/// - Any other value is `value_base64` instead.
/// - The value of a header that is not UTF-8 is `value_base64`, and a key that is not UTF-8 is `key_base64`.
pub fn object(message: &Message) -> serde_json::Result<String> {
    serde_json::to_string(&Line(message))
}

struct Line<'a>(&'a Message);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("topic", &message.topic)?;
        line.serialize_entry("partition", &message.partition)?;
        line.serialize_entry("offset", &message.offset)?;
        line.serialize_entry("timestamp", &message.timestamp.map(|time| format!("{time:.3}")))?;
        entry(&mut line, ["key", "key_base64"], message.key.as_deref())?;
        line.serialize_entry("headers", &message.headers.iter().map(Header).collect::<Vec<_>>())?;
        match message.value.as_deref() {
            None => line.serialize_entry("value", &())?,
            Some(value) => match raw(value) {
                Some(raw) => line.serialize_entry("value", &raw)?,
                None => line.serialize_entry("value_base64", &STANDARD.encode(value))?,
            },
        }
        line.end()
    }
}

/// Returns the value as JSON without line breaks; `None` if it is not JSON.
fn raw(value: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(value).ok()?;
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    if !text.contains(['\n', '\r']) {
        return Some(raw.to_owned());
    }
    // In JSON, line breaks are between tokens only.
    RawValue::from_string(String::from_utf8(wire_body(text)).ok()?).ok()
}

struct Header<'a>(&'a (String, Option<Vec<u8>>));

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, value) = self.0;
        let mut header = serializer.serialize_map(Some(2))?;
        header.serialize_entry("name", name)?;
        entry(&mut header, ["value", "value_base64"], value.as_deref())?;
        header.end()
    }
}

/// Adds bytes under the first name as text, or under the second as base64 if they are not UTF-8.
fn entry<M: SerializeMap>(
    map: &mut M,
    [text, base64]: [&str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(std::str::from_utf8).transpose() {
        Ok(value) => map.serialize_entry(text, &value),
        Err(_) => map.serialize_entry(base64, &bytes.map(|bytes| STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: Option<&[u8]>) -> Message {
        Message {
            topic: "nexudus.X".to_owned(),
            partition: 2,
            offset: 7,
            timestamp: Some("2026-01-02T03:04:05.6Z".parse().unwrap()),
            key: Some(b"42".to_vec()),
            headers: vec![
                ("a".to_owned(), Some(b"1".to_vec())),
                ("b".to_owned(), None),
                ("a".to_owned(), Some(vec![0xFF])),
            ],
            value: value.map(<[u8]>::to_vec),
        }
    }

    fn line(message: &Message) -> String {
        object(message).unwrap()
    }

    #[test]
    fn a_value_that_is_json_is_embedded_in_its_own_text() {
        let record = r#"{"Amount":0.09000,"Big":1E+20,"N":"Jos\u00e9 / é","Empty": {}}"#;
        assert_eq!(
            line(&message(Some(record.as_bytes()))),
            format!(
                r#"{{"topic":"nexudus.X","partition":2,"offset":7,"timestamp":"2026-01-02T03:04:05.600Z","key":"42","headers":[{{"name":"a","value":"1"}},{{"name":"b","value":null}},{{"name":"a","value_base64":"/w=="}}],"value":{record}}}"#
            )
        );
        let pretty = line(&message(Some(b"{\r\n  \"A b\": 1.50\n}")));
        assert!(pretty.ends_with(r#""value":{"A b":1.50}}"#) && !pretty.contains('\n'), "{pretty}");
    }

    #[test]
    fn other_values_are_base64_and_none_is_null() {
        for value in [&b"not json"[..], b"", b"{\"a\":\"\xFF\"}", b"\xEF\xBB\xBF{}"] {
            let line: serde_json::Value =
                serde_json::from_str(&object(&message(Some(value))).unwrap()).unwrap();
            assert_eq!(line["value_base64"], STANDARD.encode(value));
            assert!(line.get("value").is_none());
        }
        assert!(line(&message(None)).ends_with(r#","value":null}"#));
    }

    #[test]
    fn keys_are_text_or_base64_or_null() {
        let mut message = message(None);
        message.key = Some(vec![0xFF]);
        assert!(line(&message).contains(r#""key_base64":"/w==""#));
        message.key = None;
        assert!(line(&message).contains(r#""key":null"#));
    }
}
