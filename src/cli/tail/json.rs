//! An event as one line of JSON, complete: what can be text is, the rest is base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use crate::kafka::consumer::Message;
use crate::sender::payloads::wire_body;

/// `{"topic", "partition", "offset", "timestamp", "key", "headers", "value"}`. A value that is JSON is embedded in its own
/// text, numbers and escapes as they are; only white space between tokens goes where it would break the line. Any other
/// value is `value_base64` instead, as is `key_base64` for a key that is not UTF-8.
pub(in crate::cli) fn object(message: &Message) -> serde_json::Result<String> {
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
        match message.key.as_deref().map(std::str::from_utf8).transpose() {
            Ok(key) => line.serialize_entry("key", &key)?,
            Err(_) => {
                line.serialize_entry("key_base64", &message.key.as_ref().map(|key| STANDARD.encode(key)))?
            }
        }
        line.serialize_entry("headers", &Headers(&message.headers))?;
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

/// The value as it can stand in a line; none if it is not JSON.
fn raw(value: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(value).ok()?;
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    if !text.contains(['\n', '\r']) {
        return Some(raw.to_owned());
    }
    // In JSON, line breaks are between tokens only.
    RawValue::from_string(String::from_utf8(wire_body(text)).ok()?).ok()
}

/// The headers by name, in their order; of several with one name, the first.
struct Headers<'a>(&'a [(String, Option<Vec<u8>>)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = |place: usize, name: &str| !self.0[..place].iter().any(|(earlier, _)| earlier == name);
        let mut headers = serializer.serialize_map(None)?;
        for (place, (name, value)) in self.0.iter().enumerate() {
            if first(place, name) {
                headers.serialize_entry(name, &value.as_deref().map(String::from_utf8_lossy))?;
            }
        }
        headers.end()
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
                ("a".to_owned(), None),
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
                r#"{{"topic":"nexudus.X","partition":2,"offset":7,"timestamp":"2026-01-02T03:04:05.600Z","key":"42","headers":{{"a":"1","b":null}},"value":{record}}}"#
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
