//! Requests of our own over HTTP: what all clients have in common, and how a failure is told.

use std::error::Error;

use reqwest::{Client, ClientBuilder, redirect};

/// The beginning of a client for addresses of one scheme, `http` or `https`.
///
/// It follows no redirect: what we send, secrets among it, is for nobody else. Over http there is nothing to check, so the
/// system's certificate authorities are not read, and may be missing.
pub fn client(scheme: &str) -> ClientBuilder {
    use_ring();
    let client = Client::builder().redirect(redirect::Policy::none());
    if scheme == "http" { client.tls_certs_only([]) } else { client }
}

/// Sees to it that TLS has its cryptography, which clients and servers of this process share.
pub fn use_ring() {
    // An error says that one is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// What was wrong, without the layers that say only that something was, and without the URL, which can hold a token.
pub fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
