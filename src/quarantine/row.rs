//! The fields of a quarantined message, read from its headers.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::position::Position;
use crate::event::source_name;
use crate::kafka::consumer::Message;

/// A quarantined message without its body. A header that is absent or not UTF-8 gives `None`.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// Its position.
    #[serde(flatten)]
    pub position: Position,
    /// Time of receipt of the delivery, else the timestamp of the message.
    #[serde(serialize_with = "millis")]
    pub received: Option<Timestamp>,
    /// The source of the delivery.
    pub source: Option<String>,
    /// The action, as in the URL.
    pub action: Option<String>,
    /// The label of the reason.
    pub reason: Option<String>,
    /// `missing` or `invalid` if the policy of the source accepted it.
    pub signature: Option<String>,
    /// Size of the body.
    pub bytes: usize,
    /// The CloudEvents id.
    pub id: Option<String>,
}

impl Row {
    /// Reads the headers of a message.
    pub fn of(message: &Message) -> Self {
        let header = |name: &str| Some(std::str::from_utf8(message.header(name)?).ok()?.to_owned());
        let received = header("ce_nexudusreceived").and_then(|time| time.parse().ok()).or(message.timestamp);
        let source = header("ce_source");
        Self {
            position: Position { partition: message.partition, offset: message.offset },
            received,
            source: source.and_then(|source| Some(source_name(&source)?.to_owned())),
            action: header("nexudus-action"),
            reason: header("quarantine-reason"),
            signature: header("nexudus-signature"),
            bytes: message.value.as_ref().map_or(0, Vec::len),
            id: header("ce_id"),
        }
    }
}

/// Returns the text of a time: RFC 3339 with milliseconds.
pub fn shown(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn millis<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(shown).serialize(serializer)
}
