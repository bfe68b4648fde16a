//! The metrics of the control plane: requests to Nexudus, and the state of the webhooks in Nexudus.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use super::{one, unix_seconds, vec};

/// Metrics of the webhooks in Nexudus. None is exported before the first look of the guardian.
#[derive(Debug)]
pub struct ControlMetrics {
    registry: Registry,
    requests: IntCounterVec,
    active: IntGaugeVec,
    failures: IntGaugeVec,
    last_trigger: GaugeVec,
    reenabled: IntCounterVec,
    missing: IntGaugeVec,
    outages: GaugeVec,
    interval: Mutex<Option<Gauge>>,
    last_success: Mutex<Option<Gauge>>,
    shown: Mutex<Shown>,
}

/// The labels of the exported series.
#[derive(Debug, Default)]
struct Shown {
    webhooks: BTreeSet<[String; 3]>,
    triggered: BTreeSet<[String; 3]>,
    sources: BTreeSet<String>,
    outages: BTreeSet<[String; 2]>,
}

/// A webhook in Nexudus.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSeries {
    /// Source, action and the number of the webhook's record.
    pub labels: [String; 3],
    /// True if the webhook is active.
    pub active: bool,
    /// Failures since the last success.
    pub failures: i64,
    /// Time of the last success, as Unix time in seconds.
    pub last_trigger: Option<f64>,
}

const WEBHOOK: [&str; 3] = ["source", "action", "webhook_id"];

impl ControlMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| vec(registry, IntCounterVec::new, name, help, labels);
        let gauges = |name, help, labels: &[&str]| vec(registry, IntGaugeVec::new, name, help, labels);
        let times = |name, help, labels: &[&str]| vec(registry, GaugeVec::new, name, help, labels);
        Self {
            requests: counters(
                "nexudus_requests_total",
                "Requests to Nexudus's API, by operation and outcome.",
                &["operation", "outcome"],
            ),
            active: gauges("webhook_active", "1 while the webhook is enabled in Nexudus.", &WEBHOOK),
            failures: gauges(
                "webhook_consecutive_failures",
                "Failures of the webhook since its last success, as Nexudus counts them; Nexudus disables it at the tenth.",
                &WEBHOOK,
            ),
            last_trigger: times(
                "webhook_last_trigger_timestamp_seconds",
                "Last success of the webhook in Nexudus, as Unix time.",
                &WEBHOOK,
            ),
            reenabled: counters(
                "webhook_reenabled_total",
                "How often the guardian re-enabled a webhook that Nexudus had disabled.",
                &["source", "action"],
            ),
            missing: gauges(
                "webhooks_missing",
                "Configured webhooks that Nexudus does not have.",
                &["source"],
            ),
            outages: times(
                "webhook_outage_started_timestamp_seconds",
                "Last success of the webhook before Nexudus disabled it, until catch-up has read what was missed, as Unix time.",
                &["source", "action"],
            ),
            interval: Mutex::default(),
            last_success: Mutex::default(),
            shown: Mutex::default(),
            registry: registry.clone(),
        }
    }

    /// Counts a request to the API.
    pub fn request(&self, operation: &str, outcome: &str) {
        self.requests.with_label_values(&[operation, outcome]).inc();
    }

    /// Replaces the series of the webhooks and the number of missing webhooks by source, after a look of the guardian.
    pub fn looked<'a>(&self, webhooks: &[WebhookSeries], missing: impl Iterator<Item = (&'a str, usize)>) {
        self.show(webhooks, missing);
        self.seen();
    }

    /// Removes the series of the webhooks: no guardian looks at them any more.
    pub fn forget(&self) {
        self.show(&[], std::iter::empty());
        for gauge in [&self.interval, &self.last_success] {
            if let Some(gauge) = gauge.lock().take() {
                drop(self.registry.unregister(Box::new(gauge)));
            }
        }
    }

    fn show<'a>(&self, webhooks: &[WebhookSeries], missing: impl Iterator<Item = (&'a str, usize)>) {
        let mut shown = self.shown.lock();
        let mut now = Shown::default();
        for WebhookSeries { labels, active, failures, last_trigger } in webhooks {
            let values: [&str; 3] = labels.each_ref().map(String::as_str);
            self.active.with_label_values(&values).set((*active).into());
            self.failures.with_label_values(&values).set(*failures);
            if let Some(seconds) = last_trigger {
                self.last_trigger.with_label_values(&values).set(*seconds);
                now.triggered.insert(labels.clone());
            }
            now.webhooks.insert(labels.clone());
        }
        for (source, number) in missing {
            self.missing.with_label_values(&[source]).set(i64::try_from(number).unwrap_or(i64::MAX));
            now.sources.insert(source.to_owned());
        }
        for gone in shown.webhooks.difference(&now.webhooks) {
            let values: [&str; 3] = gone.each_ref().map(String::as_str);
            // Each of these series was set before.
            drop(self.active.remove_label_values(&values));
            drop(self.failures.remove_label_values(&values));
        }
        for gone in shown.triggered.difference(&now.triggered) {
            drop(self.last_trigger.remove_label_values(&gone.each_ref().map(String::as_str)));
        }
        for gone in shown.sources.difference(&now.sources) {
            drop(self.missing.remove_label_values(&[gone]));
        }
        now.outages = std::mem::take(&mut shown.outages);
        *shown = now;
    }

    /// Replaces the outages that no catch-up has covered: source and action, and the Unix time at which each began.
    pub fn show_outages(&self, outages: impl Iterator<Item = ([String; 2], f64)>) {
        let mut shown = self.shown.lock();
        let mut now = BTreeSet::new();
        for (labels, since) in outages {
            self.outages.with_label_values(&labels).set(since);
            now.insert(labels);
        }
        for gone in shown.outages.difference(&now) {
            drop(self.outages.remove_label_values(gone)); // this series was set before
        }
        shown.outages = now;
    }

    /// Exports the interval of the guardian. Only a bridge with a guardian has this metric.
    pub fn watches(&self, interval: Duration) {
        let name = "guardian_interval_seconds";
        let help = "Time between two looks of the guardian at the webhooks (nexudus.guardian.interval).";
        let mut gauge = self.interval.lock();
        gauge
            .get_or_insert_with(|| one(&self.registry, name, help, Gauge::with_opts))
            .set(interval.as_secs_f64());
    }

    fn seen(&self) {
        let name = "guardian_last_success_timestamp_seconds";
        let help = "Time at which the guardian last read all webhooks in Nexudus, as Unix time.";
        let mut gauge = self.last_success.lock();
        gauge.get_or_insert_with(|| one(&self.registry, name, help, Gauge::with_opts)).set(unix_seconds());
    }

    /// Counts a webhook that the guardian re-enabled.
    pub fn reenabled(&self, source: &str, action: &str) {
        self.reenabled.with_label_values(&[source, action]).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn series_of_what_has_vanished_go_and_nothing_shows_before_something_is_known() {
        let registry = Registry::new();
        let metrics = ControlMetrics::new(&registry);
        let render = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert_eq!(render(), "");
        let webhook = |id: &str, last_trigger| WebhookSeries {
            labels: ["north", "BookingCreate", id].map(str::to_owned),
            active: true,
            failures: 3,
            last_trigger,
        };
        metrics.looked(
            &[webhook("1", Some(5.0)), webhook("2", Some(6.0))],
            [("north", 1), ("south", 0)].into_iter(),
        );
        metrics.looked(&[webhook("2", None)], [("north", 0)].into_iter());
        metrics.watches(Duration::from_secs(60));
        metrics.watches(Duration::from_secs(90));
        let text = render();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = r#"{action="BookingCreate",source="north",webhook_id="2"}"#;
        let expected = [
            format!("nexudus_bridge_webhook_active{labels} 1"),
            format!("nexudus_bridge_webhook_consecutive_failures{labels} 3"),
            r#"nexudus_bridge_webhooks_missing{source="north"} 0"#.to_owned(),
        ];
        assert_eq!(samples[0], "nexudus_bridge_guardian_interval_seconds 90", "{text}");
        assert!(samples[1].starts_with("nexudus_bridge_guardian_last_success_timestamp_seconds 1"), "{text}");
        assert_eq!(samples[2..], expected, "{text}");
        metrics.forget();
        assert_eq!(render(), "");
    }
}
