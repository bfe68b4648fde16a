//! Which messages of the quarantine topic are meant: filters by reason, time, action and source, and single places.

use std::fmt;
use std::str::FromStr;

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

/// Where a message lies: `PARTITION@OFFSET`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected PARTITION@OFFSET as `quarantine list` shows it, such as 2@17";
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (partition, offset) = text.split_once('@').ok_or(EXPECTED)?;
        if !digits(partition) || !digits(offset) {
            return Err(EXPECTED);
        }
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else { return Err(EXPECTED) };
        Ok(Self { partition, offset })
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
    fn places_are_a_partition_and_an_offset() {
        let place: Place = "2@17".parse().unwrap();
        assert_eq!((place, place.to_string().as_str()), (Place { partition: 2, offset: 17 }, "2@17"));
        for text in
            ["", "2", "@", "2@", "@17", "-1@0", "2@-1", "+1@+2", "2@17@3", "2:17", "9999999999@0", " 2@17"]
        {
            assert!(text.parse::<Place>().unwrap_err().contains("PARTITION@OFFSET"), "{text}");
        }
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
