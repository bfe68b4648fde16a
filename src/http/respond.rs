//! Respond: the bridge's word on a delivery as an HTTP answer; refusals as problem documents (RFC 9457).

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;

use crate::delivery::{Confirmed, Receipt, Refusal};
use crate::event::EventId;
use crate::outcome::Outcome;

/// The answer to a delivery.
pub(super) fn answer(result: Result<Receipt, Refusal>) -> HttpResponse {
    match result {
        Ok(receipt) => {
            const EVENT_BYTES: usize = 192; // one with an ordinary topic
            let mut body = Vec::with_capacity(64 + receipt.events.len() * EVENT_BYTES);
            let accepted = Accepted { status: receipt.outcome.label(), events: &receipt.events };
            serde_json::to_writer(&mut body, &accepted).expect("texts and numbers can be written");
            let mut response = HttpResponse::with_body(status(receipt.outcome), BoxBody::new(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(refusal) => refuse(&refusal),
    }
}

/// The answer to a delivery whose body was not read to its end: the connection cannot be used any more.
pub(super) fn refuse_and_close(refusal: &Refusal) -> HttpResponse {
    let mut response = refuse(refusal);
    response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    response
}

/// A problem that is not about a delivery.
pub(super) fn problem(status: StatusCode, title: &str, detail: &str) -> HttpResponse {
    let body = Problem { kind: "about:blank", title, status: status.as_u16(), detail, cause: None };
    problem_document(status, &body)
}

fn refuse(refusal: &Refusal) -> HttpResponse {
    let outcome = refusal.outcome;
    let status = status(outcome);
    let retry_after = outcome.retry_after_seconds();
    let kind = format!("urn:nexudus-bridge:problem:{}", outcome.label());
    let mut response = problem_document(
        status,
        &Problem {
            kind: &kind,
            title: outcome.title(),
            status: outcome.status(),
            detail: &refusal.detail,
            cause: retry_after.map(|_| outcome.label()),
        },
    );
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match status {
        // RFC 9110 wants a challenge with each 401; this names the header that was expected.
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("NexudusSignature header=\"X-Nexudus-Hook-Signature\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        _ => {}
    }
    response
}

fn problem_document(status: StatusCode, problem: &Problem<'_>) -> HttpResponse {
    let body = serde_json::to_vec(problem).expect("texts and numbers can be written");
    HttpResponse::build(status).content_type("application/problem+json").body(body)
}

fn status(outcome: Outcome) -> StatusCode {
    StatusCode::from_u16(outcome.status()).expect("the table holds HTTP statuses")
}

#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    #[serde(serialize_with = "events")]
    events: &'a [Confirmed],
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(serialize_with = "id")]
    id: EventId,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

fn events<S: serde::Serializer>(events: &&[Confirmed], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter().map(|event| Event {
        id: event.id,
        topic: &event.topic,
        partition: event.partition,
        offset: event.offset,
    }))
}

fn id<S: serde::Serializer>(id: &EventId, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        EventId::Content(fingerprint) => serializer.serialize_str(fingerprint.as_str()),
        EventId::Own(_) => serializer.collect_str(id),
    }
}
