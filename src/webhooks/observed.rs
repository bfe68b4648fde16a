//! The existing webhooks: their records, and which of them belong to this bridge.

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use url::Url;

use super::redact::{self, WebhookUrl};
use crate::config::Source;
use crate::nexudus::listing::Collection;
use crate::nexudus::record::{RawRecord, read_time};

/// The collection of webhooks in the API.
pub const WEBHOOKS: Collection = Collection { entity: "WebHook", path: "/api/sys/webhooks" };

/// Number of consecutive failures at which Nexudus disables a webhook.
pub const DISABLED_AT: i64 = 10;

/// The fields of a webhook's record that the bridge uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its `Id`.
    pub id: i64,
    /// Its location.
    pub business_id: Option<i64>,
    /// The number of its action.
    pub action_id: Option<i64>,
    /// The URL that Nexudus posts to, as the record has it.
    pub url: WebhookUrl,
    /// True if it is active.
    pub active: bool,
    /// Failures since the last success.
    pub error_count: i64,
    /// The last failure, as Nexudus describes it, without tokens.
    pub last_error: Option<String>,
    /// The last success, as Nexudus writes it.
    pub last_trigger: Option<String>,
    /// Time of its creation, as Nexudus writes it.
    pub created_on: Option<String>,
}

impl Observed {
    /// Returns true if Nexudus disabled it, by the failures in its record. A person disables it with any number of failures.
    pub fn is_disabled_by_nexudus(&self) -> bool {
        !self.active && self.error_count >= DISABLED_AT
    }

    /// Returns the time of the last success, else of the creation.
    pub fn last_success(&self) -> Option<Timestamp> {
        read_time(self.last_trigger.as_deref().or(self.created_on.as_deref())?)
    }

    /// Returns the time of the last success.
    pub fn last_trigger_time(&self) -> Option<Timestamp> {
        read_time(self.last_trigger.as_deref()?)
    }

    /// Reads a record; none without an `Id`.
    pub fn read(record: &RawRecord) -> Option<Self> {
        let text = |name| record.get::<String>(name).filter(|text| !text.is_empty());
        Some(Self {
            id: record.id()?,
            business_id: record.integer("BusinessId"),
            action_id: record.integer("Action"),
            url: text("URL").unwrap_or_default().into(),
            active: record.get("Active").unwrap_or(false),
            error_count: record.integer("ErrorCount").unwrap_or(0),
            last_error: text("LastError").map(|error| redact::tokens(&error)),
            last_trigger: text("LastTrigger"),
            created_on: text("CreatedOn"),
        })
    }
}

/// Returns the source and action in a webhook's URL, if the URL belongs to this bridge at `public_url`. The path is read as the
/// ingress reads it: percent-decoded, with `/webhooks` in any case. The action can have any form that the ingress accepts.
pub fn address(public_url: &Url, url: &str) -> Option<(String, String)> {
    let url = Url::parse(url.trim()).ok()?;
    let (path, base) = (segments(url.path()), segments(public_url.path().trim_end_matches('/')));
    let (webhooks, names) = path.strip_prefix(&base[..])?.split_first()?;
    let (source, action) = match names {
        [action] => (Source::DEFAULT, &**action),
        [source, action] => (&**source, &**action),
        _ => return None,
    };
    let is_ours = url.origin() == public_url.origin() && webhooks.eq_ignore_ascii_case("webhooks");
    (is_ours && !source.is_empty() && !action.is_empty()).then(|| (source.to_owned(), action.to_owned()))
}

/// The percent-decoded segments of a path.
fn segments(path: &str) -> Vec<Cow<'_, str>> {
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_webhooks_have_the_public_url_and_a_path_of_the_ingress() {
        let leads = |public_url: &str, url: &str| {
            let found = address(&public_url.parse().unwrap(), url);
            found.map(|(source, action)| format!("{source} {action}"))
        };
        let bare = |url| leads("https://hooks.example.com", url);
        assert_eq!(
            bare("https://hooks.example.com/webhooks/TeamUpdated").as_deref(),
            Some("default TeamUpdated")
        );
        assert_eq!(
            bare("HTTPS://Hooks.Example.COM:443/webhooks/north/6?a=b&token=x").as_deref(),
            Some("north 6")
        );
        for (encoded, leads_to) in [
            ("https://hooks.example.com/webhooks/Booking%43reate", "default BookingCreate"),
            ("https://hooks.example.com/webhooks/n%6Frth/%42ookingCreate", "north BookingCreate"),
            ("https://hooks.example.com/WebHook%73/North/TeamUpdated#x", "North TeamUpdated"),
            ("https://hooks.example.com/webhooks/a%2Fb/TeamUpdated", "a/b TeamUpdated"),
        ] {
            assert_eq!(bare(encoded).as_deref(), Some(leads_to), "{encoded}");
        }
        for other in [
            "http://hooks.example.com/webhooks/TeamUpdated",
            "https://hooks.example.com:8443/webhooks/TeamUpdated",
            "https://hooks.example.com.evil.org/webhooks/TeamUpdated",
            "https://hooks.example.com/webhooks/",
            "https://hooks.example.com/webhooks//x",
            "https://hooks.example.com/webhooks%2FTeamUpdated",
            "https://hooks.example.com/webhooks/a/b/c",
            "https://hooks.example.com/bridge/webhooks/TeamUpdated",
            "hooks.example.com/webhooks/TeamUpdated",
            "",
        ] {
            assert_eq!(bare(other), None, "{other}");
        }
        let below = |url| leads("https://example.com/bridge", url);
        assert_eq!(below("https://example.com/bridge/webhooks/X").as_deref(), Some("default X"));
        assert_eq!(below("https://example.com/%62ridge/webhooks/X").as_deref(), Some("default X"));
        assert_eq!(below("https://example.com/webhooks/X"), None);
        assert_eq!(below("https://example.com/bridge2/webhooks/X"), None);
    }

    #[test]
    fn a_record_is_read_without_tokens_and_with_missing_fields() {
        let record = serde_json::from_str(
            r#"{"Id":5,"BusinessId":7,"Action":6,"URL":"https:\/\/h\/x?token=t","Active":true,"ErrorCount":2,"LastError":"POST https://h/x?token=t: 503","LastTrigger":null}"#,
        );
        let observed = Observed::read(&record.unwrap()).unwrap();
        assert_eq!(observed.url.expose(), "https://h/x?token=t");
        assert_eq!(observed.last_error.as_deref(), Some("POST https://h/x?token=*** 503"));
        assert!(observed.active && observed.last_trigger.is_none());
        for count in ["10", "10.0", "\"10\"", "\"10.0\""] {
            let json = format!(r#"{{"Id":5.0,"BusinessId":"7","Action":6.0,"ErrorCount":{count}}}"#);
            let observed = Observed::read(&serde_json::from_str(&json).unwrap()).unwrap();
            let numbers = (observed.id, observed.business_id, observed.action_id, observed.error_count);
            assert_eq!(numbers, (5, Some(7), Some(6), 10), "{json}");
        }
        let bare = Observed::read(&serde_json::from_str(r#"{"Id":5}"#).unwrap()).unwrap();
        assert_eq!(
            (bare.active, bare.error_count, bare.business_id, bare.url.expose()),
            (false, 0, None, "")
        );
        assert_eq!(Observed::read(&serde_json::from_str("{}").unwrap()), None);
    }
}
