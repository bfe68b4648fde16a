//! A delivery as Nexudus makes it: a body, its signature and the URL it is posted to.

use std::borrow::Cow;

use bytes::Bytes;
use reqwest::Url;

use crate::signature::SigningKey;

/// The source of `/webhooks/{action}`.
pub const DEFAULT_SOURCE: &str = "default";

/// One POST, ready to be sent as often as it takes.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The source's name, part of the URL.
    pub source: Cow<'static, str>,
    /// The action as the URL is to have it.
    pub action: Cow<'static, str>,
    /// The body.
    pub body: Bytes,
    /// `X-Nexudus-Hook-Signature`; none as where Nexudus knows no shared secret.
    pub signature: Option<String>,
}
