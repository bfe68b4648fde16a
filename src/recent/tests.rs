use super::*;
use crate::event::{Attributes, EventId, Fingerprint, Stream, Trace};

fn event(key: Option<&str>) -> Event {
    let stream = Stream::new("nexudus.BookingCreate".into(), "s", "k");
    let fingerprint = Fingerprint::of("s", "BookingCreate", b"{}");
    let attributes = Attributes {
        id: EventId::Content(fingerprint),
        fingerprint,
        time: None,
        received: Timestamp::now(),
        warning: None,
        catch_up: None,
        trace: Trace::default(),
        quarantine: None,
    };
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Event { stream: Arc::new(stream), key, value: Some(Bytes::from_static(b"{\"Secret\":1}")), attributes }
}

fn confirm(recent: &Recent, key: Option<&str>, offset: i64) {
    let received = Timestamp::now() - jiff::SignedDuration::from_millis(20);
    recent.confirmed(("default", "BookingCreate"), &event(key), received, (2, Some(offset)));
}

#[tokio::test]
async fn a_viewer_sees_where_an_event_lies_and_nothing_of_its_value() {
    let recent = Arc::new(Recent::default());
    confirm(&recent, None, 0); // there is no viewer
    let mut viewer = recent.watch().unwrap();
    confirm(&recent, Some("42"), 7);
    let update = viewer.next().await;
    assert_eq!((update.events.len(), update.missed, update.over), (1, 0, false));
    let event = serde_json::to_value(&*update.events[0]).unwrap();
    assert_eq!((&event["key"], &event["partition"], &event["offset"]), (&"42".into(), &2.into(), &7.into()));
    assert!(event["latency_ms"].as_f64().unwrap() >= 20.0, "{event}");
    assert!(!event.to_string().contains("Secret"), "{event}");
}

#[tokio::test]
async fn a_slow_viewer_gets_the_number_of_missed_events_and_the_latest_ones() {
    let recent = Arc::new(Recent::default());
    let mut viewer = recent.watch().unwrap();
    for offset in 0..MAX_BEHIND as i64 + 72 {
        confirm(&recent, Some("1"), offset);
    }
    let update = viewer.next().await;
    assert_eq!((update.events.len(), update.missed), (MAX_BEHIND, 72));
    assert_eq!(update.events[0].offset, Some(72));
}

#[tokio::test]
async fn viewers_are_bounded_counted_and_sent_home_at_the_end() {
    let recent = Arc::new(Recent::default());
    let mut viewers: Vec<Viewer> = std::iter::from_fn(|| recent.watch()).collect();
    assert_eq!((viewers.len(), recent.viewers()), (MAX_VIEWERS, MAX_VIEWERS));
    let mut last = viewers.pop().unwrap();
    drop(viewers);
    recent.end();
    assert!(last.next().await.over);
    assert!(recent.watch().is_none());
    drop(last);
    assert_eq!(recent.viewers(), 0);
}

#[tokio::test]
async fn a_long_key_is_shortened_at_the_end_of_a_character() {
    let recent = Arc::new(Recent::default());
    let mut viewer = recent.watch().unwrap();
    confirm(&recent, Some(&"é".repeat(100_000)), 0);
    confirm(&recent, Some(&format!("x{}", "é".repeat(100))), 1);
    let events = viewer.next().await.events;
    assert_eq!(events[0].key, Some(format!("{}…", "é".repeat(64))));
    assert_eq!(events[1].key, Some(format!("x{}…", "é".repeat(63))));
}

#[test]
fn setbacks_are_grouped_and_the_oldest_kind_goes_first() {
    let recent = Recent::default();
    for action in 0..=MAX_SETBACKS {
        recent.add_setback(("default", &action.to_string()), Outcome::Broker, "first");
    }
    recent.add_setback(("default", "50"), Outcome::Broker, "second");
    recent.add_setback(("default", "50"), Outcome::Quarantined, "not JSON");
    let setbacks = recent.latest_setbacks();
    assert_eq!(setbacks.len(), MAX_SETBACKS);
    assert_eq!((setbacks[0].outcome, setbacks[0].count), (Outcome::Quarantined, 1));
    let grouped = setbacks.iter().find(|s| s.action == "50" && s.outcome == Outcome::Broker).unwrap();
    assert_eq!((grouped.count, grouped.detail.as_str()), (2, "second"));
    assert!(setbacks.iter().all(|setback| setback.action != "0"));
}
