//! Replay: publishes messages of the quarantine topic and records read from Nexudus by the stages decode, route, publish
//! and confirm.
//!
//! The events are equal to those of a live delivery. The time of receipt, the trace context and the mark of a missing or invalid
//! signature come from the kept message. A second replay of a message makes byte-equal copies with equal ids. The id of a change is
//! computed from its content. The id of a signal is random in a live delivery; in a replay it is computed from the position of the
//! message. A replay quarantines nothing: on an error the message stays, and the caller gets the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::decode::MAX_RECORDS;
use super::route::{Routed, route};
use super::settle::explained;
use super::verify::Verified;
use super::{Confirmed, Origins, origins};
use crate::config::{Config, Topics};
use crate::event::{self, Event, Trace};
use crate::kafka::confirm::{self, Position, Verdict};
use crate::kafka::consumer::Message;
use crate::kafka::producer::Producer;
use crate::kafka::settings::library_version;
use crate::metrics::Metrics;
use crate::outcome::QuarantineReason;

/// The reason why a kept message makes no events. The message stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// A header is missing, or not of the form that the bridge writes.
    #[error("its {0} is missing or not as the bridge writes it")]
    Foreign(&'static str),
    /// The source is no longer in the configuration.
    #[error("source {0:?} is not configured")]
    UnknownSource(String),
    /// The source does not have the kept or corrected action.
    #[error("source {origin} has no action {action:?}{hint}")]
    UnknownAction {
        /// The source's name.
        origin: Arc<str>,
        /// The action.
        action: String,
        /// The remedy.
        hint: String,
    },
    /// The body is not records.
    #[error("the body {}", match .0 {
        QuarantineReason::NotJson => "is not JSON, or not UTF-8",
        _ => "is JSON, but neither an object nor an array of objects",
    })]
    Unreadable(QuarantineReason),
}

/// The kind of failure of an event that was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No broker answered in time. The event may have been written.
    Timeout,
    /// The broker refuses the event for now: the topic, the right to write to it, or in-sync replicas are missing.
    RefusedForNow,
    /// The broker refuses the event for good: it is too large or invalid.
    RefusedForGood,
}

/// An event that was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayFailure {
    /// The kind of failure.
    pub cause: Cause,
    /// The reason as text. Holds no secret.
    pub detail: String,
}

/// Number of events in a row that a topic refuses for now before a replay gives up on it.
pub const REFUSALS: u32 = 3;

/// Counts refusals in a row for each topic, so that a replay does not try thousands of events on a topic that accepts none.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<String, u32>);

impl Refusals {
    /// Counts the result of an event. `topic` can be any name that stands for one topic.
    pub fn count<T>(&mut self, topic: &str, result: &Result<T, ReplayFailure>) {
        match result {
            Ok(_) => drop(self.0.remove(topic)),
            Err(ReplayFailure { cause: Cause::RefusedForNow, .. }) => {
                *self.0.entry(topic.to_owned()).or_default() += 1;
            }
            Err(_) => {}
        }
    }

    /// Returns whether a topic has refused [`REFUSALS`] events in a row.
    pub fn has_given_up(&self, topic: &str) -> bool {
        self.0.get(topic).is_some_and(|refusals| *refusals >= REFUSALS)
    }
}

/// Makes events from kept messages and publishes them.
pub struct Replayer {
    origins: Origins,
    topics: Topics,
    producer: Arc<Producer>,
}

impl Replayer {
    /// Makes a replayer, which connects when the first event is published.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &Config) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new(&library_version()));
        let producer = Producer::new(config, Arc::default(), Arc::clone(&metrics))?;
        if let Some(oauth) = &config.kafka.oauth {
            producer.sign_in(oauth, None).map_err(|error| error.to_string())?;
        }
        let origins = origins(&config.sources, &config.topics, &metrics);
        Ok(Self { origins, topics: config.topics.clone(), producer })
    }

    /// Returns the events of a kept message; none for an empty array. The action `corrected`, if given, replaces the kept one.
    ///
    /// # Errors
    /// [`Unroutable`].
    pub fn route(&self, mut message: Message, corrected: Option<&str>) -> Result<Vec<Event>, Unroutable> {
        let body = message.value.take().ok_or(Unroutable::Foreign("value"))?.into();
        let verified = self.read(&message, body, corrected)?;
        // No maximum: the replay of a body with too many records has to publish all of them.
        match route(&self.topics, &verified, usize::MAX, || signal_id(&message, &verified)) {
            Routed::Events(events) => Ok(events),
            Routed::Nothing => Ok(Vec::new()),
            Routed::Quarantined(reason, _) => Err(Unroutable::Unreadable(reason)),
        }
    }

    /// Reads the headers of a kept message.
    fn read(&self, message: &Message, body: Bytes, corrected: Option<&str>) -> Result<Verified, Unroutable> {
        let text = |name: &'static str| {
            let value = message.header(name).and_then(|value| std::str::from_utf8(value).ok());
            value.ok_or(Unroutable::Foreign(name))
        };
        let source = event::source_name(text("ce_source")?).ok_or(Unroutable::Foreign("ce_source"))?;
        let kept_action = text("nexudus-action")?;
        let received_at = text("ce_nexudusreceived")?.parse();
        let received_at = received_at.map_err(|_| Unroutable::Foreign("ce_nexudusreceived"))?;
        let warning = match message.header("nexudus-signature") {
            Some(_) => {
                let warning = text("nexudus-signature")?.parse();
                Some(warning.map_err(|_| Unroutable::Foreign("nexudus-signature"))?)
            }
            None => None,
        };
        let trace = Trace::read(message.header("traceparent"), message.header("tracestate"));
        let Some(origin) = self.origins.get(source) else {
            return Err(Unroutable::UnknownSource(source.to_owned()));
        };
        let (action, actions) = (corrected.unwrap_or(kept_action), &origin.source.actions);
        let Some(action_index) = actions.find(action) else {
            let nearest = actions.nearest(action);
            let hint =
                nearest.map(|name| format!("; did you mean {name}? (--as {name})")).unwrap_or_default();
            let origin = Arc::clone(&origin.source.name);
            return Err(Unroutable::UnknownAction { origin, action: action.to_owned(), hint });
        };
        Ok(Verified::when_kept(Arc::clone(origin), action_index, body, warning, trace, received_at))
    }

    /// Returns the event of a record that `catch-up` read from Nexudus's API in its run `run`. It is the event that a live delivery of
    /// the source's action at `action_index` would make. Returns `None` if the source is not configured, or if `record` is not one
    /// record.
    pub fn route_fetched(
        &self,
        source: &str,
        action_index: usize,
        record: Bytes,
        run: &Arc<str>,
    ) -> Option<Event> {
        let origin = Arc::clone(self.origins.get(source)?);
        let (trace, received_at) = (Trace::default(), Timestamp::now());
        let verified = Verified::when_kept(origin, action_index, record, None, trace, received_at);
        match route(&self.topics, &verified, MAX_RECORDS, Uuid::now_v7) {
            Routed::Events(mut events) if events.len() == 1 => {
                let mut event = events.pop()?;
                event.attributes.catch_up = Some(Arc::clone(run));
                Some(event)
            }
            _ => None,
        }
    }

    /// Publishes an event in a batch of its own and waits for its delivery report. Then publishes the tombstone of the event in the
    /// same way, if there is one.
    ///
    /// # Errors
    /// [`ReplayFailure`]. After [`Cause::Timeout`] other events would time out too.
    pub async fn publish(&self, event: &Event) -> Result<Confirmed, ReplayFailure> {
        let position = self.publish_alone(event).await?;
        if let Some(tombstone) = event.tombstone() {
            self.publish_alone(&tombstone).await?;
        }
        Ok(Confirmed::new(event, position))
    }

    async fn publish_alone(&self, event: &Event) -> Result<Position, ReplayFailure> {
        let confirmed = async { self.producer.publish_alone(event)?.confirm().await };
        confirmed.await.map_err(|error| self.unconfirmed(error))
    }

    fn unconfirmed(&self, error: confirm::Unconfirmed) -> ReplayFailure {
        let (cause, what) = match error.verdict {
            Verdict::Unknown | Verdict::QueueFull => {
                (Cause::Timeout, "no broker confirmed in time; the event may still have been written")
            }
            Verdict::Refused => (Cause::RefusedForGood, "the broker refuses it for good"),
            Verdict::Later | Verdict::Alone => (Cause::RefusedForNow, "the broker refuses it for now"),
        };
        ReplayFailure { cause, detail: explained(what, error, &self.producer.status) }
    }
}

/// Returns the id of a signal's first event: a UUIDv7 of the time of receipt. Its random part is a hash of position, action and body.
fn signal_id(message: &Message, verified: &Verified) -> Uuid {
    let Message { topic, partition, offset, .. } = message;
    let (_, action) = verified.labels();
    let mut hash = Sha256::new();
    for part in [
        topic.as_bytes(),
        &partition.to_be_bytes(),
        &offset.to_be_bytes(),
        action.as_bytes(),
        b"\0",
        &verified.body,
    ] {
        hash.update(part);
    }
    let mut hashed = [0; 10];
    hashed.copy_from_slice(&hash.finalize()[..10]);
    let millis = u64::try_from(verified.received_at.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &hashed).into_uuid()
}

#[cfg(test)]
mod tests;
