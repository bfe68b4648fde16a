//! The sender of the double: receivers, signatures, retries, and lost deliveries.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use nexudus_bridge::sender::post::Retry;
use nexudus_bridge::signature::{self, Form, Signature, SigningKey};
use nexudus_double::{Limits, Nexudus, Options, Webhook, demo};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{ApiUser, MAX_WAIT, sent, started, until};

const HERE: i64 = demo::LOCATIONS[0];
const ELSEWHERE: i64 = demo::LOCATIONS[1];

/// A stand-in for the bridge, which keeps all deliveries and refuses the first ones.
#[derive(Clone)]
struct Receiver {
    url: String,
    inside: Arc<Inside>,
}

/// The URI, the signature and the body of a delivery.
type Got = (String, Option<String>, Vec<u8>);

struct Inside {
    status: u16,
    /// Number of deliveries that are answered with `status`; all later ones are answered with 204.
    refuses: usize,
    got: Mutex<Vec<Got>>,
    /// Each delivery takes one permit before its answer, in the order of arrival.
    answers: Semaphore,
}

impl Receiver {
    fn start(status: u16, refuses: usize) -> Self {
        let (got, answers) = (Mutex::default(), Semaphore::new(Semaphore::MAX_PERMITS));
        let inside = Arc::new(Inside { status, refuses, got, answers });
        let data = web::Data::from(inside.clone());
        let server =
            HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(receive)));
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("free ports");
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, inside }
    }

    /// Holds all answers until [`Receiver::answer_one`].
    fn hold(&self) {
        self.inside.answers.forget_permits(usize::MAX);
    }

    /// Answers the oldest delivery.
    fn answer_one(&self) {
        self.inside.answers.add_permits(1);
    }

    fn got(&self) -> Vec<Got> {
        self.inside.got.lock().expect("the lock is not poisoned").clone()
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, inside: web::Data<Inside>) -> HttpResponse {
    let signature =
        request.headers().get(signature::HEADER).map(|value| value.to_str().expect("ASCII").to_owned());
    let number = {
        let mut got = inside.got.lock().expect("the lock is not poisoned");
        got.push((request.uri().to_string(), signature, body.to_vec()));
        got.len()
    };
    inside.answers.acquire().await.expect("never closed").forget();
    let status = if number <= inside.refuses { inside.status } else { 204 };
    let status = StatusCode::from_u16(status).expect("the test's");
    HttpResponse::build(status).finish()
}

fn quick(limit: u32) -> Retry {
    Retry { limit, shortest: Duration::from_millis(5), longest: Duration::from_millis(20) }
}

fn nexudus(retry: Retry) -> Nexudus {
    started(Options { retry, limits: Limits::NONE, ..Options::default() })
}

/// Returns a field of a webhook's record.
fn field(webhook: &Webhook, name: &str) -> Value {
    serde_json::from_str::<Value>(&webhook.json).expect("JSON")[name].clone()
}

async fn until_stopped(api: &ApiUser) {
    let begun = Instant::now();
    while sent(api.request(Method::GET, "/api/sys/webhooks")).await.is_ok() {
        assert!(begun.elapsed() < MAX_WAIT, "it still answers");
    }
}

async fn settled(nexudus: &Nexudus) {
    until(|| nexudus.pending() == 0).await;
}

#[tokio::test]
async fn a_change_is_posted_to_the_webhooks_of_its_location_and_action_with_a_signature_of_the_folded_text() {
    let receiver = Receiver::start(200, 0);
    let nexudus = nexudus(quick(10));
    let url = format!("{}/webhooks/BookingCreate?token=t%2F1&x", receiver.url);
    let id = nexudus.add_webhook(HERE, "BookingCreate", &url, true).unwrap();
    nexudus.add_webhook(HERE, "BookingUpdate", &receiver.url, true).unwrap();
    nexudus.add_webhook(ELSEWHERE, "BookingCreate", &receiver.url, true).unwrap();
    let booking = nexudus.example("Booking", HERE).unwrap();
    assert_eq!(nexudus.create("Booking", HERE, booking.clone()).unwrap(), Some("BookingCreate"));
    settled(&nexudus).await;
    let [(uri, signature, body)] = &receiver.got()[..] else { panic!("one delivery") };
    assert_eq!(uri, "/webhooks/BookingCreate?token=t%2F1&x", "as configured");
    assert_eq!(*body, [b"[".as_slice(), &booking.to_json(), b"]"].concat());
    let signature = Signature::parse(signature.as_ref().expect("there is a secret").as_bytes()).unwrap();
    let key = SigningKey::new("sécret").unwrap();
    assert!(!body.is_ascii());
    assert_eq!(key.verify(body, &signature), Some(Form::Folded));
    let webhook = nexudus.webhook(id).unwrap();
    assert!(field(&webhook, "LastTrigger").is_string());
    assert_eq!((webhook.error_count, field(&webhook, "LastError")), (0, Value::Null));
    assert_eq!(nexudus.missed(), 0);
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let receiver = Receiver::start(200, 0);
    let nexudus = nexudus(quick(10));
    nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    for secret in [Some("s"), None] {
        nexudus.set_secret(HERE, secret);
        nexudus.happened("6", HERE, r#"{"N":"é😀"}"#).unwrap();
        settled(&nexudus).await;
        let (_, signature, body) = receiver.got().pop().unwrap();
        assert_eq!(
            (signature.is_some(), body.as_slice()),
            (secret.is_some(), "[{\"N\":\"é😀\"}]".as_bytes())
        );
    }
}

#[tokio::test]
async fn failures_are_retried_with_the_same_bytes_and_their_count_is_reset_by_a_success() {
    let receiver = Receiver::start(503, 3);
    let nexudus = nexudus(quick(10));
    let id = nexudus.add_webhook(HERE, "CoworkerUpdate", &receiver.url, true).unwrap();
    let coworker = nexudus.ids("Coworker")[0];
    nexudus.update("Coworker", coworker, &[("FullName", "\"José\"")]).unwrap();
    settled(&nexudus).await;
    let webhook = nexudus.webhook(id).unwrap();
    assert_eq!((webhook.active, webhook.error_count), (true, 0));
    assert!(field(&webhook, "LastError").as_str().unwrap().contains("503"));
    assert!(field(&webhook, "LastTrigger").is_string());
    let got = receiver.got();
    assert!(got.len() == 4 && got.iter().all(|delivery| *delivery == got[0]), "{}", got.len());
    assert_eq!(nexudus.missed(), 0);
}

#[tokio::test]
async fn ten_failures_in_a_row_disable_a_webhook_and_pending_deliveries_are_lost() {
    let receiver = Receiver::start(302, usize::MAX); // not followed, and not 2xx
    let nexudus = nexudus(quick(10));
    let id = nexudus.add_webhook(HERE, "BookingUpdate", &receiver.url, true).unwrap();
    for number in 0..3 {
        nexudus.happened("BookingUpdate", HERE, format!(r#"{{"Id":{number}}}"#)).unwrap();
    }
    settled(&nexudus).await;
    let api = ApiUser::of(&nexudus);
    let record = api.get(&format!("/api/sys/webhooks/{id}")).await.json();
    assert_eq!((&record["Active"], &record["LastTrigger"]), (&false.into(), &().into()));
    assert!(
        (10..13).contains(&record["ErrorCount"].as_i64().unwrap()),
        "deliveries in flight count too: {record}"
    );
    assert_eq!(nexudus.missed(), 3);

    nexudus.happened("BookingUpdate", HERE, "{}").unwrap();
    nexudus.happened("BookingDelete", HERE, "{}").unwrap();
    assert_eq!((nexudus.missed(), nexudus.pending()), (5, 0), "disabled, and no webhook");

    // Enabled again with the same ErrorCount: lost events are not sent, and the next failure disables the webhook.
    let attempts = receiver.got().len();
    let put = api.request(Method::PUT, "/api/sys/webhooks");
    let record = nexudus.webhook(id).unwrap().json;
    sent(put.body(record.replace(r#""Active":false"#, r#""Active":true"#))).await.unwrap();
    assert!(nexudus.webhook(id).unwrap().active);
    nexudus.happened("BookingUpdate", HERE, "{}").unwrap();
    settled(&nexudus).await;
    assert_eq!(receiver.got().len(), attempts + 1);
    assert!(!nexudus.webhook(id).unwrap().active);
}

#[tokio::test]
async fn an_event_is_lost_after_its_retries_and_the_tenth_failure_in_a_row_disables() {
    let nexudus = nexudus(quick(3));
    let nobody = "http://127.0.0.1:9/"; // refused: the system never assigns this port
    let id = nexudus.add_webhook(HERE, "TeamCreated", nobody, true).unwrap();
    for (errors, active, missed) in [(4, true, 1), (8, true, 2), (10, false, 3)] {
        nexudus.happened("TeamCreated", HERE, "{}").unwrap();
        settled(&nexudus).await;
        let webhook = nexudus.webhook(id).unwrap();
        assert_eq!((webhook.error_count, webhook.active), (errors, active));
        assert_eq!(nexudus.missed(), missed);
    }
}

#[tokio::test]
async fn a_late_success_of_a_disabled_webhook_may_reset_its_errors_or_not() {
    for (resets, errors) in [(true, 0), (false, 10)] {
        let receiver = Receiver::start(503, 1);
        receiver.hold();
        let nexudus = nexudus(quick(10));
        nexudus.adjust(|behaviour| behaviour.late_success_resets_errors = resets);
        let id = nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
        nexudus.change_webhook(id, &[("ErrorCount", "9")]).unwrap(); // one more disables it
        nexudus.happened("6", HERE, "{}").unwrap();
        until(|| receiver.got().len() == 1).await;
        nexudus.happened("6", HERE, "{}").unwrap();
        until(|| receiver.got().len() == 2).await;
        receiver.answer_one(); // with 503
        until(|| !nexudus.webhook(id).unwrap().active).await;
        receiver.answer_one(); // with 204
        settled(&nexudus).await;
        let webhook = nexudus.webhook(id).unwrap();
        assert_eq!((webhook.active, webhook.error_count), (false, errors));
        assert!(field(&webhook, "LastTrigger").is_string());
    }
}

#[tokio::test]
async fn pending_retries_are_lost_when_the_webhook_is_disabled_or_deleted() {
    let receiver = Receiver::start(503, usize::MAX);
    let slow = Retry { limit: 10, shortest: Duration::from_secs(5), longest: Duration::from_secs(5) };
    let nexudus = nexudus(slow);
    let off = nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    let deleted = nexudus.add_webhook(ELSEWHERE, "6", &receiver.url, true).unwrap();
    for business_id in [HERE, ELSEWHERE] {
        nexudus.happened("6", business_id, "{}").unwrap();
    }
    let failed = |id| nexudus.webhook(id).unwrap().error_count == 1;
    until(|| failed(off) && failed(deleted)).await;
    nexudus.change_webhook(off, &[("Active", "false")]).unwrap();
    assert!(nexudus.remove_webhook(deleted));
    settled(&nexudus).await;
    assert_eq!((nexudus.missed(), receiver.got().len()), (2, 2));
}

#[tokio::test]
async fn a_stopped_double_answers_and_sends_no_more() {
    let receiver = Receiver::start(503, usize::MAX);
    let slow =
        Retry { limit: 10_000, shortest: Duration::from_millis(50), longest: Duration::from_millis(50) };
    let nexudus = nexudus(slow);
    let id = nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    nexudus.change_webhook(id, &[("ErrorCount", "-1000000")]).unwrap(); // it stays enabled
    nexudus.happened("6", HERE, "{}").unwrap();
    until(|| !receiver.got().is_empty()).await;
    let (api, world) = (ApiUser::of(&nexudus), nexudus.world());
    drop(nexudus);
    until_stopped(&api).await;
    until(|| Arc::strong_count(&world) == 1).await; // server and sender have ended
    let got = receiver.got().len();
    tokio::time::sleep(Duration::from_millis(200)).await; // several delays of the retry
    assert_eq!((receiver.got().len(), world.pending()), (got, 1));
}
