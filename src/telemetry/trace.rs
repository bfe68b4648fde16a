//! Traces of deliveries: a SERVER span for each, and below it a PRODUCER span for each attempt to publish its events.
//!
//! Names and attributes are OpenTelemetry's semantic conventions for HTTP and messaging. A trace continues
//! from the request's `traceparent` into the headers of the messages. No span holds a body, a key, a token or a query. If
//! traces are disabled there is no [`Traces`], each [`DeliverySpan`] is `None`, and nothing is allocated; a valid trace
//! context is passed on unchanged.

use std::fmt::Debug;
use std::str;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use super::export;
use crate::config::Telemetry;
use crate::event::{Event, Trace};
use crate::outcome::Outcome;

/// Makes spans and exports them to the collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// Scheme of the ingress: `http` or `https`.
    scheme: &'static str,
}

/// The span of a delivery, shared by its answer and its publication. It ends with the answer.
#[derive(Debug, Clone, Default)]
pub struct DeliverySpan(Option<Arc<Delivery>>);

#[derive(Debug)]
struct Delivery {
    tracer: SdkTracer,
    context: Context,
    /// True if the request had a valid trace context.
    continued: bool,
}

/// The span of an attempt to publish events to a topic, from the producer's queue to the delivery reports.
#[derive(Debug, Default)]
#[must_use = "it ends with the delivery reports"]
pub struct PublishSpan(Option<Box<Span>>);

impl Traces {
    /// Starts to export spans to a collector, which may be down.
    ///
    /// # Errors
    /// The mistake in the settings, the standard variables or the system's certificates.
    pub fn start(telemetry: &Telemetry, tls: bool) -> Result<Self, String> {
        let provider = export::provider(telemetry)?;
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"));
        let tracer = provider.tracer_with_scope(scope.with_version(env!("CARGO_PKG_VERSION")).build());
        Ok(Self { provider, tracer, scheme: if tls { "https" } else { "http" } })
    }

    /// Begins the span of a delivery to `/webhooks/{action}` or `/webhooks/{source}/{action}`.
    pub fn delivery(&self, of_a_source: bool, trace: &Trace) -> DeliverySpan {
        let (name, route) = if of_a_source {
            ("POST /webhooks/{source}/{action}", "/webhooks/{source}/{action}")
        } else {
            ("POST /webhooks/{action}", "/webhooks/{action}")
        };
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &RequestHeaders(trace));
        let span = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes([
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", route),
            KeyValue::new("url.scheme", self.scheme),
        ]);
        let span = span.start_with_context(&self.tracer, &parent);
        let continued = parent.span().span_context().is_valid();
        let context = Context::new().with_span(span);
        DeliverySpan(Some(Arc::new(Delivery { tracer: self.tracer.clone(), context, continued })))
    }

    /// Exports the remaining spans, within `time_out`; spans that end later are lost. Blocks.
    pub fn stop(&self, time_out: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(time_out) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

impl DeliverySpan {
    /// Ends the span with the answer. Only the first call has an effect.
    pub fn answered(&self, (source, action): (&str, &str), outcome: Outcome, detail: &str) {
        let Some(delivery) = &self.0 else { return };
        let span = delivery.context.span();
        if !span.is_recording() {
            return;
        }
        span.set_attribute(KeyValue::new("nexudus.source", source.to_owned()));
        span.set_attribute(KeyValue::new("nexudus.action", action.to_owned()));
        span.set_attribute(KeyValue::new("nexudus.outcome", outcome.label()));
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(outcome.status())));
        // By the conventions, an error of the client does not make the server's span an error.
        if outcome.status() >= 500 {
            span.set_attribute(KeyValue::new("error.type", outcome.label()));
            span.set_status(Status::error(detail.to_owned()));
        }
        span.end();
    }

    /// Begins the span of the publication of events for one topic, and puts the span's context into their headers.
    pub fn sending(&self, events: &mut [Event]) -> PublishSpan {
        let (Some(delivery), Some(first)) = (&self.0, events.first()) else { return PublishSpan(None) };
        let topic = first.stream.topic.clone();
        let span = delivery.tracer.span_builder(format!("send {topic}")).with_kind(SpanKind::Producer);
        let span = span.with_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", topic),
        ]);
        let mut span = span.start_with_context(&delivery.tracer, &delivery.context);
        if events.len() > 1 {
            let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
            span.set_attribute(KeyValue::new("messaging.batch.message_count", count));
        }
        if let Some(quarantine) = &first.attributes.quarantine {
            span.set_attribute(KeyValue::new("nexudus.quarantine_reason", quarantine.reason.label()));
        }
        let context = span.span_context();
        // A span that is not sampled is not exported. If the request has a valid trace context, consumers continue from its span.
        let is_hidden = !context.is_sampled() && delivery.continued;
        if context.is_valid() && !is_hidden {
            let trace = headers_of(context);
            events.iter_mut().for_each(|event| event.attributes.trace = trace.clone());
        }
        PublishSpan(span.is_recording().then(|| Box::new(span)))
    }
}

impl PublishSpan {
    /// Ends the span: the broker has confirmed all events. `position` is the partition and offset of a single event.
    pub fn confirmed(self, position: Option<(i32, Option<i64>)>) {
        let Some(mut span) = self.0 else { return };
        if let Some((partition, offset)) = position {
            span.set_attribute(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
            if let Some(offset) = offset {
                span.set_attribute(KeyValue::new("messaging.kafka.offset", offset));
            }
        }
        span.end();
    }

    /// Ends the span: not all events were confirmed. `error` becomes `error.type`.
    pub fn failed(self, error: impl Debug) {
        let Some(mut span) = self.0 else { return };
        span.set_attribute(KeyValue::new("error.type", format!("{error:?}")));
        span.set_status(Status::error(""));
        span.end();
    }
}

/// Returns the context of a span as message headers (W3C Trace Context).
fn headers_of(context: &SpanContext) -> Trace {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    let state = Some(context.trace_state().header()).filter(|state| !state.is_empty());
    Trace { parent: Some(parent.into()), state: state.map(Bytes::from) }
}

/// Reads the trace context from the headers of a request.
struct RequestHeaders<'a>(&'a Trace);

impl Extractor for RequestHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = match key {
            "traceparent" => self.0.parent.as_ref(),
            "tracestate" => self.0.state.as_ref(),
            _ => None,
        };
        str::from_utf8(value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
