//! Receive: a request as a delivery, its body read in bounded time and bytes.
//!
//! What can be judged without the body is judged first, so that a stranger's four megabytes are not even read. The
//! body is gathered in one buffer of its own: a slice of the connection's would keep that whole alive until the broker
//! has answered.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::respond;
use crate::config;
use crate::delivery::address::{Request, SignatureHeader};
use crate::delivery::admission::Permit;
use crate::delivery::{Bridge, Refusal};
use crate::event::Trace;
use crate::outcome::Outcome;
use crate::signature;

/// What is reserved for a body before its first byte, whatever length it claims.
const FIRST_RESERVE_BYTES: usize = 16 * 1024;

/// What a handler needs.
pub(super) struct Ingress {
    bridge: Arc<Bridge>,
    max_body_bytes: usize,
    body_timeout: Duration,
}

impl Ingress {
    pub(super) fn new(bridge: Arc<Bridge>, config: &config::Ingress) -> Self {
        Self { bridge, max_body_bytes: config.max_body_bytes, body_timeout: config.body_timeout }
    }
}

/// Every request: `POST /webhooks/{action}` and `POST /webhooks/{source}/{action}` are deliveries.
pub(super) async fn receive(
    http: HttpRequest,
    payload: web::Payload,
    ingress: web::Data<Ingress>,
) -> HttpResponse {
    match Place::of(http.match_info().as_str()) {
        Some(place) if http.method() == Method::POST => deliver(&http, place, payload, &ingress).await,
        Some(Place { source, action }) => {
            respond::refuse_and_close(&ingress.bridge.wrong_method(source, action))
        }
        None => elsewhere(),
    }
}

/// What a webhook's path names.
#[derive(Clone, Copy)]
struct Place<'a> {
    source: Option<&'a str>,
    action: &'a str,
}

impl<'a> Place<'a> {
    /// Reads `/webhooks/{action}` and `/webhooks/{source}/{action}`; nothing may be empty.
    fn of(path: &'a str) -> Option<Self> {
        let names = path.strip_prefix("/webhooks/")?;
        let (source, action) = match names.split_once('/') {
            Some((source, action)) => (Some(source), action),
            None => (None, names),
        };
        let named = !action.is_empty() && !action.contains('/') && source != Some("");
        named.then_some(Self { source, action })
    }
}

async fn deliver(
    http: &HttpRequest,
    place: Place<'_>,
    payload: web::Payload,
    ingress: &Ingress,
) -> HttpResponse {
    let bridge = &ingress.bridge;
    let token = token(http.query_string());
    let addressed = match bridge.address(request(http, place, token.as_deref())) {
        Ok(addressed) => addressed,
        Err(refusal) => return respond::refuse_and_close(&refusal),
    };
    let body = match length_if_acceptable(http, ingress.max_body_bytes) {
        Ok(_) if asks_for_websocket(http) => Err(Unread::Endless("WebSockets are not offered")),
        Ok(length) => ingress.body(payload, length).await,
        Err(refusal) => Err(refusal.into()),
    };
    match body {
        Ok((body, permit)) => respond::answer(bridge.handle(addressed, body, permit).await),
        Err(Unread::Refused(refusal)) => respond::refuse_and_close(&bridge.refuse(&addressed, refusal)),
        Err(Unread::TurnedAway(refusal)) => respond::answer(Err(bridge.refuse(&addressed, refusal))),
        Err(Unread::Endless(detail)) => respond::bad_request(detail),
    }
}

/// Any other path.
fn elsewhere() -> HttpResponse {
    let detail = "deliveries go to POST /webhooks/{action} or POST /webhooks/{source}/{action}, without a slash at the end";
    respond::problem(StatusCode::NOT_FOUND, "Not found", detail)
}

fn request<'a>(http: &'a HttpRequest, place: Place<'a>, token: Option<&'a str>) -> Request<'a> {
    // As constants: a name given as text is checked, lowered and allocated each time.
    static SIGNATURE: HeaderName = HeaderName::from_static(signature::HEADER);
    static TRACE: [HeaderName; 2] =
        [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
    let headers = http.headers();
    let mut signatures = headers.get_all(&SIGNATURE);
    let signature = match (signatures.next(), signatures.next()) {
        (None, _) => SignatureHeader::Missing,
        (Some(one), None) => SignatureHeader::One(one.as_bytes()),
        (Some(_), Some(_)) => SignatureHeader::Several,
    };
    let [parents, states] =
        [&TRACE[0], &TRACE[1]].map(|name| headers.get_all(name).map(HeaderValue::as_bytes));
    let Place { source, action } = place;
    Request { source, action, token, signature, trace: Trace::read(parents, states) }
}

/// The value of `?token=`. Two of them are none: nobody could say which one counts.
fn token(query: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Query {
        token: Option<String>,
    }
    if query.is_empty() {
        return None;
    }
    web::Query::<Query>::from_query(query).ok()?.into_inner().token
}

/// What the head says of the body: its length, if it does, unless it cannot be taken.
fn length_if_acceptable(http: &HttpRequest, max_body_bytes: usize) -> Result<Option<usize>, Refusal> {
    let headers = http.headers();
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).all(identity) {
        let detail = "the body is content-encoded; its bytes are not those that were signed";
        return Err(Refusal::new(Outcome::Encoded, detail));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > max_body_bytes => Err(too_large(max_body_bytes)),
        length => Ok(length),
    }
}

/// Whether actix-web takes all that follows as the body, whatever length was told: the next request, too.
fn asks_for_websocket(http: &HttpRequest) -> bool {
    let websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    http.headers().get_all(header::UPGRADE).any(websocket)
}

fn too_large(max_body_bytes: usize) -> Refusal {
    Refusal::new(
        Outcome::TooLarge,
        format!("the body is larger than {max_body_bytes} bytes (ingress.max_body_bytes)"),
    )
}

/// Why there is no body.
enum Unread {
    /// It is refused.
    Refused(Refusal),
    /// It was thrown away, as there is no room for it now. The connection is as good as new.
    TurnedAway(Refusal),
    /// It has no end, or none that is right: the connection cannot be used any more.
    Endless(&'static str),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Ingress {
    /// Reads a body to its end, within all bounds, and gives the permit that covers it.
    async fn body(&self, payload: web::Payload, length: Option<usize>) -> Result<(Bytes, Permit), Unread> {
        let overloaded = |outcome| match outcome {
            Outcome::ShuttingDown => {
                Refusal::new(outcome, "the bridge is stopping; another replica or a retry will take it")
            }
            _ => Refusal::new(
                outcome,
                "as many deliveries or bytes as allowed are waiting for Kafka (ingress.max_in_flight)",
            ),
        };
        let mut payload = payload;
        let mut permit = match self.bridge.admission().enter() {
            Ok(permit) => permit,
            // In a storm new connections would cost more than what is refused.
            Err(Outcome::Overloaded) if is_thrown_away(&mut payload).await => {
                return Err(Unread::TurnedAway(overloaded(Outcome::Overloaded)));
            }
            Err(outcome) => return Err(overloaded(outcome).into()),
        };
        let reading = async move {
            let mut body = BytesMut::with_capacity(length.unwrap_or(0).min(FIRST_RESERVE_BYTES));
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| Unread::Endless("the body broke off"))?;
                permit.grow(chunk.len()).map_err(overloaded)?;
                if body.len() + chunk.len() > self.max_body_bytes {
                    return Err(Unread::from(too_large(self.max_body_bytes)));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((body.freeze(), permit))
        };
        let late =
            || Refusal::new(Outcome::TooSlow, "the body did not arrive in time (ingress.body_timeout)");
        let mut reading = pin!(reading);
        match second_look(reading.as_mut()).await {
            Some(read) => read,
            None => tokio::time::timeout(self.body_timeout, reading).await.map_err(|_| late())?,
        }
    }
}

/// Throws a body away that has arrived with its head; false if some of it is still to come.
async fn is_thrown_away(payload: &mut web::Payload) -> bool {
    let whole = async {
        loop {
            match payload.next().await {
                Some(Ok(_)) => {}
                end => return end.is_none(),
            }
        }
    };
    second_look(pin!(whole)).await == Some(true)
}

/// What a future has for those who look twice. A body that came with its head is handed over between the two looks, and
/// most do: a timer is set only for the others.
async fn second_look<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut looked = false;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
