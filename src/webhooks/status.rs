//! How each webhook does, as Nexudus sees it.

use serde::Serialize;

use super::observed::Observed;
use super::plan::Comparison;

/// The state of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Switched on, and its last delivery succeeded.
    Ok,
    /// Switched on, and its last deliveries failed.
    Failing,
    /// Switched off.
    Disabled,
    /// Wanted, but not there.
    Missing,
    /// There, but not wanted.
    Unwanted,
}

impl State {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Missing => "missing",
            Self::Unwanted => "unwanted",
        }
    }
}

/// One line of `webhooks status`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The location.
    pub business_id: Option<i64>,
    /// The record's number; none where it is missing.
    pub webhook_id: Option<i64>,
    /// How it does.
    pub state: State,
    /// Whether it is switched on; none where it is missing.
    pub active: Option<bool>,
    /// Failures since the last success.
    pub error_count: Option<i64>,
    /// The last failure in Nexudus's words, without tokens.
    pub last_error: Option<String>,
    /// The last success, as Nexudus writes it.
    pub last_trigger: Option<String>,
    /// Where it posts to, without the token.
    pub url: String,
}

/// The state of every webhook that is wanted, then of those that are ours and not wanted.
pub fn rows(comparison: &Comparison) -> Vec<Row> {
    let wanted = comparison.pairs.iter().map(|pair| {
        let source = pair.wanted.source.name.to_string();
        let action = pair.wanted.action().to_owned();
        match &pair.found {
            Some(found) => row(source, action, state(found), found),
            None => Row {
                source,
                action,
                business_id: Some(pair.wanted.business_id),
                webhook_id: None,
                state: State::Missing,
                active: None,
                error_count: None,
                last_error: None,
                last_trigger: None,
                url: pair.wanted.url.to_string(),
            },
        }
    });
    let unwanted = comparison.unwanted.iter();
    let unwanted = unwanted.map(|unwanted| {
        row(unwanted.source.clone(), unwanted.action.clone(), State::Unwanted, &unwanted.found)
    });
    wanted.chain(unwanted).collect()
}

/// How a webhook does that is wanted.
pub fn state(found: &Observed) -> State {
    match (found.active, found.error_count > 0) {
        (false, _) => State::Disabled,
        (true, true) => State::Failing,
        (true, false) => State::Ok,
    }
}

fn row(source: String, action: String, state: State, found: &Observed) -> Row {
    Row {
        source,
        action,
        business_id: found.business_id,
        webhook_id: Some(found.id),
        state,
        active: Some(found.active),
        error_count: Some(found.error_count),
        last_error: found.last_error.clone(),
        last_trigger: found.last_trigger.clone(),
        url: found.url.to_string(),
    }
}
