//! The series of deliveries by source and action.

use std::sync::OnceLock;

use prometheus::{Gauge, IntCounter};

use super::{Metrics, UNKNOWN};
use crate::outcome::{Outcome, QuarantineReason, SignatureWarning};
use crate::signature::Form;

/// The series of one source.
#[derive(Debug)]
pub struct SourceMetrics {
    pub(super) name: String,
    pub(super) actions: Vec<(String, OnceLock<PairMetrics>)>,
    pub(super) unknown: (String, OnceLock<PairMetrics>),
    pub(super) matches: [IntCounter; 2],
    pub(super) warnings: [IntCounter; 2],
    pub(super) quarantined: [IntCounter; QuarantineReason::ALL.len()],
}

impl SourceMetrics {
    /// The labels of a source's action, for the log too.
    pub fn labels(&self, action_index: Option<usize>) -> (&str, &str) {
        let (action, _) = action_index.map_or(&self.unknown, |action_index| &self.actions[action_index]);
        (&self.name, action)
    }

    /// Counts a right signature.
    pub fn matched(&self, form: Form) {
        self.matches[form as usize].inc();
    }

    /// Counts a delivery that was let through although its signature was missing or invalid.
    pub fn warned(&self, warning: SignatureWarning) {
        self.warnings[warning as usize].inc();
    }

    /// Counts a body on the quarantine topic.
    pub fn quarantined(&self, reason: QuarantineReason) {
        self.quarantined[reason as usize].inc();
    }
}

/// The series of one source and action.
#[derive(Debug)]
pub struct PairMetrics {
    /// Deliveries by outcome; `None` for an outcome that is listed once it has occurred.
    pub(super) listed: [Option<IntCounter>; Outcome::ALL.len()],
    pub(super) events_confirmed: IntCounter,
    /// Exported from the first delivery on although it is rare: Prometheus has no rate of a series that begins with 1.
    pub(super) suppressed: IntCounter,
    pub(super) last_confirmed: OnceLock<Gauge>,
}

impl PairMetrics {
    pub(super) fn new(metrics: &Metrics, source: &str, action: &str) -> Self {
        let counter =
            |outcome: Outcome| metrics.deliveries.with_label_values(&[source, action, outcome.label()]);
        Self {
            listed: Outcome::ALL.map(|outcome| is_listed(outcome, source, action).then(|| counter(outcome))),
            events_confirmed: metrics.events_confirmed.with_label_values(&[source, action]),
            suppressed: metrics.redeliveries_suppressed.with_label_values(&[source, action]),
            last_confirmed: OnceLock::new(),
        }
    }
}

/// Whether the series of an outcome is exported, with 0, from the first delivery of its source and action on.
///
/// `increase()` does not count the first event of a series that begins with 1, so every outcome that an alert reads is
/// exported where it can occur. The others appear once they have occurred.
fn is_listed(outcome: Outcome, source: &str, action: &str) -> bool {
    let (known_source, known_action) = (source != UNKNOWN, action != UNKNOWN);
    match outcome {
        Outcome::UnknownSource => !known_source,
        Outcome::UnknownAction => known_source && !known_action,
        Outcome::Confirmed => known_source && known_action,
        Outcome::Quarantined
        | Outcome::Empty
        | Outcome::MissingSignature
        | Outcome::InvalidSignature
        | Outcome::InvalidToken
        | Outcome::Method
        | Outcome::TooLarge
        | Outcome::TooSlow
        | Outcome::Incomplete
        | Outcome::Upgrade
        | Outcome::Encoded
        | Outcome::Timeout
        | Outcome::QueueFull
        | Outcome::Overloaded
        | Outcome::Broker => known_source,
        Outcome::ShuttingDown => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::action::Actions;

    /// The outcomes of a source and action that a scrape has.
    fn exported(metrics: &Metrics, source: &str, action: &str) -> Vec<String> {
        let prefix = format!(r#"nexudus_bridge_deliveries_total{{action="{action}",outcome=""#);
        let suffix = format!(r#"",source="{source}"}}"#);
        let text = metrics.render();
        let outcomes = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once(&suffix));
        outcomes.map(|(outcome, _)| outcome.to_owned()).collect()
    }

    #[test]
    fn only_outcomes_that_can_occur_with_a_source_and_action_are_exported() {
        let metrics = Metrics::new("0");
        let actions = Actions::default();
        let (known, unknown) = (metrics.source("north", &actions), metrics.source(UNKNOWN, &actions));
        let (first, took) = (Some(0), Duration::from_millis(1));
        let name = actions.get(0).name().to_owned();
        metrics.answered(&known, first, Outcome::Confirmed, took);
        metrics.answered(&known, None, Outcome::UnknownAction, took);
        metrics.answered(&unknown, None, Outcome::UnknownSource, took);

        let of_an_action = exported(&metrics, "north", &name);
        assert_eq!(of_an_action.len(), 16, "{of_an_action:?}");
        for impossible in ["unknown_source", "unknown_action", "shutting_down"] {
            assert!(!of_an_action.contains(&impossible.to_owned()), "{impossible}");
        }
        let of_no_action = exported(&metrics, "north", UNKNOWN);
        assert!(!of_no_action.contains(&"confirmed".to_owned()), "{of_no_action:?}");
        assert!(of_no_action.contains(&"quarantined".to_owned()), "{of_no_action:?}");
        assert_eq!(exported(&metrics, UNKNOWN, UNKNOWN), ["unknown_source"]);

        // An outcome that is not listed is counted when it occurs.
        metrics.answered(&known, first, Outcome::ShuttingDown, took);
        metrics.answered(&known, first, Outcome::ShuttingDown, took);
        let series = format!(
            r#"nexudus_bridge_deliveries_total{{action="{name}",outcome="shutting_down",source="north"}} 2"#
        );
        assert!(metrics.render().contains(&series));
    }

    #[test]
    fn a_scrape_with_every_action_is_bounded() {
        let metrics = Metrics::new("0");
        let actions = Actions::default();
        let source = metrics.source("default", &actions);
        for index in 0..actions.iter().count() {
            metrics.answered(&source, Some(index), Outcome::Confirmed, Duration::from_millis(1));
        }
        let bytes = metrics.render().len();
        assert!(bytes < 200_000, "{bytes} bytes with {} actions", actions.iter().count());
    }
}
