//! Invariants of routing, for the events of a body from any source: they keep the records' bytes, their topics have valid names, and
//! their ids are equal exactly if the contract requires it.
//!
//! The input is a replay. It has the stages of a delivery and accepts any message of a topic, with any headers.

use std::collections::HashSet;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use bytes::Bytes;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::action::{Kind, MAX_NAME_BYTES};
use nexudus_bridge::config::Config;
use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::delivery::decode::{Content, Record, decode};
use nexudus_bridge::delivery::replay::{Replayer, Unroutable};
use nexudus_bridge::event::{Event, EventId};
use nexudus_bridge::kafka::consumer::Message;
use nexudus_bridge::kafka::settings::check_property;
use sha2::{Digest as _, Sha256};

use crate::body::Body;
use crate::topic::is_valid_name;

/// A message of the quarantine topic, and the command that replays it.
#[derive(Debug, Arbitrary)]
pub(crate) struct Kept {
    source: Source,
    action: Action,
    corrected: Option<Action>,
    mark: Option<Mark>,
    trace: Option<Vec<u8>>,
    received: Received,
    headers: Vec<(String, Option<Vec<u8>>)>,
    offset: i64,
    body: Body,
}

#[derive(Debug, Arbitrary)]
enum Source {
    Default,
    North,
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Action {
    Known(u8),
    Number(u8),
    Extra,
    Any(String),
}

#[derive(Debug, Arbitrary)]
enum Mark {
    Missing,
    Invalid,
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Received {
    At(u32),
    Any(Vec<u8>),
}

/// A prefix and an extra action of maximum length.
static NAMES: LazyLock<[String; 2]> =
    LazyLock::new(|| ["p".repeat(249 - MAX_NAME_BYTES), format!("Extra{}", ".".repeat(MAX_NAME_BYTES - 5))]);

/// Events are made only of a valid message, and a second replay makes equal events.
pub(crate) fn events_keep_bytes_and_have_valid_topics_and_the_documented_ids(kept: &Kept) {
    let replayer = &*REPLAYER;
    let body = Bytes::from(kept.body.bytes());
    let corrected = kept.corrected.as_ref().map(Action::text);
    let routed = replayer.route(kept.message(), corrected.as_deref());
    let again = replayer.route(kept.message(), corrected.as_deref());
    let action = corrected.unwrap_or_else(|| kept.action.text());
    let place = CONFIG.sources["default"].actions.find(&action);
    match (routed, decode(&body, &CONFIG.topics.key, usize::MAX)) {
        (Ok(events), content) => {
            let records = match content {
                Content::Records(records) => records,
                Content::Empty => Vec::new(),
                Content::Unreadable(reason) => panic!("events of a body that is {reason:?}"),
            };
            let source = kept.source.configured().expect("a source that is not configured has no events");
            let action = CONFIG.sources["default"].actions.get(place.expect("a known action"));
            assert_eq!(events.len(), records.len());
            for (event, record) in events.iter().zip(&records) {
                event_is_the_record(event, record, source, action.name());
                assert_eq!(matches!(event.attributes.id, EventId::Content(_)), action.kind() == Kind::Change);
            }
            ids_are_equal_exactly_for_equal_changes(&events, action.kind());
            let again = again.expect("a message that was routed is routed again");
            let ids = |events: &[Event]| events.iter().map(|event| event.attributes.id).collect::<Vec<_>>();
            assert_eq!(ids(&events), ids(&again));
        }
        (Err(Unroutable::Foreign(part)), _) => assert!(!kept.is_ours(), "{part}"),
        (Err(Unroutable::UnknownSource(_)), _) => assert!(kept.source.configured().is_none()),
        (Err(error @ Unroutable::UnknownAction { .. }), _) => {
            assert!(place.is_none() && !error.to_string().is_empty());
        }
        (Err(Unroutable::Unreadable(reason)), content) => assert_eq!(content, Content::Unreadable(reason)),
    }
}

fn event_is_the_record(event: &Event, record: &Record, source: &str, action: &str) {
    assert_eq!((event.value.as_ref(), &event.key), (Some(&record.value), &record.key));
    assert_eq!(event.stream.topic, format!("{}{action}", NAMES[0]));
    assert!(is_valid_name(&event.stream.topic), "{}", event.stream.topic);
    let content = [source.as_bytes(), b"\0", action.as_bytes(), b"\0", &record.value].concat();
    let fingerprint = hex::encode(Sha256::digest(content));
    assert_eq!(event.attributes.fingerprint.as_str(), fingerprint);
    let mut names = HashSet::new();
    event.headers(|name, value| {
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("trace") || std::str::from_utf8(value).is_ok(), "{name}");
        match name {
            "ce_source" => assert_eq!(value, format!("/nexudus/{source}").as_bytes()),
            "ce_type" => assert_eq!(value, format!("com.nexudus.{action}").as_bytes()),
            "ce_nexudusfingerprint" => assert_eq!(value, fingerprint.as_bytes()),
            "ce_time" => assert!(value.ends_with(b"Z")),
            _ => {}
        }
    });
}

fn ids_are_equal_exactly_for_equal_changes(events: &[Event], kind: Kind) {
    for (place, event) in events.iter().enumerate() {
        for other in &events[place + 1..] {
            let same = event.attributes.id == other.attributes.id;
            assert_eq!(same, kind == Kind::Change && event.value == other.value);
            assert_eq!(
                event.attributes.fingerprint == other.attributes.fingerprint,
                event.value == other.value
            );
        }
    }
}

impl Kept {
    /// Returns whether the bridge could have written the whole message.
    fn is_ours(&self) -> bool {
        let marked = !matches!(self.mark, Some(Mark::Any(_)));
        let named = !matches!(self.source, Source::Any(_));
        // An earlier header of the same name replaces the bridge's header.
        named && marked && matches!(self.received, Received::At(_)) && self.headers.is_empty()
    }

    fn message(&self) -> Message {
        let mut headers = self.headers.clone();
        let mut put = |name: &str, value: Vec<u8>| headers.push((name.to_owned(), Some(value)));
        put("ce_source", self.source.header());
        put("nexudus-action", self.action.text().into_bytes());
        put("ce_nexudusreceived", self.received.header());
        if let Some(mark) = &self.mark {
            put("nexudus-signature", mark.header());
        }
        if let Some(trace) = &self.trace {
            put("traceparent", trace.clone());
        }
        Message {
            topic: format!("{}quarantine", NAMES[0]),
            partition: 0,
            offset: self.offset,
            timestamp: None,
            key: None,
            headers,
            value: Some(self.body.bytes()),
        }
    }
}

impl Source {
    /// Returns the name of the source, if the configuration has it.
    fn configured(&self) -> Option<&'static str> {
        match self {
            Self::Default => Some("default"),
            Self::North => Some("north"),
            Self::Any(bytes) => {
                ["default", "north"].into_iter().find(|name| format!("/nexudus/{name}").as_bytes() == bytes)
            }
        }
    }

    fn header(&self) -> Vec<u8> {
        match self {
            Self::Default => b"/nexudus/default".to_vec(),
            Self::North => b"/nexudus/north".to_vec(),
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

impl Action {
    fn text(&self) -> String {
        match self {
            Self::Known(place) => ENTRIES[usize::from(*place) % ENTRIES.len()].name.to_lowercase(),
            Self::Number(number) => number.to_string(),
            Self::Extra => NAMES[1].clone(),
            Self::Any(text) => text.clone(),
        }
    }
}

impl Mark {
    fn header(&self) -> Vec<u8> {
        match self {
            Self::Missing => b"missing".to_vec(),
            Self::Invalid => b"invalid".to_vec(),
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

impl Received {
    fn header(&self) -> Vec<u8> {
        match self {
            Self::At(second) => {
                let time = jiff::Timestamp::from_second((*second).into()).expect("a time of our age");
                time.to_string().into_bytes()
            }
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let [prefix, extra] = &*NAMES;
    let variables = [
        ("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1".to_owned()),
        ("TOPICS__PREFIX", prefix.clone()),
        ("SOURCES__DEFAULT__SECRETS", r#"["s"]"#.to_owned()),
        ("SOURCES__DEFAULT__EXTRA_ACTIONS", format!("[{extra:?}]")),
        ("SOURCES__NORTH__SECRETS", r#"["s"]"#.to_owned()),
        ("SOURCES__NORTH__EXTRA_ACTIONS", format!("[{extra:?}]")),
    ];
    let variables = variables.map(|(name, value)| (format!("NEXUDUS_BRIDGE__{name}"), value));
    load(None, &Environment::from(variables), check_property).expect("a valid configuration")
});

/// A replayer that never connects, since no event is published.
static REPLAYER: LazyLock<Replayer> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _entered = runtime.enter();
    Replayer::new(&CONFIG).expect("a replayer")
});

#[cfg(test)]
mod properties {
    use arbitrary::Unstructured;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_any_kept_message(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let kept = Unstructured::new(&bytes).arbitrary::<Kept>().expect("made of any bytes");
            events_keep_bytes_and_have_valid_topics_and_the_documented_ids(&kept);
        }
    }
}
