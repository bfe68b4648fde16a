//! Since when: one beginning for all actions, and others for some of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// The value of `--since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The same for all.
    At(Timestamp),
    /// For each webhook its last success less an overlap: an event may still be failing while a later one succeeds.
    LastTrigger(Duration),
}

/// The beginnings of all windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginnings {
    /// Of the actions that are not named; none: they are of no interest.
    pub all: Option<Since>,
    /// Of some, by source and action.
    pub named: BTreeMap<(String, String), Timestamp>,
}

impl Beginnings {
    /// The value for the outages of a running bridge.
    pub const LAST_OUTAGE: &str = "last-outage";

    /// The value for [`Since::LastTrigger`].
    pub const LAST_TRIGGER: &str = "last-trigger";

    /// How `--since` is told them: each value once, that for all first.
    pub fn arguments(&self) -> Vec<String> {
        let all = self.all.map(|since| match since {
            Since::At(time) => time.to_string(),
            Since::LastTrigger(_) => Self::LAST_TRIGGER.to_owned(),
        });
        let named = self.named.iter().map(|((source, action), time)| format!("{source}/{action}={time}"));
        all.into_iter().chain(named).collect()
    }
}

impl From<Since> for Beginnings {
    fn from(all: Since) -> Self {
        Self { all: Some(all), named: BTreeMap::new() }
    }
}
