//! `[ingress]`: the listener for deliveries, and their bounds.

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
    /// The largest body that is read, in bytes; topics that the bridge creates allow for it.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How many deliveries may be in flight, from arrival to delivery report.
    pub max_in_flight: usize,
    /// How many bytes of their bodies.
    pub max_in_flight_bytes: usize,
    /// How long, once told to stop, the bridge is not ready and yet accepting.
    pub shutdown_delay: Duration,
    /// How long it then waits for the confirmation of what is in flight.
    pub shutdown_grace: Duration,
    /// Where the certificate is; without one the listener speaks plain HTTP.
    pub tls: Option<Tls>,
}

/// `ingress.tls_cert` and `ingress.tls_key`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
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
