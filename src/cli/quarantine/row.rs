//! What the headers of a quarantined message say, as far as they say it: a line of `list`.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::position::Position;
use crate::event::source_name;
use crate::kafka::consumer::Message;

/// A quarantined message without its body. What a header does not say, or not in UTF-8, is none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    #[serde(serialize_with = "text")]
    pub(super) place: Position,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// When the delivery was received; else when the message was made.
    #[serde(serialize_with = "millis")]
    pub(super) received: Option<Timestamp>,
    pub(super) source: Option<String>,
    /// As the URL gave it.
    pub(super) action: Option<String>,
    pub(super) reason: Option<String>,
    /// `missing` or `invalid`, where the source's policy let it through.
    pub(super) signature: Option<String>,
    /// The body's.
    pub(super) bytes: usize,
    pub(super) id: Option<String>,
}

impl Row {
    pub(super) fn of(message: &Message) -> Self {
        let header = |name: &str| Some(std::str::from_utf8(message.header(name)?).ok()?.to_owned());
        let received = header("ce_nexudusreceived").and_then(|time| time.parse().ok()).or(message.timestamp);
        let source = header("ce_source");
        let (partition, offset) = (message.partition, message.offset);
        Self {
            place: Position { partition, offset },
            partition,
            offset,
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

/// How times are shown.
pub(super) fn shown(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn text<S: Serializer>(place: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

fn millis<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(shown).serialize(serializer)
}
