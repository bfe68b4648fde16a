//! Outgoing HTTP requests: makes clients, reads bodies and `Retry-After`, and returns the text of a failure.

use std::error::Error;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, redirect};
use url::{Host, Url};

/// Returns the builder of a client for requests to the origin of `target`.
///
/// The client follows no redirect, since requests hold secrets. It uses the proxy of the environment, but not for a loopback address:
/// a proxy on another host would connect to itself. For plain http it does not read the system's certificate authorities, which may
/// be missing.
pub fn client(target: &Url) -> ClientBuilder {
    let client = builder();
    let client = if is_loopback(target) { client.no_proxy() } else { client };
    if target.scheme() == "http" { client.tls_certs_only([]) } else { client }
}

/// Returns the builder of a client for plain http that never uses a proxy, such as for the admin listener.
pub fn direct() -> ClientBuilder {
    builder().no_proxy().tls_certs_only([])
}

fn builder() -> ClientBuilder {
    use_ring();
    Client::builder().redirect(redirect::Policy::none())
}

/// Returns true for a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Installs ring as the cryptography of TLS, for all clients and servers of this process.
pub fn use_ring() {
    // It fails only if a provider is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// The reason why a body was not read.
#[derive(Debug)]
pub enum BodyError {
    /// The body has more bytes than allowed.
    TooLong,
    /// The body did not arrive completely.
    Broken(reqwest::Error),
}

/// Reads a body of at most `most` bytes.
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the wait of `Retry-After`, in both of its forms (RFC 9110, section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = || value.parse().ok().map(Duration::from_secs);
    let moment =
        || httpdate::parse_http_date(value).ok().map(|at| at.duration_since(now).unwrap_or_default());
    seconds().or_else(moment)
}

/// Returns the cause of an error, without the general layers above it and without the URL, which can hold a token.
pub fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn addresses_of_this_machine_are_distinguished_from_others() {
        for (address, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://127.8.9.10", true),
            ("http://localhost", true),
            ("https://LOCALHOST.:8081/api", true),
            ("http://nexudus.localhost", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
            ("https://bridge.example.com", false),
        ] {
            assert_eq!(is_loopback(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
