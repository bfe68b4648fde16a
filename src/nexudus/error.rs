//! Errors of Nexudus's API.

use std::time::Duration;

use url::Url;

use crate::config::duration;

/// A request to the API that did not succeed. Holds no secret: the client removes secrets from remote text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Nexudus at {host} {kind}")]
pub struct ApiError {
    /// Host of the API, with its port unless that is the scheme's own.
    pub host: String,
    /// The failure.
    pub kind: ErrorKind,
}

/// The failure of a request. `Display` continues a sentence whose subject is Nexudus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// User, password, one-time password or token are wrong: the HTTP status, and the error and description of OAuth. The client does
    /// not send them again: that could lock the account.
    #[error("refuses the credentials of [nexudus] with {0}{detail}", detail = suffix(.1))]
    Credentials(u16, String),
    /// A request for a token has failed, and the answer does not refuse the credentials: the HTTP status, and the error of OAuth, if
    /// any.
    #[error(
        "answers {0} to a request for a token{detail}; this does not refuse the credentials, so look for a firewall or proxy before Nexudus",
        detail = suffix(.1)
    )]
    NoToken(u16, String),
    /// The user lacks a right, even with a token that was fetched for this request.
    #[error(
        "answers {status}: the user of [nexudus] needs API access and the role {role}{}",
        suffix(.detail)
    )]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// The role that Nexudus's documentation names for the request.
        role: String,
        /// The beginning of the answer's text.
        detail: String,
    },
    /// A page of a list is refused, although the pages before it were returned.
    #[error(
        "answers 403 to page {page} of the list of {entity}, but returned the pages before it: Nexudus, or a proxy before it, refuses deep pages{}",
        suffix(.detail)
    )]
    DeepPage {
        /// The kind of records.
        entity: &'static str,
        /// The number of the page.
        page: usize,
        /// The beginning of the answer's text.
        detail: String,
    },
    /// A refusal that a retry does not cure: the HTTP status, 200 for an answer with `WasSuccessful: false`, and the text of the API.
    #[error("refuses with {0}{detail}", detail = suffix(.1))]
    Refused(u16, String),
    /// Throttling for longer, or more often, than the client waits.
    #[error("throttles requests{}", .0.map(|wait| format!("; the next one can be sent in {}", duration::show(wait))).unwrap_or_default())]
    Throttled(Option<Duration>),
    /// No connection, no answer in time, or an answer that breaks off or cannot be read. The request may have taken effect.
    #[error("is not available: {0}")]
    Unavailable(String),
    /// Records moved between pages in every pass over a list.
    #[error("returned another list of {0} in each pass over its pages")]
    Shifting(&'static str),
}

impl ApiError {
    /// Returns an error of the API at `url`.
    pub(super) fn new(url: &Url, kind: ErrorKind) -> Self {
        Self { host: url.authority().to_owned(), kind }
    }

    /// Returns whether the request may have taken effect.
    pub fn is_unclear(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable(_))
    }

    /// Returns whether every other request would fail too.
    pub fn is_general(&self) -> bool {
        use ErrorKind::{DeepPage, Refused, Shifting};
        !matches!(self.kind, DeepPage { .. } | Refused(..) | Shifting(_))
    }
}

fn suffix(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
