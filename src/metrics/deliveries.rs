//! The metrics of deliveries by source and action.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry,
};

use super::{Metrics, UNKNOWN, one, unix_seconds, vec};
use crate::action::Actions;
use crate::outcome::{Outcome, QuarantineReason, SignatureWarning};
use crate::signature::Form;

/// Upper bounds of the histogram buckets: from a fast local broker to more than the default confirm time-out.
const BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The metrics of deliveries and their events.
#[derive(Debug)]
pub(super) struct DeliveryMetrics {
    by_outcome: IntCounterVec,
    events_confirmed: IntCounterVec,
    last_confirmed: GaugeVec,
    signature_matches: IntCounterVec,
    signature_warnings: IntCounterVec,
    quarantined: IntCounterVec,
    redeliveries_suppressed: IntCounterVec,
    delivery_duration: [Histogram; Outcome::ALL.len()],
    confirm_duration: Histogram,
}

impl DeliveryMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| vec(registry, IntCounterVec::new, name, help, labels);
        let histogram = |opts| HistogramOpts::from(opts).buckets(BUCKETS_SECONDS.to_vec());
        let name = "delivery_duration_seconds";
        let help = "Time from a delivery's arrival to its answer, by outcome.";
        let make = |opts, labels: &[&str]| HistogramVec::new(histogram(opts), labels);
        let by_outcome = vec(registry, make, name, help, &["outcome"]);
        let name = "last_confirmed_timestamp_seconds";
        let help = "Time of the last confirmed event, as Unix time.";
        let last_confirmed = vec(registry, GaugeVec::new, name, help, &["source", "action"]);
        Self {
            by_outcome: counters(
                "deliveries_total",
                "Deliveries received, by source, action and outcome.",
                &["source", "action", "outcome"],
            ),
            events_confirmed: counters(
                "events_confirmed_total",
                "Events that Kafka confirmed, without quarantined bodies.",
                &["source", "action"],
            ),
            last_confirmed,
            signature_matches: counters(
                "signature_matches_total",
                "Valid signatures, by the signed form of the body (raw, folded).",
                &["source", "form"],
            ),
            signature_warnings: counters(
                "signature_warnings_total",
                "Deliveries accepted with a missing or invalid signature, because the source only warns.",
                &["source", "reason"],
            ),
            quarantined: counters(
                "quarantined_total",
                "Bodies kept whole on the quarantine topic, by reason.",
                &["source", "reason"],
            ),
            redeliveries_suppressed: counters(
                "redeliveries_suppressed_total",
                "Retries answered with the confirmation of an earlier attempt, whose answer Nexudus did not get.",
                &["source", "action"],
            ),
            delivery_duration: Outcome::ALL.map(|outcome| by_outcome.with_label_values(&[outcome.label()])),
            confirm_duration: one(
                registry,
                |opts| Histogram::with_opts(histogram(opts)),
                "confirm_duration_seconds",
                "Time from handing the events of a delivery to the producer until the last delivery report.",
            ),
        }
    }
}

impl Metrics {
    /// Returns the series of one source and of its actions.
    pub fn source(&self, name: &str, actions: &Actions) -> SourceMetrics {
        let names = actions.iter().map(|action| action.name().to_owned());
        SourceMetrics {
            actions: names.map(|action| (action, OnceLock::new())).collect(),
            unknown: (UNKNOWN.to_owned(), OnceLock::new()),
            matches: [Form::Raw, Form::Folded]
                .map(|form| self.deliveries.signature_matches.with_label_values(&[name, form.label()])),
            warnings: [SignatureWarning::Missing, SignatureWarning::Invalid].map(|warning| {
                self.deliveries.signature_warnings.with_label_values(&[name, warning.label()])
            }),
            quarantined: QuarantineReason::ALL
                .map(|reason| self.deliveries.quarantined.with_label_values(&[name, reason.label()])),
            name: name.to_owned(),
        }
    }

    /// Returns the series of a source's action; `action_index` is `None` for an action that the source does not have.
    fn pair<'a>(&self, source: &'a SourceMetrics, action_index: Option<usize>) -> &'a PairMetrics {
        let (action, pair) = source.action(action_index);
        pair.get_or_init(|| PairMetrics::new(self, &source.name, action))
    }

    /// Counts a delivery with its outcome, even if the client disconnected before the answer.
    pub fn answered(
        &self,
        source: &SourceMetrics,
        action_index: Option<usize>,
        outcome: Outcome,
        duration: Duration,
    ) {
        let pair = self.pair(source, action_index);
        match &pair.listed[outcome as usize] {
            Some(counter) => counter.inc(),
            None => {
                let (source, action) = source.labels(action_index);
                self.deliveries.by_outcome.with_label_values(&[source, action, outcome.label()]).inc();
            }
        }
        self.deliveries.delivery_duration[outcome as usize].observe(duration.as_secs_f64());
    }

    /// Counts confirmed events of one action.
    pub fn confirmed(&self, source: &SourceMetrics, action_index: Option<usize>, events: usize) {
        let pair = self.pair(source, action_index);
        pair.events_confirmed.inc_by(events as u64);
        let gauge = || {
            let (source, action) = source.labels(action_index);
            self.deliveries.last_confirmed.with_label_values(&[source, action])
        };
        pair.last_confirmed.get_or_init(gauge).set(unix_seconds());
    }

    /// Counts a delivery that was answered with the confirmation of an earlier attempt.
    pub fn redelivery_suppressed(&self, source: &SourceMetrics, action_index: Option<usize>) {
        self.pair(source, action_index).suppressed.inc();
    }

    /// Records the time between the publication of a delivery's events and their confirmation.
    pub fn confirmation_took(&self, duration: Duration) {
        self.deliveries.confirm_duration.observe(duration.as_secs_f64());
    }

    /// Returns the counts that the health of the producer is derived from.
    pub fn delivery_counts(&self) -> DeliveryCounts {
        DeliveryCounts {
            confirmed: self.deliveries.confirm_duration.get_sample_count(),
            timed_out: self.deliveries.delivery_duration[Outcome::Timeout as usize].get_sample_count(),
        }
    }
}

/// Deliveries since the start, by the result of their events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Confirmed by the broker.
    pub confirmed: u64,
    /// Answered 503, since the confirmation did not arrive in time.
    pub timed_out: u64,
}

/// The series of one source.
#[derive(Debug)]
pub struct SourceMetrics {
    name: String,
    actions: Vec<(String, OnceLock<PairMetrics>)>,
    unknown: (String, OnceLock<PairMetrics>),
    matches: [IntCounter; 2],
    warnings: [IntCounter; 2],
    quarantined: [IntCounter; QuarantineReason::ALL.len()],
}

impl SourceMetrics {
    fn action(&self, action_index: Option<usize>) -> &(String, OnceLock<PairMetrics>) {
        action_index.map_or(&self.unknown, |action_index| &self.actions[action_index])
    }

    /// Returns the labels of a source's action, for the log too.
    pub fn labels(&self, action_index: Option<usize>) -> (&str, &str) {
        (&self.name, &self.action(action_index).0)
    }

    /// Counts a right signature by the form of the body that it matches.
    pub fn matched(&self, form: Form) {
        self.matches[form as usize].inc();
    }

    /// Counts a delivery that was accepted although its signature is missing or invalid.
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
struct PairMetrics {
    /// Counters of the outcomes that are exported from the first delivery on; `None` for an outcome that is exported once it has
    /// occurred.
    listed: [Option<IntCounter>; Outcome::ALL.len()],
    events_confirmed: IntCounter,
    /// Exported from the first delivery on although it is rare: Prometheus computes no rate for a series that begins with 1.
    suppressed: IntCounter,
    last_confirmed: OnceLock<Gauge>,
}

impl PairMetrics {
    fn new(metrics: &Metrics, source: &str, action: &str) -> Self {
        let counter = |outcome: Outcome| {
            metrics.deliveries.by_outcome.with_label_values(&[source, action, outcome.label()])
        };
        Self {
            listed: Outcome::ALL.map(|outcome| is_listed(outcome, source, action).then(|| counter(outcome))),
            events_confirmed: metrics.deliveries.events_confirmed.with_label_values(&[source, action]),
            suppressed: metrics.deliveries.redeliveries_suppressed.with_label_values(&[source, action]),
            last_confirmed: OnceLock::new(),
        }
    }
}

/// Returns whether the series of an outcome is exported, with 0, from the first delivery of its source and action on.
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
    use super::*;

    /// Returns the outcomes of a source and action that a scrape shows.
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
