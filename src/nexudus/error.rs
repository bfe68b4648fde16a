//! Why Nexudus's API did not do as asked.

use std::time::Duration;

/// What came of a request that did not succeed. Holds no secret: words of the API are cleaned before they come here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// User, password, one-time password or token are wrong. They are not tried again: that could lock the account.
    #[error("Nexudus refuses the credentials of [nexudus]{}", said(.0))]
    Credentials(String),
    /// The user may not do this, even with a token that was fetched for it.
    #[error(
        "Nexudus answers {status} although the credentials are known: the user of [nexudus] needs API access and the role {role}"
    )]
    Unauthorized {
        /// The HTTP status.
        status: u16,
        /// The role that the documentation asks for.
        role: String,
    },
    /// A refusal that no repetition cures.
    #[error("Nexudus refuses with {status}{}", said(.words))]
    Refused {
        /// The HTTP status; 200 where the answer says that it was no success.
        status: u16,
        /// The API's own words.
        words: String,
    },
    /// Nexudus wants us to wait longer, or more often, than we do.
    #[error("Nexudus asks to wait{}", .0.map(|wait| format!(" for {}", humantime::format_duration(wait))).unwrap_or_default())]
    Throttled(Option<Duration>),
    /// No connection, no answer in time, a broken one, or one that makes no sense. What was asked may have been done.
    #[error("Nexudus is not available: {0}")]
    Unavailable(String),
    /// Records moved from page to page each time that they were listed.
    #[error("the list of {0} kept changing while it was read")]
    Shifting(&'static str),
}

impl ApiError {
    /// Whether what was asked may have been done all the same.
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether nothing else would succeed either.
    pub fn is_general(&self) -> bool {
        matches!(
            self,
            Self::Credentials(_) | Self::Unauthorized { .. } | Self::Throttled(_) | Self::Unavailable(_)
        )
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}
