//! TLS on the ingress: a certificate that can be replaced while connections go on.
//!
//! The chain and the key are PEM files. New handshakes get what was read last; what cannot be read, or does not belong
//! together, is refused and the former certificate stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config;
use crate::metrics::Metrics;

/// The ingress's certificate.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
}

/// What handshakes get.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// What is wrong with which file; nothing of the key.
    pub fn read(files: &config::Tls, metrics: Arc<Metrics>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let (certified, expires) = read(&files.cert, &files.key, &provider)?;
        metrics.certificate_expires(expires);
        let current = Arc::new(Current(ArcSwap::from_pointee(certified)));
        Ok(Self { chain: files.cert.clone(), key: files.key.clone(), current, provider, metrics })
    }

    /// Reads both files again; new handshakes get what they hold.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the former certificate stays.
    pub fn reload(&self) -> Result<(), String> {
        let (certified, expires) = read(&self.chain, &self.key, &self.provider)?;
        self.current.0.store(Arc::new(certified));
        self.metrics.certificate_expires(expires);
        Ok(())
    }

    /// Returns the server's side of TLS 1.2 and 1.3. actix-web adds `http/1.1` to it as the only protocol of ALPN.
    pub(super) fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let resolver = Arc::clone(&self.current);
        Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver))
    }
}

/// Chain and key, and when the first certificate expires, as Unix time.
fn read(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<(CertifiedKey, i64), String> {
    let wrong = |path: &Path, what: &str| format!("the file {path:?} {what}");
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(chain, &format!("is no certificate chain in PEM: {error}")))?;
    let first = certificates.first().ok_or_else(|| wrong(chain, "holds no certificate"))?;
    let (_, parsed) = X509Certificate::from_der(first)
        .map_err(|_| wrong(chain, "begins with something that is no X.509 certificate"))?;
    let expires = parsed.validity().not_after.timestamp();
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong(key, &format!("is no private key in PEM: {error}")))?;
    let certified = CertifiedKey::from_der(certificates, private, provider)
        .map_err(|error| wrong(key, &format!("does not fit the certificate in {chain:?}: {error}")))?;
    Ok((certified, expires))
}
