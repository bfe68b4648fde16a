//! Limits and time-outs of the configuration, for alerts and the dashboard to compare other metrics with.

use std::time::Duration;

use prometheus::Gauge;

use super::{Metrics, one};

/// The limits of one bridge.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of deliveries in flight.
    pub in_flight_deliveries: f64,
    /// Maximum number of bytes of the bodies of deliveries in flight.
    pub in_flight_bytes: f64,
    /// Maximum number of bytes in the redelivery memory.
    pub redelivery_bytes: f64,
    /// Maximum number of messages in a producer's queue; infinite where librdkafka has no limit.
    pub producer_queue_messages: f64,
    /// Maximum number of bytes in a producer's queue.
    pub producer_queue_bytes: f64,
    /// Maximum time for the confirmation of a delivery.
    pub confirm_timeout: Duration,
}

impl Metrics {
    /// Declares and sets the metrics of the limits. Called once, at start.
    pub fn limits(&self, limits: Limits) {
        for (name, help, value) in [
            (
                "in_flight_deliveries_limit",
                "Maximum of in_flight_deliveries (ingress.max_in_flight).",
                limits.in_flight_deliveries,
            ),
            (
                "in_flight_bytes_limit",
                "Maximum of in_flight_bytes (ingress.max_in_flight_bytes).",
                limits.in_flight_bytes,
            ),
            (
                "redelivery_bytes_limit",
                "Maximum size of the redelivery memory (redelivery.max_bytes).",
                limits.redelivery_bytes,
            ),
            (
                "producer_queue_messages_limit",
                "Maximum number of messages in a producer's queue (queue.buffering.max.messages).",
                limits.producer_queue_messages,
            ),
            (
                "producer_queue_bytes_limit",
                "Maximum number of bytes in a producer's queue (queue.buffering.max.kbytes).",
                limits.producer_queue_bytes,
            ),
            (
                "confirm_timeout_seconds",
                "Maximum time for the confirmation of a delivery (kafka.confirm_timeout).",
                limits.confirm_timeout.as_secs_f64(),
            ),
        ] {
            one(&self.registry, name, help, Gauge::with_opts).set(value);
        }
    }
}
