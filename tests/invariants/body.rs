//! Bodies as inputs: some that Nexudus could send, and some that it never sends.

use arbitrary::Arbitrary;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::sender::payloads::{payload, wire_body};

/// A body. [`Body::bytes`] makes its bytes.
#[derive(Debug, Arbitrary)]
pub(crate) enum Body {
    /// An array of objects.
    Records(Vec<Object>),
    /// A single object.
    Bare(Object),
    /// The sender's fixture of an action.
    Fixture(u8),
    /// Text that is rarely JSON.
    Text(String),
    /// Bytes that are rarely text.
    Bytes(Vec<u8>),
}

/// The fields of a record.
#[derive(Debug, Arbitrary)]
pub(crate) struct Object(Vec<(Name, Value)>);

/// The name of a field.
#[derive(Debug, Arbitrary)]
pub(crate) enum Name {
    /// The configured key field.
    Id,
    /// The configured key field, with an escape in its name.
    EscapedId,
    /// The key field of a record without the configured one.
    UniqueId,
    /// The field with the time.
    UpdatedOn,
    /// Any other field.
    Other(String),
}

/// The value of a field.
#[derive(Debug, Arbitrary)]
pub(crate) enum Value {
    /// `null`.
    Null,
    /// A number.
    Number(i64),
    /// A number that a parser would print differently.
    LongNumber(u64),
    /// Text.
    Text(String),
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// A time as .NET writes it.
    Time(u16),
    /// Nested lists of this depth.
    Deep(u8),
}

impl Body {
    /// Returns the bytes of the body.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Records(objects) => {
                let objects: Vec<String> = objects.iter().map(Object::json).collect();
                format!("[{}]", objects.join(",\n ")).into_bytes()
            }
            Self::Bare(object) => object.json().into_bytes(),
            Self::Fixture(place) => {
                let action = ENTRIES[usize::from(*place) % ENTRIES.len()].name;
                wire_body(payload(action).expect("every action has a fixture"))
            }
            Self::Text(text) => text.clone().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Object {
    fn json(&self) -> String {
        let field = |(name, value): &(Name, Value)| format!("{}: {}", name.json(), value.json());
        format!("{{{}}}", self.0.iter().map(field).collect::<Vec<_>>().join(","))
    }
}

impl Name {
    fn json(&self) -> String {
        match self {
            Self::Id => r#""Id""#.into(),
            Self::EscapedId => r#""\u0049d""#.into(),
            Self::UniqueId => r#""UniqueId""#.into(),
            Self::UpdatedOn => r#""UpdatedOn""#.into(),
            Self::Other(name) => quoted(name),
        }
    }
}

impl Value {
    fn json(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Number(number) => number.to_string(),
            Self::LongNumber(digits) => format!("-{digits}{digits}.{digits:020}E+{digits}"),
            Self::Text(text) => quoted(text),
            Self::LoneSurrogate => r#""\ud83d""#.into(),
            Self::Time(seed) => {
                let [a, b] = seed.to_le_bytes();
                format!("\"20{:02}-{:02}-{:02}T23:59:{:02}.{seed}Z\"", a % 100, b % 14, a % 33, b % 62)
            }
            Self::Deep(depth) => {
                let depth = usize::from(*depth);
                format!("{}{}", "[".repeat(depth + 1), "]".repeat(depth + 1))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text can be written")
}
