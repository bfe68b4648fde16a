//! Events: the messages that the bridge publishes, one for each record, in the CloudEvents 1.0 Kafka binding's binary content
//! mode.
//!
//! The value is a slice of the delivery's body and is never serialized again. The attributes are message headers. [`Fingerprint`], the
//! content function of the contract, is the id of change events, so byte-equal copies have the same id and consumers can drop them.
//! Signals get an id of their own.

mod trace;

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

pub use self::trace::Trace;
use crate::outcome::{QuarantineReason, SignatureWarning};

/// The attributes that all events of a source and an action share. Made at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The topic's full name.
    pub topic: String,
    /// `ce_source`: `/nexudus/{source}`.
    pub source: String,
    /// `ce_type`: `com.nexudus.{action}`.
    pub kind: String,
    /// True if each event is followed by a tombstone.
    pub has_tombstones: bool,
}

impl Stream {
    /// Makes the stream of an action of a source, both given by name.
    pub fn new(topic: String, source: &str, action: &str) -> Self {
        Self { topic, source: source_of(source), kind: kind_of(action), has_tombstones: false }
    }
}

const SOURCE_PREFIX: &str = "/nexudus/";

/// Returns the `ce_source` of a source.
pub fn source_of(name: &str) -> String {
    format!("{SOURCE_PREFIX}{name}")
}

/// Returns the name of the source that a `ce_source` stands for; `None` if the bridge did not write it.
pub fn source_name(source: &str) -> Option<&str> {
    source.strip_prefix(SOURCE_PREFIX)
}

const KIND_PREFIX: &str = "com.nexudus.";

/// Returns the `ce_type` of an action.
pub fn kind_of(action: &str) -> String {
    format!("{KIND_PREFIX}{action}")
}

/// Returns the name of the action that a `ce_type` stands for; `None` if the bridge did not write it.
pub fn action_name(kind: &str) -> Option<&str> {
    kind.strip_prefix(KIND_PREFIX)
}

/// The header of a tombstone.
pub const TOMBSTONE: &str = "nexudus-tombstone";

/// One message for Kafka.
#[derive(Debug, Clone)]
pub struct Event {
    /// The stream: topic, source and type.
    pub stream: Arc<Stream>,
    /// The message key; an event without a key can be on any partition.
    pub key: Option<Bytes>,
    /// The record, or the whole body on the quarantine topic, byte for byte; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// The CloudEvents attributes and the bridge's own headers.
    pub attributes: Attributes,
}

/// The message headers of an event.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// `ce_id`.
    pub id: EventId,
    /// `ce_nexudusfingerprint`.
    pub fingerprint: Fingerprint,
    /// `ce_time`: time of the change as RFC 3339 in UTC; the time of receipt if the record has none. It orders only creations and updates
    /// of a record: a deleted record can have an older time.
    pub time: Option<Bytes>,
    /// `ce_nexudusreceived`: time at which the delivery arrived.
    pub received: Timestamp,
    /// `nexudus-signature`: set if only `signature = "warn"` of the source allowed the delivery.
    pub warning: Option<SignatureWarning>,
    /// `ce_nexuduscatchup`: the run of `catch-up` that read the record; `None` for a record of a delivery.
    pub catch_up: Option<Arc<str>>,
    /// `traceparent` and `tracestate` of the request.
    pub trace: Trace,
    /// Set on the quarantine topic only.
    pub quarantine: Option<Quarantine>,
}

/// The reason why a body is on the quarantine topic.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// `quarantine-reason`.
    pub reason: QuarantineReason,
    /// `nexudus-action`: the action as the URL gave it.
    pub action: Arc<str>,
}

/// The id of an event: `ce_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventId {
    /// The content function: the same for byte-equal copies.
    Content(Fingerprint),
    /// A UUIDv7, for events that can occur twice with the same bytes.
    Own(Uuid),
}

impl EventId {
    /// Returns the id as text. A UUID is written to `buffer` for this.
    pub fn text<'a>(&'a self, buffer: &'a mut [u8; Hyphenated::LENGTH]) -> &'a str {
        match self {
            Self::Content(fingerprint) => fingerprint.as_str(),
            Self::Own(uuid) => uuid.as_hyphenated().encode_lower(&mut buffer[..]),
        }
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; Hyphenated::LENGTH]))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; Hyphenated::LENGTH]))
    }
}

/// The content function: lower-case hex SHA-256 of source, NUL, action, NUL and the record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 64]);

impl Fingerprint {
    /// Computes the fingerprint from the names of source and action. An unknown action has the name from the URL.
    pub fn of(source: &str, action: &str, content: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [source.as_bytes(), b"\0", action.as_bytes(), b"\0", content] {
            hash.update(part);
        }
        let mut digits = [0; 64];
        hex::encode_to_slice(hash.finalize(), &mut digits).expect("32 bytes make 64 digits");
        Self(digits)
    }

    /// Returns the 64 hex digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns a time as RFC 3339 in UTC with milliseconds, without an allocation.
fn rfc_3339(time: Timestamp) -> [u8; 24] {
    let mut text = *b"0000-00-00T00:00:00.000Z";
    // A year of five digits does not fit, so the text of such a time is cut off.
    write!(&mut text[..], "{time:.3}").unwrap_or_default();
    text
}

impl Event {
    /// Returns the tombstone that follows a delete event: its key and headers without a value, so that compaction removes
    /// the record. `None` if the stream has no tombstones, and for an event without a key.
    pub fn tombstone(&self) -> Option<Self> {
        let is_due = self.stream.has_tombstones && self.key.is_some() && self.value.is_some();
        is_due.then(|| Self { value: None, ..self.clone() })
    }

    /// Passes the name and value of each message header to `put`, in a fixed order.
    pub fn headers(&self, mut put: impl FnMut(&'static str, &[u8])) {
        let attributes = &self.attributes;
        let received = rfc_3339(attributes.received);
        let mut buffer = [0; Hyphenated::LENGTH];
        put("content-type", self.content_type());
        put("ce_specversion", b"1.0");
        put("ce_id", attributes.id.text(&mut buffer).as_bytes());
        put("ce_source", self.stream.source.as_bytes());
        put("ce_type", self.stream.kind.as_bytes());
        if let Some(key) = &self.key {
            put("ce_subject", key);
        }
        put("ce_time", attributes.time.as_deref().unwrap_or(&received));
        put("ce_nexudusreceived", &received);
        put("ce_nexudusfingerprint", &attributes.fingerprint.0);
        if let Some(warning) = attributes.warning {
            put("nexudus-signature", warning.label().as_bytes());
        }
        if self.value.is_none() {
            put(TOMBSTONE, b"true");
        }
        if let Some(run) = &attributes.catch_up {
            put("ce_nexuduscatchup", run.as_bytes());
        }
        if let Some(quarantine) = &attributes.quarantine {
            put("quarantine-reason", quarantine.reason.label().as_bytes());
            put("nexudus-action", quarantine.action.as_bytes());
        }
        if let Some(parent) = &attributes.trace.parent {
            put("traceparent", parent);
        }
        if let Some(state) = &attributes.trace.state {
            put("tracestate", state);
        }
    }

    fn content_type(&self) -> &'static [u8] {
        match &self.attributes.quarantine {
            Some(quarantine) if quarantine.reason == QuarantineReason::NotJson => b"application/octet-stream",
            _ => b"application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_function_is_sha256_of_source_action_and_bytes_parted_by_nul() {
        let expected = hex::encode(Sha256::digest(b"north\0BookingCreate\0{\"Id\":1}"));
        assert_eq!(Fingerprint::of("north", "BookingCreate", b"{\"Id\":1}").as_str(), expected);
    }

    #[test]
    fn the_time_of_receipt_is_rfc_3339_in_utc() {
        for (time, text) in [
            ("2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("2024-02-29T23:59:59.999+00:00", "2024-02-29T23:59:59.999Z"),
        ] {
            assert_eq!(rfc_3339(time.parse().unwrap()), text.as_bytes());
        }
    }
}
