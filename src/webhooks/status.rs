//! The state of each webhook by Nexudus's record.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::observed::Observed;
use super::plan::Comparison;

/// The state of a webhook.
///
/// The worst comes first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// Wanted, and disabled: its events are lost.
    Disabled,
    /// Wanted, and not there: its events are lost.
    Missing,
    /// Active, and its last deliveries failed.
    Failing,
    /// Active beside another one of the same source and action: each event is delivered again.
    Duplicate,
    /// There, and not wanted.
    Unwanted,
    /// Active, and its last delivery succeeded.
    Ok,
}

impl State {
    /// Every state, the worst first.
    pub const ALL: [Self; Self::VARIANTS.len()] =
        *Self::VARIANTS.first_chunk().expect("it is as long as itself");

    /// The state as text and JSON show it.
    pub fn label(self) -> &'static str {
        self.into()
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
    /// The id of the record; `None` if it is missing.
    pub webhook_id: Option<i64>,
    /// Its state.
    pub state: State,
    /// Whether it is active; `None` if it is missing.
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
    let is_duplicate = |id: i64| comparison.pairs.iter().any(|pair| pair.duplicates.contains(&id));
    let unwanted = unwanted.map(|unwanted| {
        let state = if is_duplicate(unwanted.found.id) { State::Duplicate } else { State::Unwanted };
        row(unwanted.source.clone(), unwanted.action.clone(), state, &unwanted.found)
    });
    let mut rows: Vec<Row> = wanted.chain(unwanted).collect();
    rows.sort_by_key(|row| row.state); // stable
    rows
}

/// Returns the number of webhooks in each state as text. `Ok` comes first, states without a webhook are left out.
pub fn summary(rows: &[Row], others: usize) -> String {
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    let mut text = format!("{} {}", count(State::Ok), State::Ok.label());
    for state in State::ALL.into_iter().filter(|&state| state != State::Ok && count(state) > 0) {
        text.push_str(&format!(", {} {}", count(state), state.label()));
    }
    format!("{text}; {others} of others.")
}

/// Returns the state of a wanted webhook.
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
