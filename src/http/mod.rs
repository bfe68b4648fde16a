//! The HTTP side: every use of actix-web. This file has the routes of both listeners.
//!
//! `ingress` receives deliveries and `respond` writes their answers. [`state`] is what the admin listener shows: `admin` to
//! programs, `console` to people. `server` bounds connections, with `idle` for bounds that actix-web lacks. [`tls`] has the
//! certificate.

mod admin;
mod console;
mod idle;
mod ingress;
mod listening;
mod outages;
mod respond;
mod server;
pub mod state;
pub mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::{Request, Response};
use actix_web::{App, Route, guard, web};

use self::ingress::Ingress;
pub use self::listening::Listening;
use self::server::{Options, server};
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
    certificate: Option<&Certificate>,
) -> io::Result<Listening> {
    let ingress = web::Data::new(Ingress::new(bridge, config));
    let stops_within = config.shutdown_grace + Duration::from_secs(1);
    let tls = certificate.map(Certificate::server_config).transpose().map_err(io::Error::other)?;
    let expecting = ingress.clone();
    Listening::start("ingress", move || {
        // One handler gets every path: actix-web matches a pattern with names as a regular expression, which takes longer than
        // checking the signature.
        let app = move || App::new().app_data(ingress.clone()).default_service(web::to(ingress::receive));
        let expect = move |request| ingress::expect(&expecting, request);
        server(listener, Options { workers: None, stops_within, tls, expect }, app)
    })
}

/// Serves metrics, health, readiness and the console on `listener`.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_admin(listener: TcpListener, state: Arc<State>) -> io::Result<Listening> {
    let state = web::Data::from(state);
    Listening::start("admin", move || {
        let app = move || {
            App::new()
                .app_data(state.clone())
                .route("/metrics", read().to(admin::metrics))
                .route("/healthz", read().to(admin::healthz))
                .route("/readyz", read().to(admin::readyz))
                .route("/outages", read().to(outages::list))
                .route("/outages/covered", web::post().to(outages::cover))
                .route("/", read().to(console::page))
                .route("/console/state", read().to(console::state))
                .route("/console/events", web::get().to(console::events))
        };
        let (stops_within, expect) = (Duration::from_secs(1), Ok::<Request, Response<BoxBody>>);
        server(listener, Options { workers: Some(1), stops_within, tls: None, expect }, app)
    })
}

/// Returns a route for GET and HEAD. actix-web answers HEAD like GET, without the body.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}
