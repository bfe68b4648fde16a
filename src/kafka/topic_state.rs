//! The state of the wanted topics: the phase of the first look, the missing topics, and the refused topics.
//!
//! [`Preparation`](super::preparation::Preparation) and the watch write it, readiness reads it. A delivery whose topic is missing
//! requests a look at the topics.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Progress of the first look at the topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The topics are compared with the configuration.
    #[default]
    Looking,
    /// Missing topics are being created.
    Creating,
    /// Every topic exists or is refused; the producer loads their metadata.
    Loading,
    /// The first look is finished.
    Done,
}

/// The state of the wanted topics.
#[derive(Debug, Default)]
pub struct TopicState {
    /// The names of the wanted topics.
    pub(super) wanted: Mutex<BTreeSet<String>>,
    inner: Mutex<Inner>,
    /// Requests a look at the topics at once, even if a retry is due later. Requests during a look count as one.
    pub(super) look: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    missing: Vec<String>,
    refused: BTreeMap<String, String>,
}

impl TopicState {
    /// Returns the wanted topics that the cluster did not have at the last look.
    pub fn missing(&self) -> Vec<String> {
        self.inner.lock().missing.clone()
    }

    /// Returns the topics that Kafka refused to create, each with Kafka's error. The creation is retried.
    pub fn refused(&self) -> BTreeMap<String, String> {
        self.inner.lock().refused.clone()
    }

    /// Returns the reason why deliveries cannot succeed yet; `None` after the first look at the topics.
    pub(super) fn not_ready_reason(&self) -> Option<&'static str> {
        match self.inner.lock().phase {
            Phase::Looking => Some("topics are being looked up"),
            Phase::Creating => Some("topics are being created"),
            Phase::Loading => Some("the metadata of the topics is being loaded"),
            Phase::Done => None,
        }
    }

    /// Requests a look at the topics, unless the topic is already listed as missing.
    pub fn unknown(&self, topic: &str) {
        let inner = self.inner.lock();
        if inner.phase == Phase::Done && !inner.missing.iter().any(|missing| missing == topic) {
            self.look.notify_one();
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.inner.lock().phase
    }

    /// Sets the phase of the first look; later looks change nothing.
    pub(super) fn advance(&self, phase: Phase) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Done {
            inner.phase = phase;
        }
    }

    /// Replaces the list of missing topics, and requests a look if the list has new topics that Kafka has not refused. Returns whether
    /// the list changed.
    pub(super) fn set_missing(&self, missing: Vec<String>) -> bool {
        let mut inner = self.inner.lock();
        let is_new = |topic: &&String| !inner.missing.contains(topic) && !inner.refused.contains_key(*topic);
        if inner.phase == Phase::Done && missing.iter().any(|topic| is_new(&topic)) {
            self.look.notify_one();
        }
        let changed = inner.missing != missing;
        inner.missing = missing;
        changed
    }

    /// Replaces the list of refused topics. Returns whether one of them is new or has another error.
    pub(super) fn set_refused(&self, refused: &BTreeMap<String, String>) -> bool {
        let mut inner = self.inner.lock();
        let is_new = refused.iter().any(|(topic, error)| inner.refused.get(topic) != Some(error));
        inner.refused.clone_from(refused);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn look_is_asked_for(state: &TopicState) -> bool {
        let asked = pin!(state.look.notified());
        matches!(asked.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    fn topics(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_look_is_asked_for_once_for_each_topic_that_becomes_missing_and_never_for_a_refused_one() {
        let state = TopicState::default();
        state.unknown("a");
        state.set_missing(topics(&["a"]));
        assert!(!look_is_asked_for(&state), "the first look is under way");
        state.set_missing(Vec::new());
        state.advance(Phase::Done);
        state.set_refused(&BTreeMap::from([("refused".to_owned(), "why".to_owned())]));

        state.unknown("a");
        assert!(look_is_asked_for(&state), "a delivery met a topic that was there");
        state.set_missing(topics(&["a", "refused"]));
        assert!(look_is_asked_for(&state), "the watch found it missing");
        state.unknown("a");
        state.unknown("refused");
        state.set_missing(topics(&["a", "refused"]));
        assert!(!look_is_asked_for(&state), "both are known to be missing");
        state.set_missing(Vec::new());
        state.set_missing(topics(&["refused"]));
        assert!(!look_is_asked_for(&state), "a refused topic has its own retries");
        state.look.notify_one();
        state.look.notify_one();
        assert!(look_is_asked_for(&state) && !look_is_asked_for(&state), "two requests are one look");
    }

    #[test]
    fn the_first_look_has_a_reason_for_each_phase_and_cannot_begin_again() {
        let state = TopicState::default();
        assert_eq!(state.not_ready_reason(), Some("topics are being looked up"));
        state.advance(Phase::Creating);
        assert_eq!(state.not_ready_reason(), Some("topics are being created"));
        state.advance(Phase::Loading);
        assert!(state.not_ready_reason().is_some());
        state.advance(Phase::Done);
        state.advance(Phase::Creating);
        assert_eq!(state.not_ready_reason(), None);
    }
}
