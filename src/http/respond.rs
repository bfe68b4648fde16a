//! Respond: makes the HTTP answer to a delivery; refusals are problem documents (RFC 9457).

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use serde::Serialize;

use crate::delivery::{Receipt, Refusal};

pub(super) fn answer(result: Result<Receipt, Refusal>) -> HttpResponse {
    match result {
        Ok(receipt) => HttpResponse::build(status(receipt.outcome.status()))
            .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
            .body(accepted(&receipt)),
        Err(refusal) => refuse(&refusal),
    }
}

/// Returns the answer to a delivery whose body was not read to its end. This answer closes the connection.
pub(super) fn refuse_and_close(refusal: &Refusal) -> HttpResponse {
    let mut response = refuse(refusal);
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// Returns a problem document that is not about a delivery.
pub(super) fn problem(status: StatusCode, title: &str, detail: &str) -> HttpResponse {
    problem_document(&Problem { kind: "about:blank", title, status: status.as_u16(), detail, cause: None })
}

pub(super) fn refuse(refusal: &Refusal) -> HttpResponse {
    let outcome = refusal.outcome;
    let retry_after = outcome.retry_after_seconds();
    let mut response = problem_document(&Problem {
        kind: &format!("urn:nexudus-bridge:problem:{}", outcome.label()),
        title: outcome.title(),
        status: outcome.status(),
        detail: &refusal.detail,
        cause: retry_after.map(|_| outcome.label()),
    });
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let (name, value) = match response.status() {
        // RFC 9110 requires a challenge in each 401. This challenge names the expected header.
        StatusCode::UNAUTHORIZED => {
            (header::WWW_AUTHENTICATE, "NexudusSignature header=\"X-Nexudus-Hook-Signature\"")
        }
        StatusCode::METHOD_NOT_ALLOWED => (header::ALLOW, "POST"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (header::ACCEPT_ENCODING, "identity"),
        _ => return response,
    };
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn problem_document(problem: &Problem<'_>) -> HttpResponse {
    let body = serde_json::to_vec(problem).expect("texts and numbers can be written");
    HttpResponse::build(status(problem.status)).content_type("application/problem+json").body(body)
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).expect("the table holds HTTP statuses")
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

fn accepted(receipt: &Receipt) -> Vec<u8> {
    const EVENT_BYTES: usize = 192; // size of an event with an ordinary topic
    let mut body = Vec::with_capacity(64 + receipt.events.len() * EVENT_BYTES);
    serde_json::to_writer(&mut body, receipt).expect("texts and numbers can be written");
    body
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::delivery::Confirmed;
    use crate::event::{EventId, Fingerprint, Stream};
    use crate::outcome::Outcome;

    #[test]
    fn an_accepted_delivery_is_answered_with_its_events() {
        let stream = Stream::new("nexudus.A-b_c".into(), "s", "k");
        let own = Uuid::now_v7();
        let fingerprint = Fingerprint::of("s", "A", b"{}");
        let event =
            |id, partition, offset| Confirmed { id, stream: Arc::new(stream.clone()), partition, offset };
        let events = [event(EventId::Own(own), 0, Some(0)), event(EventId::Content(fingerprint), 11, None)];
        let object = |id: &str, partition: i32, offset: Option<i64>| json!({"id": id, "topic": "nexudus.A-b_c", "partition": partition, "offset": offset});
        let objects = [object(&own.to_string(), 0, Some(0)), object(fingerprint.as_str(), 11, None)];
        for count in 0..=2 {
            let receipt = Receipt { outcome: Outcome::Confirmed, events: events[..count].to_vec() };
            let written: serde_json::Value = serde_json::from_slice(&accepted(&receipt)).unwrap();
            assert_eq!(written, json!({"status": "confirmed", "events": objects[..count]}));
        }
    }
}
