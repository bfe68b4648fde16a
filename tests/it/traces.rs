//! Traces: the spans of deliveries, the trace context for consumers, and the bridge without a working collector.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use nexudus_bridge::app::Ended;
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use opentelemetry_proto::tonic::trace::v1::Span;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::support::bridge::{MAX_WAIT, SECRET, TestBridge, http_client, sign};
use crate::support::collector::{Collector, attribute};
use crate::support::kafka::{Authority, Consumed};
use crate::support::program::{Running, err, field, program};
use crate::support::say;
use crate::support::tls_front::TlsFront;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const BODY: &str = r#"[{"Id":4711,"FullName":"Private Person"}]"#;

const SERVER: i32 = 2;
const PRODUCER: i32 = 4;
const UNSET: i32 = 0;
const FAILED: i32 = 2;

async fn traced(collector: &Collector, settings: &[(&str, &str)]) -> TestBridge {
    let endpoint = collector.endpoint();
    let settings = [settings, &[("telemetry.otlp_endpoint", &endpoint)]].concat();
    TestBridge::on_embedded(&["BookingCreate"], &settings).await
}

/// Posts a signed body with a trace.
async fn deliver(bridge: &TestBridge, path: &str, body: &str, flags: &str) -> crate::support::bridge::Reply {
    let parent = format!("00-{TRACE}-{CALLER}-{flags}");
    let headers = [
        ("X-Nexudus-Hook-Signature", sign(body.as_bytes())),
        ("traceparent", parent),
        ("tracestate", "congo=t61rcWkgMzE".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    bridge.post(path, &headers, body).await
}

fn of(span: &Span, key: &str) -> Option<String> {
    attribute(&span.attributes, key)
}

fn status(span: &Span) -> i32 {
    span.status.as_ref().map_or(UNSET, |status| status.code)
}

/// Returns the `traceparent` of a message, and the expected one if this span is its parent.
fn trace_parents(message: &Consumed, span: &Span) -> (String, String) {
    let expected = format!("00-{}-{}-01", hex::encode(&span.trace_id), hex::encode(&span.span_id));
    (message.header("traceparent").unwrap_or("none").to_owned(), expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_and_its_publication_are_spans_of_the_caller_s_trace_and_consumers_can_continue_it() {
    let collector = Collector::start().await;
    let settings = [("sources.default.url_tokens", r#"["hush-token"]"#)];
    let bridge = traced(&collector, &settings).await;
    let reply = deliver(&bridge, "default/BookingCreate?token=hush-token", BODY, "01").await;
    let event = reply.events("confirmed").remove(0);
    let spans = collector.spans(2).await;
    let [server, producer] = &spans[..] else { unreachable!("two were waited for") };

    assert_eq!((server.name.as_str(), server.kind), ("POST /webhooks/{source}/{action}", SERVER));
    assert_eq!(
        (hex::encode(&server.trace_id), hex::encode(&server.parent_span_id)),
        (TRACE.into(), CALLER.into())
    );
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/webhooks/{source}/{action}"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("nexudus.source", "default"),
        ("nexudus.action", "BookingCreate"),
        ("nexudus.outcome", "confirmed"),
    ] {
        assert_eq!(of(server, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!((producer.name.as_str(), producer.kind), ("send nexudus.BookingCreate", PRODUCER));
    assert_eq!((&producer.trace_id, &producer.parent_span_id), (&server.trace_id, &server.span_id));
    for (key, value) in [
        ("messaging.system", "kafka".to_owned()),
        ("messaging.operation.name", "send".to_owned()),
        ("messaging.operation.type", "send".to_owned()),
        ("messaging.destination.name", "nexudus.BookingCreate".to_owned()),
        ("messaging.destination.partition.id", event["partition"].to_string()),
        ("messaging.kafka.offset", event["offset"].to_string()),
    ] {
        assert_eq!(of(producer, key), Some(value), "{key}");
    }
    assert_eq!((server.attributes.len(), producer.attributes.len()), (7, 6), "{spans:#?}");
    assert_eq!((status(server), status(producer)), (UNSET, UNSET));
    assert!(server.end_time_unix_nano >= producer.end_time_unix_nano && producer.end_time_unix_nano > 0);

    let message = bridge.topic("BookingCreate", 1).remove(0);
    let (found, expected) = trace_parents(&message, producer);
    assert_eq!(found, expected);
    assert_eq!(message.header("tracestate"), Some("congo=t61rcWkgMzE"));
    let resource = collector.got().resource;
    assert_eq!(attribute(&resource, "service.name").as_deref(), Some("nexudus-bridge"));
    assert_eq!(attribute(&resource, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let everything = format!("{spans:?}{resource:?}");
    for private in [SECRET, "hush-token", "Private", "4711", &sign(BODY.as_bytes())] {
        assert!(!everything.contains(private), "{private} in {everything}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trace_a_new_one_begins_and_all_records_of_an_array_have_one_parent() {
    let collector = Collector::start().await;
    let bridge = traced(&collector, &[]).await;
    let body = r#"[{"Id":1},{"Id":2},{"Id":3}]"#;
    bridge.deliver("BookingCreate", body).await.events("confirmed");
    let spans = collector.spans(2).await;
    assert_eq!((spans[0].name.as_str(), &spans[0].parent_span_id), ("POST /webhooks/{action}", &Vec::new()));
    assert_eq!(of(&spans[1], "messaging.batch.message_count").as_deref(), Some("3"));
    assert_eq!(of(&spans[1], "messaging.kafka.offset"), None);
    for message in bridge.topic("BookingCreate", 3) {
        let (found, expected) = trace_parents(&message, &spans[1]);
        assert_eq!((found, message.header("tracestate")), (expected, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_trace_has_no_span_and_is_passed_on() {
    let collector = Collector::start().await;
    let bridge = traced(&collector, &[]).await;
    deliver(&bridge, "BookingCreate", BODY, "00").await.events("confirmed");
    let message = bridge.topic("BookingCreate", 1).remove(0);
    assert_eq!(message.header("traceparent"), Some(format!("00-{TRACE}-{CALLER}-00").as_str()));
    assert_eq!(message.header("tracestate"), Some("congo=t61rcWkgMzE"));
    deliver(&bridge, "BookingCreate", BODY, "01").await.events("confirmed");
    collector.spans(2).await; // of the second delivery only

    let none = traced(&collector, &[("telemetry.sample_ratio", "0")]).await;
    none.deliver("BookingCreate", BODY).await.events("confirmed");
    let message = none.topic("BookingCreate", 1).remove(0);
    let parent = message.header("traceparent").expect("the flag for consumers, too");
    assert!(parent.len() == 55 && parent.ends_with("-00"), "{parent}");
    deliver(&none, "BookingCreate", BODY, "01").await.events("confirmed");
    collector.spans(4).await; // the caller's flag takes precedence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_in_the_span_and_only_a_fault_of_the_server_is_an_error() {
    let collector = Collector::start().await;
    let bridge = traced(&collector, &[]).await;
    bridge
        .post("BookingCreate", &[("X-Nexudus-Hook-Signature", &sign(b"other"))], BODY)
        .await
        .problem(401, "invalid_signature");
    bridge.post("nowhere/BookingCreate", &[], BODY).await.problem(404, "unknown_source");
    bridge.broker().fail_produce(&[Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let detail = deliver(&bridge, "BookingCreate", BODY, "01").await.problem(503, "broker");
    let spans = collector.spans(4).await;
    for (span, code, source, outcome) in [
        (&spans[0], "401", "default", "invalid_signature"),
        (&spans[1], "404", "unknown", "unknown_source"),
        (&spans[2], "503", "default", "broker"),
    ] {
        assert_eq!(of(span, "http.response.status_code").as_deref(), Some(code));
        assert_eq!(of(span, "nexudus.source").as_deref(), Some(source), "{code}");
        assert_eq!(of(span, "nexudus.outcome").as_deref(), Some(outcome), "{code}");
        let error = code == "503";
        assert_eq!(status(span), if error { FAILED } else { UNSET }, "{code}");
        assert_eq!(of(span, "error.type").as_deref(), error.then_some(outcome), "{code}");
    }
    assert_eq!(spans[2].status.as_ref().expect("a status").message, detail);
    assert_eq!((spans[3].kind, status(&spans[3])), (PRODUCER, FAILED));
    assert_eq!(of(&spans[3], "error.type").as_deref(), Some("TopicAuthorizationFailed"));
    assert_eq!(of(&spans[3], "messaging.kafka.offset"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_a_quarantine_are_in_the_spans() {
    let collector = Collector::start().await;
    let bridge = traced(&collector, &[("kafka.confirm_timeout", "5s")]).await;
    bridge.deliver("BookingCreate", "no json").await.events("quarantined");
    let spans = collector.spans(2).await;
    assert_eq!(of(&spans[0], "nexudus.outcome").as_deref(), Some("quarantined"));
    assert_eq!(spans[1].name, "send nexudus.quarantine");
    assert_eq!(of(&spans[1], "nexudus.quarantine_reason").as_deref(), Some("not_json"));

    let too_large = Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    bridge.broker().fail_produce(&[too_large, too_large]); // in its batch, then alone
    bridge.deliver("BookingCreate", BODY).await.events("quarantined");
    let spans = collector.spans(5).await.split_off(2);
    assert_eq!((spans[1].name.as_str(), status(&spans[1])), ("send nexudus.BookingCreate", FAILED));
    assert_eq!(of(&spans[1], "error.type").as_deref(), Some("MessageSizeTooLarge"));
    assert_eq!((spans[2].name.as_str(), status(&spans[2])), ("send nexudus.quarantine", UNSET));
    assert_eq!(of(&spans[2], "nexudus.quarantine_reason").as_deref(), Some("refused"));
    let kept = bridge.topic("quarantine", 2);
    let expected = trace_parents(&kept[0], &spans[2]).1;
    assert!(kept.iter().any(|message| message.header("traceparent") == Some(&expected)), "{kept:?}");

    bridge.broker().down();
    bridge.wait_until_ready_is(503).await; // until the client has detected that no broker is connected; before, the cause is `timeout`
    bridge.deliver("BookingCreate", BODY).await.problem(503, "broker");
    let spans = collector.spans(7).await.split_off(5);
    assert_eq!((status(&spans[0]), status(&spans[1])), (FAILED, FAILED), "{spans:#?}");
    assert_eq!(of(&spans[1], "error.type").as_deref(), Some("MessageTimedOut"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_traces_headers_are_passed_on_unchanged() {
    let bridge = TestBridge::on_embedded(&["BookingCreate"], &[]).await;
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.events("confirmed");
    deliver(&bridge, "BookingCreate", r#"{"Id":2}"#, "01").await.events("confirmed");
    let mut parents: Vec<Option<String>> = bridge
        .topic("BookingCreate", 2)
        .iter()
        .map(|message| message.header("traceparent").map(str::to_owned))
        .collect();
    parents.sort();
    assert_eq!(parents, [None, Some(format!("00-{TRACE}-{CALLER}-01"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_or_silent_collector_delays_neither_deliveries_nor_the_stop() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"); // accepts no connection
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port").local_addr().expect("bound");
    for (address, protocol) in [
        (silent.local_addr().expect("bound"), "grpc"),
        (silent.local_addr().expect("bound"), "http/protobuf"),
        (gone, "grpc"),
        (gone, "http/protobuf"),
    ] {
        let endpoint = format!("http://{address}");
        let settings = [
            ("telemetry.otlp_endpoint", endpoint.as_str()),
            ("telemetry.otlp_protocol", protocol),
            ("ingress.shutdown_grace", "5s"),
        ];
        let mut bridge = TestBridge::on_embedded(&["BookingCreate"], &settings).await;
        for _ in 0..600 {
            bridge.deliver("BookingCreate", BODY).await.events("confirmed"); // a batch of spans is in flight then
        }
        assert_eq!(bridge.wait_until_ready_is(200).await.status, 200);
        let begun = Instant::now();
        bridge.stopper().stop();
        assert_eq!(bridge.ended().await, Ended::Drained, "{endpoint} {protocol}");
        let took = begun.elapsed();
        say(&format!("{protocol} {}: ended in {took:?}", if address == gone { "gone" } else { "silent" }));
        assert!(took < Duration::from_secs(15), "{endpoint} {protocol}: {took:?}");
    }
}

/// The program on an embedded broker, with traces.
fn serve(
    broker: &EmbeddedBroker,
    telemetry: &str,
    variables: &[(&str, &str)],
) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    let text = format!(
        "[ingress]\nlisten = \"127.0.0.1:0\"\nshutdown_grace = \"10s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [kafka]\nbootstrap_servers = {:?}\n[topics]\ncreate = false\n[sources.default]\nsecrets = [{SECRET:?}]\n\
         [telemetry]\n{telemetry}\n",
        broker.bootstrap_servers(),
    );
    std::fs::write(&file, text).expect("written");
    let running =
        Running::start(program().args(["serve", "--config"]).arg(&file).envs(variables.iter().copied()));
    (running, folder)
}

fn broker() -> EmbeddedBroker {
    let topics = ["BookingCreate", "quarantine"].map(|action| (format!("nexudus.{action}"), 3)).into();
    EmbeddedBroker::start(None, topics).expect("an embedded broker starts")
}

async fn post(http: &reqwest::Client, ingress: &str) -> u16 {
    let url = format!("http://{ingress}/webhooks/BookingCreate");
    let request = http.post(url).header("X-Nexudus-Hook-Signature", sign(BODY.as_bytes())).body(BODY);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_variables_are_used_and_the_last_spans_are_sent_before_the_end() {
    let broker = broker();
    for (protocol, suffix, path) in [
        ("grpc", "", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        ("http/protobuf", "", "/v1/traces"),
        ("http/protobuf", "/v1/traces/", "/v1/traces"),
    ] {
        let collector = Collector::start().await;
        let endpoint = format!("{}{suffix}", collector.endpoint());
        let telemetry = format!("otlp_endpoint = {endpoint:?}\notlp_protocol = {protocol:?}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), // the file takes precedence
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=north"),
            ("OTEL_SERVICE_NAME", "bridge-of-the-north"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"), // no batch is sent before the end
        ];
        let (running, _folder) = serve(&broker, &telemetry, &variables);
        let ingress = field(&running.line_with("the bridge is listening"), "ingress").to_owned();
        assert_eq!(post(&http_client(), &ingress).await, 200);
        assert_eq!(collector.got().spans, [], "{protocol}");
        running.signal("TERM");
        let (status, log) = running.ended(MAX_WAIT);
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(collector.spans(2).await[0].kind, SERVER, "{log}");
        let got = collector.got();
        assert_eq!(got.path, path);
        assert_eq!(got.headers["x-tenant"], "north");
        let of_the_sender = |key| attribute(&got.resource, key);
        assert_eq!(of_the_sender("service.name").as_deref(), Some("bridge-of-the-north"));
        assert_eq!(of_the_sender("deployment.environment.name").as_deref(), Some("test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_causes_bounded_memory_and_few_lines() {
    const GROWTH_BYTES: u64 = 24 * 1024 * 1024;
    let broker = broker();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"); // accepts no connection
    let telemetry = format!("otlp_endpoint = \"http://{}\"", silent.local_addr().expect("bound"));
    let (running, _folder) = serve(&broker, &telemetry, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]);
    let ingress = field(&running.line_with("the bridge is listening"), "ingress").to_owned();
    let flood = async |deliveries: usize| {
        let http = http_client();
        for _ in 0..deliveries / 32 {
            let posts = (0..32).map(|_| post(&http, &ingress));
            assert!(futures_util::future::join_all(posts).await.iter().all(|status| *status == 200));
        }
    };
    flood(2048).await; // two spans each: the queue is full
    let full = running.peak_bytes();
    flood(8192).await;
    let grown = running.peak_bytes() - full;
    running.signal("TERM");
    let (status, log) = running.ended(MAX_WAIT);
    assert_eq!(status.code(), Some(0), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    say(&format!("grown by {} KiB after the queue was full; {} lines", grown / 1024, lines.len()));
    assert!(grown < GROWTH_BYTES, "{grown} bytes");
    assert!(log.contains("traces are lost") && lines.len() < 20, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_tls_is_trusted_if_the_system_trusts_its_authority() {
    let authority = Authority::new("collectors");
    let mut tls = authority.server().server_config();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let collector = Collector::start().await;
    let front = TlsFront::before(collector.address, tls).await;
    let roots = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(roots.path(), &authority.pem).expect("written");
    let broker = broker();
    let trusted = [("SSL_CERT_FILE", roots.path().to_str().expect("text"))];
    let none: &[(&str, &str)] = &[];
    for (protocol, variables, expected) in
        [("grpc", none, 0), ("http/protobuf", none, 0), ("grpc", &trusted, 2), ("http/protobuf", &trusted, 4)]
    {
        let endpoint = format!("https://localhost:{}", front.port);
        let telemetry = format!("otlp_endpoint = {endpoint:?}\notlp_protocol = {protocol:?}");
        let (running, _folder) = serve(&broker, &telemetry, variables);
        let ingress = field(&running.line_with("the bridge is listening"), "ingress").to_owned();
        assert_eq!(post(&http_client(), &ingress).await, 200);
        running.signal("TERM");
        let (status, log) = running.ended(MAX_WAIT);
        assert_eq!(status.code(), Some(0), "{log}");
        collector.spans(expected).await;
    }
}

#[test]
fn an_endpoint_that_is_no_url_is_a_mistake_in_the_configuration() {
    for (key, value, expected) in [
        (
            "OTLP_ENDPOINT",
            "collector:4317",
            "telemetry.otlp_endpoint = \"collector:4317\" is not the address of a collector",
        ),
        (
            "OTLP_ENDPOINT",
            "http://me:hush@collector:4317",
            "telemetry.otlp_endpoint = \"http://***@collector:4317\" may hold neither a user",
        ),
        ("OTLP_PROTOCOL", "http/json", "telemetry.otlp_protocol = \"http/json\" is not one of"),
        (
            "SAMPLE_RATIO",
            "1.5",
            "telemetry.sample_ratio = \"1.5\" is not a number in bounds, expected 0 to 1",
        ),
    ] {
        let output = program()
            .args(["serve"])
            .env("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS", r#"["s"]"#)
            .env(format!("NEXUDUS_BRIDGE__TELEMETRY__{key}"), value)
            .output()
            .expect("the program can be run");
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
}
