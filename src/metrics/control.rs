//! The metrics of the control plane: requests to Nexudus, and the state of the webhooks in Nexudus.

use std::time::Duration;

use prometheus::{IntCounterVec, Registry};

use super::{Snapshot, unix_seconds, vec};

/// Metrics of the webhooks in Nexudus. None is exported before the first check of the guardian.
#[derive(Debug)]
pub struct ControlMetrics {
    requests: IntCounterVec,
    active: Snapshot<3>,
    failures: Snapshot<3>,
    last_trigger: Snapshot<3>,
    reenabled: IntCounterVec,
    missing: Snapshot<1>,
    outages: Snapshot<2>,
    interval: Snapshot<0>,
    last_success: Snapshot<0>,
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

impl ControlMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| vec(registry, IntCounterVec::new, name, help, labels);
        let of_webhooks =
            |name, help| Snapshot::new(registry, name, help, ["source", "action", "webhook_id"]);
        let of_guardian = |name, help| Snapshot::new(registry, name, help, []);
        Self {
            requests: counters(
                "nexudus_requests_total",
                "Requests to Nexudus's API, by operation and outcome.",
                &["operation", "outcome"],
            ),
            active: of_webhooks("webhook_active", "1 while the webhook is enabled in Nexudus."),
            failures: of_webhooks(
                "webhook_consecutive_failures",
                "Failures of the webhook since its last success, as Nexudus counts them; Nexudus disables it at the tenth.",
            ),
            last_trigger: of_webhooks(
                "webhook_last_trigger_timestamp_seconds",
                "Last success of the webhook in Nexudus, as Unix time.",
            ),
            reenabled: counters(
                "webhook_reenabled_total",
                "How often the guardian re-enabled a webhook that Nexudus had disabled.",
                &["source", "action"],
            ),
            missing: Snapshot::new(
                registry,
                "webhooks_missing",
                "Configured webhooks that Nexudus does not have.",
                ["source"],
            ),
            outages: Snapshot::new(
                registry,
                "webhook_outage_started_timestamp_seconds",
                "Last success of the webhook before Nexudus disabled it, until catch-up has read the missed events, as Unix time.",
                ["source", "action"],
            ),
            interval: of_guardian(
                "guardian_interval_seconds",
                "Time between two looks of the guardian at the webhooks (nexudus.guardian.interval).",
            ),
            last_success: of_guardian(
                "guardian_last_success_timestamp_seconds",
                "Time at which the guardian last read all webhooks in Nexudus, as Unix time.",
            ),
        }
    }

    /// Counts a request to the API.
    pub fn request(&self, operation: &str, outcome: &str) {
        self.requests.with_label_values(&[operation, outcome]).inc();
    }

    /// Replaces the series of the webhooks and the number of missing webhooks by source, after a check of the guardian.
    pub fn set_webhooks<'a>(
        &self,
        webhooks: &[WebhookSeries],
        missing: impl Iterator<Item = (&'a str, usize)>,
    ) {
        self.show(webhooks, missing);
        self.last_success.set([([], unix_seconds())]);
    }

    /// Removes the series of the webhooks, when no guardian checks them any more.
    pub fn clear(&self) {
        self.show(&[], std::iter::empty());
        self.interval.set([]);
        self.last_success.set([]);
    }

    fn show<'a>(&self, webhooks: &[WebhookSeries], missing: impl Iterator<Item = (&'a str, usize)>) {
        let of_webhooks = |value: fn(&WebhookSeries) -> Option<f64>| {
            webhooks.iter().filter_map(move |webhook| Some((webhook.labels.clone(), value(webhook)?)))
        };
        self.active.set(of_webhooks(|webhook| Some(webhook.active.into())));
        self.failures.set(of_webhooks(|webhook| Some(webhook.failures as f64)));
        self.last_trigger.set(of_webhooks(|webhook| webhook.last_trigger));
        self.missing.set(missing.map(|(source, number)| ([source.to_owned()], number as f64)));
    }

    /// Replaces the outages that no catch-up has covered: source and action, and the Unix time at which each began.
    pub fn set_outages(&self, outages: impl Iterator<Item = ([String; 2], f64)>) {
        self.outages.set(outages);
    }

    /// Exports the interval of the guardian. Only a bridge with a guardian has this metric.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.set([([], interval.as_secs_f64())]);
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
    fn series_of_deleted_webhooks_are_removed_and_none_exists_before_the_first_check() {
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
        metrics.set_webhooks(
            &[webhook("1", Some(5.0)), webhook("2", Some(6.0))],
            [("north", 1), ("south", 0)].into_iter(),
        );
        metrics.set_webhooks(&[webhook("2", None)], [("north", 0)].into_iter());
        metrics.set_interval(Duration::from_secs(60));
        metrics.set_interval(Duration::from_secs(90));
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
        metrics.clear();
        assert_eq!(render(), "");
    }
}
