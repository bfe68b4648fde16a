//! Many topics on distant brokers. More requests are in flight then, and the guarantees hold while the number of requests changes,
//! leaders fail and partitions are added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nexudus_bridge::action::{Action, Actions};
use serde_json::Value;

use crate::support::bridge::{MAX_WAIT, Reply, TestBridge};
use crate::support::kafka::{BROKERS, OwnCluster, unique};
use crate::support::proxy::Proxy;
use crate::support::say;

const ACTIONS: [&str; 12] = [
    "BookingCreate",
    "BookingUpdate",
    "BookingDelete",
    "CoworkerCreate",
    "CoworkerUpdate",
    "CoworkerDelete",
    "TeamCreated",
    "TeamUpdated",
    "ProductCreate",
    "ProductUpdate",
    "TariffCreate",
    "TariffUpdate",
];

/// Number of partitions of each topic at the start.
const PARTITIONS: usize = 3;

const SENDERS: usize = 96;

async fn cluster() -> ([Proxy; BROKERS], OwnCluster) {
    let proxies = [([127, 0, 0, 1], 9).into(); BROKERS].map(Proxy::start);
    let cluster = OwnCluster::start_behind(proxies.each_ref().map(Proxy::address));
    for (broker, proxy) in proxies.iter().enumerate() {
        proxy.retarget(cluster.behind_proxy(broker));
    }
    (proxies, cluster)
}

/// Starts a bridge with the topics of [`ACTIONS`], and then delays the network to the brokers by 5 ms.
async fn far_bridge(confirm_timeout: &str) -> ([Proxy; BROKERS], OwnCluster, TestBridge) {
    let (proxies, cluster) = cluster().await;
    let prefix = format!("{}.", unique("it"));
    for action in ACTIONS.iter().chain(&["quarantine"]) {
        cluster.client().create_topic(&format!("{prefix}{action}"), PARTITIONS as i32, &[]);
    }
    let settings = [("kafka.confirm_timeout", confirm_timeout), ("topics.create", "false")];
    let bridge = TestBridge::on(&bootstrap(&proxies), cluster.client(), prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    proxies.iter().for_each(|proxy| proxy.slow(Duration::from_millis(5)));
    (proxies, cluster, bridge)
}

fn bootstrap(proxies: &[Proxy; BROKERS]) -> String {
    proxies.each_ref().map(|proxy| proxy.address().to_string()).join(",")
}

/// Returns the maximum number of requests in flight for a broker.
fn limit(metrics: &Reply) -> f64 {
    let text = String::from_utf8_lossy(&metrics.body);
    let series = text.lines().filter(|line| line.starts_with("nexudus_bridge_in_flight_requests_limit{"));
    series.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_keep_their_order_while_the_window_changes_a_leader_is_killed_and_partitions_are_added() {
    let (proxies, cluster, bridge) = far_bridge("30s").await;

    let is_over = AtomicBool::new(false);
    let confirmed = AtomicUsize::new(0);
    let senders = (0..SENDERS).map(async |id| {
        let action = ACTIONS[id % ACTIONS.len()];
        let (mut repeated, mut number) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            number += 1;
            let body = format!(r#"{{"Id":{id},"N":{number}}}"#);
            while bridge.deliver(action, body.clone()).await.status != 200 {
                repeated += 1;
            }
            confirmed.fetch_add(1, Ordering::Relaxed);
        }
        (action, id, number, repeated)
    });
    let faults = async {
        let metrics = bridge.wait_until_admin("/metrics", |reply| limit(reply) >= 10.0).await;
        say(&format!("up to {} requests in flight for a broker", limit(&metrics)));
        cluster.kill(1);
        more(&confirmed, 500).await;
        cluster.start_again(&[1]).expect("the broker starts again");
        bridge.kafka().add_partitions(&bridge.name_of(ACTIONS[0]), 2 * PARTITIONS);
        an_added_partition_is_used(&bridge).await;
        proxies.iter().for_each(Proxy::restore); // without delay again
        more(&confirmed, 2_000).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(join_all(senders), faults);

    let mut seen: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
    for action in ACTIONS {
        let mut messages = bridge.kafka().read_to_end(&bridge.name_of(action));
        // On the topic with added partitions, a key can change its partition once.
        messages.sort_by_key(|message| (message.partition, message.offset));
        for message in messages {
            let record: Value = serde_json::from_slice(&message.value).expect("JSON");
            let number = |name: &str| record[name].as_u64().expect("a number");
            seen.entry((action, number("Id"))).or_default().push(number("N"));
        }
    }
    // When a message times out, librdkafka may write what is in flight twice, also for deliveries that are answered 200.
    let may_repeat = sent.iter().any(|(_, _, _, repeated)| *repeated > 0);
    for (action, id, last, _) in sent {
        let numbers = &seen[&(action, id as u64)];
        assert!(
            numbers.len() == last || may_repeat,
            "{action} {id}: {last} confirmed, {} messages",
            numbers.len()
        );
        let mut all: Vec<u64> = numbers.clone();
        all.sort_unstable();
        all.dedup();
        assert!(
            all.iter().copied().eq(1..=last as u64),
            "{action} {id}: {last} confirmed, on the topic {all:?}"
        );
        if action != ACTIONS[0] {
            let mut first = BTreeSet::new();
            let firsts: Vec<u64> = numbers.iter().copied().filter(|number| first.insert(*number)).collect();
            assert!(firsts.is_sorted(), "{action} {id}: {numbers:?}");
        }
    }
}

/// Waits until an added partition of the first action's topic has events.
async fn an_added_partition_is_used(bridge: &TestBridge) {
    let begun = Instant::now();
    loop {
        let messages = bridge.kafka().read_to_end(&bridge.name_of(ACTIONS[0]));
        let added = messages.iter().filter(|message| message.partition as usize >= PARTITIONS).count();
        if added > 0 {
            return say(&format!("an added partition is used after {:.0?}", begun.elapsed()));
        }
        assert!(begun.elapsed() < 4 * MAX_WAIT, "none of {} events is on an added partition", messages.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until this number of further deliveries is confirmed.
async fn more(confirmed: &AtomicUsize, count: usize) {
    let (begun, wanted) = (Instant::now(), confirmed.load(Ordering::Relaxed) + count);
    while confirmed.load(Ordering::Relaxed) < wanted {
        assert!(
            begun.elapsed() < 4 * MAX_WAIT,
            "{} of {wanted} are confirmed",
            confirmed.load(Ordering::Relaxed)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_delays_only_its_own_partitions() {
    let (proxies, cluster) = cluster().await;
    let prefix = format!("{}.", unique("it"));
    for (action, node) in [("BookingCreate", 1), ("CoworkerCreate", 2), ("TeamCreated", 3), ("quarantine", 3)]
    {
        cluster.client().create_topic_on(&format!("{prefix}{action}"), node);
    }
    let settings = [("kafka.confirm_timeout", "5m")];
    let bridge = TestBridge::on(&bootstrap(&proxies), cluster.client(), prefix, &settings).await;
    for action in ["BookingCreate", "CoworkerCreate", "TeamCreated"] {
        bridge.deliver_until_confirmed(action, r#"{"Id":1}"#).await;
    }
    proxies[0].stall();
    let is_held = AtomicBool::new(true);
    let held = async {
        let waiting = (0..100).map(|id| bridge.deliver("BookingCreate", format!(r#"{{"Id":{id}}}"#)));
        for reply in join_all(waiting).await {
            reply.events("confirmed");
        }
        is_held.store(false, Ordering::Relaxed);
    };
    let others = async {
        for id in 0..200 {
            for action in ["CoworkerCreate", "TeamCreated"] {
                bridge.deliver(action, format!(r#"{{"Id":{id}}}"#)).await.events("confirmed");
            }
        }
        assert!(is_held.load(Ordering::Relaxed), "the broker that does not answer has answered");
        proxies[0].restore();
    };
    tokio::join!(held, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_under_load_delays_no_other_topic() {
    let (_proxies, _cluster, bridge) = far_bridge("5s").await;

    let (deleted, others) = ACTIONS.split_first().expect("there are actions");
    let is_over = AtomicBool::new(false);
    let confirmed = AtomicUsize::new(0);
    let (refused, others_refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let senders = (0..SENDERS).map(async |id| {
        let action = ACTIONS[id % ACTIONS.len()];
        while !is_over.load(Ordering::Relaxed) {
            let is_confirmed = bridge.deliver(action, format!(r#"{{"Id":{id}}}"#)).await.status == 200;
            let count = match (is_confirmed, action == *deleted) {
                (true, true) => continue,
                (true, false) => &confirmed,
                (false, true) => &refused,
                (false, false) => &others_refused,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let deletion = async {
        bridge.wait_until_admin("/metrics", |reply| limit(reply) >= 10.0).await;
        bridge.kafka().delete_topic(&bridge.name_of(deleted));
        more(&refused, 1).await;
        more(&confirmed, others.len() * 100).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(senders), deletion);
    assert_eq!(others_refused.into_inner(), 0, "deliveries to other topics were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_deliveries_over_all_topics_lose_nothing_when_a_leader_is_killed() {
    const DELIVERIES: usize = 10_000;
    const CONNECTIONS: usize = 256;
    let (proxies, cluster) = cluster().await;
    let prefix = format!("{}.", unique("it"));
    let catalogue = Actions::default();
    let actions: Vec<&str> = catalogue.iter().map(Action::name).collect();
    let settings = [("kafka.confirm_timeout", "30s"), ("topics.create", "true"), ("topics.partitions", "3")];
    let bridge = TestBridge::on(&bootstrap(&proxies), cluster.client(), prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;

    let next = AtomicUsize::new(0);
    let repeated = AtomicUsize::new(0);
    let confirmed = AtomicUsize::new(0);
    let senders = (0..CONNECTIONS).map(async |_| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= DELIVERIES {
                return;
            }
            let action = actions[number % actions.len()];
            while bridge.deliver(action, format!(r#"{{"Id":{number}}}"#)).await.status != 200 {
                repeated.fetch_add(1, Ordering::Relaxed);
            }
            confirmed.fetch_add(1, Ordering::Relaxed);
        }
    });
    let kill = async {
        more(&confirmed, DELIVERIES / 4).await;
        cluster.kill(2);
        more(&confirmed, DELIVERIES / 4).await;
        cluster.start_again(&[2]).expect("the broker starts again");
    };
    tokio::join!(join_all(senders), kill);

    let mut seen = vec![0_usize; DELIVERIES];
    for action in &actions {
        for message in bridge.kafka().read_to_end(&bridge.name_of(action)) {
            let record: Value = serde_json::from_slice(&message.value).expect("JSON");
            let number = record["Id"].as_u64().expect("a number") as usize;
            assert_eq!(*action, actions[number % actions.len()], "record {number}");
            seen[number] += 1;
        }
    }
    let lost: Vec<usize> = (0..DELIVERIES).filter(|number| seen[*number] == 0).collect();
    assert!(lost.is_empty(), "confirmed, and not on the topic: {lost:?}");
    let copies = seen.iter().sum::<usize>() - DELIVERIES;
    assert!(copies == 0 || repeated.into_inner() > 0, "{copies} copies without a delivery that was repeated");
}
