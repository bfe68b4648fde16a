//! Receive: reads a request as a delivery, its body within bounds of time and bytes.
//!
//! The head is judged first, so the bridge does not read the body of a refused head. The body is copied into a buffer of its
//! own: a slice of the connection's buffer would keep that whole buffer until the broker has answered.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use actix_http::body::BoxBody;
use actix_http::{HttpMessage as _, Request, Response};
use actix_web::dev::{RequestHead, Url};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use url::form_urlencoded;

use super::respond;
use crate::config;
use crate::delivery::address::{self, Claim};
use crate::delivery::admission::Permit;
use crate::delivery::receiving::Receiving;
use crate::delivery::{Bridge, Refusal};
use crate::event::Trace;
use crate::outcome::Outcome;
use crate::signature::{self, Signature};

/// Maximum capacity that is reserved for a body before its first byte, whatever its `Content-Length`.
const FIRST_RESERVE_BYTES: usize = 16 * 1024;

pub(super) struct Ingress {
    pub(super) bridge: Arc<Bridge>,
    pub(super) config: config::Ingress,
}

/// Handles every request. `POST /webhooks/{action}` and `POST /webhooks/{source}/{action}` are deliveries.
pub(super) async fn receive(
    http: HttpRequest,
    mut payload: web::Payload,
    ingress: web::Data<Ingress>,
) -> HttpResponse {
    let expected = http.extensions_mut().remove::<Judged>();
    let judged = expected.map_or_else(|| ingress.judge(http.head(), http.match_info().as_str()), Ok);
    let Judged { receiving, length, permit } = match judged {
        Ok(judged) => judged,
        Err(answer) => return answer.into(),
    };
    let permit = match permit.map_or_else(|| ingress.bridge.admission.enter(), Ok) {
        Ok(permit) => permit,
        Err(outcome) => {
            // Under overload, new connections would cost more than the refused bodies.
            let keeps_connection = outcome == Outcome::Overloaded && discard(&mut payload).await;
            let refusal = receiving.refuse(not_admitted(outcome));
            return match keeps_connection {
                true => respond::refuse(&refusal),
                false => respond::refuse_and_close(&refusal),
            };
        }
    };
    match ingress.body(payload, length, permit).await {
        Ok((body, permit)) => respond::answer(receiving.received(body, permit).await),
        Err(refusal) => respond::refuse_and_close(&receiving.refuse(refusal)),
    }
}

/// Judges a request with `Expect: 100-continue`. Its client sends the body only after the answer 100, which a refused
/// request does not get.
pub(super) fn expect(ingress: &Ingress, request: Request) -> Result<Request, Response<BoxBody>> {
    let path = Url::new(request.uri().clone());
    let mut judged = ingress.judge(request.head(), path.path())?;
    match ingress.bridge.admission.enter() {
        Ok(permit) => judged.permit = Some(permit),
        Err(outcome) => {
            let refusal = judged.receiving.refuse(not_admitted(outcome));
            return Err(respond::refuse_and_close(&refusal).into());
        }
    }
    request.extensions_mut().insert(judged);
    Ok(request)
}

/// A delivery whose head is accepted.
struct Judged {
    receiving: Receiving,
    /// The length of the body, if the head has it.
    length: Option<usize>,
    /// Present if the delivery was admitted already.
    permit: Option<Permit>,
}

impl Ingress {
    /// Judges a request by its head. The error is the answer to a refused request.
    fn judge(&self, head: &RequestHead, path: &str) -> Result<Judged, Response<BoxBody>> {
        let (source, action) = names(path).ok_or_else(not_found)?;
        if head.method != Method::POST {
            let refusal = self.bridge.wrong_method(source, action);
            return Err(respond::refuse_and_close(&refusal).into());
        }
        let addressed = self.bridge.address(delivery(head, source, action));
        let receiving = addressed.map_err(|refusal| respond::refuse_and_close(&refusal))?;
        match acceptable_length(head, self.config.max_body_bytes) {
            Ok(length) => Ok(Judged { receiving, length, permit: None }),
            Err(refusal) => Err(respond::refuse_and_close(&receiving.refuse(refusal)).into()),
        }
    }

    /// Reads a body to its end, within all bounds. Returns the body and the permit that covers it.
    async fn body(
        &self,
        mut payload: web::Payload,
        length: Option<usize>,
        mut permit: Permit,
    ) -> Result<(Bytes, Permit), Refusal> {
        let reading = async move {
            let mut body = BytesMut::with_capacity(length.unwrap_or(0).min(FIRST_RESERVE_BYTES));
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| Refusal::new(Outcome::Incomplete, "the body broke off"))?;
                permit.grow(chunk.len()).map_err(not_admitted)?;
                if body.len() + chunk.len() > self.config.max_body_bytes {
                    return Err(too_large(self.config.max_body_bytes));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((body.freeze(), permit))
        };
        let late =
            || Refusal::new(Outcome::TooSlow, "the body did not arrive in time (ingress.body_timeout)");
        let mut reading = pin!(reading);
        match poll_twice(reading.as_mut()).await {
            Some(read) => read,
            None => tokio::time::timeout(self.config.body_timeout, reading).await.map_err(|_| late())?,
        }
    }
}

/// Returns the names of source and action in `/webhooks/{action}` or `/webhooks/{source}/{action}`; no name may be empty.
fn names(path: &str) -> Option<(Option<&str>, &str)> {
    const PREFIX: &str = "/webhooks/";
    let (prefix, names) = path.split_at_checked(PREFIX.len())?;
    if !prefix.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let (source, action) = match names.split_once('/') {
        Some((source, action)) => (Some(source), action),
        None => (None, names),
    };
    let are_valid = !action.is_empty() && !action.contains('/') && source != Some("");
    are_valid.then_some((source, action))
}

fn not_found() -> HttpResponse {
    let detail = "deliveries go to POST /webhooks/{action} or POST /webhooks/{source}/{action}, without a slash at the end";
    respond::problem(StatusCode::NOT_FOUND, "Not found", detail)
}

fn delivery<'a>(head: &'a RequestHead, source: Option<&'a str>, action: &'a str) -> address::Request<'a> {
    // Constants, since actix-web checks, lower-cases and allocates a name that is given as text.
    static SIGNATURE: HeaderName = HeaderName::from_static(signature::HEADER);
    static TRACE: [HeaderName; 2] =
        [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
    let [parents, states] =
        [&TRACE[0], &TRACE[1]].map(|name| head.headers.get_all(name).map(HeaderValue::as_bytes));
    let mut signatures = members(head, &SIGNATURE);
    let signature = match signatures.next() {
        None => Claim::Missing,
        Some(first) if signatures.all(|other| other.eq_ignore_ascii_case(first)) => Signature::parse(first)
            .map_or(Claim::Malformed("the signature is not 64 hexadecimal digits"), Claim::Given),
        Some(_) => Claim::Malformed("the request has different X-Nexudus-Hook-Signature headers"),
    };
    let token = token(head.uri.query().unwrap_or_default());
    address::Request { source, action, token, signature, trace: Trace::read(parents, states) }
}

/// Returns the members of a header. They may come in several lines, or in one line as a list.
fn members<'a>(head: &'a RequestHead, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = head.headers.get_all(name);
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

/// Returns the `token` parameter of a query, or the reason why there is none. Its value is not decoded: [`address`] compares
/// it in every form.
fn token(query: &str) -> Result<&str, &'static str> {
    let is_token = |name: &str| {
        name == "token"
            || form_urlencoded::parse(name.as_bytes()).next().is_some_and(|(name, _)| name == "token")
    };
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut tokens = pairs.filter(|(name, _)| is_token(name)).map(|(_, value)| value);
    match (tokens.next(), tokens.next()) {
        (None, _) => Err("the URL has no token"),
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err("the URL has more than one token parameter"),
    }
}

/// Returns the length of the body if the head has it. The error is the refusal of a body that cannot be read.
fn acceptable_length(head: &RequestHead, max_body_bytes: usize) -> Result<Option<usize>, Refusal> {
    let encodes_nothing = |coding: &[u8]| {
        [&b""[..], b"identity", b"utf-8"].iter().any(|known| coding.eq_ignore_ascii_case(known))
    };
    if !members(head, &header::CONTENT_ENCODING).all(encodes_nothing) {
        let detail = "the body is content-encoded; its bytes are not those that were signed";
        return Err(Refusal::new(Outcome::Encoded, detail));
    }
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length| length > max_body_bytes) {
        return Err(too_large(max_body_bytes));
    }
    // After `Upgrade: websocket`, actix-web reads everything as the body, even the next request, whatever the `Content-Length`.
    let is_websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if head.headers.get_all(header::UPGRADE).any(is_websocket) {
        return Err(Refusal::new(Outcome::Upgrade, "WebSockets are not offered"));
    }
    Ok(length)
}

fn too_large(max_body_bytes: usize) -> Refusal {
    Refusal::new(
        Outcome::TooLarge,
        format!("the body is larger than {max_body_bytes} bytes (ingress.max_body_bytes)"),
    )
}

/// Returns the refusal of a delivery that [`Admission`](crate::delivery::admission::Admission) does not admit.
fn not_admitted(outcome: Outcome) -> Refusal {
    let detail = match outcome {
        Outcome::ShuttingDown => "the bridge is stopping; another replica or a retry will take it",
        _ => {
            "the maximum of deliveries or bytes is in flight (ingress.max_in_flight, ingress.max_in_flight_bytes)"
        }
    };
    Refusal::new(outcome, detail)
}

/// Discards a body that has arrived with its head; returns false if a part has not arrived yet.
async fn discard(payload: &mut web::Payload) -> bool {
    let whole = async {
        loop {
            match payload.next().await {
                Some(Ok(_)) => {}
                end => return end.is_none(),
            }
        }
    };
    poll_twice(pin!(whole)).await == Some(true)
}

/// Polls a future twice before a timer is set. Most bodies arrive with their head and are ready at the second poll, so only the
/// rest need a timer.
async fn poll_twice<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut is_second = false;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if is_second => Poll::Ready(None),
        Poll::Pending => {
            is_second = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
