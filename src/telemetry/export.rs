//! Export of spans to a collector (OTLP): a bounded queue, a thread, and a runtime of their own.
//!
//! A delivery never waits for the export. A span is lost if the queue of the SDK's batch processor is full, or if the collector
//! does not accept its batch in time. The log counts only spans of batches that were not accepted. The connection has a runtime of
//! its own, so that it does not depend on the runtime of the bridge. The SDK reads the standard `OTEL_…` variables itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{
    EnvResourceDetector, ResourceDetector as _, SdkProvidedResourceDetector, TelemetryResourceDetector,
};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData,
};
use tokio::runtime::{self, Runtime};
use uuid::Uuid;

use super::limit::LogLimit;
use crate::config::{OtlpProtocol, Telemetry};
use crate::outgoing;

/// Maximum number of finished spans that wait for the collector: some thousand deliveries, a few MB.
const QUEUE: usize = 2048;

/// Maximum number of spans in one request to the collector.
const BATCH: usize = 512;

/// Time-out of a batch, retries included; the exporter's own bound (`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s)
/// comes first.
const TIME_OUT: Duration = Duration::from_secs(30);

/// Returns a provider that makes spans and exports them until its shutdown.
///
/// # Errors
/// The mistake in the settings, the standard variables or the system's certificates.
pub(super) fn provider(telemetry: &Telemetry) -> Result<SdkTracerProvider, String> {
    outgoing::use_ring();
    let mut runtime = runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name("otlp").enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let collector = {
        let _inside = runtime.enter();
        collector(telemetry)?
    };
    let exporter = Exporter {
        collector,
        runtime: Some(runtime),
        lost: AtomicU64::new(0),
        is_failing: AtomicBool::new(false),
        limit: LogLimit::default(),
    };
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE);
    let batches = batches.with_max_export_batch_size(BATCH).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkTracerProvider::builder().with_resource(resource()).with_span_processor(processor);
    let provider = match telemetry.sample_ratio {
        Some(ratio) => {
            provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        }
        None => provider, // by OTEL_TRACES_SAMPLER, else by the parent; a trace without a parent is sampled
    };
    Ok(provider.build())
}

fn collector(telemetry: &Telemetry) -> Result<SpanExporter, String> {
    let endpoint = telemetry.otlp_endpoint.as_str().trim_end_matches('/');
    let built = match telemetry.otlp_protocol {
        OtlpProtocol::Grpc => {
            let grpc = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
            let tls = || ClientTlsConfig::new().with_native_roots();
            let secure = telemetry.otlp_endpoint.scheme() == "https";
            if secure { grpc.with_tls_config(tls()).build() } else { grpc.build() }
        }
        OtlpProtocol::HttpProtobuf => {
            let client = outgoing::client(&telemetry.otlp_endpoint).timeout(TIME_OUT);
            let client = client.build().map_err(outgoing::cause)?;
            let path = if endpoint.ends_with("/v1/traces") { "" } else { "/v1/traces" };
            let endpoint = format!("{endpoint}{path}");
            SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint).build()
        }
    };
    built.map_err(|error| error.to_string())
}

/// Returns the resource: this program, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` name another.
fn resource() -> Resource {
    let ours = [
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ];
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(ours)
        .with_detector(Box::new(EnvResourceDetector::new()));
    let named = SdkProvidedResourceDetector.detect().get(&"service.name".into());
    match named.filter(|name| !name.as_str().starts_with("unknown_service")) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// The exporter. Runs on the SDK's thread, which may block.
#[derive(Debug)]
struct Exporter {
    collector: SpanExporter,
    /// Present until the exporter is dropped.
    runtime: Option<Runtime>,
    /// Number of lost spans since the last log line about them.
    lost: AtomicU64,
    is_failing: AtomicBool,
    limit: LogLimit,
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let Some(runtime) = &self.runtime else { return Err(OTelSdkError::AlreadyShutdown) };
        let sent = runtime
            .block_on(async { tokio::time::timeout(TIME_OUT, self.collector.export(batch)).await })
            .unwrap_or(Err(OTelSdkError::Timeout(TIME_OUT)));
        if let Err(error) = &sent {
            self.is_failing.store(true, Ordering::Relaxed);
            self.lost.fetch_add(spans as u64, Ordering::Relaxed);
            if let Some(left_out) = self.limit.allow() {
                let spans = self.lost.swap(0, Ordering::Relaxed);
                tracing::warn!(%error, spans, left_out, "traces are lost, the collector does not take them");
            }
        } else if self.is_failing.swap(false, Ordering::Relaxed) {
            let spans = self.lost.swap(0, Ordering::Relaxed);
            tracing::info!(spans, "the collector takes traces again");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.collector.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.collector.set_resource(resource);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // a collector that does not answer must not delay the stop
        }
    }
}
