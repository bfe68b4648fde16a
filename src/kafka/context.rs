//! Passes librdkafka's errors and log lines to the status and the log.
//!
//! The callbacks run on the thread that polls for delivery reports. A panic in a callback must not end this thread, because no
//! message would be confirmed any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::status::Status;

/// The context of a client.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) status: Arc<Status>,
}

/// Runs `callback` and catches its panic, so that the calling thread continues. Returns `None` after a panic, which the panic hook
/// has logged.
pub(super) fn contain<T>(callback: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(callback)).ok()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        contain(|| {
            // librdkafka logs FAIL at every reconnect, and also reports the failure to `error`, which has its own log limit.
            if facility == "FAIL" || matches!(level, RDKafkaLogLevel::Debug) {
                return tracing::debug!(facility, "kafka client: {message}");
            }
            let Some(left_out) = self.status.lines.allow(facility.to_owned()) else { return };
            match level {
                RDKafkaLogLevel::Warning => tracing::warn!(facility, left_out, "kafka client: {message}"),
                RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                    tracing::info!(facility, left_out, "kafka client: {message}")
                }
                _ => tracing::error!(facility, left_out, "kafka client: {message}"),
            }
        });
    }

    fn error(&self, error: KafkaError, reason: &str) {
        contain(|| {
            let Some(code) = error.rdkafka_error_code() else { return };
            // With TLS 1.3 a broker refuses the client's certificate after the handshake. librdkafka reports a broken
            // connection, and only OpenSSL's text contains the reason.
            let is_of_tls =
                code == RDKafkaErrorCode::BrokerTransportFailure && reason.contains("SSL routines");
            let code = if is_of_tls { RDKafkaErrorCode::SSL } else { code };
            if let Some(left_out) = self.status.failed(code) {
                tracing::warn!(error = ?code, left_out, "kafka client: {reason}");
            }
        });
    }

    fn stats_raw(&self, _: &[u8]) {}
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
        let context = Context { status: Arc::default() };
        tracing::subscriber::with_default(Panics, || {
            context.log(RDKafkaLogLevel::Warning, "REQTMOUT", "a line");
            context.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "no broker");
        });
        assert!(context.status.not_ready_reason().is_some(), "the error is noted before it is logged");
    }
}
