//! `[ingress]`: the listener for deliveries, and the bounds of deliveries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::reader::values::{address, duration, integer, minutes, ms, size, text};

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
    /// Maximum number of bytes of their bodies.
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

/// Reads the section.
pub(super) fn ingress(mut section: Section<'_>) -> Ingress {
    let ingress = Ingress {
        listen: section.get("listen", "0.0.0.0:8080", address),
        max_body_bytes: size(section.get("max_body_bytes", "4194304", integer(1024, 512 << 20))),
        body_timeout: section.get("body_timeout", "10s", duration(ms(100), minutes(10))),
        max_in_flight: size(section.get("max_in_flight", "4096", integer(1, 1 << 20))),
        max_in_flight_bytes: size(section.get("max_in_flight_bytes", "33554432", integer(1024, 16 << 30))),
        shutdown_delay: section.get("shutdown_delay", "0s", duration(ms(0), minutes(10))),
        shutdown_grace: section.get("shutdown_grace", "25s", duration(ms(0), minutes(60))),
        tls: tls(&mut section),
    };
    if ingress.max_in_flight_bytes < ingress.max_body_bytes {
        section.mistake(".max_in_flight_bytes is less than max_body_bytes, so that no large body could ever be taken; raise the first or lower the second");
    }
    section.close();
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
