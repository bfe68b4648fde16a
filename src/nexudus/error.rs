//! Errors of Nexudus's API.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::duration;

/// A request to the API that did not succeed. Holds no secret: the client removes secrets from remote text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Nexudus at {host} {kind}")]
pub struct ApiError {
    /// Host of the API, with its port unless that is the scheme's own.
    pub host: Arc<str>,
    /// The failure.
    pub kind: ErrorKind,
}

/// The failure of a request. `Display` continues a sentence whose subject is Nexudus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// User, password, one-time password or token are wrong. The client does not send them again: that could lock the account.
    #[error("refuses the credentials of [nexudus] with {status}{}", suffix(.words))]
    Credentials {
        /// HTTP status.
        status: u16,
        /// Error and description of OAuth.
        words: String,
    },
    /// A request for a token has failed, and the answer does not refuse the credentials.
    #[error(
        "answers {status} to a request for a token{}; that is no refusal of the credentials, so look for a firewall or proxy in between",
        suffix(.words)
    )]
    NoToken {
        /// HTTP status.
        status: u16,
        /// Error of OAuth, if there is one.
        words: String,
    },
    /// The user lacks a right, even with a token that was fetched for this request.
    #[error(
        "answers {status} although the credentials are known: the user of [nexudus] needs API access and the role {role}{}",
        suffix(.words)
    )]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// The role that the documentation asks for.
        role: String,
        /// The beginning of the answer's text.
        words: String,
    },
    /// A page of a list is refused although the pages before it were given.
    #[error(
        "answers 403 to page {page} of the list of {entity} and gave the pages before it: it, or a proxy before it, refuses deep pages{}",
        suffix(.words)
    )]
    DeepPage {
        /// The kind of records.
        entity: &'static str,
        /// The number of the page.
        page: usize,
        /// The beginning of the answer's text.
        words: String,
    },
    /// A refusal that a retry does not cure.
    #[error("refuses with {status}{}", suffix(.words))]
    Refused {
        /// HTTP status; 200 for an answer with `WasSuccessful: false`.
        status: u16,
        /// Text of the API.
        words: String,
    },
    /// Throttling for longer, or more often, than the client waits.
    #[error("throttles requests{}", .0.map(|wait| format!("; the next one goes out in {}", duration::show(wait))).unwrap_or_default())]
    Throttled(Option<Duration>),
    /// No connection, no answer in time, or an answer that breaks off or cannot be read. The request may have taken effect.
    #[error("is not available: {0}")]
    Unavailable(String),
    /// Records moved between pages in every pass over a list.
    #[error("kept changing the list of {0} while it was read")]
    Shifting(&'static str),
}

impl ApiError {
    /// Returns whether the request may have taken effect.
    pub fn is_unclear(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable(_))
    }

    /// Returns whether every other request would fail too.
    pub fn is_general(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Credentials { .. }
                | ErrorKind::NoToken { .. }
                | ErrorKind::Unauthorized { .. }
                | ErrorKind::Throttled(_)
                | ErrorKind::Unavailable(_)
        )
    }
}

/// Returns the host of an address, with its port unless that is the scheme's own.
pub(super) fn host(url: &Url) -> Arc<str> {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.into(), |port| format!("{host}:{port}").into())
}

fn suffix(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}
