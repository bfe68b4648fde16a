//! The console: a page, its state, and a stream of confirmed events.
//!
//! The page is one file without external resources. It reads its numbers from `/metrics`, and everything else from here.
//! Keys identify people, so pages of other origins are refused. If the console is enabled only because the listener is on
//! loopback, every host name that DNS rebinding can forge is refused, too.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::respond;
use super::state::{Console, Readiness, State};
use crate::outage::Report;
use crate::outcome::Outcome;
use crate::recent::{MOST_VIEWERS, Setback, Update, Viewer};

/// The page, with its style and script.
const PAGE: &str = include_str!("console.html");

/// Interval of comments in a stream without events, so that neither side closes the connection as idle.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Interval of updates in a stream. It limits the work for a viewer to some hundred events a second.
const PACE: Duration = Duration::from_millis(200);

/// Lifetime of a stream. A viewer has to reconnect after this time, so a client that does not read cannot stay a viewer. Shorter
/// than the idle limit of connections, so that a client that reads gets an orderly end.
const STREAM_LIFETIME: Duration = Duration::from_secs(60);

/// Returns true if the console allows every host name, or if the host name of a request cannot be forged.
fn is_meant(console: &Console, http: &HttpRequest) -> bool {
    let host = http.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    console.any_name || host.is_some_and(leads_nowhere_else)
}

/// Returns true if `Host` is an IP address or `localhost`, which DNS rebinding cannot forge.
fn leads_nowhere_else(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split_once(']').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// The reason why a request gets no console.
enum Denied {
    Off,
    ByName,
}

/// Returns the console if the request may use it.
fn console<'a>(http: &HttpRequest, state: &'a State) -> Result<&'a Console, Denied> {
    let console = state.console().ok_or(Denied::Off)?;
    if is_meant(console, http) { Ok(console) } else { Err(Denied::ByName) }
}

/// Refuses a request with a host name that DNS rebinding can forge, unless the console allows it.
pub(super) fn refuse_forgeable_name(http: &HttpRequest, state: &State) -> Option<HttpResponse> {
    console(http, state).err().filter(|denied| matches!(denied, Denied::ByName)).map(Denied::answer)
}

impl Denied {
    fn answer(self) -> HttpResponse {
        let (status, title, detail) = match self {
            Self::Off => (
                StatusCode::NOT_FOUND,
                "Console off",
                "the console is off, as admin.listen is not on loopback or admin.console is false; admin.console = true \
                 switches it on for everybody who reaches this address, and it shows keys, which identify people",
            ),
            Self::ByName => (
                StatusCode::MISDIRECTED_REQUEST,
                "Name not allowed",
                "the console is asked for under a name that anybody could make lead here; use 127.0.0.1 or localhost, \
                 or set admin.console = true to allow every name",
            ),
        };
        respond::problem(status, title, detail)
    }
}

/// `GET /`: the page.
pub(super) async fn page(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    if let Err(denied) = console(&http, &state) {
        return denied.answer();
    }
    let mut response = HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    closed(response)
}

/// `GET /console/state`: the state that the metrics do not have.
pub(super) async fn state(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let console = match console(&http, &state) {
        Ok(console) => console,
        Err(denied) => return denied.answer(),
    };
    closed(HttpResponse::Ok().json(Shown {
        readiness: state.readiness(),
        version: env!("CARGO_PKG_VERSION"),
        now_ms: Timestamp::now().as_millisecond(),
        started_ms: console.started.as_millisecond(),
        ingress_port: console.ingress_port,
        limits: Limits {
            in_flight_deliveries: console.max_in_flight,
            in_flight_bytes: console.max_in_flight_bytes,
            viewers: MOST_VIEWERS,
        },
        viewers: console.recent.viewers(),
        outcomes: Outcome::ALL.map(Meaning::of),
        setbacks: console.recent.latest_setbacks(),
        outages: state.outages.report(),
    }))
}

/// `GET /console/events`: confirmed events as server-sent events, for a minute at most.
pub(super) async fn events(http: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let console = match console(&http, &state) {
        Ok(console) => console,
        Err(denied) => return denied.answer(),
    };
    let Some(viewer) = console.recent.watch() else {
        let detail = format!("{MOST_VIEWERS} watch already, or the bridge stops; close another console page");
        return respond::problem(StatusCode::SERVICE_UNAVAILABLE, "Too many viewers", &detail);
    };
    let watching = Watching { viewer, ends_at: Instant::now() + STREAM_LIFETIME, stage: Stage::Begins };
    let chunks = stream::unfold(watching, async |mut watching| {
        let chunk = watching.next().await?;
        Some((Ok::<_, Infallible>(chunk), watching))
    });
    closed(HttpResponse::Ok().content_type("text/event-stream").streaming(chunks))
}

/// Adds headers that forbid caching, sniffing, and use by other pages.
fn closed(mut response: HttpResponse) -> HttpResponse {
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

/// The stream of one viewer.
struct Watching {
    viewer: Viewer,
    ends_at: Instant,
    stage: Stage,
}

enum Stage {
    Begins,
    Goes,
    HasSent,
    Ends,
}

impl Watching {
    /// Returns the next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Begins => {
                self.stage = Stage::Goes;
                return Some(Bytes::from_static(b"retry: 500\n: events as they are confirmed\n\n"));
            }
            Stage::Goes => {}
            Stage::HasSent => tokio::time::sleep(PACE).await,
            Stage::Ends => return None,
        }
        let now = Instant::now();
        if now >= self.ends_at {
            self.stage = Stage::Ends;
            return Some(Bytes::from_static(b"event: renew\ndata: reconnect to see more\n\n"));
        }
        let until = self.ends_at.min(now + HEARTBEAT);
        let Ok(update) = tokio::time::timeout_at(until, self.viewer.next()).await else {
            self.stage = Stage::Goes;
            return Some(Bytes::from_static(b": nothing new\n\n"));
        };
        self.stage = if update.over { Stage::Ends } else { Stage::HasSent };
        Some(written(&update))
    }
}

/// Returns an update as server-sent events: `missed` with a number, each event as JSON, `end`.
fn written(update: &Update) -> Bytes {
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

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    readiness: Readiness,
    version: &'static str,
    now_ms: i64,
    started_ms: i64,
    ingress_port: u16,
    limits: Limits,
    viewers: usize,
    outcomes: [Meaning; Outcome::ALL.len()],
    setbacks: Vec<Setback>,
    outages: Report,
}

#[derive(Serialize)]
struct Limits {
    in_flight_deliveries: usize,
    in_flight_bytes: usize,
    viewers: usize,
}

/// An outcome with its texts.
#[derive(Serialize)]
struct Meaning {
    label: &'static str,
    title: &'static str,
    status: u16,
    advice: &'static str,
}

impl Meaning {
    fn of(outcome: Outcome) -> Self {
        let (label, title) = (outcome.label(), outcome.title());
        Self { label, title, status: outcome.status(), advice: outcome.advice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_lead_nowhere_else() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "localhost:9464",
            "LOCALHOST",
            "10.0.0.7:80",
        ] {
            assert!(leads_nowhere_else(host), "{host}");
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
            assert!(!leads_nowhere_else(host), "{host}");
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_puts_no_data_into_markup() {
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
