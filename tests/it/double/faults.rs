//! Faults of the double: each request fails exactly as the test requires.

use std::time::{Duration, Instant};

use nexudus_double::{Effect, Fault, Matching, RetryAfter};
use reqwest::Method;

use super::{ApiUser, WEBHOOKS, nexudus, sent, until, webhook};

#[tokio::test]
async fn a_cut_connection_gives_no_answer_with_or_without_the_effect() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    for (effect, webhooks) in [(Effect::NotDone, 0), (Effect::Done, 1)] {
        nexudus.fault(Matching::post(WEBHOOKS), Fault::Cut(effect));
        let cut = sent(api.request(Method::POST, WEBHOOKS).body(webhook("x"))).await;
        let error = cut.expect_err("no answer");
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(nexudus.webhooks().len(), webhooks);
    }
    let journal = nexudus.journal();
    assert_eq!(journal.entries().map(|entry| entry.status).collect::<Vec<_>>(), [None, None]);
    assert_eq!(api.get(WEBHOOKS).await.status, 200);
}

#[tokio::test]
async fn half_a_body_ends_in_the_middle() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    nexudus.fault(Matching::get(WEBHOOKS), Fault::HalfBody);
    let mut response = api.request(Method::GET, WEBHOOKS).send().await.expect("a head");
    assert_eq!(response.status(), 200);
    let length = response.content_length().expect("it is announced");
    let mut body = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => panic!("the whole body: {body:?}"),
            Err(error) => break error,
        }
    };
    assert!(!error.is_timeout(), "{error:?}");
    assert!(body.starts_with(b"{\"Records\"") && (body.len() as u64) < length, "{} of {length}", body.len());
}

#[tokio::test]
async fn a_late_answer_can_follow_its_effect_or_lose_it_with_its_client() {
    const LATE: Duration = Duration::from_secs(3600);
    let nexudus = nexudus();
    let hasty = Duration::from_secs(2);
    for (effect, webhooks) in [(Effect::NotDone, 0), (Effect::Done, 1)] {
        let api = ApiUser::of(&nexudus);
        nexudus.fault(Matching::post(WEBHOOKS), Fault::Late(LATE, effect));
        let late = sent(api.request(Method::POST, WEBHOOKS).body(webhook("x")).timeout(hasty)).await;
        assert!(late.expect_err("too late").is_timeout());
        let come = || nexudus.journal().of("POST", WEBHOOKS).len() == webhooks + 1;
        until(|| come() && nexudus.webhooks().len() == webhooks).await;
    }
    // The client disconnects before the effect, so the effect never occurs.
    let wait = hasty * 4;
    nexudus.fault(Matching::post(WEBHOOKS), Fault::Late(wait, Effect::NotDone));
    let api = ApiUser::of(&nexudus);
    sent(api.request(Method::POST, WEBHOOKS).body(webhook("y")).timeout(hasty)).await.unwrap_err();
    tokio::time::sleep(wait + hasty).await; // nothing changes, so the test waits for a time
    assert_eq!(nexudus.webhooks().len(), 1);

    nexudus.fault(Matching::any(), Fault::Late(hasty, Effect::Done));
    let begun = Instant::now();
    assert_eq!(ApiUser::of(&nexudus).get(WEBHOOKS).await.status, 200);
    assert!(begun.elapsed() >= hasty);
}

#[tokio::test]
async fn the_answer_of_a_gateway_and_a_cut_can_be_long_before_their_effect() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    let later = Effect::Later(Duration::from_secs(2));
    for (number, fault) in [Fault::Gateway(504, later), Fault::Cut(later)].into_iter().enumerate() {
        nexudus.fault(Matching::post(WEBHOOKS), fault.clone());
        let begun = Instant::now();
        let answer = sent(api.request(Method::POST, WEBHOOKS).body(webhook("x"))).await;
        assert_eq!(answer.ok().map(|answer| answer.status), (number == 0).then_some(504), "{fault:?}");
        until(|| nexudus.webhooks().len() == number + 1).await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{fault:?}");
    }
    nexudus.fault(Matching::post(WEBHOOKS), Fault::Gateway(502, Effect::NotDone));
    assert_eq!(api.post(&webhook("y")).await.status, 502);
    assert_eq!(nexudus.webhooks().len(), 2);
}

#[tokio::test]
async fn answers_can_be_errors_throttled_refused_or_html_for_a_number_of_requests() {
    let nexudus = nexudus();
    let api = ApiUser::of(&nexudus);
    nexudus.fault(Matching::any().times(2), Fault::Status(503, "{}".to_owned()));
    nexudus.fault(Matching::any(), Fault::Throttled(409, RetryAfter::Seconds(7)));
    nexudus.fault(Matching::any(), Fault::Throttled(429, RetryAfter::Absent));
    nexudus.fault(Matching::any(), Fault::Throttled(409, RetryAfter::DateIn(60)));
    nexudus.fault(Matching::any(), Fault::Html(200));
    assert_eq!(api.get(WEBHOOKS).await.status, 503);
    assert_eq!(api.get(WEBHOOKS).await.status, 503);
    for (status, retry_after) in [(409, Some("7")), (429, None)] {
        let answer = api.get(WEBHOOKS).await;
        assert_eq!(
            (answer.status, answer.header("retry-after"), answer.body.as_str()),
            (status, retry_after, "")
        );
    }
    let dated = api.get(WEBHOOKS).await;
    assert!(dated.header("retry-after").unwrap().ends_with(" GMT"), "{dated:?}");
    let html = api.get(WEBHOOKS).await;
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html")));
    assert!(html.body.starts_with("<!DOCTYPE"));
    assert_eq!(api.get(WEBHOOKS).await.status, 200, "no more");

    nexudus.fault(Matching::post(WEBHOOKS).containing("\"b\""), Fault::Refused("not today".to_owned()));
    assert_eq!(api.post(&webhook("a")).await.json()["WasSuccessful"], true);
    let refused = api.post(&webhook("b")).await;
    assert_eq!((refused.status, &refused.json()["WasSuccessful"]), (200, &false.into()));
    assert_eq!((&refused.json()["Message"], nexudus.webhooks().len()), (&"not today".into(), 1));

    nexudus.fault(Matching::any().always(), Fault::Html(502));
    assert_eq!(api.get(WEBHOOKS).await.status, 502);
    nexudus.heal();
    assert_eq!(api.get(WEBHOOKS).await.status, 200);
}
