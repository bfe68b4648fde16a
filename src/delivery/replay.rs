//! Replay: publishes messages of the quarantine topic and records read from Nexudus by the stages decode, route, publish
//! and confirm.
//!
//! The events are equal to those of a live delivery: the time of receipt, the trace context and the mark of a missing or
//! invalid signature come from the kept message. A second replay of a message makes byte-equal copies with equal ids. The
//! id of a change follows from its content. The id of a signal is random in a live delivery; here it follows from the
//! position of the message. Nothing is quarantined here: on an error the message stays, and the caller gets the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::address::Target;
use super::decode;
use super::route::{Routed, Router};
use super::verify::{Kept, Verified};
use super::{Confirmed, Origins, origins};
use crate::config::Config;
use crate::event::{self, Event, Trace};
use crate::kafka::confirm::{self, Position, Verdict};
use crate::kafka::consumer::Message;
use crate::kafka::producer::Producer;
use crate::kafka::settings::library_version;
use crate::metrics::Metrics;
use crate::outcome::{QuarantineReason, SignatureWarning};

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
    #[error("the body {}", words(*.0))]
    Unreadable(QuarantineReason),
}

fn words(reason: QuarantineReason) -> &'static str {
    match reason {
        QuarantineReason::NotJson => "is not JSON, or not UTF-8",
        QuarantineReason::NotRecords => "is JSON, but neither an object nor an array of objects",
        QuarantineReason::TooManyRecords | QuarantineReason::UnknownAction | QuarantineReason::Refused => {
            "was kept for another reason"
        }
    }
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
pub struct Unconfirmed {
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
    pub fn count<T>(&mut self, topic: &str, result: &Result<T, Unconfirmed>) {
        match result {
            Ok(_) => drop(self.0.remove(topic)),
            Err(Unconfirmed { cause: Cause::RefusedForNow, .. }) => {
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
    router: Router,
    producer: Arc<Producer>,
    key_field: String,
}

impl Replayer {
    /// Makes a replayer, which connects when the first event is published.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &Config) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new(&library_version()));
        let router = Router::new(config);
        let producer = Producer::new(config, Arc::default(), Arc::clone(&metrics))?;
        if let Some(oauth) = &config.kafka.oauth {
            producer.sign_in(oauth, None).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            origins: origins(&config.sources, &router, &metrics),
            router,
            producer,
            key_field: config.topics.key.clone(),
        })
    }

    /// Returns the name of the quarantine topic.
    pub fn quarantine_topic(&self) -> &str {
        self.router.quarantine_topic()
    }

    /// Returns the events of a kept message; none for an empty array. The action `corrected`, if given, replaces the kept one.
    ///
    /// # Errors
    /// [`Unroutable`].
    pub fn route(&self, message: Message, corrected: Option<&str>) -> Result<Vec<Event>, Unroutable> {
        let (topic, partition, offset) = (message.topic.clone(), message.partition, message.offset);
        let kept = Kept::read(message)?;
        let Some(origin) = self.origins.get(kept.source.as_str()) else {
            return Err(Unroutable::UnknownSource(kept.source));
        };
        let action = corrected.unwrap_or(&kept.action);
        let actions = &origin.source.actions;
        let Some(action_index) = actions.find(action) else {
            let nearest = actions.nearest(action);
            let hint =
                nearest.map(|name| format!("; did you mean {name}? (--as {name})")).unwrap_or_default();
            let origin = Arc::clone(&origin.source.name);
            return Err(Unroutable::UnknownAction { origin, action: action.to_owned(), hint });
        };
        let seed = [topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()];
        let first_id = signal_id(seed, actions.get(action_index).name(), &kept);
        // No maximum: an operator who replays a body with too many records wants to publish all of them.
        let content = decode::decode(&kept.body, &self.key_field, usize::MAX);
        let verified = Verified::when_kept(Arc::clone(origin), Target::Known(action_index), kept);
        match self.router.route(&verified, content, || first_id) {
            Routed::Events(events) => Ok(events),
            Routed::Nothing => Ok(Vec::new()),
            Routed::Quarantined(reason, _) => Err(Unroutable::Unreadable(reason)),
        }
    }

    /// Returns the event of a record that `catch-up` read from Nexudus's API in its run `run`: the event that a live delivery of
    /// the source's action at `action_index` would make. `None` if the source is not configured, or if `record` is not one
    /// record.
    pub fn route_fetched(
        &self,
        source: &str,
        action_index: usize,
        record: Bytes,
        run: &Arc<str>,
    ) -> Option<Event> {
        let origin = self.origins.get(source)?;
        let kept = Kept {
            source: source.to_owned(),
            action: origin.source.actions.get(action_index).name().to_owned(),
            body: record,
            warning: None,
            trace: Trace::default(),
            received_at: Timestamp::now(),
        };
        let content = decode::decode(&kept.body, &self.key_field, decode::MAX_RECORDS);
        let verified = Verified::when_kept(Arc::clone(origin), Target::Known(action_index), kept);
        match self.router.route(&verified, content, Uuid::now_v7) {
            Routed::Events(mut events) if events.len() == 1 => {
                let mut event = events.pop()?;
                event.attributes.catch_up = Some(Arc::clone(run));
                Some(event)
            }
            _ => None,
        }
    }

    /// Publishes an event in a batch of its own and waits for its delivery report. Then it does the same with the tombstone of
    /// the event, if there is one.
    ///
    /// # Errors
    /// [`Unconfirmed`]. After [`Cause::Timeout`] other events would time out too.
    pub async fn publish(&self, event: &Event) -> Result<Confirmed, Unconfirmed> {
        let position = self.publish_alone(event).await?;
        if let Some(tombstone) = event.tombstone() {
            self.publish_alone(&tombstone).await?;
        }
        Ok(Confirmed::new(event, position))
    }

    async fn publish_alone(&self, event: &Event) -> Result<Position, Unconfirmed> {
        let confirmed = async { self.producer.publish_alone(event)?.confirm().await };
        confirmed.await.map_err(|error| self.unconfirmed(error))
    }

    fn unconfirmed(&self, confirm::Unconfirmed { verdict, code }: confirm::Unconfirmed) -> Unconfirmed {
        let (cause, what) = match verdict {
            Verdict::Unknown | Verdict::QueueFull => {
                (Cause::Timeout, "no broker confirmed in time; the event may still have been written")
            }
            Verdict::Refused => (Cause::RefusedForGood, "the broker refuses it for good"),
            Verdict::Later | Verdict::Alone => (Cause::RefusedForNow, "the broker refuses it for now"),
        };
        let mut detail = format!("{what}: {code}");
        if let Some(explanation) = self.producer.status().explanation() {
            detail.push_str(&format!("; {explanation}"));
        }
        Unconfirmed { cause, detail }
    }
}

impl Kept {
    fn read(message: Message) -> Result<Self, Unroutable> {
        let text = |name: &'static str| {
            let value = message.header(name).and_then(|value| std::str::from_utf8(value).ok());
            value.ok_or(Unroutable::Foreign(name))
        };
        let source = event::source_name(text("ce_source")?).ok_or(Unroutable::Foreign("ce_source"))?;
        let received_at = text("ce_nexudusreceived")?.parse();
        let warning = match message.header("nexudus-signature") {
            None => None,
            Some(_) => Some(
                text("nexudus-signature")?
                    .parse::<SignatureWarning>()
                    .map_err(|_| Unroutable::Foreign("nexudus-signature"))?,
            ),
        };
        let trace = Trace::read(message.header("traceparent"), message.header("tracestate"));
        Ok(Self {
            source: source.to_owned(),
            action: text("nexudus-action")?.to_owned(),
            warning,
            trace,
            received_at: received_at.map_err(|_| Unroutable::Foreign("ce_nexudusreceived"))?,
            body: message.value.ok_or(Unroutable::Foreign("value"))?.into(),
        })
    }
}

/// Returns the id of a signal's first event: a UUIDv7 of the time of receipt, with a hash instead of the random part.
fn signal_id(seed: [&[u8]; 3], action: &str, kept: &Kept) -> Uuid {
    let mut hash = Sha256::new();
    for part in seed.into_iter().chain([action.as_bytes(), b"\0", &kept.body]) {
        hash.update(part);
    }
    let mut chance = [0; 10];
    chance.copy_from_slice(&hash.finalize()[..10]);
    let millis = u64::try_from(kept.received_at.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &chance).into_uuid()
}

#[cfg(test)]
mod tests;
