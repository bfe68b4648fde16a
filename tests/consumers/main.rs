//! The consumers of `examples/consumers` against a real Kafka and the real bridge.
//!
//! The topics have 5,000 deliveries in random order, with duplicates and signals. They also have tombstones, unknown actions, and
//! messages that no consumer can apply. Every language has a group of two members. One member is killed with SIGKILL and another one
//! is started, then the broker is killed and restarted. In the end each group's database equals the oracle's rows. No event was
//! applied twice: a trigger counts the transactions that apply a change to a record.
//!
//! `tests/run --all` builds the consumers (`tests/consumers/build`) and names their languages in
//! `NEXUDUS_BRIDGE_TEST_CONSUMERS`. `NEXUDUS_BRIDGE_TEST_CONSUMERS_SEED` repeats an order.

#[path = "../it/support/kafka/mod.rs"]
mod kafka;
mod member;
mod oracle;
mod stage;

use std::io::Write as _;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::kafka::pause;
use crate::oracle::Workload;
use crate::stage::{Consumers, Stage};

const DELIVERIES: usize = 5_000;

/// Upper bound for each wait. A stalled machine does not reach it.
const WITHIN: Duration = Duration::from_secs(180);

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[test]
#[ignore = "tests/run --all runs it: it needs the consumers' tool chains"]
fn every_consumer_ends_with_the_rows_of_the_oracle() {
    let seed = std::env::var_os("NEXUDUS_BRIDGE_TEST_CONSUMERS_SEED").filter(|seed| !seed.is_empty());
    let seed = seed.map_or_else(
        || fastrand::u64(..1 << 32),
        |seed| seed.to_string_lossy().parse().expect("a seed is a number"),
    );
    let languages = std::env::var_os("NEXUDUS_BRIDGE_TEST_CONSUMERS");
    let languages =
        languages.expect("the languages, built by tests/run --all").to_string_lossy().into_owned();
    let begun = Instant::now();
    let say = |text: &str| {
        writeln!(std::io::stdout(), "consumers: {:3} s: {text}", begun.elapsed().as_secs()).ok();
    };
    say(&format!("seed {seed}, languages {languages}"));

    let workload = Workload::new(&mut Rng::with_seed(seed), DELIVERIES);
    let stage = Stage::start();
    let mut all: Vec<_> =
        languages.split_whitespace().map(|language| Consumers::new(language, &stage)).collect();
    for consumers in &mut all {
        consumers.add_member(&stage);
        consumers.add_member(&stage);
    }
    for consumers in &mut all {
        consumers.wait_for_members(&stage, 2);
        consumers.prepare_database();
    }
    say("each group has two members");

    let parts: Vec<_> = workload.deliveries.chunks(DELIVERIES / 4).collect();
    stage.post(parts[0]);
    stage.publish_garbage();
    stage.publish_messages_to_skip();
    say("a quarter is posted");
    for consumers in &mut all {
        consumers.kill_a_member_at_work();
        consumers.add_member(&stage);
    }
    say("one member of each group is killed, another one started");
    stage.post(parts[1]);
    for consumers in &mut all {
        consumers.wait_for_members(&stage, 2);
    }
    say("each group has two members again");
    stage.post(parts[2]);
    stage.restart_broker();
    say("the broker is restarted");
    stage.post(parts[3]);
    let messages = stage.messages();
    say(&format!("everything is posted: {messages} messages, {} events", workload.ids.len()));
    assert!(messages >= DELIVERIES, "{messages} messages");

    for consumers in &mut all {
        consumers.wait_until_applied(&workload);
        consumers.wait_until_committed(&stage);
        say(&format!("{} has applied everything", consumers.language));
    }
    for consumers in all {
        let language = consumers.language.clone();
        let [duplicates, skipped] = consumers.stop_and_compare(&stage, &workload);
        say(&format!(
            "{language}: the database equals the oracle's rows; its last members dropped {duplicates} duplicates and skipped {skipped}"
        ));
        assert!(duplicates > 0 && skipped > 0, "{language}");
    }
}

/// Waits until a condition holds.
#[track_caller]
fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        pause(LOOK_EVERY);
    }
}
