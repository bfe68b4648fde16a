//! A record of the API: its fields in their order, each value as the JSON text that the API sent.
//!
//! An update must send the whole record back, and numbers keep their zeros (`0.0900`). So only changed fields are parsed
//! and serialized; unknown fields keep their text.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::lenient;

/// A JSON object whose values are kept as text. Its `Debug` names the fields only: records hold personal data.
#[derive(Clone)]
pub struct Record {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Record {
    /// Returns the names and the JSON texts of the fields, in their order.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// Returns the JSON text of a field. Of two fields with one name, the last counts, as for Json.NET.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.fields().rfind(|(known, _)| *known == name).map(|(_, value)| value)
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

    /// Returns the `Id` of the record.
    pub fn id(&self) -> Option<i64> {
        self.integer("Id")
    }

    /// Sets a field at its position; a new field comes last.
    pub fn set(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::value::to_raw_value(&value).expect("plain values become JSON");
        match self.fields.iter_mut().rfind(|(known, _)| known == name) {
            Some((_, field)) => *field = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Returns the record as compact JSON.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("JSON remains JSON").into()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fields().map(|(name, _)| name)).finish()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, Box<RawValue>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(|fields| Self { fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let json = r#"{"Id":1414848001,"Price":0.0900,"Name":"Jos\u00e9 é 😀","X":{"b":1.0,"a":[ 1, 2 ]},"Big":123456789012345678901234567890,"Active":false}"#;
        let mut record = record(json);
        assert_eq!(record.to_json(), json.as_bytes());
        record.set("Active", true);
        record.set("New", "a\"b");
        let expected = json.replace("\"Active\":false}", r#""Active":true,"New":"a\"b"}"#);
        assert_eq!(record.to_json(), expected.as_bytes());
    }

    #[test]
    fn fields_are_read_as_what_they_are_or_not_at_all() {
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
        assert_eq!(format!("{record:?}"), r#"{"Id", "URL", "Active", "ErrorCount", "A", "A"}"#);
    }
}
