use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, FutureProducer, FutureRecord, Producer};

use super::*;

/// Maximum time in which a broker stops on a busy machine. It waits for no client.
const GONE_WITHIN: Duration = Duration::from_secs(10);

fn broker(port: Option<u16>) -> EmbeddedBroker {
    EmbeddedBroker::start(port, vec![("events".to_owned(), 1)]).unwrap()
}

fn producer(broker: &EmbeddedBroker, timeout_ms: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("message.timeout.ms", timeout_ms);
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    config.set("acks", "all").set("linger.ms", "0").create().unwrap()
}

/// Offset or error code of one message sent and confirmed.
async fn send(producer: &FutureProducer, value: &str) -> Result<i64, RDKafkaErrorCode> {
    let record = FutureRecord::to("events").key("7").payload(value);
    match producer.send(record, Duration::ZERO).await {
        Ok(delivery) => Ok(delivery.offset),
        Err((KafkaError::MessageProduction(code), _)) => Err(code),
        Err((other, _)) => panic!("{other}"),
    }
}

#[tokio::test]
async fn messages_are_confirmed_on_a_random_port_and_through_the_forwarder() {
    for port in [None, Some(0)] {
        let broker = broker(port);
        let producer = producer(&broker, "5000");
        for offset in 0..3 {
            assert_eq!(send(&producer, "x").await, Ok(offset), "{port:?}");
        }
        let metadata = producer.client().fetch_metadata(Some("events"), Duration::from_secs(5)).unwrap();
        let [reported] = metadata.brokers() else { panic!("one broker") };
        assert_eq!(format!("{}:{}", reported.host(), reported.port()), broker.bootstrap_servers());
        assert_eq!(metadata.topics()[0].partitions().len(), 1);
    }
}

#[test]
fn a_taken_port_is_an_error_that_names_the_address_and_a_dropped_broker_frees_it() {
    let first = broker(Some(0));
    let address: SocketAddr = first.bootstrap_servers().parse().unwrap();
    let start = || EmbeddedBroker::start(Some(address.port()), Vec::new());
    let error = start().err().expect("taken").to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    let before = Instant::now();
    drop(first);
    assert!(before.elapsed() < GONE_WITHIN, "{:?}", before.elapsed());
    assert_eq!(start().unwrap().bootstrap_servers(), address.to_string());
}

#[test]
fn a_broker_goes_in_bounded_time_while_clients_are_connected() {
    for port in [None, Some(0)] {
        let broker = broker(port);
        let mut config = ClientConfig::new();
        let producer: BaseProducer =
            config.set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
        producer.client().fetch_metadata(None, Duration::from_secs(5)).unwrap();
        let before = Instant::now();
        drop(broker);
        assert!(before.elapsed() < GONE_WITHIN, "{port:?}: {:?}", before.elapsed());
    }
}

#[test]
fn a_topic_that_cannot_be_made_is_an_error_with_the_reason() {
    let broker = broker(None);
    broker.create_topic("more", 3).unwrap();
    let refusal = |name, partitions| broker.create_topic(name, partitions).unwrap_err().to_string();
    assert!(refusal("more", 3).contains("already exists"), "{}", refusal("more", 3));
    assert!(refusal("none", 0).contains("expected at least 1"));
    assert!(refusal("nul\0", 1).contains("NUL"));
    let topics = vec![("twice".to_owned(), 1), ("twice".to_owned(), 1)];
    assert!(matches!(EmbeddedBroker::start(None, topics), Err(EmbeddedError::Topic { .. })));
}

#[tokio::test]
async fn produce_requests_fail_with_the_errors_asked_for_and_then_no_more() {
    let broker = broker(None);
    let producer = producer(&broker, "5000");
    broker.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    assert_eq!(send(&producer, "x").await, Err(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(send(&producer, "x").await, Ok(0));
    // librdkafka retries these errors itself, so the send succeeds.
    broker.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 2]);
    assert_eq!(send(&producer, "x").await, Ok(1));
    broker.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    broker.clear_faults();
    assert_eq!(send(&producer, "x").await, Ok(2));
}

#[tokio::test]
async fn a_broker_that_is_down_confirms_nothing_and_has_kept_everything_when_it_is_up_again() {
    for port in [None, Some(0)] {
        let broker = broker(port);
        let producer = producer(&broker, "700");
        assert_eq!(send(&producer, "before").await, Ok(0));
        broker.down();
        broker.down();
        assert_eq!(send(&producer, "lost").await, Err(RDKafkaErrorCode::MessageTimedOut));
        broker.up();
        let patient = self::producer(&broker, "10000");
        assert_eq!(send(&patient, "after").await, Ok(1), "{port:?}");
    }
}

#[tokio::test]
async fn answers_take_the_round_trip_asked_for() {
    let broker = broker(None);
    let producer = producer(&broker, "5000");
    send(&producer, "connects").await.unwrap();
    broker.round_trip(Duration::from_millis(300));
    let before = Instant::now();
    send(&producer, "slow").await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(300), "{:?}", before.elapsed());
    broker.clear_faults();
    // The shortest of several: a busy machine can delay some.
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let before = Instant::now();
        send(&producer, "fast").await.unwrap();
        shortest = shortest.min(before.elapsed());
    }
    assert!(shortest < Duration::from_millis(200), "{shortest:?}");
}

/// Sends `ApiVersions` and returns the response after its correlation id.
fn api_versions(connection: &mut std::net::TcpStream, version: u8, rest: &[u8]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let request = [&[0, 18, 0, version, 0, 0, 0, 7, 0, 1, b'x'], rest].concat();
    let size = u32::try_from(request.len()).unwrap();
    connection.write_all(&[&size.to_be_bytes(), request.as_slice()].concat()).unwrap();
    let mut head = [0; 8];
    connection.read_exact(&mut head).unwrap();
    let [size @ .., 0, 0, 0, 7] = head else { panic!("another correlation id: {head:?}") };
    let mut response = vec![0; u32::from_be_bytes(size) as usize - 4];
    connection.read_exact(&mut response).unwrap();
    response
}

/// Clients other than librdkafka (Java, franz-go, Node.js) depend on both answers.
#[test]
fn a_client_learns_the_versions_that_the_mock_cluster_understands() {
    let broker = broker(Some(0));
    let mut connection = std::net::TcpStream::connect(broker.bootstrap_servers()).unwrap();
    connection.set_read_timeout(Some(GONE_WITHIN)).unwrap();
    let refused = api_versions(&mut connection, 4, b"\0\x02a\x02b\0");
    assert_eq!(
        refused,
        [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2],
        "UNSUPPORTED_VERSION, with those of this request"
    );
    let versions = api_versions(&mut connection, 0, b"");
    let [0, 0, 0, 0, 0, count, ranges @ ..] = versions.as_slice() else { panic!("{versions:?}") };
    assert_eq!(ranges.len(), usize::from(*count) * 6);
    for (api, newest) in GROUP_VERSIONS {
        let api: i16 = api.into();
        let expected = [api.to_be_bytes(), [0, 0], newest.to_be_bytes()].concat();
        assert!(ranges.chunks(6).any(|range| range == expected), "{api}: {ranges:?}");
    }
}
