//! `/outages` on the admin listener: outages whose events are missing, and the ranges that a catch-up has read.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};

use super::state::State;
use super::{console, respond};
use crate::outage::Covered;

/// `GET /outages`: the outages that no catch-up has covered, and the command for it.
pub(super) async fn list(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.outages.report())
}

/// `POST /outages/covered`: a catch-up reports the ranges of time that it has read. The body must be declared as JSON. A page of
/// another origin can do so only after a preflight request, and the bridge does not answer those.
pub(super) async fn cover(http: HttpRequest, state: web::Data<State>, body: web::Bytes) -> HttpResponse {
    if let Some(refusal) = console::refuse_forgeable_name(&http, &state) {
        return refusal;
    }
    let kind = http.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
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
