//! Filters of quarantined messages by reason, time, action and source.

use globset::GlobSet;
use jiff::Timestamp;

use super::row::Row;
use crate::outcome::QuarantineReason;

/// Conditions that a message has to meet, all of them.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Its reason is one of these; empty: any.
    pub reasons: Vec<QuarantineReason>,
    /// Its delivery was received at or after this time.
    pub since: Option<Timestamp>,
    /// Its delivery was received before this time.
    pub until: Option<Timestamp>,
    /// Its action matches; none: any.
    pub actions: Option<GlobSet>,
    /// Its source is one of these; empty: any.
    pub sources: Vec<String>,
}

impl Filters {
    /// Returns true if a message meets all conditions. A message that lacks a field meets no condition about that field.
    pub fn accept(&self, row: &Row) -> bool {
        let Self { reasons, since, until, actions, sources } = self;
        let is_reason = |label: &str| reasons.iter().any(|reason| reason.label() == label);
        (reasons.is_empty() || row.reason.as_deref().is_some_and(is_reason))
            && since.is_none_or(|since| row.received.is_some_and(|received| since <= received))
            && until.is_none_or(|until| row.received.is_some_and(|received| received < until))
            && actions
                .as_ref()
                .is_none_or(|set| row.action.as_ref().is_some_and(|action| set.is_match(action)))
            && (sources.is_empty() || row.source.as_ref().is_some_and(|name| sources.contains(name)))
    }
}

#[cfg(test)]
mod tests {
    use globset::{GlobBuilder, GlobSetBuilder};

    use super::*;

    fn actions(patterns: &[&str]) -> Option<GlobSet> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(GlobBuilder::new(pattern).case_insensitive(true).build().unwrap());
        }
        Some(set.build().unwrap())
    }

    #[test]
    fn a_message_has_to_pass_every_filter_that_is_given() {
        let row = Row {
            received: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            source: Some("north".to_owned()),
            action: Some("BokingCreate".to_owned()),
            reason: Some("unknown_action".to_owned()),
            ..Row::default()
        };
        let none = Filters::default;
        let at = |text: &str| Some(text.parse().unwrap());
        let sources = |name: &str| vec![name.to_owned()];
        let unknown = vec![QuarantineReason::NotJson, QuarantineReason::UnknownAction];
        for (filters, accepted) in [
            (none(), true),
            (Filters { reasons: vec![QuarantineReason::NotJson], ..none() }, false),
            (Filters { reasons: unknown, ..none() }, true),
            (Filters { since: at("2026-01-02T03:04:05Z"), ..none() }, true),
            (Filters { until: at("2026-01-02T03:04:05Z"), ..none() }, false),
            (Filters { since: at("2026-01-02T03:04:06Z"), ..none() }, false),
            (Filters { actions: actions(&["bokingcreate"]), ..none() }, true),
            (Filters { actions: actions(&["Other", "Bok*"]), ..none() }, true),
            (Filters { actions: actions(&["Booking*"]), ..none() }, false),
            (Filters { sources: sources("south"), ..none() }, false),
            (Filters { sources: sources("north"), actions: actions(&["Other"]), ..none() }, false),
        ] {
            assert_eq!(filters.accept(&row), accepted, "{filters:?}");
        }
        let timed = Filters { since: at("2000-01-01T00:00:00Z"), ..none() };
        assert!(!timed.accept(&Row::default()), "a message without a time is not of a time");
    }
}
