//! Chaos test: no event is lost. The real bridge runs on a real cluster with random faults, and an oracle checks the result.
//!
//! Forty connections act as Nexudus does ([`sender`]) while brokers, network, topic, bridge and log fail ([`faults`]). Then every
//! topic is read completely and compared with the journals of the senders ([`oracle`]). The seed determines the deliveries and
//! the order of the faults, but not the timing of processes. Variables:
//!
//! - `NEXUDUS_BRIDGE_CHAOS_SECONDS`: duration of the faults, two minutes by default; each kind occurs at least once.
//! - `NEXUDUS_BRIDGE_CHAOS_SEED`: the seed of an earlier run.
//! - `NEXUDUS_BRIDGE_CHAOS_FAULTS`: only these faults, such as `BridgeKilled,NetworkCut`.

mod bridge;
mod faults;
mod journal;
#[path = "../it/support/kafka/mod.rs"]
mod kafka;
mod log;
mod oracle;
mod post;
#[path = "../it/support/proxy.rs"]
mod proxy;
mod report;
mod sender;
mod stage;
mod workload;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nexudus_bridge::signature::SigningKey;

use crate::bridge::Bridge;
use crate::faults::{Fault, Scene, secret};
use crate::journal::{Journal, Position};
use crate::kafka::{OwnCluster, pause, unique};
use crate::oracle::{Message, Oracle, Verdict};
use crate::proxy::Proxy;
use crate::report::{Report, say};
use crate::sender::Senders;
use crate::stage::Stage;
use crate::workload::{ACTIONS, Workload};

const SECONDS: u64 = 120;
const MAX_SECONDS: u64 = 3_600;

/// Short, so that faults longer than this time-out fit into the run.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

/// Time of traffic without a fault, before the first and after the last.
const CALM: Duration = Duration::from_secs(2);

/// Time-out of reading a topic at the end.
const READ_WITHIN: Duration = Duration::from_secs(600);

/// Returns the number in an environment variable.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    let value = value.to_string_lossy();
    Some(value.parse().unwrap_or_else(|_| panic!("{name} = {value:?} is not a number")))
}

/// Returns the faults to choose from.
fn chosen() -> Vec<Fault> {
    const NAME: &str = "NEXUDUS_BRIDGE_CHAOS_FAULTS";
    let Some(wanted) = std::env::var_os(NAME).filter(|value| !value.is_empty()) else {
        return Fault::ALL.to_vec();
    };
    let find = |name: &str| {
        let found = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
        found.unwrap_or_else(|| panic!("{NAME}: {name:?} is none of {:?}", Fault::ALL))
    };
    wanted.to_string_lossy().split(',').map(find).collect()
}

#[test]
fn nothing_is_lost_whatever_breaks() {
    let seconds = number("NEXUDUS_BRIDGE_CHAOS_SECONDS").unwrap_or(SECONDS).min(MAX_SECONDS);
    let seed = number("NEXUDUS_BRIDGE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX)));
    let faults = chosen();
    say(&format!("chaos: seed {seed}, {seconds} s of faults"));
    let mut scene = set_up(seed);
    let stage = Arc::clone(&scene.stage);
    let workload = Workload::new(seed);
    let senders = Senders {
        address: scene.bridge.address(),
        workload,
        prefix: scene.prefix.clone(),
        confirm_timeout: CONFIRM_TIMEOUT,
        stage: Arc::clone(&stage),
        seed,
    };
    let sending = thread::spawn(|| senders.run());
    let stuck = play(&mut scene, &faults, Duration::from_secs(seconds));
    stage.end();
    let journals = sending.join().expect("the thread printed the reason");
    scene.bridge.stop();
    let sent_for = stage.now();
    let verdict = read(&scene, workload, &journals);
    let report = Report {
        name: "chaos",
        seed,
        sent_for: Duration::from_nanos(sent_for),
        confirm_timeout: CONFIRM_TIMEOUT,
        seen: stage.seen().clone(),
        own_delay: stage.longest_own_delay(),
        peak_mib: scene.bridge.peak_mib(),
        verdict,
        stuck,
    };
    say(&report.to_string());
    let broken = report.broken();
    assert!(
        broken.is_empty(),
        "seed {seed}:\n{}\nthe end of the bridge's log:\n{}",
        broken.join("\n"),
        scene.bridge.log().last_lines()
    );
}

/// Starts cluster, proxies and bridge, and creates the topics.
fn set_up(seed: u64) -> Scene {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let proxies = [nowhere; kafka::BROKERS].map(Proxy::start);
    let cluster = OwnCluster::start_behind(proxies.each_ref().map(Proxy::address));
    for (broker, proxy) in proxies.iter().enumerate() {
        proxy.retarget(cluster.behind_proxy(broker));
    }
    let client = cluster.client();
    let prefix = format!("{}.", unique("chaos"));
    for name in ACTIONS.iter().map(|action| action.name).chain(["quarantine"]) {
        client.create_topic(&format!("{prefix}{name}"), 3, &[]);
    }
    let stage = Arc::new(Stage::new(SigningKey::new(&secret(0)).expect("not empty")));
    let bootstrap = proxies.each_ref().map(|proxy| proxy.address().to_string()).join(",");
    let bridge = Bridge::start(
        bridge::PROGRAM.as_ref(),
        &bootstrap,
        &prefix,
        CONFIRM_TIMEOUT,
        Duration::ZERO,
        &[&secret(0)],
        Arc::clone(&stage),
    );
    Scene {
        cluster,
        proxies,
        bridge,
        stage,
        client,
        prefix,
        confirm_timeout: CONFIRM_TIMEOUT,
        chance: fastrand::Rng::with_seed(seed),
        secret: 0,
        isolated_topic_created: 0,
    }
}

/// Causes faults until the time is over and each kind has occurred. Returns the condition that did not recover, if there is one.
fn play(scene: &mut Scene, faults: &[Fault], time: Duration) -> Option<String> {
    pause(CALM);
    let began = Instant::now();
    let mut deck: VecDeque<Fault> = VecDeque::new();
    let mut complete = false;
    while began.elapsed() < time || !complete {
        if deck.is_empty() {
            deck.extend(faults);
            scene.chance.shuffle(deck.make_contiguous());
        }
        let Some(fault) = deck.pop_front() else { break };
        say(&format!("chaos: {:6.1} s  {}", began.elapsed().as_secs_f64(), fault.name()));
        if let Err(reason) = scene.run_fault(fault) {
            let stuck = format!("after \"{}\": {reason}", fault.name());
            say(&stuck); // at once, since reading the topics can fail for the same reason
            return Some(stuck);
        }
        complete |= deck.is_empty();
    }
    pause(CALM);
    None
}

/// Passes every message of every topic to the oracle.
fn read(scene: &Scene, workload: Workload, journals: &[Journal]) -> Verdict {
    let mut oracle =
        Oracle::new(workload, journals, scene.isolated_topic_created, scene.stage.troubles(CONFIRM_TIMEOUT));
    for action in 0..ACTIONS.len() {
        scene.client.scan(&scene.topic(action), READ_WITHIN, |message| {
            oracle.see(&Message {
                action,
                place: Position { partition: message.partition, offset: Some(message.offset) },
                key: message.key.as_deref(),
                value: &message.value,
                id: message.header("ce_id").unwrap_or_default(),
                received: scene.stage.moment(message.header("ce_nexudusreceived").unwrap_or_default()),
            });
        });
    }
    let mut verdict = oracle.verdict();
    // No delivery of the workload belongs on the quarantine topic.
    scene.client.scan(&format!("{}quarantine", scene.prefix), READ_WITHIN, |message| {
        verdict
            .invented
            .add(|| format!("on the quarantine topic at {}/{}", message.partition, message.offset));
    });
    verdict
}
