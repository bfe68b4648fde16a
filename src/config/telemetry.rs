//! `[log]` and `[telemetry]`: the log, and the export of traces.

use strum::{EnumString, VariantNames};
use url::Url;

use super::reader::Section;
use super::reader::values::{http_url, number, text, variant};

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// The format of a line.
    pub format: LogFormat,
    /// The level, or directives such as `info,nexudus_bridge=debug`.
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[telemetry]` with an endpoint.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The address of the collector: http or https, without user, query or fragment.
    pub otlp_endpoint: Url,
    /// The protocol of the collector.
    pub otlp_protocol: OtlpProtocol,
    /// The sampled part of the traces that begin in the bridge, from 0 to 1; `None` leaves it to `OTEL_TRACES_SAMPLER`.
    pub sample_ratio: Option<f64>,
}

/// `telemetry.otlp_protocol`, by the names of `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    #[strum(serialize = "grpc")]
    Grpc,
    /// Protobuf over HTTP, usually on port 4318.
    #[strum(serialize = "http/protobuf")]
    HttpProtobuf,
}

pub(super) fn log(mut section: Section<'_>) -> Log {
    Log {
        format: section.get("format", "text", variant),
        level: section.get("level", "info", |value| {
            let text = text(value)?;
            match tracing_subscriber::EnvFilter::try_new(&text) {
                Ok(_) if !text.is_empty() => Ok(text),
                _ => Err("is not a log level, expected error, warn, info, debug, trace or directives such as info,nexudus_bridge=debug".into()),
            }
        }),
    }
}

/// Reads `[telemetry]`; `None` without an endpoint.
pub(super) fn telemetry(mut section: Section<'_>) -> Option<Telemetry> {
    let wrong = "is not the address of a collector, expected http://host:4317 or https://…";
    let misplaced = "may hold neither a user nor a query, expected them in OTEL_EXPORTER_OTLP_HEADERS";
    let otlp_endpoint = section.optional("otlp_endpoint", http_url(false, wrong, misplaced));
    let otlp_protocol = section.get("otlp_protocol", "grpc", variant);
    let sample_ratio = section.optional("sample_ratio", number(0.0, 1.0));
    Some(Telemetry { otlp_endpoint: otlp_endpoint?, otlp_protocol, sample_ratio })
}
