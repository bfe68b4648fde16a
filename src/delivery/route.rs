//! Route: records become events, with topic, key and attributes. The result depends on the input only, not on a clock or a random
//! number.

use std::sync::Arc;

use uuid::Uuid;

use super::address::Target;
use super::decode::{Content, Record};
use super::verify::Verified;
use crate::action::{Action, Kind};
use crate::config::{Config, Source, Topics};
use crate::event::{Attributes, Event, EventId, Fingerprint, Quarantine, ReceivedAt, Stream};
use crate::outcome::QuarantineReason;

/// Makes the events of deliveries.
#[derive(Debug)]
pub struct Router {
    topics: Topics,
    quarantine: Arc<str>,
}

/// The events to publish for a delivery.
#[derive(Debug)]
pub enum Routed {
    /// One event for each record.
    Events(Vec<Event>),
    /// One event with the whole body, for the quarantine topic.
    Quarantined(QuarantineReason, Box<Event>),
    /// No event: the body is an empty array.
    Nothing,
}

impl Router {
    /// Makes a router with the topic names of the configuration.
    pub fn new(config: &Config) -> Self {
        Self { quarantine: config.topics.quarantine().into(), topics: config.topics.clone() }
    }

    /// Returns the streams of a source's actions, by action index. A stream is the part of an event that does not depend on the
    /// delivery.
    pub fn streams(&self, source: &Source) -> Vec<Arc<Stream>> {
        let stream = |action: &Action| {
            let stream = Stream::new(self.topics.topic_of(action), &source.name, action.name());
            Arc::new(Stream { has_tombstones: self.topics.has_tombstones(action), ..stream })
        };
        source.actions.iter().map(stream).collect()
    }

    /// Returns the name of the quarantine topic.
    pub fn quarantine_topic(&self) -> &Arc<str> {
        &self.quarantine
    }

    /// Turns a delivery's content into events. `first_id` makes the id of the first event of a signal action. The ids of further
    /// events are counted up from it.
    pub fn route(&self, verified: &Verified, content: Content, first_id: impl FnOnce() -> Uuid) -> Routed {
        match (content, &verified.action) {
            (_, Target::Unknown(_)) => self.quarantined(verified, QuarantineReason::UnknownAction),
            (Content::Unreadable(reason), _) => self.quarantined(verified, reason),
            (Content::Empty, _) => Routed::Nothing,
            (Content::Records(records), Target::Known(action_index)) => {
                Routed::Events(events(verified, *action_index, records, first_id))
            }
        }
    }

    fn quarantined(&self, verified: &Verified, reason: QuarantineReason) -> Routed {
        Routed::Quarantined(reason, Box::new(self.quarantine(verified, reason)))
    }

    /// Returns the event that keeps the whole body of a delivery.
    pub fn quarantine(&self, verified: &Verified, reason: QuarantineReason) -> Event {
        let source = &verified.origin.source;
        let action: Arc<str> = match &verified.action {
            Target::Known(action_index) => source.actions.get(*action_index).name().into(),
            Target::Unknown(name) => Arc::clone(name),
        };
        let fingerprint = Fingerprint::of(&source.name, &action, &verified.body);
        let stream = Arc::new(Stream::new(self.quarantine.to_string(), &source.name, &action));
        let mut attributes = attributes(verified, EventId::Content(fingerprint), fingerprint);
        attributes.quarantine = Some(Quarantine { reason, action });
        Event { stream, key: None, value: Some(verified.body.clone()), attributes }
    }
}

fn events(
    verified: &Verified,
    action_index: usize,
    records: Vec<Record>,
    first_id: impl FnOnce() -> Uuid,
) -> Vec<Event> {
    let source = &verified.origin.source;
    let action = source.actions.get(action_index);
    let stream = &verified.origin.streams[action_index];
    let first_id = (action.kind() == Kind::Signal).then(first_id);
    let event = |(record_index, record): (usize, Record)| {
        let Record { value, key, updated_on } = record;
        let fingerprint = Fingerprint::of(&source.name, action.name(), &value);
        let id = match first_id {
            Some(first) => EventId::Own(count_on(first, record_index)),
            None => EventId::Content(fingerprint),
        };
        let mut attributes = attributes(verified, id, fingerprint);
        attributes.time = updated_on;
        Event { stream: Arc::clone(stream), key, value: Some(value), attributes }
    };
    records.into_iter().enumerate().map(event).collect()
}

fn attributes(verified: &Verified, id: EventId, fingerprint: Fingerprint) -> Attributes {
    Attributes {
        id,
        fingerprint,
        time: None,
        received: ReceivedAt::new(verified.received_at),
        warning: verified.warning,
        catch_up: None,
        trace: verified.trace.clone(),
        quarantine: None,
    }
}

/// Returns the id of a further event of the same delivery: the first id with its random end counted up by `steps`.
fn count_on(first: Uuid, steps: usize) -> Uuid {
    const RANDOM_END: u128 = (1 << 62) - 1; // RFC 9562: version 7's `rand_b`
    let number = first.as_u128();
    Uuid::from_u128((number & !RANDOM_END) | (number.wrapping_add(steps as u128) & RANDOM_END))
}
