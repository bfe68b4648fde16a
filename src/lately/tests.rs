use super::*;
use crate::event::{Attributes, EventId, Fingerprint, ReceivedAt, Stream, Trace};

fn event(key: Option<&str>) -> Event {
    let stream = Stream::new("nexudus.BookingCreate".into(), "s", "k");
    let fingerprint = Fingerprint::of("s", "BookingCreate", b"{}");
    let attributes = Attributes {
        id: EventId::Content(fingerprint),
        fingerprint,
        time: None,
        received: ReceivedAt::new(Timestamp::now()),
        warning: None,
        catch_up: None,
        trace: Trace::default(),
        quarantine: None,
    };
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Event { stream: Arc::new(stream), key, value: Some(Bytes::from_static(b"{\"Secret\":1}")), attributes }
}

fn confirm(lately: &Lately, key: Option<&str>, offset: i64) {
    let received = Timestamp::now() - jiff::SignedDuration::from_millis(20);
    lately.confirmed(("default", "BookingCreate"), &event(key), received, (2, offset));
}

#[tokio::test]
async fn a_viewer_sees_where_an_event_lies_and_nothing_of_its_value() {
    let lately = Arc::new(Lately::default());
    confirm(&lately, None, 0); // nobody watches
    let mut viewer = lately.watch().unwrap();
    confirm(&lately, Some("42"), 7);
    let glimpse = viewer.look().await;
    assert_eq!((glimpse.events.len(), glimpse.missed, glimpse.over), (1, 0, false));
    let seen = serde_json::to_value(&*glimpse.events[0]).unwrap();
    assert_eq!((&seen["key"], &seen["partition"], &seen["offset"]), (&"42".into(), &2.into(), &7.into()));
    assert!(seen["latency_ms"].as_f64().unwrap() >= 20.0, "{seen}");
    assert!(!seen.to_string().contains("Secret"), "{seen}");
}

#[tokio::test]
async fn a_slow_viewer_is_told_how_many_it_missed_and_sees_the_latest() {
    let lately = Arc::new(Lately::default());
    let mut viewer = lately.watch().unwrap();
    for offset in 0..MOST_BEHIND as i64 + 72 {
        confirm(&lately, Some("1"), offset);
    }
    let glimpse = viewer.look().await;
    assert_eq!((glimpse.events.len(), glimpse.missed), (MOST_BEHIND, 72));
    assert_eq!(glimpse.events[0].offset, 72);
}

#[tokio::test]
async fn viewers_are_bounded_counted_and_sent_home_at_the_end() {
    let lately = Arc::new(Lately::default());
    let mut viewers: Vec<Viewer> = std::iter::from_fn(|| lately.watch()).collect();
    assert_eq!((viewers.len(), lately.viewers()), (MOST_VIEWERS, MOST_VIEWERS));
    let mut last = viewers.pop().unwrap();
    drop(viewers);
    lately.end();
    assert!(last.look().await.over);
    assert!(lately.watch().is_none());
    drop(last);
    assert_eq!(lately.viewers(), 0);
}

#[tokio::test]
async fn a_long_key_is_shortened_at_the_end_of_a_character() {
    let lately = Arc::new(Lately::default());
    let mut viewer = lately.watch().unwrap();
    confirm(&lately, Some(&"é".repeat(100_000)), 0);
    confirm(&lately, Some(&format!("x{}", "é".repeat(100))), 1);
    let events = viewer.look().await.events;
    assert_eq!(events[0].key, Some(format!("{}…", "é".repeat(64))));
    assert_eq!(events[1].key, Some(format!("x{}…", "é".repeat(63))));
}

#[test]
fn setbacks_are_grouped_and_the_oldest_kind_goes_first() {
    let lately = Lately::default();
    for action in 0..=MOST_SETBACKS {
        lately.refused(("default", &action.to_string()), Outcome::Broker, "first");
    }
    lately.refused(("default", "50"), Outcome::Broker, "second");
    lately.quarantined(("default", "50"), QuarantineReason::NotJson);
    let setbacks = lately.latest_setbacks();
    assert_eq!(setbacks.len(), MOST_SETBACKS);
    assert_eq!((setbacks[0].outcome, setbacks[0].count), (Outcome::Quarantined, 1));
    let grouped = setbacks.iter().find(|s| s.action == "50" && s.outcome == Outcome::Broker).unwrap();
    assert_eq!((grouped.count, grouped.detail.as_str()), (2, "second"));
    assert!(setbacks.iter().all(|setback| setback.action != "0"));
}
