//! A collector of traces: accepts OTLP over gRPC and over HTTP on one port, and keeps the spans.
//!
//! It accepts HTTP/2 and HTTP/1.1. gRPC is implemented here over HTTP/2: one message in, an empty one out, and the trailers of a
//! success.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::bridge::MAX_WAIT;

/// A running collector. Dropping it ends it.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Got>>,
    task: AbortHandle,
}

/// The spans that a collector has received, and data of the last request.
#[derive(Clone, Default)]
pub(crate) struct Got {
    pub(crate) spans: Vec<Span>,
    /// The resource of the last request.
    pub(crate) resource: Vec<KeyValue>,
    /// The headers of the last request.
    pub(crate) headers: HeaderMap,
    pub(crate) path: String,
}

impl Collector {
    /// Starts a collector.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let got = Arc::new(Mutex::new(Got::default()));
        let kept = Arc::clone(&got);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, Arc::clone(&kept)));
            }
        });
        Self { address, got, task: task.abort_handle() }
    }

    /// Returns the value for `telemetry.otlp_endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns everything that has arrived so far.
    pub(crate) fn got(&self) -> Got {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for this number of spans; more are a failure. Returns them in the order of their start.
    pub(crate) async fn spans(&self, expected: usize) -> Vec<Span> {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let mut spans = self.got().spans;
            if spans.len() >= expected {
                spans.sort_by_key(|span| span.start_time_unix_nano);
                assert_eq!(spans.len(), expected, "{spans:#?}");
                return spans;
            }
            assert!(Instant::now() < deadline, "{} of {expected} spans have arrived", spans.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns an attribute as text; a number as its digits.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match &attribute.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

async fn connection(stream: TcpStream, got: Arc<Mutex<Got>>) {
    let mut first = [0; 3];
    stream.peek(&mut first).await.ok(); // the next read fails in the same way
    if &first == b"PRI" {
        http2(stream, &got).await;
    } else {
        http1(stream, &got).await;
    }
}

async fn http2(stream: TcpStream, got: &Mutex<Got>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let got = &got;
        // The connection makes progress only while it is polled, so `poll_closed` polls it while the body is read.
        let mut whole = BytesMut::new();
        let taking = async {
            while let Some(Ok(chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).ok();
                whole.extend_from_slice(&chunk);
            }
        };
        tokio::select! {
            () = taking => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => return,
        }
        let path = head.uri.path();
        if head.headers["content-type"] == "application/x-protobuf" {
            keep(got, path, head.headers, &whole);
            answer.send_response(Response::new(()), true).expect("it is open");
            continue;
        }
        keep(got, path, head.headers, &whole[5..]); // a flag and the length come first
        let response = Response::builder().header("content-type", "application/grpc").body(());
        let mut stream = answer.send_response(response.expect("it is right"), false).expect("it is open");
        stream.send_data(Bytes::from_static(&[0; 5]), false).expect("it is open");
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        stream.send_trailers(trailers).expect("it is open");
    }
}

async fn http1(mut stream: TcpStream, got: &Mutex<Got>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&bytes) {
            let pairs = request.headers.iter().map(|header| {
                let name = http::HeaderName::from_bytes(header.name.as_bytes()).expect("a name");
                (name, HeaderValue::from_bytes(header.value).expect("a value"))
            });
            let headers = HeaderMap::from_iter(pairs);
            let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
            if let Some(body) = bytes.get(head..head + length) {
                keep(got, request.path?, headers, body);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
                bytes.drain(..head + length);
                continue;
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn keep(got: &Mutex<Got>, path: &str, headers: HeaderMap, body: &[u8]) {
    let request = ExportTraceServiceRequest::decode(body).expect("it is OTLP");
    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
    for of_one in request.resource_spans {
        got.resource = of_one.resource.expect("a resource").attributes;
        got.spans.extend(of_one.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    (got.path, got.headers) = (path.to_owned(), headers);
}
