use std::collections::BTreeMap;

use super::*;
use crate::config::load::{Environment, load};
use crate::kafka::settings::check_property;

const BODY: &[u8] = br#"[{"Id":1,"UpdatedOn":"2026-01-01T00:00:00Z"},{"Id":2}]"#;

fn replayer() -> Replayer {
    replayer_with(&[])
}

fn replayer_with(settings: &[(&str, &str)]) -> Replayer {
    let source =
        [("SOURCES__DEFAULT__SECRETS", "[\"x\"]"), ("SOURCES__DEFAULT__EXTRA_ACTIONS", "[\"Extra\"]")];
    let variables = source.iter().chain(settings);
    let variable = |(name, value): &(&str, &str)| (format!("NEXUDUS_BRIDGE__{name}"), (*value).to_owned());
    let environment: Environment = variables.map(variable).collect();
    Replayer::new(&load(None, &environment, check_property).unwrap()).unwrap()
}

fn kept(action: &str, offset: i64) -> Message {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    Message {
        topic: "nexudus.quarantine".to_owned(),
        partition: 2,
        offset,
        timestamp: None,
        key: None,
        headers: vec![
            header("ce_source", "/nexudus/default"),
            header("ce_nexudusreceived", "2026-01-02T03:04:05.678Z"),
            header("nexudus-action", action),
            header("nexudus-signature", "missing"),
            header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ],
        value: Some(BODY.to_vec()),
    }
}

fn headers(event: &Event) -> BTreeMap<&'static str, String> {
    let mut headers = BTreeMap::new();
    event.headers(|name, value| drop(headers.insert(name, String::from_utf8(value.to_vec()).unwrap())));
    headers
}

#[tokio::test]
async fn events_are_those_of_a_live_delivery_with_the_time_trace_and_mark_of_the_kept_message() {
    let events = replayer().route(kept("Bokking", 7), Some("bookingcreate")).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].stream.topic, "nexudus.BookingCreate");
    assert_eq!(events[0].key.as_deref(), Some(&b"1"[..]));
    assert_eq!(events[0].value.as_deref(), Some(&BODY[1..44]));
    let first = headers(&events[0]);
    for (name, value) in [
        ("ce_type", "com.nexudus.BookingCreate"),
        ("ce_source", "/nexudus/default"),
        ("ce_time", "2026-01-01T00:00:00Z"),
        ("ce_nexudusreceived", "2026-01-02T03:04:05.678Z"),
        ("nexudus-signature", "missing"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert_eq!(first["ce_id"], first["ce_nexudusfingerprint"]);
    assert!(!first.contains_key("quarantine-reason") && !first.contains_key("nexudus-action"));
    assert_eq!(headers(&events[1])["ce_time"], "2026-01-02T03:04:05.678Z");
}

#[tokio::test]
async fn a_body_of_too_many_records_is_replayed_in_full() {
    let count = MAX_RECORDS + 1;
    let mut message = kept("BookingCreate", 7);
    message.value = Some(format!("[{}{{}}]", "{},".repeat(count - 1)).into_bytes());
    assert_eq!(replayer().route(message, None).unwrap().len(), count);
}

#[tokio::test]
async fn a_signal_has_the_same_id_in_each_replay_of_its_message_and_another_in_every_other() {
    let replayer = replayer();
    let ids = |action: &str, offset, corrected| -> Vec<String> {
        let events = replayer.route(kept(action, offset), corrected).unwrap();
        events.iter().map(|event| event.attributes.id.to_string()).collect()
    };
    let once = ids("CoworkerCheckin", 7, None);
    assert_eq!(once, ids("CoworkerCheckin", 7, None));
    assert_eq!(once, ids("Chekin", 7, Some("CoworkerCheckin")), "however it got there");
    assert_ne!(once[0], once[1]);
    for id in &once {
        let id = Uuid::parse_str(id).unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_767_323_045, 678_000_000), "the time of receipt");
    }
    let others = [ids("CoworkerCheckin", 8, None), ids("CoworkerCheckin", 7, Some("Extra"))];
    assert!(others.iter().flatten().all(|id| !once.contains(id)), "{once:?} {others:?}");
}

#[tokio::test]
async fn what_makes_no_events_says_why() {
    let replayer = replayer();
    let why = |change: fn(&mut Message), corrected| {
        let mut message = kept("BookingCreate", 7);
        change(&mut message);
        replayer.route(message, corrected).unwrap_err().to_string()
    };
    let header = |message: &mut Message, name: &str, value: &str| {
        let found = message.headers.iter_mut().find(|(known, _)| known == name);
        found.expect("there").1 = Some(value.as_bytes().to_vec());
    };
    assert_eq!(
        why(|message| message.value = Some(b"[".to_vec()), None),
        "the body is not JSON, or not UTF-8"
    );
    assert!(why(|message| message.value = Some(b"[1]".to_vec()), None).contains("nor an array of objects"));
    assert_eq!(
        why(|message| message.value = None, None),
        "its value is missing or not as the bridge writes it"
    );
    assert!(why(|message| message.headers.clear(), None).starts_with("its ce_source is missing"));
    assert_eq!(
        why(|_| (), Some("BokingCreate")),
        r#"source default has no action "BokingCreate"; did you mean BookingCreate? (--as BookingCreate)"#
    );
    let mut message = kept("BookingCreate", 7);
    header(&mut message, "ce_source", "/nexudus/north");
    assert_eq!(replayer.route(message, None).unwrap_err().to_string(), r#"source "north" is not configured"#);
    let mut message = kept("BookingCreate", 7);
    header(&mut message, "nexudus-signature", "strange");
    assert_eq!(replayer.route(message, None).unwrap_err(), Unroutable::Foreign("nexudus-signature"));
    let mut message = kept("BookingCreate", 7);
    message.value = Some(b" [ ] ".to_vec());
    assert!(replayer.route(message, None).unwrap().is_empty());
}

#[test]
fn a_topic_is_given_up_after_three_refusals_for_now_in_a_row() {
    let of = |cause| Err::<(), _>(ReplayFailure { cause, detail: String::new() });
    let [for_now, for_good, silent] = [Cause::RefusedForNow, Cause::RefusedForGood, Cause::Timeout].map(of);
    for (results, is_given_up) in [
        (vec![&for_now, &for_now], false),
        (vec![&for_now, &for_now, &for_now], true),
        (vec![&for_now, &for_now, &Ok(()), &for_now], false),
        (vec![&for_now, &for_good, &for_now, &silent, &for_now], true),
        (vec![&for_good; 5], false),
        (vec![&silent; 5], false),
    ] {
        let mut refusals = Refusals::default();
        for result in &results {
            refusals.count("one", *result);
        }
        assert_eq!(refusals.has_given_up("one"), is_given_up, "{results:?}");
        assert!(!refusals.has_given_up("other"));
    }
}

#[tokio::test]
async fn kept_and_fetched_records_go_to_the_topic_of_the_layout() {
    let replayer = replayer_with(&[("TOPICS__LAYOUT", r#"{"*": "{entity}"}"#)]);
    let kept = replayer.route(kept("BookingDelete", 7), None).unwrap();
    assert!(kept.iter().all(|event| event.stream.topic == "nexudus.Booking"));
    let action = replayer.origins["default"].source.actions.find("BookingUpdate").unwrap();
    let record = Bytes::from_static(b"{\"Id\":1}");
    let fetched = replayer.route_fetched("default", action, record, &"run".into()).unwrap();
    assert_eq!(fetched.stream.topic, "nexudus.Booking");
    assert_eq!(headers(&fetched)["ce_type"], "com.nexudus.BookingUpdate");
}
