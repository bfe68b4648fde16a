//! The API: webhooks, locations, the enum, entities; pages, filters, errors, limits.

use std::time::Duration;

use jiff::SignedDuration;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_double::{Limits, Matching, Options, RawRecord, Webhook, demo};
use reqwest::Method;
use serde_json::Value;

use super::{ApiUser, WEBHOOKS, nexudus, sent, started, webhook};

const BOOKINGS: &str = "/api/spaces/bookings";

#[tokio::test]
async fn a_webhook_is_created_listed_without_its_description_and_read_with_it() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let answer = api.post(&webhook("mine")).await;
    let done = answer.json();
    assert_eq!((answer.status, &done["WasSuccessful"], &done["Errors"]), (200, &true.into(), &().into()));
    assert_eq!(done["Value"].as_object().unwrap().len(), 1, "Id only");
    let id = done["Value"]["Id"].as_i64().unwrap();
    let listed = api.get(WEBHOOKS).await.json()["Records"][0].clone();
    assert_eq!(
        (&listed["Id"], &listed["Description"], &listed["Name"]),
        (&id.into(), &().into(), &"mine".into())
    );
    let single = api.get(&format!("{WEBHOOKS}/{id}")).await.json();
    assert_eq!(single["Description"], "made by a test");
    assert_eq!(
        (&single["Action"], &single["Active"], &single["ErrorCount"]),
        (&6.into(), &true.into(), &0.into())
    );
    assert_eq!(single["LastTrigger"], Value::Null);
    assert_eq!(nexudus.journal().writes().len(), 1);
}

#[tokio::test]
async fn missing_fields_are_400_and_an_unknown_location_is_a_refusal_with_200() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let answer = api.post(&webhook("").replace(r#""Action":6"#, r#""Action":null"#)).await;
    let result = answer.json();
    assert_eq!((answer.status, &result["WasSuccessful"], &result["Value"]), (400, &false.into(), &().into()));
    assert_eq!(result["Message"], "Name: is a required field, Action: is a required field");
    assert_eq!(result["Errors"][0]["PropertyName"], "Name");
    assert_eq!(result["Errors"][0]["Message"], "is a required field");
    assert_eq!(api.post(&webhook("x").replace(r#""Action":6"#, r#""Action":91"#)).await.status, 400);
    assert_eq!(
        api.post(&webhook("x").replace(r#""Action":6"#, r#""Action":"BookingCreate""#)).await.status,
        400
    );
    let strange = api.post(&webhook("x").replace(&demo::LOCATIONS[0].to_string(), "5")).await;
    assert_eq!((strange.status, &strange.json()["WasSuccessful"]), (200, &false.into()));
    assert_eq!(nexudus.webhooks(), []);
}

#[tokio::test]
async fn an_update_clears_missing_fields_and_keeps_unknown_fields() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let business_id = demo::LOCATIONS[0];
    let id = nexudus.add_webhook(business_id, "BookingCreate", "http://127.0.0.1:9/a", true).unwrap();
    nexudus
        .change_webhook(
            id,
            &[("Description", "\"d\""), ("Odd", "0.09000"), ("ErrorCount", "4"), ("Other", "1")],
        )
        .unwrap();
    let before = nexudus.webhook(id).unwrap();
    let all = &before.json;
    assert_eq!(api.put(&all.replace("9/a", "9/b")).await.json()["Value"]["Id"], id);
    let after = nexudus.webhook(id).unwrap();
    assert_eq!((after.url.as_str(), after.active, after.action), ("http://127.0.0.1:9/b", true, 6));
    let record = |webhook: &Webhook| serde_json::from_str::<RawRecord>(&webhook.json).unwrap();
    assert_eq!(
        (record(&after).raw("Odd"), record(&after).raw("Description")),
        (Some("0.09000"), Some("\"d\""))
    );
    assert_ne!(record(&after).raw("UpdatedOn"), record(&before).raw("UpdatedOn"));

    let part = format!(
        r#"{{"Id":{id},"BusinessId":{business_id},"Name":"n","URL":"http://x/","ErrorCount":0,"Odd":0.10}}"#
    );
    assert_eq!(api.put(&part).await.status, 200);
    let after = nexudus.webhook(id).unwrap();
    assert_eq!(
        (after.active, after.action, record(&after).raw("Description")),
        (false, 1, Some("null")),
        "cleared"
    );
    assert_eq!((record(&after).raw("Odd"), record(&after).raw("Other")), (Some("0.10"), Some("null")));
    assert_eq!(after.error_count, 4, "read-only");

    assert_eq!(api.put(&part.replace(r#""Name":"n","#, "")).await.status, 400);
    assert_eq!(api.put(&part.replace(&format!(r#""Id":{id}"#), r#""Id":9"#)).await.status, 404);
    let in_path = api.request(Method::PUT, &format!("{WEBHOOKS}/{id}")).body(part);
    assert_eq!(sent(in_path).await.unwrap().status, 405);
}

#[tokio::test]
async fn enabling_a_webhook_resets_the_errors_or_not() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    for (resets, errors) in [(false, 10), (true, 0)] {
        nexudus.adjust(|behaviour| behaviour.reenabling_resets_errors = resets);
        let id = nexudus.add_webhook(demo::LOCATIONS[0], "7", "http://127.0.0.1:9/", false).unwrap();
        nexudus.change_webhook(id, &[("ErrorCount", "10")]).unwrap();
        let record = nexudus.webhook(id).unwrap().json;
        api.put(&record.replace(r#""Active":false"#, r#""Active":true"#)).await;
        let after = nexudus.webhook(id).unwrap();
        assert_eq!((after.active, after.error_count), (true, errors));
    }
}

#[tokio::test]
async fn a_delete_works_and_is_in_the_journal() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let id = nexudus.add_webhook(demo::LOCATIONS[0], "7", "http://127.0.0.1:9/", true).unwrap();
    let answer = sent(api.request(Method::DELETE, &format!("{WEBHOOKS}/{id}"))).await.unwrap().json();
    assert_eq!((&answer["WasSuccessful"], &answer["Value"]), (&true.into(), &().into()));
    assert_eq!(nexudus.webhook(id), None);
    let journal = nexudus.journal();
    let [delete] = journal.writes()[..] else { panic!("{journal:?}") };
    assert_eq!((delete.line(), delete.status), (format!("DELETE {WEBHOOKS}/{id}"), Some(200)));
}

#[tokio::test]
async fn webhooks_are_paged_and_filtered() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let add = |entry: usize, location: usize| {
        let url = format!("http://127.0.0.1:9/{}", ENTRIES[entry].name);
        nexudus
            .add_webhook(demo::LOCATIONS[location], ENTRIES[entry].name, &url, entry.is_multiple_of(2))
            .unwrap()
    };
    let ids: Vec<i64> = (0..89).map(|entry| add(entry, entry % 2)).collect();
    let mut seen = Vec::new();
    for page in 1.. {
        let answer = api.get(&format!("{WEBHOOKS}?page={page}&size=40")).await;
        seen.extend(answer.ids());
        assert_eq!(answer.json()["TotalPages"], 3);
        if answer.json()["HasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(api.get(WEBHOOKS).await.json()["PageSize"], 25);
    let found = async |query: &str| api.get(&format!("{WEBHOOKS}?size=100&{query}")).await.ids().len();
    assert_eq!(found("UpdatedSince=2030-01-01").await, 89, "unknown filters are ignored");
    assert_eq!(found("from_WebHook_UpdatedOn=2030-01-01T00:00").await, 0);
}

#[tokio::test]
async fn locations_show_their_network() {
    let nexudus = nexudus();
    let list = ApiUser::of(&nexudus).get("/api/sys/businesses").await;
    assert_eq!(list.ids(), [demo::NETWORK, demo::LOCATIONS[0], demo::LOCATIONS[1]]);
    let records = &list.json()["Records"];
    assert_eq!(
        (&records[0]["RootLocationId"], &records[1]["RootLocationId"]),
        (&().into(), &demo::NETWORK.into())
    );
    assert_eq!(records[1]["Name"], "Espacio Ñandú");
}

#[tokio::test]
async fn the_enum_lists_ninety_values_or_sixty_two_and_extras() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let values = async |api: &ApiUser| api.get("/api/utils/enums?name=eWebhookAction").await.json();
    let all = values(&api).await;
    assert_eq!(
        (all.as_array().unwrap().len(), &all[0]["Name"], &all[5]["Id"]),
        (90, &"None".into(), &6.into())
    );
    nexudus.adjust(|behaviour| {
        behaviour.legacy_enum = true;
        behaviour.extra_actions = vec![(91, "SomethingNew".to_owned())];
    });
    let some = values(&api).await;
    assert_eq!((some.as_array().unwrap().len(), &some[62]["Name"]), (63, &"SomethingNew".into()));
}

#[tokio::test]
async fn a_single_record_has_all_its_bytes_and_a_listing_has_a_part() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    for entry in &ENTRIES {
        let record = nexudus.example(entry.entity, demo::LOCATIONS[1]).unwrap();
        let id = nexudus.add(entry.entity, demo::LOCATIONS[1], record.clone()).unwrap();
        let single = api.get(&format!("{}/{id}", entry.api_path)).await;
        assert_eq!(single.body.as_bytes(), record.to_json(), "{}", entry.entity);
        let list = api.get(&format!("{}?size=1000", entry.api_path)).await.json();
        let listed = list["Records"].as_array().unwrap().last().unwrap().clone();
        assert!(listed["Id"].is_i64() && listed["UpdatedOn"].is_string(), "{}", entry.entity);
        assert_ne!(listed, single.json(), "{}", entry.entity);
    }
    let named = api.get(&format!("{BOOKINGS}/?id=[{},1]", nexudus.ids("Booking")[0])).await.json();
    assert_eq!(named.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_of_a_record_keeps_its_numbers_and_escapes() {
    let nexudus = nexudus();
    let bytes =
        r#"{"Rate":0.09000,"Text":"a\u2028b/é","Zero":0.0,"UpdatedOn":"2026-01-01T00:00:00Z","Id":77}"#;
    nexudus.add("Tariff", demo::LOCATIONS[0], serde_json::from_str(bytes).unwrap()).unwrap();
    let changed = nexudus.change("Tariff", 77, &[("Zero", "1.50")]).unwrap();
    let single = ApiUser::of(&nexudus).get("/api/billing/tariffs/77").await.body;
    assert!(
        single.starts_with(r#"{"Rate":0.09000,"Text":"a\u2028b/é","Zero":1.50,"UpdatedOn":"2"#),
        "{single}"
    );
    assert_eq!(single.as_bytes(), changed.to_json());
    assert!(!single.contains("2026-01-01"), "UpdatedOn has moved: {single}");
    nexudus.adjust(|behaviour| behaviour.times_to_the_second = true);
    let second = ApiUser::of(&nexudus).get("/api/billing/tariffs/77").await.json();
    assert_eq!(second["UpdatedOn"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
}

#[tokio::test]
async fn entities_are_filtered_by_their_last_change_unless_the_filter_is_ignored() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let [old, new] = nexudus.ids("Booking")[..] else { panic!("one at each location") };
    nexudus.shift_clock(SignedDuration::from_hours(2));
    let since = nexudus.now();
    nexudus.change("Booking", new, &[]).unwrap();
    let since = since.strftime("%Y-%m-%dT%H:%M");
    let changed = format!("{BOOKINGS}?from_Booking_UpdatedOn={since}");
    assert_eq!(api.get(&changed).await.ids(), [new]);
    nexudus.adjust(|behaviour| behaviour.entity_ranges = false);
    assert_eq!(api.get(&changed).await.ids(), [old, new]);
}

#[tokio::test]
async fn a_missing_record_is_404_or_500() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    for path in ["/api/sys/webhooks/5", "/api/spaces/bookings/5"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "Not found"));
    }
    nexudus.adjust(|behaviour| behaviour.missing_status = 500);
    for path in ["/api/sys/webhooks/5", "/api/spaces/bookings/5"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, &answer.json()["Message"]), (500, &"An error has occurred.".into()));
    }
    assert_eq!(api.get("/api/spaces/nothing").await.status, 404);
}

#[tokio::test]
async fn too_many_requests_are_409_with_retry_after_and_an_empty_body() {
    let window = Duration::from_secs(600); // longer than the test on any machine
    let limits = Limits { spacing: Duration::ZERO, window, requests: 6, writes: 2 };
    let nexudus = started(Options { limits, ..Options::default() });
    let api = ApiUser::of(&nexudus);
    assert_eq!(api.post(&webhook("a")).await.status, 200);
    assert_eq!(api.post(&webhook("b")).await.status, 200);
    let third = api.post(&webhook("c")).await;
    assert_eq!((third.status, third.body.as_str()), (409, ""));
    let wait: u64 = third.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
    assert_eq!(nexudus.webhooks().len(), 2, "it had no effect");
    for _ in 0..4 {
        assert_eq!(api.get(WEBHOOKS).await.status, 200, "writes have a limit of their own");
    }
    assert_eq!(api.get(WEBHOOKS).await.status, 409);
    let journal = nexudus.journal();
    assert_eq!((journal.answered(409).len(), journal.most_writes_in(window), journal.len()), (2, 3, 8));

    let limits = Limits { spacing: window, ..Limits::DOCUMENTED };
    let nexudus = started(Options { limits, ..Options::default() });
    let api = ApiUser::of(&nexudus);
    assert_eq!(api.get(WEBHOOKS).await.status, 200);
    assert_eq!(api.get(WEBHOOKS).await.status, 409, "too close");
}

#[tokio::test]
async fn records_can_shift_between_pages_and_change_between_get_and_put() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let ids: Vec<i64> = (0..4)
        .map(|_| nexudus.add_webhook(demo::LOCATIONS[0], "6", "http://127.0.0.1:9/", true).unwrap())
        .collect();
    let (first, last) = (ids[0], ids[3]);
    nexudus.before_response(Matching::get(WEBHOOKS).containing("page=1"), move |world| {
        assert!(world.remove_webhook(first));
    });
    let mut seen = api.get(&format!("{WEBHOOKS}?page=1&size=2")).await.ids();
    seen.extend(api.get(&format!("{WEBHOOKS}?page=2&size=2")).await.ids());
    assert_eq!(seen, [ids[0], ids[1], ids[3]], "one record was missed");

    nexudus.before_response(Matching::get(&format!("{WEBHOOKS}/*")), move |world| {
        world.change_webhook(last, &[("Name", "\"somebody else's\"")]).unwrap();
    });
    let read = api.get(&format!("{WEBHOOKS}/{last}")).await.body;
    assert_eq!(nexudus.webhook(last).unwrap().name, "somebody else's");
    assert!(!read.contains("somebody else's"));
    assert_eq!(api.put(&read).await.status, 200);
    assert_eq!(nexudus.webhook(last).unwrap().name, "6", "the other's change is overwritten");
}
