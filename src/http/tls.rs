//! TLS on the ingress: a certificate that can be replaced while connections continue.
//!
//! The chain and the key are PEM files. New handshakes get the pair that was read last. A pair that cannot be used is
//! refused, and the former certificate stays.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::config;
use crate::metrics::Metrics;

/// Remaining lifetime in seconds below which a certificate causes a warning; the alert of `deploy/prometheus` has the same bound.
const ENDS_SOON: i64 = 14 * 86_400;

/// The ingress's certificate.
#[derive(Debug)]
pub struct Certificate {
    files: config::Tls,
    /// The certificate for new handshakes.
    current: ArcSwap<Current>,
    metrics: Arc<Metrics>,
}

/// A certificate with its key and validity.
#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

/// The validity of a certificate, as Unix time.
#[derive(Debug, Clone, Copy)]
struct Validity {
    not_before: i64,
    not_after: i64,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// The file and the mistake in it, without any part of the key.
    pub fn read(files: &config::Tls, metrics: Arc<Metrics>) -> Result<Self, String> {
        let current = Current::read(files)?;
        metrics.certificate_expires(current.validity.not_after);
        Ok(Self { files: files.clone(), current: ArcSwap::from_pointee(current), metrics })
    }

    /// Reads both files again, and gives new handshakes the new pair. Returns whether there was a new certificate.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the former certificate stays, and the next call tries again.
    pub fn renew(&self) -> Result<bool, String> {
        let new = Current::read(&self.files)?;
        if new.certified.cert == self.current.load().certified.cert {
            return Ok(false);
        }
        self.metrics.certificate_expires(new.validity.not_after);
        self.current.store(Arc::new(new));
        Ok(true)
    }

    /// Returns a warning about a certificate that is not valid now, or not for long.
    pub fn warning(&self) -> Option<String> {
        let wrong = self.current.load().validity.warning(Timestamp::now().as_second())?;
        Some(format!("ingress.tls_cert: the certificate in {:?} {wrong}", self.files.cert))
    }

    /// Returns the server's side of TLS 1.2 and 1.3. actix-web adds `http/1.1` to it as the only protocol of ALPN.
    pub(super) fn server_config(self: Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(self))
    }
}

impl Validity {
    fn warning(self, now: i64) -> Option<String> {
        let date =
            |second| Timestamp::from_second(second).map_or_else(|_| "never".to_owned(), |at| at.to_string());
        let Self { not_before, not_after } = self;
        if not_after <= now {
            Some(format!("expired at {}, so clients refuse it: renew it", date(not_after)))
        } else if not_before > now {
            Some(format!("is valid only from {} on, so clients refuse it until then", date(not_before)))
        } else if not_after - now < ENDS_SOON {
            let days = (not_after - now) / 86_400;
            Some(format!("expires at {}, in {days} days: renew it", date(not_after)))
        } else {
            None
        }
    }
}

impl Current {
    /// Reads both files, and checks that certificate and key can be used together.
    fn read(config::Tls { cert, key }: &config::Tls) -> Result<Self, String> {
        const NO_CHAIN: &str = "is no certificate chain in PEM";
        const NO_KEY: &str = "is no private key in PEM";
        let chain_pem = read(cert, NO_CHAIN)?;
        let key_pem = read(key, NO_KEY)?;
        let chain = CertificateDer::pem_slice_iter(&chain_pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong(cert, &format!("{NO_CHAIN}: {error}")))?;
        let first = chain.first().ok_or_else(|| wrong(cert, "holds no certificate"))?;
        let validity = validity(first).map_err(|mistake| wrong(cert, &mistake))?;
        if is_encrypted(&key_pem) {
            return Err(wrong(
                key,
                "holds an encrypted private key, and there is no setting for its passphrase: decrypt it with `openssl pkey -in ENCRYPTED -out KEY`",
            ));
        }
        let private = PrivateKeyDer::from_pem_slice(&key_pem);
        let private = private.map_err(|error| wrong(key, &format!("{NO_KEY}: {error}")))?;
        let certified = CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| wrong(key, &format!("does not fit the certificate in {cert:?}: {error}")))?;
        Ok(Self { certified: Arc::new(certified), validity })
    }
}

fn read(path: &Path, mistake: &str) -> Result<Vec<u8>, String> {
    let content = std::fs::read(path).map_err(|error| wrong(path, &format!("{mistake}: {error}")))?;
    if content.starts_with("\u{feff}".as_bytes()) {
        return Err(wrong(path, "begins with a byte order mark, which PEM must not have: save it without"));
    }
    Ok(content)
}

/// Returns the validity of a certificate. The error is the reason why clients would refuse the certificate.
fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| "begins with something that is no X.509 certificate")?;
    if parsed.version() != X509Version::V3 {
        return Err(format!(
            "begins with an X.509 certificate of version {}, which clients refuse: issue one of version 3, with the host names as subjectAltName",
            parsed.version().0.saturating_add(1)
        ));
    }
    let validity = parsed.validity();
    Ok(Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}

/// Returns whether a key is encrypted. PKCS #8 has a label for an encrypted key; the older forms of OpenSSL have a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn wrong(path: &Path, what: &str) -> String {
    format!("the file {path:?} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_valid_or_not_for_long_is_a_warning() {
        let validity = Validity { not_before: 1_000, not_after: 100 * 86_400 };
        let days = |days: i64| validity.warning(days * 86_400);
        assert_eq!(days(86), None);
        assert_eq!(days(90).unwrap(), "expires at 1970-04-11T00:00:00Z, in 10 days: renew it");
        assert!(days(100).unwrap().starts_with("expired at 1970-04-11T00:00:00Z"));
        assert!(validity.warning(999).unwrap().starts_with("is valid only from 1970-01-01T00:16:40Z on"));
    }
}
