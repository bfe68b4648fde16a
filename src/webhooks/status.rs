//! The state of each webhook by Nexudus's record.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::observed::Observed;
use super::plan::Comparison;
use super::redact::WebhookUrl;

/// The state of a webhook, the worst first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum WebhookState {
    /// Wanted, and disabled: its events are lost.
    Disabled,
    /// Wanted, and not in Nexudus: its events are lost.
    Missing,
    /// Active, and its last deliveries failed.
    Failing,
    /// Active beside another one of the same source and action: each event is delivered again.
    Duplicate,
    /// In Nexudus, and not wanted.
    Unwanted,
    /// Active, and its last delivery succeeded.
    Ok,
}

impl WebhookState {
    /// The state as text and JSON show it.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// One line of `webhooks status`.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookStatus {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The location.
    pub business_id: Option<i64>,
    /// The id of the record; `None` if it is missing.
    pub webhook_id: Option<i64>,
    /// Its state.
    pub state: WebhookState,
    /// True if it is active; `None` if it is missing.
    pub active: Option<bool>,
    /// Failures since the last success.
    pub error_count: Option<i64>,
    /// Text of the last failure from Nexudus, without tokens.
    pub last_error: Option<String>,
    /// The last success, as Nexudus writes it.
    pub last_trigger: Option<String>,
    /// Its URL without the token.
    pub url: String,
}

/// The state of every webhook that is wanted, and of those that are ours and not wanted: the worst first, those of one state
/// by source and action.
pub fn rows(comparison: &Comparison) -> Vec<WebhookStatus> {
    let row = |source: &str, action: &str, state, found: Option<&Observed>, url: &WebhookUrl| WebhookStatus {
        source: source.to_owned(),
        action: action.to_owned(),
        business_id: found.and_then(|found| found.business_id),
        webhook_id: found.map(|found| found.id),
        state,
        active: found.map(|found| found.active),
        error_count: found.map(|found| found.error_count),
        last_error: found.and_then(|found| found.last_error.clone()),
        last_trigger: found.and_then(|found| found.last_trigger.clone()),
        url: url.to_string(),
    };
    let wanted = comparison.pairs.iter().map(|pair| {
        let (wanted, found) = (&pair.wanted, pair.found.as_ref());
        let url = found.map_or(&wanted.url, |found| &found.url);
        let row = row(&wanted.source.name, wanted.action(), state(found), found, url);
        // A record of another location is not the record of this pair.
        WebhookStatus { business_id: Some(wanted.business_id), ..row }
    });
    let is_duplicate = |id: i64| comparison.pairs.iter().any(|pair| pair.duplicates.contains(&id));
    let unwanted = comparison.unwanted.iter().map(|unwanted| {
        let found = &unwanted.found;
        let state = if is_duplicate(found.id) { WebhookState::Duplicate } else { WebhookState::Unwanted };
        row(&unwanted.source, &unwanted.action, state, Some(found), &found.url)
    });
    let mut rows: Vec<WebhookStatus> = wanted.chain(unwanted).collect();
    rows.sort_by_key(|row| row.state); // stable
    rows
}

/// Returns the number of webhooks in each state as text. `Ok` is first; states without a webhook are left out.
pub fn summary(rows: &[WebhookStatus], others: usize) -> String {
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    let mut text = format!("{} {}", count(WebhookState::Ok), WebhookState::Ok.label());
    for &state in
        WebhookState::VARIANTS.iter().filter(|&&state| state != WebhookState::Ok && count(state) > 0)
    {
        text.push_str(&format!(", {} {}", count(state), state.label()));
    }
    format!("{text}; {others} of others.")
}

/// Returns the state of a wanted webhook.
fn state(found: Option<&Observed>) -> WebhookState {
    match found {
        None => WebhookState::Missing,
        Some(found) if !found.active => WebhookState::Disabled,
        Some(found) if found.error_count > 0 => WebhookState::Failing,
        Some(_) => WebhookState::Ok,
    }
}
