//! HTTP: everything that knows actix-web. Both listeners' routes are on this page.
//!
//! `ingress` receives deliveries and hands them to the bridge, `respond` turns its word into an answer, [`admin`]
//! shows the bridge's state.

pub mod admin;
mod ingress;
mod listening;
mod respond;
pub mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpServer, web};

use self::admin::State;
use self::ingress::Ingress;
pub use self::listening::Listening;
use self::tls::Certificate;
use crate::config;
use crate::delivery::Bridge;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may idle between requests; above the minute of common load balancers.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a client may take to read an answer's end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 2048;

/// The bounds that both listeners have; the program handles signals itself.
macro_rules! bounds {
    ($server:expr) => {
        $server
            .disable_signals()
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            // Else a client that is gone is answered as if it were there; none that waits closes its side.
            .h1_allow_half_closed(false)
    };
}

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
    let grace = config.shutdown_grace.as_secs() + 1;
    let tls = certificate.map(Certificate::server_config).transpose().map_err(io::Error::other)?;
    Listening::start("ingress", move || {
        let server = HttpServer::new(move || {
            // Every path goes to one handler: patterns with names are regular expressions to actix-web, and those cost
            // more than the signature.
            App::new().app_data(ingress.clone()).default_service(web::to(ingress::receive))
        });
        let server = bounds!(server).shutdown_timeout(grace).backlog(BACKLOG);
        let server = match tls {
            Some(tls) => server.tls_handshake_timeout(HANDSHAKE_TIMEOUT).listen_rustls_0_23(listener, tls)?,
            None => server.listen(listener)?,
        };
        Ok(server.run())
    })
}

/// Serves metrics, health and readiness on `listener`.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_admin(listener: TcpListener, state: Arc<State>) -> io::Result<Listening> {
    let state = web::Data::from(state);
    Listening::start("admin", move || {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .route("/metrics", web::get().to(admin::metrics))
                .route("/healthz", web::get().to(admin::healthz))
                .route("/readyz", web::get().to(admin::readyz))
        });
        Ok(bounds!(server).workers(1).shutdown_timeout(1).listen(listener)?.run())
    })
}
