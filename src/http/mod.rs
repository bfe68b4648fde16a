//! The HTTP side: every use of actix-web. This file has the routes of both listeners.
//!
//! `ingress` receives deliveries and `respond` writes their answers. [`state`] holds the state that the admin listener shows:
//! `admin` to programs, `console` to people. `server` runs a listener and bounds its connections. [`tls`] holds the certificate.

mod admin;
mod console;
mod ingress;
mod respond;
mod server;
pub mod state;
pub mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, ServiceConfig};
use actix_web::{Route, guard};

use self::ingress::Ingress;
pub use self::server::Listening;
use self::server::Options;
use self::state::State;
use self::tls::Certificate;
use crate::config;
use crate::delivery::Bridge;

/// Serves deliveries on `listener`, over TLS if there is a certificate.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_ingress(
    listener: TcpListener,
    bridge: Arc<Bridge>,
    config: &config::Ingress,
    certificate: Option<Arc<Certificate>>,
) -> io::Result<Listening> {
    let ingress = web::Data::new(Ingress { bridge, config: config.clone() });
    let stops_within = config.shutdown_grace + Duration::from_secs(1);
    let tls = certificate.map(Certificate::server_config).transpose().map_err(io::Error::other)?;
    let options = Options { name: "ingress", workers: None, stops_within, tls };
    let expecting = ingress.clone();
    let expect = move |request| ingress::expect(&expecting, request);
    // One handler gets every path: actix-web matches a pattern with names as a regular expression, which takes longer than
    // checking the signature.
    Listening::start(listener, options, expect, move |app: &mut ServiceConfig| {
        app.app_data(ingress.clone()).default_service(web::to(ingress::receive));
    })
}

/// Serves metrics, health, readiness and the console on `listener`.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_admin(listener: TcpListener, state: Arc<State>) -> io::Result<Listening> {
    let state = web::Data::from(state);
    let options =
        Options { name: "admin", workers: Some(1), stops_within: Duration::from_secs(1), tls: None };
    Listening::start(listener, options, Ok, move |app: &mut ServiceConfig| {
        app.app_data(state.clone())
            .route("/metrics", read().to(admin::metrics))
            .route("/healthz", read().to(admin::healthz))
            .route("/readyz", read().to(admin::readyz))
            .route("/outages", read().to(admin::outages))
            .route("/outages/covered", web::post().to(admin::cover_outages))
            .route("/", read().to(console::page))
            .route("/console/state", read().to(console::state))
            .route("/console/events", web::get().to(console::events));
    })
}

/// Returns a route for GET and HEAD. actix-web answers HEAD like GET, without the body.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}
