//! librdkafka's callbacks: its errors, log lines and statistics, on their way to the status, the log and the metrics.
//!
//! They run on the thread that brings delivery reports. A panic in one of them must not end this thread: without it no
//! message would ever be confirmed again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Statistics};

use super::status::Status;
use crate::metrics::{BROKER_PERCENTILES, Metrics};

/// The context of a producer.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) status: Arc<Status>,
    /// Absent where somebody else's statistics are already shown.
    pub(super) metrics: Option<Arc<Metrics>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        contain(|| self.write(level, facility, message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        contain(|| self.note(&error, reason));
    }

    fn stats(&self, statistics: Statistics) {
        contain(|| self.show(&statistics));
    }
}

/// Ends a panic of `callback` here. The panic hook has logged it, and the callback's work is for people only.
fn contain(callback: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(callback)).ok();
}

impl Context {
    fn write(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A failure comes as an error too, and that one is not repeated every half second.
        if facility == "FAIL" || matches!(level, RDKafkaLogLevel::Debug) {
            return tracing::debug!(facility, "kafka client: {message}");
        }
        let Some(left_out) = self.status.said(facility) else { return };
        match level {
            RDKafkaLogLevel::Warning => tracing::warn!(facility, left_out, "kafka client: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::info!(facility, left_out, "kafka client: {message}")
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(facility, left_out, "kafka client: {message}"),
        }
    }

    fn note(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // With TLS 1.3 a broker refuses a client's certificate when the client thinks that the handshake is over;
        // librdkafka then calls it a broken connection, and only OpenSSL's words tell that it is not.
        let of_tls = code == RDKafkaErrorCode::BrokerTransportFailure && reason.contains("SSL routines");
        let code = if of_tls { RDKafkaErrorCode::SSL } else { code };
        if self.status.failed(code) {
            tracing::warn!(error = ?code, "kafka client: {reason}");
        }
    }

    fn show(&self, statistics: &Statistics) {
        let Some(metrics) = &self.metrics else { return };
        metrics.producer_queue_messages.set(statistics.msg_cnt.try_into().unwrap_or(i64::MAX));
        metrics.producer_queue_bytes.set(statistics.msg_size.try_into().unwrap_or(i64::MAX));
        // Bootstrap addresses are pseudo brokers with a negative id; the real ones appear with the first metadata.
        let real = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        metrics.set_brokers(real.map(|broker| {
            let seconds = |pick: fn(&rdkafka::statistics::Window) -> i64| {
                broker.rtt.as_ref().map_or(0.0, |rtt| pick(rtt) as f64 / 1e6)
            };
            let rtt = [seconds(|rtt| rtt.p50), seconds(|rtt| rtt.p99)];
            let [low, high] = BROKER_PERCENTILES;
            (broker.nodename.as_str(), broker.state == "UP", [(low, rtt[0]), (high, rtt[1])])
        }));
    }
}

#[cfg(test)]
mod tests {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Panics with every line, as a formatter or an allocation might.
    struct Panics;

    impl Subscriber for Panics {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            panic!("on purpose");
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_panic_in_a_callback_does_not_reach_the_thread_that_brings_delivery_reports() {
        let context = Context { status: Arc::default(), metrics: None };
        tracing::subscriber::with_default(Panics, || {
            context.log(RDKafkaLogLevel::Warning, "REQTMOUT", "a line");
            context.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "no broker");
        });
        assert!(context.status.trouble().is_some(), "the error is noted before it is logged");
    }
}
