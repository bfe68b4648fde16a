//! The admin listener's answers: metrics, health, readiness. Nothing here asks the cluster; it shows what is known.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::header::{self, AcceptEncoding, ContentEncoding, ContentType, Encoding, Header as _};
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::console::Console;
use crate::config::Setting;
use crate::delivery::admission::Admission;
use crate::kafka::status::Status;
use crate::metrics::Metrics;
use crate::outage::Outages;
use crate::vital::Vital;

/// What the admin listener shows.
pub struct State {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    admission: Arc<Admission>,
    outages: Arc<Outages>,
    console: Option<Console>,
    vital: Vital,
    stopping: AtomicBool,
}

impl State {
    /// Gathers what is to be shown.
    pub fn new(
        metrics: Arc<Metrics>,
        status: Arc<Status>,
        admission: Arc<Admission>,
        outages: Arc<Outages>,
        console: Option<Console>,
        vital: Vital,
    ) -> Self {
        Self { metrics, status, admission, outages, console, vital, stopping: AtomicBool::new(false) }
    }

    /// Not ready from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Sends home those who watch, so that they do not hold up the end.
    pub fn end(&self) {
        if let Some(console) = &self.console {
            console.end();
        }
    }

    /// Shows these settings as those in force, where there is a console.
    pub fn show_settings(&self, settings: Vec<Setting>) {
        if let Some(console) = &self.console {
            console.show_settings(settings);
        }
    }

    /// Since when events are missing.
    pub(super) fn outages(&self) -> &Outages {
        &self.outages
    }

    /// The console, if there is one.
    pub(super) fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// Whether the bridge is ready, and why not.
    pub(super) fn readiness(&self) -> Readiness {
        let reasons = self.reasons();
        let refused = self.status.topics().refused().into_iter();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            missing_topics: self.status.topics().missing(),
            refused_topics: refused.map(|(topic, error)| RefusedTopic { topic, error }).collect(),
        }
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
            && self.vital.failure().is_none()
            && self.status.trouble().is_none()
    }

    /// Why the bridge is not ready; empty while it is.
    pub fn reasons(&self) -> Vec<String> {
        let stopping = self.stopping.load(Ordering::Acquire).then(|| "shutting down".to_owned());
        stopping.into_iter().chain(self.vital.failure()).chain(self.status.trouble()).collect()
    }
}

/// What `/readyz` says.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    /// Topics that the cluster does not have, those that it refuses among them.
    missing_topics: Vec<String>,
    /// Topics that Kafka refused to create.
    refused_topics: Vec<RefusedTopic>,
}

#[derive(Serialize)]
struct RefusedTopic {
    topic: String,
    /// Kafka's error and message.
    error: String,
}

/// `GET /healthz`: the process lives.
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
    metrics.control.show_outages(
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
    match encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(compressed) => response.insert_header(ContentEncoding::Gzip).body(compressed),
        Err(_) => response.body(text), // a buffer in memory takes everything
    }
}

/// Whether a client asked for gzip; one that sends no `Accept-Encoding` did not.
fn accepts_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    request.headers().contains_key(header::ACCEPT_ENCODING)
        && AcceptEncoding::parse(request)
            .is_ok_and(|accepted| accepted.negotiate(supported.iter()) == Some(Encoding::gzip()))
}
