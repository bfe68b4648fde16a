//! `[ingress]`, `[admin]` and `[redelivery]`: the listeners, the bounds of deliveries, and the memory of confirmed deliveries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::reader::values::{address, boolean, duration, number, text};

/// `[ingress]`.
#[derive(Debug, Clone)]
pub struct Ingress {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Maximum size of a body in bytes. Topics that the bridge creates accept messages with a body of this size.
    pub max_body_bytes: usize,
    /// Time-out of the arrival of a body.
    pub body_timeout: Duration,
    /// Maximum number of deliveries in flight, from arrival to delivery report.
    pub max_in_flight: usize,
    /// Maximum number of bytes of the bodies of deliveries in flight.
    pub max_in_flight_bytes: usize,
    /// After SIGTERM: time for which `/readyz` answers 503 while the bridge still accepts deliveries.
    pub shutdown_delay: Duration,
    /// After `shutdown_delay`: maximum time for the confirmation of deliveries in flight.
    pub shutdown_grace: Duration,
    /// The certificate; without one the listener serves plain HTTP.
    pub tls: Option<Tls>,
}

/// `ingress.tls_cert` and `ingress.tls_key`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by the intermediate certificates.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The mode of the console, which shows keys of records.
    pub console: Console,
}

/// `admin.console`: a page for people on the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// No console.
    Off,
    /// The default on loopback: a console, since only this machine reaches the listener. A request with a host name that DNS
    /// rebinding can forge is refused.
    OnLoopback,
    /// A console, enabled in the configuration.
    On,
}

/// `[redelivery]`: the bounds of the memory of deliveries that were confirmed but not answered.
#[derive(Debug, Clone)]
pub struct Redelivery {
    /// Time for which a delivery is remembered after its confirmation.
    pub ttl: Duration,
    /// Maximum number of deliveries; 0 disables the memory.
    pub max_entries: usize,
    /// Maximum number of bytes in total.
    pub max_bytes: usize,
}

pub(super) fn ingress(mut section: Section<'_>) -> Ingress {
    let ingress = Ingress {
        listen: section.get("listen", "0.0.0.0:8080", address),
        max_body_bytes: section.get("max_body_bytes", "4194304", number(1024, 512 << 20)),
        body_timeout: section.get("body_timeout", "10s", duration("100ms", "10m")),
        max_in_flight: section.get("max_in_flight", "4096", number(1, 1 << 20)),
        max_in_flight_bytes: section.get("max_in_flight_bytes", "33554432", number(1024, 16 << 30)),
        shutdown_delay: section.get("shutdown_delay", "0s", duration("0s", "10m")),
        shutdown_grace: section.get("shutdown_grace", "25s", duration("0s", "1h")),
        tls: tls(&mut section),
    };
    if ingress.max_in_flight_bytes < ingress.max_body_bytes {
        section.mistake(".max_in_flight_bytes is less than max_body_bytes, so the largest bodies would always be refused; raise the first or lower the second");
    }
    ingress
}

fn tls(section: &mut Section<'_>) -> Option<Tls> {
    let [cert, key] =
        ["tls_cert", "tls_key"].map(|key| section.optional(key, text).filter(|path| !path.is_empty()));
    let (set, absent) = match (cert, key) {
        (None, None) => return None,
        (Some(cert), Some(key)) => return Some(Tls { cert: cert.into(), key: key.into() }),
        (None, Some(_)) => ("tls_key", "tls_cert"),
        (Some(_), None) => ("tls_cert", "tls_key"),
    };
    section.mistake(format!(".{set} is set without {absent}, expected both or neither"));
    None
}

pub(super) fn admin(mut section: Section<'_>) -> Admin {
    let listen = section.get("listen", "127.0.0.1:9464", address);
    let loopback = listen.ip().is_loopback();
    let is_set = section.has("console");
    let console = match section.get("console", if loopback { "true" } else { "false" }, boolean) {
        false => Console::Off,
        true if is_set => Console::On,
        true => Console::OnLoopback,
    };
    if console == Console::On && !loopback {
        section.warn(format!(
            "admin.console: everyone who can connect to {listen} sees the keys of records, which identify people"
        ));
    }
    Admin { listen, console }
}

pub(super) fn redelivery(mut section: Section<'_>) -> Redelivery {
    Redelivery {
        ttl: section.get("ttl", "1h", duration("1s", "1d")),
        max_entries: section.get("max_entries", "10000", number(0, 10_000_000)),
        max_bytes: section.get("max_bytes", "8388608", number(1024, 16 << 30)),
    }
}
