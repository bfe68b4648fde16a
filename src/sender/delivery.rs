//! A delivery as Nexudus makes it: a body, its signature, and the URL it is posted to.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;

use crate::signature::SigningKey;

/// The source of `/webhooks/{action}`, whose name the URL leaves out.
pub const DEFAULT_SOURCE: &str = "default";

/// One POST, which can be sent repeatedly.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The source's name, as in the URL.
    pub source: Arc<str>,
    /// The action, as in the URL.
    pub action: Arc<str>,
    /// The body.
    pub body: Bytes,
    /// `X-Nexudus-Hook-Signature`; `None` without a shared secret.
    pub signature: Option<String>,
}

/// The base address of a bridge, and the token of its URLs if it requires one.
#[derive(Clone)]
pub struct Target {
    /// The base address.
    pub base: Url,
    token: Option<String>,
}

/// The error: the text is not the base address of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the base address of a bridge, expected http://host:port or https://host")]
pub struct InvalidTarget(String);

impl Delivery {
    /// Signs a body as .NET would. Without a key there is no signature, as for a location without a shared secret.
    pub fn new(source: Arc<str>, action: Arc<str>, body: impl Into<Bytes>, key: Option<&SigningKey>) -> Self {
        let body = body.into();
        let signature = key.map(|key| key.sign(&body));
        Self { source, action, body, signature }
    }
}

impl Target {
    /// Reads a base address; a path in it (a proxy's) is kept.
    ///
    /// # Errors
    /// [`InvalidTarget`] if it is no http or https address.
    pub fn parse(base: &str, token: Option<String>) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(base.to_owned());
        let base = Url::parse(base).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid());
        }
        Ok(Self { base, token })
    }

    /// Returns the URL of a source and an action: `/webhooks/{action}` for the default source, else `/webhooks/{source}/{action}`.
    /// Names are percent-encoded. A token becomes `?token=…`.
    pub fn url(&self, source: &str, action: &str) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        let source = Some(source).filter(|source| *source != DEFAULT_SOURCE);
        let path = ["webhooks"].into_iter().chain(source).chain([action]);
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().extend(path);
        if let Some(token) = &self.token {
            url.query_pairs_mut().append_pair("token", token);
        }
        url
    }

    /// Returns scheme, host and port, without the path and the token.
    pub fn address(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}

/// Leaves out the token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_action_and_any_source_but_the_default_one() {
        for (base, token, source, action, url) in [
            (
                "http://127.0.0.1:8080",
                None,
                "default",
                "BookingCreate",
                "http://127.0.0.1:8080/webhooks/BookingCreate",
            ),
            ("http://h:1/", None, "north", "6", "http://h:1/webhooks/north/6"),
            ("https://h/proxy", Some("a b&c"), "default", "X", "https://h/proxy/webhooks/X?token=a+b%26c"),
            ("https://h/proxy/?x=1#y", None, "é/?", "a b%", "https://h/proxy/webhooks/%C3%A9%2F%3F/a%20b%25"),
        ] {
            let target = Target::parse(base, token.map(str::to_owned)).unwrap();
            assert_eq!(target.url(source, action).as_str(), url);
        }
    }

    #[test]
    fn an_invalid_base_address_is_refused_with_an_example() {
        for base in ["", "localhost:8080", "127.0.0.1", "ftp://h", "http://", "unix:/x"] {
            let error = Target::parse(base, None).unwrap_err().to_string();
            assert!(error.contains("expected http://host:port"), "{error}");
        }
    }

    #[test]
    fn a_delivery_is_signed_over_the_folded_body() {
        let key = SigningKey::new("secret").unwrap();
        let delivery = Delivery::new("default".into(), "X".into(), "[\"é\"]", Some(&key));
        assert_eq!(delivery.signature, Some(key.sign("[\"?\"]".as_bytes())));
        assert_eq!(Delivery::new("default".into(), "X".into(), "[]", None).signature, None);
    }

    #[test]
    fn the_token_is_not_in_the_debug_output() {
        let target = Target::parse("http://h", Some("s3cr3t".to_owned())).unwrap();
        assert!(!format!("{target:?}").contains("s3cr3t"));
    }
}
