//! `[kafka.oauth]`: a token server, and the properties that clients need for its tokens.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use url::Url;

use super::reader::Section;
use super::reader::address::redacted;
use super::reader::values::{filled, http_url};

/// `[kafka.oauth]`: tokens by client credentials (RFC 6749, section 4.4).
#[derive(Clone)]
pub struct OAuth {
    /// URL of the token server: http or https, without user, password or fragment.
    pub token_endpoint: Url,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
    /// The scopes to ask for, separated by spaces; `None` leaves them to the token server.
    pub scope: Option<String>,
}

/// Prints the endpoint without its query, which can hold a key.
impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("token_endpoint", &redacted(self.token_endpoint.as_str()))
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Reads the section; `None` if a required value is absent or wrong.
pub(super) fn oauth(mut section: Section<'_>) -> Option<OAuth> {
    let mistakes_before = section.mistakes();
    let token_endpoint = section.optional("token_endpoint", |value| {
        let wrong = "is not the address of a token server, expected https://host/path";
        let misplaced = "may hold neither a user nor a fragment, expected client_id and client_secret";
        http_url(value, true, wrong, misplaced)
    });
    let client_id = section.optional("client_id", filled);
    let client_secret = section.secret("client_secret", Ok);
    let scope = section.optional("scope", filled);
    if section.mistakes() == mistakes_before {
        for (absent, expected) in [
            (token_endpoint.is_none(), "token_endpoint = \"https://…\""),
            (client_id.is_none(), "client_id = \"…\""),
            (client_secret.is_none(), "client_secret_file = \"…\" or client_secret"),
        ] {
            if absent {
                section.mistake(format!(" is not complete, expected {expected} too"));
            }
        }
    }
    if let Some(url) = &token_endpoint {
        section.warn_if_unencrypted("token_endpoint", url, "the secret and the tokens travel");
    }
    section.close();
    Some(OAuth {
        token_endpoint: token_endpoint?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
    })
}

/// Notes combinations of settings with which no client can sign in.
pub(super) fn sign_in(section: &mut Section<'_>, oauth: bool, properties: &BTreeMap<String, String>) {
    const BEARER: &str = "OAUTHBEARER";
    for name in ["sasl.mechanism", "sasl.mechanisms"] {
        let Some(mechanism) = properties.get(name) else { continue };
        if !oauth && mechanism.eq_ignore_ascii_case(BEARER) {
            section.mistake(format!(
                ".properties.{name:?} is {BEARER:?}, but there are no tokens, expected [kafka.oauth] with token_endpoint, client_id and client_secret"
            ));
        }
        if oauth && mechanism != BEARER {
            section.mistake(format!(
                ".properties.{name:?} is {mechanism:?}, but tokens are for {BEARER:?} only, expected that, or no [kafka.oauth]"
            ));
        }
    }
    let protocol = properties.get("security.protocol").map_or("plaintext", String::as_str);
    if oauth && !protocol.to_ascii_lowercase().starts_with("sasl_") {
        section.mistake(format!(
            ".properties.\"security.protocol\" is {protocol:?}, so the tokens of [kafka.oauth] would never be used, expected \"SASL_SSL\""
        ));
    }
}
