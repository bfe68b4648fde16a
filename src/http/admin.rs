//! The answers of the admin listener to programs: metrics, health, readiness and outages. They show the last known state and
//! send no request to the cluster.

use std::io::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, AcceptEncoding, ContentEncoding, ContentType, Encoding, Header as _};
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::state::State;
use super::{console, respond};
use crate::outage::Covered;

/// `GET /healthz`: 200 while the process runs.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

/// `GET /readyz`: 200 while the cluster answers, else 503 with the reasons.
pub(super) async fn readyz(state: web::Data<State>) -> HttpResponse {
    let readiness = state.readiness();
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// `GET /metrics`, in Prometheus's text format, compressed for a client that accepts gzip.
pub(super) async fn metrics(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let metrics = &state.metrics;
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.in_flight_deliveries.set(gauge(state.admission.deliveries()));
    metrics.in_flight_bytes.set(gauge(state.admission.bytes()));
    metrics.ready.set(state.is_ready().into());
    let outages = state.outages.report().outages.into_iter();
    metrics.control.set_outages(
        outages.map(|outage| ([outage.source, outage.action], outage.since.as_duration().as_secs_f64())),
    );
    let text = metrics.render();
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .insert_header((header::VARY, "Accept-Encoding"));
    if !accepts_gzip(&request) {
        return response.body(text);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    let compressed = compressed.expect("writes to a buffer in memory do not fail");
    response.insert_header(ContentEncoding::Gzip).body(compressed)
}

/// Returns whether a client accepts gzip. A client without `Accept-Encoding` does not.
fn accepts_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    request.headers().contains_key(header::ACCEPT_ENCODING)
        && AcceptEncoding::parse(request)
            .is_ok_and(|accepted| accepted.negotiate(supported.iter()) == Some(Encoding::gzip()))
}

/// `GET /outages`: the outages that no catch-up has covered, and the command that covers them.
pub(super) async fn outages(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.outages.report())
}

/// `POST /outages/covered`: a catch-up reports the ranges of time that it has read. The content type must be JSON. A page of
/// another origin can send that only after a preflight request, which the bridge does not allow.
pub(super) async fn cover_outages(
    http: HttpRequest,
    state: web::Data<State>,
    body: web::Bytes,
) -> HttpResponse {
    if let Some(refusal) = console::refuse_forgeable_host(&http, &state) {
        return refusal;
    }
    let kind = http.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let ranges = kind.filter(|kind| kind.starts_with("application/json"));
    match ranges.and_then(|_| serde_json::from_slice::<Vec<Covered>>(&body).ok()) {
        Some(ranges) => {
            state.outages.cover(&ranges);
            HttpResponse::NoContent().finish()
        }
        None => {
            let expected =
                "expected application/json: a list of objects with source, action, since and until";
            respond::problem(StatusCode::BAD_REQUEST, "Bad request", expected)
        }
    }
}
