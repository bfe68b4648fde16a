//! `[telemetry]`: the export of traces.

use url::Url;

use super::reader::Section;
use super::reader::values::{http_url, number, word};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    Grpc,
    /// Protobuf over HTTP, usually on port 4318.
    HttpProtobuf,
}

/// Reads the section; `None` without an endpoint.
pub(super) fn telemetry(mut section: Section<'_>) -> Option<Telemetry> {
    const PROTOCOLS: &[(&str, OtlpProtocol)] =
        &[("grpc", OtlpProtocol::Grpc), ("http/protobuf", OtlpProtocol::HttpProtobuf)];
    let otlp_endpoint = section.optional("otlp_endpoint", |value| {
        let wrong = "is not the address of a collector, expected http://host:4317 or https://…";
        let misplaced = "may hold neither a user nor a query, expected them in OTEL_EXPORTER_OTLP_HEADERS";
        http_url(value, false, wrong, misplaced)
    });
    let otlp_protocol = section.get("otlp_protocol", "grpc", word(PROTOCOLS));
    let sample_ratio = section.optional("sample_ratio", number(0.0, 1.0));
    section.close();
    Some(Telemetry { otlp_endpoint: otlp_endpoint?, otlp_protocol, sample_ratio })
}
