//! The console: a page, its state, and a stream of confirmed events.
//!
//! The page is one file without external resources. It reads its numbers from `/metrics`, and everything else from the routes
//! below. Keys identify people, so pages of other origins are refused. If the console is enabled only because the listener is on
//! loopback, every host name that DNS rebinding can forge is refused, too.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use actix_http::Response;
use actix_http::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::respond;
use super::state::{Console, State};
use crate::outcome::Outcome;
use crate::recent::{MAX_VIEWERS, Update};

const PAGE: &str = include_str!("console.html");

/// Interval of comments in a stream without events, so that neither side closes the connection as idle.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Interval of updates in a stream. It limits the work for a viewer to some hundred events a second.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// Lifetime of a stream. A viewer has to reconnect after this time, so a client that does not read cannot stay a viewer. Shorter
/// than the idle limit of connections, so that a client that reads gets an orderly end.
const STREAM_LIFETIME: Duration = Duration::from_secs(60);

/// Returns true if `Host` is an IP address or `localhost`, which DNS rebinding cannot forge.
fn is_unforgeable(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split_once(']').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Returns the console if the request may use it, else the refusal.
fn console<'a>(http: &HttpRequest, state: &'a State) -> Result<&'a Console, Response<BoxBody>> {
    let Some(console) = &state.console else {
        let detail = "the console is off, since admin.listen is not on loopback or admin.console is false; admin.console = true \
                      enables it for everyone who can connect to this address, and it shows keys, which identify people";
        return Err(respond::problem(StatusCode::NOT_FOUND, "Console off", detail).into());
    };
    let host = http.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if console.allows_any_host || host.is_some_and(is_unforgeable) {
        return Ok(console);
    }
    let detail = "DNS rebinding can forge the host name of this request; use 127.0.0.1 or localhost, \
                  or set admin.console = true to allow every host name";
    Err(respond::problem(StatusCode::MISDIRECTED_REQUEST, "Name not allowed", detail).into())
}

/// Refuses a request with a host name that DNS rebinding can forge, unless the console is off or allows every host name.
pub(super) fn refuse_forgeable_host(http: &HttpRequest, state: &State) -> Option<HttpResponse> {
    state.console.as_ref()?;
    console(http, state).err().map(HttpResponse::from)
}

/// `GET /`: the page.
pub(super) async fn page(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    if let Err(refusal) = console(&http, &state) {
        return refusal.into();
    }
    let mut response = HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    with_security_headers(response)
}

/// `GET /console/state`: the state that the metrics do not have.
pub(super) async fn state(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let console = match console(&http, &state) {
        Ok(console) => console,
        Err(refusal) => return refusal.into(),
    };
    let readiness = state.readiness();
    with_security_headers(HttpResponse::Ok().json(json!({
        "ready": readiness.ready,
        "reasons": readiness.reasons,
        "missing_topics": readiness.missing_topics,
        "refused_topics": readiness.refused_topics,
        "version": env!("CARGO_PKG_VERSION"),
        "now_ms": Timestamp::now().as_millisecond(),
        "started_ms": console.started.as_millisecond(),
        "ingress_port": console.ingress.listen.port(),
        "limits": {
            "in_flight_deliveries": console.ingress.max_in_flight,
            "in_flight_bytes": console.ingress.max_in_flight_bytes,
            "viewers": MAX_VIEWERS,
        },
        "viewers": console.recent.viewers(),
        "outcomes": Outcome::ALL.map(|outcome| json!({
            "label": outcome.label(),
            "title": outcome.title(),
            "status": outcome.status(),
            "advice": outcome.advice(),
        })),
        "setbacks": console.recent.latest_setbacks(),
        "outages": state.outages.report(),
    })))
}

/// `GET /console/events`: confirmed events as server-sent events, for a minute at most.
pub(super) async fn events(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let console = match console(&http, &state) {
        Ok(console) => console,
        Err(refusal) => return refusal.into(),
    };
    let Some(viewer) = console.recent.watch() else {
        let detail = format!(
            "{MAX_VIEWERS} console pages are open already, or the bridge is stopping; close another console page"
        );
        return respond::problem(StatusCode::SERVICE_UNAVAILABLE, "Too many viewers", &detail);
    };
    let first = Bytes::from_static(b"retry: 500\n: events as they are confirmed\n\n");
    let ends_at = Instant::now() + STREAM_LIFETIME;
    let updates = stream::unfold(Some(viewer), move |viewer| async move {
        let mut viewer = viewer?;
        tokio::time::sleep(UPDATE_INTERVAL).await;
        let now = Instant::now();
        if now >= ends_at {
            return Some((Bytes::from_static(b"event: renew\ndata: reconnect to see more\n\n"), None));
        }
        let until = ends_at.min(now + HEARTBEAT);
        let Ok(update) = tokio::time::timeout_at(until, viewer.next()).await else {
            return Some((Bytes::from_static(b": nothing new\n\n"), Some(viewer)));
        };
        Some((server_sent_events(&update), (!update.over).then_some(viewer)))
    });
    let chunks = stream::once(ready(first)).chain(updates).map(Ok::<_, Infallible>);
    with_security_headers(HttpResponse::Ok().content_type("text/event-stream").streaming(chunks))
}

/// Adds headers that forbid caching, sniffing, and use by other pages.
fn with_security_headers(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The policy of the page: it may run its own script, which the hash identifies, and connect to this listener only.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let (opening, closing) = (format!("<{tag}>"), format!("</{tag}>"));
        let content = PAGE.split_once(&opening).and_then(|(_, rest)| rest.split_once(&closing));
        STANDARD.encode(Sha256::digest(content.expect("the page has one of each").0))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::from_str(&policy).expect("ASCII")
});

/// Returns an update as server-sent events: `missed` with a number, each event as JSON, `end`.
fn server_sent_events(update: &Update) -> Bytes {
    let mut text = String::new();
    if update.missed > 0 {
        text.push_str(&format!("event: missed\ndata: {}\n\n", update.missed));
    }
    for event in &update.events {
        let json = serde_json::to_string(&**event).expect("texts and numbers can be written");
        text.push_str(&format!("data: {json}\n\n"));
    }
    if update.over {
        text.push_str("event: end\ndata: the bridge stops\n\n");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ip_addresses_and_localhost_are_unforgeable() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "localhost:9464",
            "LOCALHOST",
            "10.0.0.7:80",
        ] {
            assert!(is_unforgeable(host), "{host}");
        }
        for host in [
            "",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil]",
            "[::1",
            "::1.x",
        ] {
            assert!(!is_unforgeable(host), "{host}");
        }
    }

    #[test]
    fn the_page_loads_no_external_resource_and_inserts_no_data_as_markup() {
        for forbidden in [
            "http://",
            "https://",
            "//cdn",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            let allowed = forbidden == "http://"
                && PAGE.matches("http://").count() == PAGE.matches("http://www.w3.org/2000/svg").count();
            assert!(allowed || !PAGE.contains(forbidden), "{forbidden}");
        }
    }
}
