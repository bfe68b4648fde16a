//! Two replicas behind nginx: no restart of a replica, orderly or not, loses a delivery.
//!
//! The test runs two processes of the real program, one real Kafka, and the real nginx with the users' file ([`nginx`]). It uses the
//! senders and the oracle of the chaos test. Under steady load it first stops each replica gracefully and starts it again, as in a
//! rolling update. Then it kills each replica and starts it again. Senders retry until they have a 2xx. At the end every topic is
//! read completely.
//!
//! `NEXUDUS_BRIDGE_REPLICAS_SEED` is the seed of an earlier run. `NEXUDUS_BRIDGE_REPLICAS_PREVIOUS` is the path of a previous
//! release's program: both replicas begin with it, and the rolling update brings this build. Without it, both are this build.

#[path = "../chaos/bridge.rs"]
#[allow(dead_code, reason = "the chaos test uses the rest")]
mod bridge;
#[path = "../chaos/journal.rs"]
mod journal;
#[path = "../it/support/kafka/mod.rs"]
mod kafka;
#[path = "../chaos/log.rs"]
#[allow(dead_code, reason = "the chaos test uses the rest")]
mod log;
mod nginx;
#[path = "../chaos/oracle.rs"]
mod oracle;
#[path = "../chaos/post.rs"]
mod post;
mod replica;
#[path = "../chaos/report.rs"]
mod report;
#[path = "../chaos/sender.rs"]
mod sender;
#[path = "../chaos/stage.rs"]
#[allow(dead_code, reason = "the chaos test uses the rest")]
mod stage;
#[path = "../chaos/workload.rs"]
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nexudus_bridge::signature::SigningKey;

use crate::bridge::PROGRAM;
use crate::journal::{Journal, Position};
use crate::kafka::{Client, pause, plain, unique};
use crate::nginx::Nginx;
use crate::oracle::{Message, Oracle, Verdict};
use crate::replica::Replica;
use crate::report::{Report, say};
use crate::sender::Senders;
use crate::stage::Stage;
use crate::workload::{ACTIONS, Workload};

const SECRET: &str = "replicas-secret";

/// The default of the setting.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// `shutdown_delay` of each replica: long enough for a load balancer that checks readiness, and zero, which is enough for nginx.
const SHUTDOWN_DELAYS: [Duration; 2] = [Duration::from_secs(6), Duration::ZERO];

/// Traffic to both replicas before, between and after their restarts.
const CALM: Duration = Duration::from_secs(3);

/// Time between the end of a replica and its start.
const AWAY: Duration = Duration::from_secs(1);

/// Time-out of readiness, of traffic, and of reading a topic.
const WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Minimum share of each replica in the deliveries while both run.
const LEAST_SHARE: f64 = 0.25;

/// The kind of a restart. Its name is the one in the report.
#[derive(Clone, Copy, PartialEq)]
enum Restart {
    InOrder,
    Killed,
}

impl Restart {
    fn name(self) -> &'static str {
        match self {
            Self::InOrder => "a replica stopped in order (SIGTERM), and its return",
            Self::Killed => "a replica killed (SIGKILL), and its return",
        }
    }
}

#[test]
fn neither_a_rolling_update_nor_a_killed_replica_costs_a_delivery() {
    let seed = std::env::var_os("NEXUDUS_BRIDGE_REPLICAS_SEED").filter(|seed| !seed.is_empty());
    let seed = seed.map(|seed| seed.to_string_lossy().parse().expect("a seed is a number"));
    let seed = seed.unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX)));
    let workload = Workload::new(seed);
    let client = plain().client();
    let prefix = format!("{}.", unique("replicas"));
    for name in ACTIONS.iter().map(|action| action.name).chain(["quarantine"]) {
        client.create_topic(&format!("{prefix}{name}"), 3, &[]);
    }
    let first = std::env::var_os("NEXUDUS_BRIDGE_REPLICAS_PREVIOUS").filter(|path| !path.is_empty());
    let first = first.map_or_else(|| PROGRAM.into(), PathBuf::from);
    let mut replicas = SHUTDOWN_DELAYS
        .map(|delay| Replica::start(&first, plain().bootstrap(), &prefix, CONFIRM_TIMEOUT, delay, SECRET));
    say(&format!("replicas: from {} ({}) to this build", replicas[0].version(), first.display()));
    let nginx = Nginx::start(replicas.each_ref().map(Replica::address));
    let stage = Arc::new(Stage::new(SigningKey::new(SECRET).expect("not empty")));
    let senders = Senders {
        address: nginx.address(),
        workload,
        prefix: prefix.clone(),
        confirm_timeout: CONFIRM_TIMEOUT,
        stage: Arc::clone(&stage),
        seed,
    };
    let sending = thread::spawn(|| senders.run());

    let mut broken = Vec::new();
    let shares = calm(&replicas);
    say(&format!("replicas: seed {seed}, shares with both there: {:.2} and {:.2}", shares[0], shares[1]));
    if shares.iter().any(|share| *share < LEAST_SHARE) {
        broken.push(format!("one replica has too little of the traffic: {shares:?}"));
    }
    for restart in [Restart::InOrder, Restart::Killed] {
        for replica in &mut replicas {
            broken.extend(restart_under_load(restart, replica, &nginx, &stage));
        }
    }
    stage.end();
    let journals = sending.join().expect("the thread printed the reason");
    let peak_mib = replicas.iter().filter_map(Replica::peak_mib).reduce(f64::max);
    broken.extend(replicas.iter_mut().flat_map(Replica::stop));

    let report = Report {
        name: "replicas",
        seed,
        sent_for: Duration::from_nanos(stage.now()),
        confirm_timeout: CONFIRM_TIMEOUT,
        seen: stage.seen().clone(),
        own_delay: stage.longest_own_delay(),
        peak_mib,
        verdict: read(&client, &prefix, workload, &journals, &stage),
        stuck: None,
    };
    say(&report.to_string());
    broken.extend(report.broken());
    if report.seen.given_up > 0 {
        broken.push(format!("{} deliveries were given up", report.seen.given_up));
    }
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
}

/// Restarts one replica under load. Returns the violated guarantees.
fn restart_under_load(restart: Restart, replica: &mut Replica, nginx: &Nginx, stage: &Stage) -> Vec<String> {
    let mut broken = Vec::new();
    let (failed_before, passed_on_before) = (failed(stage), nginx.passed_on());
    stage.fault_begins(restart.name(), false);
    happen(restart, replica);
    pause(CALM);
    stage.fault_is_over();
    let (failed, passed_on) = (failed(stage) - failed_before, nginx.passed_on() - passed_on_before);
    let name = restart.name();
    say(&format!("replicas: {name}: {failed} attempts failed, {passed_on} went to the other replica"));
    if replica.version() != env!("CARGO_PKG_VERSION") {
        broken.push(format!("{name}: it came back as version {}", replica.version()));
    }
    if restart == Restart::InOrder && failed > 0 {
        broken.push(format!("{name}: {failed} attempts failed"));
    }
    if passed_on == 0 {
        broken.push(format!("{name}: nginx had nothing to do, so nothing was proved"));
    }
    broken
}

/// Returns each replica's share of the deliveries while both run.
fn calm(replicas: &[Replica; 2]) -> [f64; 2] {
    for replica in replicas {
        replica.wait_for_traffic();
    }
    let before = replicas.each_ref().map(Replica::confirmed);
    pause(CALM);
    let after = replicas.each_ref().map(Replica::confirmed);
    let counts = [after[0] - before[0], after[1] - before[1]];
    counts.map(|count| count / counts.iter().sum::<f64>())
}

/// Ends a replica, starts it again, and waits until it gets its part of the traffic.
fn happen(restart: Restart, replica: &mut Replica) {
    match restart {
        Restart::InOrder => replica.drain(),
        Restart::Killed => replica.kill(),
    }
    pause(AWAY);
    replica.start_again();
    replica.wait_for_traffic();
}

/// Returns the number of failed attempts, without those that the sender itself ended.
fn failed(stage: &Stage) -> u64 {
    let refused = &stage.seen().refused;
    refused.iter().filter(|(cause, _)| *cause != sender::HUNG_UP).map(|(_, count)| count).sum()
}

/// Passes every message of every topic to the oracle.
fn read(client: &Client, prefix: &str, workload: Workload, journals: &[Journal], stage: &Stage) -> Verdict {
    let oracle = Oracle::new(workload, journals, 0, stage.troubles(Duration::ZERO));
    let mut oracle = oracle.behind_proxy(SHUTDOWN_DELAYS.len());
    for (action, of) in ACTIONS.iter().enumerate() {
        client.scan(&format!("{prefix}{}", of.name), WITHIN, |message| {
            oracle.see(&Message {
                action,
                place: Position { partition: message.partition, offset: Some(message.offset) },
                key: message.key.as_deref(),
                value: &message.value,
                id: message.header("ce_id").unwrap_or_default(),
                received: stage.moment(message.header("ce_nexudusreceived").unwrap_or_default()),
            });
        });
    }
    let mut verdict = oracle.verdict();
    client.scan(&format!("{prefix}quarantine"), WITHIN, |message| {
        verdict
            .invented
            .add(|| format!("on the quarantine topic at {}/{}", message.partition, message.offset));
    });
    verdict
}

/// Waits until a condition holds.
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {WITHIN:?} until {what}, in vain");
        pause(LOOK_EVERY);
    }
}
