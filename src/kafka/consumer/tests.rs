use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::*;
use crate::config::Property;
use crate::kafka::embedded::EmbeddedBroker;

const SOON: Duration = Duration::from_secs(10);

fn broker(topics: &[(&str, i32)]) -> EmbeddedBroker {
    let topics = topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
    EmbeddedBroker::start(None, topics).unwrap()
}

fn settings(servers: &str) -> Kafka {
    // Properties for producers must have no effect on a reader.
    let properties = [("compression.type", "lz4"), ("linger.ms", "5"), ("statistics.interval.ms", "100")];
    let property = |(name, value): (&str, &str)| (name.to_owned(), Property::new(value.to_owned()));
    Kafka {
        bootstrap_servers: servers.to_owned(),
        confirm_timeout: SOON,
        properties: BTreeMap::from_iter(properties.map(property)),
        oauth: None,
    }
}

fn all() -> Selection {
    Selection::Matching(Box::new(|name| name.starts_with("nexudus.")))
}

async fn write(broker: &EmbeddedBroker, topic: &str, values: &[&str]) {
    let mut config = ClientConfig::new();
    let producer: FutureProducer =
        config.set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    for value in values {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "ce_id", value: Some("1") })
            .insert(Header { key: "null", value: None::<&str> });
        let record = FutureRecord::to(topic).key(*value).payload(*value).headers(headers);
        producer.send(record, Duration::ZERO).await.unwrap();
    }
}

async fn values(reader: &mut Reader, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let message =
            tokio::time::timeout(SOON, reader.next()).await.expect("in time").unwrap().expect("more");
        values.push(String::from_utf8(message.value.expect("a value")).unwrap());
    }
    values.sort();
    values
}

#[tokio::test]
async fn everything_is_read_from_the_beginning_to_the_end_and_no_further() {
    let broker = broker(&[("nexudus.A", 3), ("nexudus.B", 1), ("nexudus.Empty", 3), ("other", 1)]);
    write(&broker, "nexudus.A", &["a1", "a2", "a3", "a4", "a5"]).await;
    write(&broker, "nexudus.B", &["b1"]).await;
    write(&broker, "other", &["o1"]).await;
    let kafka = settings(broker.bootstrap_servers());
    let mut reader = Reader::open(&kafka, all(), Start::Beginning, Stop::End).await.unwrap();
    write(&broker, "nexudus.A", &["late"]).await;
    assert_eq!(values(&mut reader, 6).await, ["a1", "a2", "a3", "a4", "a5", "b1"]);
    assert_eq!(reader.next().await.unwrap(), None);
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_message_has_all_its_parts() {
    let broker = broker(&[("nexudus.A", 1)]);
    write(&broker, "nexudus.A", &["a", "b"]).await;
    let named = Selection::Named(vec!["nexudus.A".to_owned()]);
    let kafka = settings(broker.bootstrap_servers());
    let mut reader = Reader::open(&kafka, named, Start::Beginning, Stop::End).await.unwrap();
    reader.next().await.unwrap().unwrap();
    let message = reader.next().await.unwrap().unwrap();
    assert_eq!((message.topic.as_str(), message.partition, message.offset), ("nexudus.A", 0, 1));
    assert_eq!((message.key.as_deref(), message.value.as_deref()), (Some(&b"b"[..]), Some(&b"b"[..])));
    assert_eq!(message.headers, [("ce_id".to_owned(), Some(b"1".to_vec())), ("null".to_owned(), None)]);
    assert_eq!(
        (message.header("ce_id"), message.header("null"), message.header("x")),
        (Some(&b"1"[..]), None, None)
    );
    assert!(Timestamp::now().duration_since(message.timestamp.unwrap()).as_secs() < 60);
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_live_reader_begins_with_what_comes_after_it_was_opened_and_finds_new_topics() {
    let broker = broker(&[("nexudus.A", 3)]);
    write(&broker, "nexudus.A", &["old1", "old2", "old3"]).await;
    let kafka = settings(broker.bootstrap_servers());
    let mut reader = Reader::open(&kafka, all(), Start::End, Stop::Never).await.unwrap();
    write(&broker, "nexudus.A", &["new1", "new2"]).await;
    assert_eq!(reader.partitions, 3);
    assert_eq!(values(&mut reader, 2).await, ["new1", "new2"]);
    broker.create_topic("nexudus.B", 2).unwrap();
    write(&broker, "nexudus.B", &["b1", "b2"]).await;
    assert_eq!(values(&mut reader, 2).await, ["b1", "b2"]);
    assert_eq!(reader.partitions, 5);
    write(&broker, "nexudus.A", &["new3"]).await; // the new topic does not restart the other topics
    assert_eq!(values(&mut reader, 1).await, ["new3"]);
}

#[tokio::test]
async fn a_reader_can_begin_at_a_time_and_waits_where_nothing_is_that_young() {
    let broker = broker(&[("nexudus.A", 1), ("nexudus.B", 1)]);
    write(&broker, "nexudus.A", &["a1"]).await;
    write(&broker, "nexudus.B", &["b1"]).await;
    let kafka = settings(broker.bootstrap_servers());
    let mut all_of_a = Reader::open(&kafka, all(), Start::Beginning, Stop::End).await.unwrap();
    let mut last = Timestamp::MIN;
    while let Some(message) = all_of_a.next().await.unwrap() {
        last = last.max(message.timestamp.unwrap());
    }
    while Timestamp::now() <= last {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    write(&broker, "nexudus.A", &["a2"]).await;
    let since = Start::Since(last + Duration::from_millis(1));
    let mut reader = Reader::open(&kafka, all(), since, Stop::Never).await.unwrap();
    write(&broker, "nexudus.B", &["b2"]).await;
    assert_eq!(values(&mut reader, 2).await, ["a2", "b2"]);
}

#[tokio::test]
async fn a_reader_waits_for_a_broker_that_comes_back() {
    let broker = broker(&[("nexudus.A", 1)]);
    let kafka = settings(broker.bootstrap_servers());
    let mut reader = Reader::open(&kafka, all(), Start::End, Stop::Never).await.unwrap();
    broker.down();
    assert!(tokio::time::timeout(Duration::from_millis(500), reader.next()).await.is_err(), "waits");
    broker.up();
    write(&broker, "nexudus.A", &["after"]).await;
    assert_eq!(values(&mut reader, 1).await, ["after"]);
}

#[tokio::test]
async fn no_topic_at_all_is_nothing_to_read() {
    let broker = broker(&[]);
    let kafka = settings(broker.bootstrap_servers());
    let mut reader = Reader::open(&kafka, all(), Start::Beginning, Stop::End).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_named_topic_that_is_missing_is_an_error_that_names_it() {
    let broker = broker(&[("nexudus.A", 1)]);
    let named = Selection::Named(vec!["nexudus.A".to_owned(), "nexudus.quarantine".to_owned()]);
    let kafka = settings(broker.bootstrap_servers());
    let error =
        Reader::open(&kafka, named, Start::Beginning, Stop::End).await.err().expect("missing").to_string();
    assert_eq!(error, "no topic nexudus.quarantine on the cluster, or no right to see it");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_an_error_in_bounded_time_that_names_it() {
    let broker = broker(&[]);
    let kafka = settings(broker.bootstrap_servers());
    broker.down();
    let before = Instant::now();
    let error =
        Reader::open(&kafka, all(), Start::End, Stop::Never).await.err().expect("unreachable").to_string();
    assert!(before.elapsed() < CONTACT_TIMEOUT + Duration::from_secs(10), "{:?}", before.elapsed());
    assert!(error.contains(&kafka.bootstrap_servers) && error.contains("connection refused"), "{error}");
}

#[tokio::test]
async fn settings_that_librdkafka_does_not_take_are_an_error_that_names_them() {
    let mut kafka = settings("127.0.0.1:9");
    kafka.properties.insert("no.such.thing".to_owned(), Property::new("1".to_owned()));
    let error =
        Reader::open(&kafka, all(), Start::End, Stop::Never).await.err().expect("unknown").to_string();
    assert!(error.contains("no.such.thing"), "{error}");
}

#[tokio::test]
async fn dropping_a_reader_does_not_keep_its_thread_busy() {
    let broker = broker(&[("nexudus.A", 3)]);
    let kafka = settings(broker.bootstrap_servers());
    for stop in [Stop::Never, Stop::End] {
        // The shortest of several: a busy machine can delay some drops, but a drop that waits is always slow.
        let mut shortest = Duration::MAX;
        for _ in 0..5 {
            let reader = Reader::open(&kafka, all(), Start::Beginning, stop).await.unwrap();
            let before = Instant::now();
            drop(reader);
            shortest = shortest.min(before.elapsed());
        }
        assert!(shortest < Duration::from_millis(50), "{shortest:?}");
    }
}

#[tokio::test]
async fn partitions_are_read_from_the_offsets_that_are_given_and_the_others_not_at_all() {
    let broker = broker(&[("nexudus.A", 1), ("nexudus.B", 2)]);
    write(&broker, "nexudus.A", &["a0", "a1", "a2"]).await;
    write(&broker, "nexudus.B", &["b"; 8]).await;
    let kafka = settings(broker.bootstrap_servers());
    let open = async |topic: &str, partition, offset| {
        let offsets = BTreeMap::from([(partition, offset)]);
        let selection = Selection::From { topic: topic.to_owned(), offsets };
        Reader::open(&kafka, selection, Start::Beginning, Stop::End).await
    };
    let mut reader = open("nexudus.A", 0, 1).await.unwrap();
    assert_eq!(values(&mut reader, 2).await, ["a1", "a2"]);
    assert_eq!(reader.next().await.unwrap(), None);
    assert_eq!(open("nexudus.A", 0, 3).await.unwrap().next().await.unwrap(), None, "behind the end");
    let mut reader = open("nexudus.B", 1, 0).await.unwrap();
    while let Some(message) = reader.next().await.unwrap() {
        assert_eq!(message.partition, 1);
    }
    let error = open("nexudus.B", 2, 0).await.err().expect("no such partition").to_string();
    assert_eq!(error, "topic nexudus.B has no partition 2, it has 0 to 1");
    let error = open("nexudus.C", 0, 0).await.err().expect("no such topic").to_string();
    assert_eq!(error, "no topic nexudus.C on the cluster, or no right to see it");
}
