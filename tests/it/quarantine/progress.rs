//! The progress of replays: the next run continues an interrupted one, and Kafka stores a bounded number of gaps.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{command, ends};
use crate::support::bridge::{MAX_WAIT, TestBridge};
use crate::support::kafka::{plain, unique};
use crate::support::program::{Running, err, out};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_or_interrupted_replay_is_continued_by_the_next() {
    let (prefix, kafka) = (format!("{}.", unique("it")), plain().client());
    for topic in ["quarantine", "NewThing"] {
        kafka.create_topic(&format!("{prefix}{topic}"), 1, &[]); // Stuck has no topic, which the client reports after five seconds
    }
    let bridge = TestBridge::on(plain().bootstrap(), kafka, prefix.clone(), &[]).await;
    for (number, action) in ["NewThing", "NewThing", "Stuck", "NewThing", "NewThing"].iter().enumerate() {
        bridge.deliver(action, format!(r#"{{"Id":{number}}}"#)).await.events("quarantined");
    }
    let replay =
        |arguments: &[&str]| command(plain().bootstrap(), &prefix, &[&["replay"], arguments].concat());
    let killed = Running::start(&mut replay(&[]));
    killed.line_with("replayed  0@1");
    killed.signal("KILL");
    killed.ended(MAX_WAIT);
    let second = ends(&replay(&[]).output().expect("it runs"), 1);
    assert!(
        second.contains("2 replayed (2 events), 0 skipped, 1 failed, 2 replayed by earlier runs"),
        "{second}"
    );
    let values = |expected| -> Vec<String> {
        let messages = bridge.topic("NewThing", expected).into_iter();
        messages.map(|message| String::from_utf8(message.value).expect("text")).collect()
    };
    assert_eq!(values(4), [r#"{"Id":0}"#, r#"{"Id":1}"#, r#"{"Id":3}"#, r#"{"Id":4}"#]);

    let interrupted = Running::start(&mut replay(&["--again"]));
    interrupted.line_with("replayed  0@1");
    interrupted.signal("INT");
    let (status, printed) = interrupted.ended(MAX_WAIT);
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("interrupted") && printed.contains("2 replayed (2 events), 0 skipped, 1 failed"),
        "{printed}"
    );
    assert_eq!(values(6)[4..], [r#"{"Id":0}"#, r#"{"Id":1}"#]);
    assert!(!bridge.kafka().topics().contains(&format!("{prefix}Stuck")));
}

/// Commits that all messages in these ranges were replayed, as an earlier run does.
fn commit_progress(topic: &str, metadata: &str) {
    let mut config = plain().client().config().clone();
    config.set("group.id", "nexudus-bridge-quarantine-replay");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(0)).expect("valid");
    list.find_partition(topic, 0).expect("just added").set_metadata(metadata);
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_warns_before_the_limit_of_gaps_and_names_what_could_not_be_stored() {
    let (prefix, kafka) = (format!("{}.", unique("it")), plain().client());
    for topic in ["quarantine", "NewThing"] {
        kafka.create_topic(&format!("{prefix}{topic}"), 1, &[]);
    }
    let bridge = TestBridge::on(plain().bootstrap(), kafka, prefix.clone(), &[]).await;
    for body in ["no JSON", r#"{"Id":1}"#, r#"{"Id":2}"#] {
        bridge.deliver("NewThing", body).await.events("quarantined");
    }
    let replay = |place: &str| {
        let mut command = command(plain().bootstrap(), &prefix, &["replay", "--again", place]);
        let output = command.output().expect("it runs");
        assert!(ends(&output, 0).contains("1 replayed"), "{}", out(&output));
        err(&output)
    };
    let gaps = |count: i64| {
        let offsets: Vec<String> = (0..count).map(|n| (1_000_001 + 2 * n).to_string()).collect();
        offsets.join(",")
    };
    assert_eq!(replay("0@1"), "", "the metadata has space");
    // 8 bytes for each gap are more than 90 % of the 4,000 bytes.
    commit_progress(&format!("{prefix}quarantine"), &gaps(460));
    let printed = replay("0@1");
    assert!(
        printed.contains("warning: partition 0 has 461 gaps between replayed messages, nearly as many as"),
        "{printed}"
    );
    assert!(!printed.contains("cannot be remembered"), "{printed}");
    commit_progress(&format!("{prefix}quarantine"), &gaps(500));
    let printed = replay("0@2");
    assert!(
        printed.contains("note: 1 replayed message cannot be remembered, as there are too many gaps"),
        "{printed}"
    );
    assert!(
        printed.contains("the next run replays what it chooses of them again, with the same ids"),
        "{printed}"
    );
}
