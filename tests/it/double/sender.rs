//! The sender: who gets what, signed how, how often, and what is lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use nexudus_bridge::sender::post::Retry;
use nexudus_bridge::signature::{self, Form, Signature, SigningKey};
use nexudus_double::{Limits, Nexudus, Options, Sending, Why, Wire, demo};
use reqwest::Method;
use tokio::sync::Semaphore;

use super::{Asker, PATIENCE, sent, started, until};

const HERE: i64 = demo::LOCATIONS[0];
const ELSEWHERE: i64 = demo::LOCATIONS[1];

/// Stands for the bridge: notes what it gets and refuses as many as it is to.
#[derive(Clone)]
struct Receiver {
    url: String,
    inside: Arc<Inside>,
}

/// The URI, the signature and the body of a delivery.
type Got = (String, Option<String>, Vec<u8>);

struct Inside {
    status: u16,
    /// How many are answered with that; all after them with 204.
    refuses: usize,
    got: Mutex<Vec<Got>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    takes: Duration,
    /// What each delivery takes one of before it is answered, in the order in which they came.
    leave: Semaphore,
}

impl Receiver {
    fn start(status: u16, refuses: usize, takes: Duration) -> Self {
        let (at_once, most_at_once) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (got, leave) = (Mutex::default(), Semaphore::new(Semaphore::MAX_PERMITS));
        let inside = Arc::new(Inside { status, refuses, got, at_once, most_at_once, takes, leave });
        let data = web::Data::from(inside.clone());
        let server =
            HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(receive)));
        let server =
            server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("there are free ports");
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, inside }
    }

    /// Answers nothing more of its own accord.
    fn hold(&self) {
        self.inside.leave.forget_permits(usize::MAX);
    }

    /// Answers what has waited longest.
    fn answer_one(&self) {
        self.inside.leave.add_permits(1);
    }

    fn got(&self) -> Vec<Got> {
        self.inside.got.lock().expect("nobody panics with it").clone()
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, inside: web::Data<Inside>) -> HttpResponse {
    let now = inside.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    inside.most_at_once.fetch_max(now, Ordering::SeqCst);
    let signature =
        request.headers().get(signature::HEADER).map(|value| value.to_str().expect("ASCII").to_owned());
    let number = {
        let mut got = inside.got.lock().expect("nobody panics with it");
        got.push((request.uri().to_string(), signature, body.to_vec()));
        got.len()
    };
    inside.leave.acquire().await.expect("never closed").forget();
    tokio::time::sleep(inside.takes).await;
    inside.at_once.fetch_sub(1, Ordering::SeqCst);
    let status = if number <= inside.refuses { inside.status } else { 204 };
    let status = StatusCode::from_u16(status).expect("the test's");
    HttpResponse::build(status).finish()
}

fn quick(limit: u32, switch_off_after: u32) -> Sending {
    let (shortest, longest) = (Duration::from_millis(5), Duration::from_millis(20));
    Sending { retry: Retry { limit, shortest, longest }, switch_off_after, ..Sending::default() }
}

fn nexudus(sending: Sending) -> Nexudus {
    started(Options { sending, limits: Limits::NONE, ..Options::default() })
}

async fn settled(nexudus: &Nexudus) {
    let waiting = tokio::time::timeout(PATIENCE, nexudus.settled()).await;
    waiting.unwrap_or_else(|_| panic!("{} deliveries are not settled", nexudus.pending()));
}

#[tokio::test]
async fn a_change_is_posted_to_the_webhooks_of_its_business_and_action_signed_over_the_folded_text() {
    let receiver = Receiver::start(200, 0, Duration::ZERO);
    let nexudus = nexudus(quick(10, 10));
    let url = format!("{}/webhooks/BookingCreate?token=t%2F1&x", receiver.url);
    let id = nexudus.add_webhook(HERE, "BookingCreate", &url, true).unwrap();
    nexudus.add_webhook(HERE, "BookingUpdate", &receiver.url, true).unwrap();
    nexudus.add_webhook(ELSEWHERE, "BookingCreate", &receiver.url, true).unwrap();
    let booking = nexudus.example("Booking", HERE).unwrap();
    let happened = nexudus.create("Booking", HERE, booking.clone()).unwrap();
    assert_eq!((happened.action.as_deref(), happened.webhooks), (Some("BookingCreate"), vec![id]));
    settled(&nexudus).await;
    let [(uri, signature, body)] = &receiver.got()[..] else { panic!("one delivery") };
    assert_eq!(uri, "/webhooks/BookingCreate?token=t%2F1&x", "as configured");
    assert_eq!(*body, [b"[", booking.to_json().as_slice(), b"]"].concat());
    let signature = Signature::parse(signature.as_ref().expect("there is a secret").as_bytes()).unwrap();
    let key = SigningKey::new("sécret").unwrap();
    assert!(!body.is_ascii());
    assert_eq!(key.verify(body, &signature), Some(Form::Folded));
    let webhook = nexudus.webhook(id).unwrap();
    assert!(webhook.last_trigger.is_some());
    assert_eq!((webhook.error_count, webhook.last_error), (0, None));
    assert_eq!(nexudus.missed(), []);
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature_and_the_wire_may_be_folded_or_marked() {
    let receiver = Receiver::start(200, 0, Duration::ZERO);
    let nexudus = nexudus(quick(10, 10));
    nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    let happened = async |wire| {
        nexudus.adjust(|manners| manners.wire = wire);
        nexudus.happened("6", HERE, r#"{"N":"é😀"}"#).unwrap();
        settled(&nexudus).await;
    };
    happened(Wire::Utf8WithMark).await;
    happened(Wire::Folded).await;
    nexudus.set_secret(HERE, None);
    happened(Wire::Utf8).await;
    let got = receiver.got();
    let bodies: Vec<_> = got.iter().map(|(_, _, body)| String::from_utf8_lossy(body).into_owned()).collect();
    assert_eq!(bodies, ["\u{feff}[{\"N\":\"é😀\"}]", "[{\"N\":\"???\"}]", "[{\"N\":\"é😀\"}]"]);
    let signatures: Vec<_> = got.into_iter().map(|(_, signature, _)| signature).collect();
    assert!(signatures[0].is_some() && signatures[0] == signatures[1], "{signatures:?}");
    assert_eq!(signatures[2], None);
}

#[tokio::test]
async fn failures_are_counted_retried_with_the_same_bytes_and_forgotten_at_the_first_success() {
    let receiver = Receiver::start(503, 3, Duration::ZERO);
    let nexudus = nexudus(quick(10, 10));
    let id = nexudus.add_webhook(HERE, "CoworkerUpdate", &receiver.url, true).unwrap();
    let coworker = nexudus.ids("Coworker")[0];
    nexudus.update("Coworker", coworker, &[("FullName", "\"José\"")]).unwrap();
    settled(&nexudus).await;
    let webhook = nexudus.webhook(id).unwrap();
    assert_eq!((webhook.active, webhook.error_count), (true, 0));
    assert!(webhook.last_error.unwrap().contains("503"));
    assert!(webhook.last_trigger.is_some());
    let got = receiver.got();
    assert!(got.len() == 4 && got.iter().all(|delivery| *delivery == got[0]), "{}", got.len());
    let numbers: Vec<u32> = nexudus.attempts().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(nexudus.missed(), []);
}

#[tokio::test]
async fn ten_failures_in_a_row_switch_a_webhook_off_and_what_waits_is_lost_in_silence() {
    let receiver = Receiver::start(302, usize::MAX, Duration::ZERO); // not followed, and not 2xx
    let nexudus = nexudus(quick(10, 10));
    let id = nexudus.add_webhook(HERE, "BookingUpdate", &receiver.url, true).unwrap();
    for number in 0..3 {
        nexudus.happened("BookingUpdate", HERE, format!(r#"{{"Id":{number}}}"#)).unwrap();
    }
    settled(&nexudus).await;
    let api = Asker::of(&nexudus);
    let record = api.get(&format!("/api/sys/webhooks/{id}")).await.json();
    assert_eq!((&record["Active"], &record["LastTrigger"]), (&false.into(), &().into()));
    assert!(
        (10..13).contains(&record["ErrorCount"].as_i64().unwrap()),
        "those on their way count too: {record}"
    );
    let lost: Vec<_> = nexudus.missed().iter().map(|missed| (missed.webhook_id, missed.why)).collect();
    assert_eq!(lost, [(Some(id), Why::SwitchedOff); 3]);

    nexudus.happened("BookingUpdate", HERE, "{}").unwrap();
    nexudus.happened("BookingDelete", HERE, "{}").unwrap();
    let lost: Vec<_> = nexudus.missed()[3..].iter().map(|missed| (missed.webhook_id, missed.why)).collect();
    assert_eq!(lost, [(Some(id), Why::Off), (None, Why::NoWebhook)]);

    // On again, with ErrorCount as it was: what was lost is not sent, and the next failure switches it off.
    let attempts = nexudus.attempts().len();
    let put = api.request(Method::PUT, "/api/sys/webhooks");
    let record = String::from_utf8(nexudus.webhook(id).unwrap().record.to_json()).unwrap();
    sent(put.body(record.replace(r#""Active":false"#, r#""Active":true"#))).await.unwrap();
    assert!(nexudus.webhook(id).unwrap().active);
    nexudus.happened("BookingUpdate", HERE, "{}").unwrap();
    settled(&nexudus).await;
    assert_eq!(nexudus.attempts().len(), attempts + 1);
    assert!(!nexudus.webhook(id).unwrap().active);
}

#[tokio::test]
async fn one_poison_event_is_given_up_after_ten_retries_where_eleven_failures_switch_off() {
    let nexudus = nexudus(quick(10, 12));
    let nobody = "127.0.0.1:9"; // refused: not a port that the system gives to anybody
    let id = nexudus.add_webhook(HERE, "TeamCreated", &format!("http://{nobody}/"), true).unwrap();
    nexudus.happened("TeamCreated", HERE, "{}").unwrap();
    settled(&nexudus).await;
    assert_eq!(nexudus.attempts().len(), 11);
    assert!(nexudus.attempts().iter().all(|attempt| attempt.answer.is_err()));
    let webhook = nexudus.webhook(id).unwrap();
    assert_eq!((webhook.active, webhook.error_count), (true, 11));
    assert_eq!(nexudus.missed()[0].why, Why::GaveUp);

    for (limit, attempts) in [(10, 10), (11, 11)] {
        nexudus.set_sending(quick(10, limit));
        let id = nexudus.add_webhook(ELSEWHERE, "TeamCreated", &format!("http://{nobody}/"), true).unwrap();
        let before = nexudus.attempts().len();
        nexudus.happened("TeamCreated", ELSEWHERE, "{}").unwrap();
        settled(&nexudus).await;
        assert_eq!(nexudus.attempts().len() - before, attempts);
        assert!(!nexudus.webhook(id).unwrap().active);
    }
}

#[tokio::test]
async fn a_success_that_comes_after_its_webhook_was_switched_off_may_set_its_errors_to_0_or_not() {
    for (resets, errors) in [(true, 0), (false, 1)] {
        let receiver = Receiver::start(503, 1, Duration::ZERO);
        receiver.hold();
        let nexudus = nexudus(quick(10, 1));
        nexudus.adjust(|manners| manners.late_success_resets_errors = resets);
        let id = nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
        nexudus.happened("6", HERE, "{}").unwrap();
        until(|| receiver.got().len() == 1).await;
        nexudus.happened("6", HERE, "{}").unwrap();
        until(|| receiver.got().len() == 2).await;
        for answered in 1..=2 {
            receiver.answer_one();
            until(|| nexudus.attempts().len() == answered).await;
        }
        settled(&nexudus).await;
        let answers: Vec<_> = nexudus.attempts().into_iter().map(|attempt| attempt.answer).collect();
        assert_eq!(answers, [Ok(503), Ok(204)]);
        let webhook = nexudus.webhook(id).unwrap();
        assert_eq!((webhook.active, webhook.error_count), (false, errors));
        assert!(webhook.last_trigger.is_some());
    }
}

#[tokio::test]
async fn what_waits_for_its_next_attempt_is_lost_when_somebody_switches_the_webhook_off_or_deletes_it() {
    let receiver = Receiver::start(503, usize::MAX, Duration::ZERO);
    let slow = Retry { limit: 10, shortest: Duration::from_secs(5), longest: Duration::from_secs(5) };
    let nexudus = nexudus(Sending { retry: slow, ..Sending::default() });
    let off = nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    let deleted = nexudus.add_webhook(ELSEWHERE, "6", &receiver.url, true).unwrap();
    for business_id in [HERE, ELSEWHERE] {
        nexudus.happened("6", business_id, "{}").unwrap();
    }
    until(|| nexudus.attempts().len() == 2).await;
    nexudus.change_webhook(off, &[("Active", "false")]).unwrap();
    assert!(nexudus.remove_webhook(deleted));
    settled(&nexudus).await;
    let mut lost: Vec<_> = nexudus.missed().iter().map(|missed| (missed.webhook_id, missed.why)).collect();
    lost.sort_by_key(|(id, _)| *id);
    assert_eq!(lost, [(Some(off), Why::SwitchedOff), (Some(deleted), Why::SwitchedOff)]);
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn no_more_deliveries_than_allowed_are_on_their_way_at_once() {
    let receiver = Receiver::start(200, 0, Duration::from_millis(50));
    let nexudus = nexudus(Sending { concurrency: 3, ..quick(10, 10) });
    nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    for _ in 0..20 {
        nexudus.happened("6", HERE, "{}").unwrap();
    }
    settled(&nexudus).await;
    assert_eq!(receiver.got().len(), 20);
    let most = receiver.inside.most_at_once.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most}");
}

#[tokio::test]
async fn a_stopped_double_answers_and_sends_no_more() {
    let receiver = Receiver::start(503, usize::MAX, Duration::ZERO);
    let slow =
        Retry { limit: 10_000, shortest: Duration::from_millis(50), longest: Duration::from_millis(50) };
    let nexudus = nexudus(Sending { retry: slow, switch_off_after: 10_000, ..Sending::default() });
    nexudus.add_webhook(HERE, "6", &receiver.url, true).unwrap();
    nexudus.happened("6", HERE, "{}").unwrap();
    until(|| !receiver.got().is_empty()).await;
    let (api, world) = (Asker::of(&nexudus), nexudus.world());
    tokio::time::timeout(PATIENCE, nexudus.stop()).await.expect("it stops");
    let got = receiver.got().len();
    assert!(sent(api.request(Method::GET, "/api/sys/webhooks")).await.unwrap_err().is_connect());
    tokio::time::sleep(Duration::from_millis(200)).await; // several waits long
    assert_eq!(receiver.got().len(), got);
    assert_eq!(world.pending(), 1, "what it knew is still there to be looked at");
}
