use std::sync::{Arc, Mutex};

use actix_web::{HttpRequest, HttpResponse};

use super::*;
use crate::sender::double;
use crate::signature::{Form, Signature, SigningKey};

const SECRET: &str = "sécret";
const CONFIRMED: &str =
    r#"{"status":"confirmed","events":[{"id":"1","topic":"nexudus.X","partition":2,"offset":7}]}"#;

async fn bridge<F>(answer: F) -> Target
where
    F: Fn(u32, &HttpRequest, &[u8]) -> HttpResponse + Send + Sync + 'static,
{
    Target::parse(&double::start(answer).await, Some("t".to_owned())).unwrap()
}

fn quick(limit: u32) -> Retry {
    Retry { limit, shortest: Duration::from_millis(1), longest: Duration::from_millis(4) }
}

fn delivery() -> Delivery {
    let key = SigningKey::new(SECRET).unwrap();
    Delivery::new("north".into(), "BookingCreate".into(), r#"[{"Id":1,"N":"é"}]"#, Some(&key))
}

async fn post(target: Target, retry: Retry) -> Answer {
    Poster::new(target, retry, 1).unwrap().post(&delivery()).await
}

#[tokio::test]
async fn a_delivery_is_posted_with_the_signature_of_its_body_and_its_receipt_is_read() {
    let target = bridge(|_, request, body| {
        let signature = request.headers().get(signature::HEADER).unwrap().as_bytes();
        let signature = Signature::parse(signature).unwrap();
        assert_eq!(SigningKey::new(SECRET).unwrap().verify(body, &signature), Some(Form::Folded));
        assert_eq!(request.uri().to_string(), "/webhooks/north/BookingCreate?token=t");
        assert_eq!(request.method(), "POST");
        HttpResponse::Ok().body(CONFIRMED)
    });
    let answer = post(target.await, Retry::NEVER).await;
    let receipt = answer.result.unwrap();
    assert_eq!((receipt.status.as_str(), answer.attempts), ("confirmed", 1));
    assert_eq!((receipt.events[0].topic.as_str(), receipt.events[0].offset), ("nexudus.X", Some(7)));
    assert!(answer.latency > Duration::ZERO);
}

#[tokio::test]
async fn a_delivery_is_tried_again_with_the_same_bytes_until_it_is_answered_2xx() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let received = bodies.clone();
    let target = bridge(move |number, _, body| {
        received.lock().unwrap().push(body.to_vec());
        match number {
            1 => HttpResponse::ServiceUnavailable().finish(),
            2 => HttpResponse::Found().insert_header(("Location", "/")).finish(), // not followed: it counts as failed
            3 => HttpResponse::Unauthorized().finish(),
            _ => HttpResponse::Ok().body(CONFIRMED),
        }
    });
    let answer = post(target.await, quick(10)).await;
    assert_eq!((answer.result.unwrap().status.as_str(), answer.attempts), ("confirmed", 4));
    assert_eq!(*bodies.lock().unwrap(), vec![delivery().body; 4]);
}

#[tokio::test]
async fn after_the_last_attempt_the_problem_is_the_result() {
    let problem =
        r#"{"type":"x","title":"Not confirmed in time","status":503,"detail":"no answer","cause":"timeout"}"#;
    let target = bridge(move |_, _, _| HttpResponse::ServiceUnavailable().body(problem)).await;
    let answer = post(target.clone(), quick(2)).await;
    assert_eq!(answer.attempts, 3);
    let refusal = answer.result.unwrap_err();
    assert_eq!(refusal.to_string(), "503 Not confirmed in time: no answer");
    assert_eq!(refusal.kind(), "503 timeout");
    assert_eq!(post(target, Retry::NEVER).await.attempts, 1);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let target = bridge(|number, _, _| match number {
        1 => HttpResponse::ServiceUnavailable().insert_header(("Retry-After", "1")).finish(),
        _ => HttpResponse::Ok().body(CONFIRMED),
    });
    let begun = Instant::now();
    let answer = post(target.await, quick(1)).await;
    assert!(answer.result.is_ok());
    let all = begun.elapsed();
    assert!(all >= Duration::from_secs(1) + answer.latency, "the wait is not the bridge's latency: {all:?}");
}

#[tokio::test]
async fn answers_of_other_servers_are_distinguished_from_those_of_a_bridge() {
    let refusal = async |answer: fn() -> HttpResponse| {
        let target = bridge(move |_, _, _| answer()).await;
        post(target, Retry::NEVER).await.result.unwrap_err()
    };
    let page = refusal(|| HttpResponse::Ok().body("<html>")).await;
    assert!(matches!(&page, PostFailure::Foreign { status: 200, .. }), "{page}");
    let page = refusal(|| HttpResponse::BadGateway().body("<html>")).await;
    assert_eq!(page.to_string(), "502 Bad Gateway");
    let huge = refusal(|| HttpResponse::Ok().body(vec![b' '; MAX_ANSWER_BYTES + 1])).await;
    assert!(huge.to_string().contains("more than"), "{huge}");
}

#[tokio::test]
async fn an_address_without_a_listener_is_no_connection_and_the_text_has_no_token() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = Target::parse(&format!("http://{free}"), Some("s3cr3t".to_owned())).unwrap();
    let answer = post(target, quick(1)).await;
    let refusal = answer.result.unwrap_err().to_string();
    assert!(refusal.contains("refused") && !refusal.contains("s3cr3t"), "{refusal}");
    assert_eq!(answer.attempts, 2);
}

#[test]
fn waits_double_up_to_a_bound_and_never_undercut_retry_after() {
    let wait = |attempt, after| Retry::NEXUDUS.wait(attempt, after).map(|wait: Duration| wait.as_secs_f64());
    let waits: Vec<f64> = (1..=10).filter_map(|attempt| wait(attempt, None)).collect();
    assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]);
    assert_eq!(wait(11, None), None);
    assert_eq!(wait(1, Some(Duration::from_secs(5))), Some(5.0));
    assert_eq!(wait(5, Some(Duration::from_secs(5))), Some(8.0));
    assert_eq!(wait(1, Some(Duration::from_secs(86_400))), Some(60.0));
    assert_eq!(Retry::NEVER.wait(1, None), None);
}
