//! TLS on the ingress: a certificate that can be replaced while connections continue.
//!
//! The chain and the key are PEM files. New handshakes get the pair that was read last. A pair that cannot be used is
//! refused, and the former certificate stays.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
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
    chain: PathBuf,
    key: PathBuf,
    /// A hash of both files as they were when the pair in force was read.
    content: AtomicU64,
    validity: Mutex<Validity>,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
}

/// The validity of a certificate, as Unix time.
#[derive(Debug, Clone, Copy)]
struct Validity {
    not_before: i64,
    not_after: i64,
}

/// The certificate and key for new handshakes.
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
    /// The file and the mistake in it; nothing of the key.
    pub fn read(files: &config::Tls, metrics: Arc<Metrics>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let pair = Pair::read(&files.cert, &files.key)?;
        let (certified, validity) = pair.parse(&files.cert, &files.key, &provider)?;
        metrics.certificate_expires(validity.not_after);
        Ok(Self {
            chain: files.cert.clone(),
            key: files.key.clone(),
            content: AtomicU64::new(pair.hash()),
            validity: Mutex::new(validity),
            current: Arc::new(Current(ArcSwap::from_pointee(certified))),
            provider,
            metrics,
        })
    }

    /// Reads both files again, and gives new handshakes the new pair. Returns whether there was a new one.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the former certificate stays, and the next call tries again.
    pub fn renew(&self) -> Result<bool, String> {
        let pair = Pair::read(&self.chain, &self.key)?;
        if pair.hash() == self.content.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let (certified, validity) = pair.parse(&self.chain, &self.key, &self.provider)?;
        self.current.0.store(Arc::new(certified));
        self.content.store(pair.hash(), Ordering::Relaxed);
        *self.validity.lock() = validity;
        self.metrics.certificate_expires(validity.not_after);
        Ok(true)
    }

    /// Returns a warning about a certificate that is not valid now, or not for long.
    pub fn warning(&self) -> Option<String> {
        let validity = *self.validity.lock();
        let wrong = validity.warning(Timestamp::now().as_second())?;
        Some(format!("ingress.tls_cert: the certificate in {:?} {wrong}", self.chain))
    }

    /// Returns the server's side of TLS 1.2 and 1.3. actix-web adds `http/1.1` to it as the only protocol of ALPN.
    pub(super) fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let resolver = Arc::clone(&self.current);
        Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver))
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

/// Both files as they were read.
struct Pair {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(chain: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|error| wrong(path, &format!("is no {what} in PEM: {error}")))
        };
        Ok(Self { chain: read(chain, "certificate chain")?, key: read(key, "private key")? })
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.chain, &self.key).hash(&mut hasher);
        hasher.finish()
    }

    /// Checks that certificate and key can be used together. `chain` and `key` are the files' names, for messages.
    fn parse(
        &self,
        chain: &Path,
        key: &Path,
        provider: &CryptoProvider,
    ) -> Result<(CertifiedKey, Validity), String> {
        for (path, content) in [(chain, &self.chain), (key, &self.key)] {
            if content.starts_with("\u{feff}".as_bytes()) {
                return Err(wrong(
                    path,
                    "begins with a byte order mark, which PEM must not have: save it without",
                ));
            }
        }
        let certificates = CertificateDer::pem_slice_iter(&self.chain).collect::<Result<Vec<_>, _>>();
        let certificates = certificates
            .map_err(|error| wrong(chain, &format!("is no certificate chain in PEM: {error}")))?;
        let first = certificates.first().ok_or_else(|| wrong(chain, "holds no certificate"))?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|_| wrong(chain, "begins with something that is no X.509 certificate"))?;
        if parsed.version() != X509Version::V3 {
            let version = parsed.version().0.saturating_add(1);
            return Err(wrong(
                chain,
                &format!(
                    "begins with an X.509 certificate of version {version}, which clients refuse: issue one of version 3, with the host names as subjectAltName"
                ),
            ));
        }
        let validity = parsed.validity();
        let validity = Validity {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let private = match PrivateKeyDer::from_pem_slice(&self.key) {
            _ if is_encrypted(&self.key) => Err(wrong(
                key,
                "holds an encrypted private key, and there is no setting for its passphrase: decrypt it with `openssl pkey -in ENCRYPTED -out KEY`",
            )),
            private => private.map_err(|error| wrong(key, &format!("is no private key in PEM: {error}"))),
        }?;
        let certified = CertifiedKey::from_der(certificates, private, provider)
            .map_err(|error| wrong(key, &format!("does not fit the certificate in {chain:?}: {error}")))?;
        Ok((certified, validity))
    }
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
