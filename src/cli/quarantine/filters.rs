//! The arguments that filter quarantined messages.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use crate::cli::moment::moment;
use crate::cli::tail::patterns;
use crate::outcome::QuarantineReason;
use crate::quarantine::filters::Filters;

/// The filters; a message has to pass all that are given.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
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

impl FilterArgs {
    pub(super) fn filters(self) -> anyhow::Result<Filters> {
        let Self { reason: reasons, since, until, action, source: sources } = self;
        let actions = if action.is_empty() { None } else { Some(patterns(&action)?) };
        Ok(Filters { reasons, since, until, actions, sources })
    }
}

fn reasons() -> impl TypedValueParser<Value = QuarantineReason> {
    PossibleValuesParser::new(QuarantineReason::ALL.map(QuarantineReason::label))
        .try_map(|label| label.parse::<QuarantineReason>())
}
