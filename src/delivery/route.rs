//! Route: makes events from records, with topic, key and attributes. The result depends on the input only: the caller
//! passes the first id, which holds the clock and the random number of a signal.

use std::sync::Arc;

use uuid::Uuid;

use super::address::RequestedAction;
use super::decode::{Content, Record, decode};
use super::verify::Verified;
use crate::action::{Action, Kind};
use crate::config::{Source, Topics};
use crate::event::{Attributes, Event, EventId, Fingerprint, Quarantine, Stream};
use crate::outcome::QuarantineReason;

/// The events to publish for a delivery.
#[derive(Debug)]
pub(super) enum Routed {
    /// One event for each record.
    Events(Vec<Event>),
    /// One event with the whole body, for the quarantine topic.
    Quarantined(QuarantineReason, Box<Event>),
    /// No event: the body is an empty array.
    Nothing,
}

/// Returns the streams of a source's actions, by action index. A stream is the part of an event that does not depend on the
/// delivery.
pub(super) fn streams(topics: &Topics, source: &Source) -> Vec<Arc<Stream>> {
    let stream = |action: &Action| {
        let stream = Stream::new(topics.topic_of(action), &source.name, action.name());
        Arc::new(Stream { has_tombstones: topics.has_tombstones(action), ..stream })
    };
    source.actions.iter().map(stream).collect()
}

/// Decodes a delivery of up to `max_records` records, and makes its events. `first_id` makes the id of the first event of a
/// signal action. The ids of further events are counted up from it.
pub(super) fn route(
    topics: &Topics,
    verified: &Verified,
    max_records: usize,
    first_id: impl FnOnce() -> Uuid,
) -> Routed {
    let reason = match (decode(&verified.body, &topics.key, max_records), &verified.action) {
        (_, RequestedAction::Unknown(_)) => QuarantineReason::UnknownAction,
        (Content::Unreadable(reason), _) => reason,
        (Content::Empty, _) => return Routed::Nothing,
        (Content::Records(records), RequestedAction::Known(action_index)) => {
            return Routed::Events(events(verified, *action_index, records, first_id));
        }
    };
    Routed::Quarantined(reason, Box::new(quarantined(topics, verified, reason)))
}

/// Returns the event that keeps the whole body of a delivery on the quarantine topic.
pub(super) fn quarantined(topics: &Topics, verified: &Verified, reason: QuarantineReason) -> Event {
    let source = &verified.origin.source;
    let action: Arc<str> = match &verified.action {
        RequestedAction::Known(action_index) => source.actions.get(*action_index).name().into(),
        RequestedAction::Unknown(name) => Arc::clone(name),
    };
    let fingerprint = Fingerprint::of(&source.name, &action, &verified.body);
    let stream = Arc::new(Stream::new(topics.quarantine(), &source.name, &action));
    let mut attributes = attributes(verified, EventId::Content(fingerprint), fingerprint);
    attributes.quarantine = Some(Quarantine { reason, action });
    Event { stream, key: None, value: Some(verified.body.clone()), attributes }
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
        received: verified.received_at,
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
