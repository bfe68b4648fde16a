//! Filters of quarantined messages by reason, time, action and source.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use globset::GlobSet;
use jiff::Timestamp;

use super::row::Row;
use crate::cli::moment::moment;
use crate::cli::tail::patterns;
use crate::outcome::QuarantineReason;

/// The filters; a message has to pass all that are given.
#[derive(Debug, clap::Args)]
pub(super) struct Filters {
    /// Only deliveries with this reason; repeatable
    #[arg(long, value_parser = reasons())]
    reason: Vec<QuarantineReason>,
    /// Only deliveries received at or after this time: 2026-01-02T03:04:05Z, 2026-01-02 (UTC), or a duration before now: 90m, 2days
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only deliveries received before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only deliveries with this action in the URL, a name or a glob such as 'Booking*'; repeatable
    #[arg(long)]
    pub(super) action: Vec<String>,
    /// Only deliveries for this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
}

/// The filters, ready for use.
pub(super) struct Choice {
    filters: Filters,
    actions: GlobSet,
}

impl Choice {
    pub(super) fn of(filters: Filters) -> anyhow::Result<Self> {
        Ok(Self { actions: patterns(&filters.action)?, filters })
    }

    pub(super) fn takes(&self, row: &Row) -> bool {
        let Filters { reason, since, until, action, source } = &self.filters;
        let reasons = |kept: &str| reason.iter().any(|reason| reason.label() == kept);
        (reason.is_empty() || row.reason.as_deref().is_some_and(reasons))
            && since.is_none_or(|since| row.received.is_some_and(|received| since <= received))
            && until.is_none_or(|until| row.received.is_some_and(|received| received < until))
            && (action.is_empty() || row.action.as_ref().is_some_and(|action| self.actions.is_match(action)))
            && (source.is_empty() || row.source.as_ref().is_some_and(|name| source.contains(name)))
    }
}

fn reasons() -> impl TypedValueParser<Value = QuarantineReason> {
    PossibleValuesParser::new(QuarantineReason::ALL.map(QuarantineReason::label))
        .try_map(|label| QuarantineReason::labelled(&label).ok_or("not a reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_to_pass_every_filter_that_is_given() {
        let row = Row {
            received: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            source: Some("north".to_owned()),
            action: Some("BokingCreate".to_owned()),
            reason: Some("unknown_action".to_owned()),
            ..Row::default()
        };
        let none = || Filters { reason: vec![], since: None, until: None, action: vec![], source: vec![] };
        let at = |text: &str| Some(text.parse().unwrap());
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (filters, taken) in [
            (none(), true),
            (Filters { reason: vec![QuarantineReason::NotJson], ..none() }, false),
            (
                Filters {
                    reason: vec![QuarantineReason::NotJson, QuarantineReason::UnknownAction],
                    ..none()
                },
                true,
            ),
            (Filters { since: at("2026-01-02T03:04:05Z"), ..none() }, true),
            (Filters { until: at("2026-01-02T03:04:05Z"), ..none() }, false),
            (Filters { since: at("2026-01-02T03:04:06Z"), ..none() }, false),
            (Filters { action: words(&["bokingcreate"]), ..none() }, true),
            (Filters { action: words(&["Other", "Bok*"]), ..none() }, true),
            (Filters { action: words(&["Booking*"]), ..none() }, false),
            (Filters { source: words(&["south"]), ..none() }, false),
            (Filters { source: words(&["north"]), action: words(&["Other"]), ..none() }, false),
        ] {
            let shown = format!("{filters:?}");
            assert_eq!(Choice::of(filters).unwrap().takes(&row), taken, "{shown}");
        }
        let choice = Choice::of(Filters { since: at("2000-01-01T00:00:00Z"), ..none() }).unwrap();
        assert!(!choice.takes(&Row::default()), "without a time it is not of a time");
    }
}
