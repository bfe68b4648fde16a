//! The faults, one after the other: of brokers, the network, a topic, the bridge itself, and its log.
//!
//! The order, the targets and the length of the faults are random. Some faults are shorter than the bridge's `confirm_timeout`, so
//! that the bridge can wait for their end. Others are longer, so that the bridge has to refuse deliveries. Each kind occurs once
//! before any occurs twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexudus_bridge::signature::SigningKey;

use crate::bridge::Bridge;
use crate::journal::Moment;
use crate::kafka::{BROKERS, Client, OwnCluster, pause};
use crate::proxy::Proxy;
use crate::stage::{Stage, between};
use crate::workload::{ACTIONS, ISOLATED};

/// Time-out of the recovery of the cluster or the senders.
const WELL_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Time-out of a request for the state of a topic.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    LeaderKilled,
    BrokerPaused,
    TwoBrokersDown,
    AllBrokersDown,
    BrokerCutOff,
    NetworkCut,
    NetworkSilent,
    AnswersHeldBack,
    NetworkSlow,
    RollingRestart,
    TopicMadeAgain,
    BridgeKilled,
    BridgeRestarted,
    SecretRotated,
    LeaderAndBridgeKilled,
    LogBlocked,
    LogFails,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::LeaderKilled,
        Self::BrokerPaused,
        Self::TwoBrokersDown,
        Self::AllBrokersDown,
        Self::BrokerCutOff,
        Self::NetworkCut,
        Self::NetworkSilent,
        Self::AnswersHeldBack,
        Self::NetworkSlow,
        Self::RollingRestart,
        Self::TopicMadeAgain,
        Self::BridgeKilled,
        Self::BridgeRestarted,
        Self::SecretRotated,
        Self::LeaderAndBridgeKilled,
        Self::LogBlocked,
        Self::LogFails,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "a leader killed, and its return",
            Self::BrokerPaused => "a broker stopped (SIGSTOP), and going on",
            Self::TwoBrokersDown => "two brokers of three killed, and their return",
            Self::AllBrokersDown => "all brokers killed, and their return",
            Self::BrokerCutOff => "the way to one broker cut",
            Self::NetworkCut => "the way to all brokers cut",
            Self::NetworkSilent => "connections open, nothing passes",
            Self::AnswersHeldBack => "requests pass, answers are held back",
            Self::NetworkSlow => "the network slow",
            Self::RollingRestart => "rolling restart of the brokers",
            Self::TopicMadeAgain => "a topic deleted and made again",
            Self::BridgeKilled => "the bridge killed",
            Self::BridgeRestarted => "the bridge restarted in order",
            Self::SecretRotated => "the secret rotated (SIGHUP twice)",
            Self::LeaderAndBridgeKilled => "a leader and the bridge killed together",
            Self::LogBlocked => "the log not read, and a leader killed",
            Self::LogFails => "the log closed, a leader killed, and the bridge restarted in order",
        }
    }
}

/// The objects that faults affect.
pub(crate) struct Scene {
    pub(crate) cluster: OwnCluster,
    pub(crate) proxies: [Proxy; BROKERS],
    pub(crate) bridge: Bridge,
    pub(crate) stage: Arc<Stage>,
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) confirm_timeout: Duration,
    pub(crate) chance: fastrand::Rng,
    /// The number of the secret in force.
    pub(crate) secret: usize,
    /// Time of the last creation of the topic of the isolated action.
    pub(crate) isolated_topic_created: Moment,
}

/// Returns the shared secret of this number.
pub(crate) fn secret(number: usize) -> String {
    format!("chaos-secret-{number}")
}

impl Scene {
    pub(crate) fn topic(&self, action: usize) -> String {
        format!("{}{}", self.prefix, ACTIONS[action].name)
    }

    /// Causes a fault, ends it, and waits for the recovery. The error contains the condition that did not recover.
    pub(crate) fn run_fault(&mut self, fault: Fault) -> Result<(), String> {
        let isolated = fault == Fault::TopicMadeAgain;
        self.stage.fault_begins(fault.name(), isolated);
        self.happen(fault)?;
        let healed = self.stage.now();
        self.wait_for("a delivery is answered 2xx again", |scene| {
            scene.stage.last_confirmed(isolated) > healed
        })?;
        self.wait_for("all replicas are in sync", Self::in_sync)?;
        self.stage.fault_is_over();
        let calm = Duration::from_millis(self.chance.u64(500..1500));
        pause(calm);
        Ok(())
    }

    fn happen(&mut self, fault: Fault) -> Result<(), String> {
        let time = self.some_time();
        match fault {
            Fault::LeaderKilled => {
                let leader = self.a_leader();
                self.cluster.kill(leader);
                pause(time);
                self.cluster.start_again(&[leader])?;
            }
            Fault::BrokerPaused => {
                let broker = self.chance.usize(..BROKERS);
                self.cluster.stop_process(broker);
                pause(time);
                self.cluster.continue_process(broker);
            }
            Fault::TwoBrokersDown => {
                let up = self.chance.usize(..BROKERS);
                let down: Vec<usize> = (0..BROKERS).filter(|broker| *broker != up).collect();
                self.down(&down, time)?;
            }
            Fault::AllBrokersDown => self.down(&[0, 1, 2], time)?,
            Fault::BrokerCutOff => {
                let broker = self.chance.usize(..BROKERS);
                self.network(&[broker], Proxy::cut, time);
            }
            Fault::NetworkCut => self.network(&[0, 1, 2], Proxy::cut, time),
            Fault::NetworkSilent => self.network(&[0, 1, 2], Proxy::stall, time),
            Fault::AnswersHeldBack => self.network(&[0, 1, 2], Proxy::hold_answers, time),
            Fault::NetworkSlow => {
                let delay = Duration::from_millis(self.chance.u64(20..400));
                self.network(&[0, 1, 2], |proxy| proxy.slow(delay), self.confirm_timeout);
            }
            Fault::RollingRestart => self.restart_each_broker()?,
            Fault::TopicMadeAgain => {
                let topic = self.topic(ISOLATED);
                self.client.delete_topic(&topic);
                pause(time);
                self.client.create_topic(&topic, 3, &[]);
                self.isolated_topic_created = self.stage.now();
            }
            Fault::BridgeKilled => {
                self.bridge.kill();
                pause(time.min(Duration::from_secs(1)));
                self.bridge.start_again();
            }
            Fault::BridgeRestarted => self.bridge.restart(),
            Fault::SecretRotated => self.rotate(),
            Fault::LeaderAndBridgeKilled => {
                let leader = self.a_leader();
                self.cluster.kill(leader);
                self.bridge.kill();
                self.bridge.start_again();
                pause(time);
                self.cluster.start_again(&[leader])?;
            }
            Fault::LogBlocked => self.block_log(time)?,
            Fault::LogFails => {
                self.bridge.log().hang_up();
                let leader = self.a_leader();
                self.down(&[leader], time)?;
                self.bridge.restart(); // the closed pipe cannot be used again
            }
        }
        Ok(())
    }

    fn restart_each_broker(&mut self) -> Result<(), String> {
        for broker in 0..BROKERS {
            self.cluster.shut_down(broker);
            self.cluster.start_again(&[broker])?;
            self.wait_for("all replicas are in sync", Self::in_sync)?;
        }
        Ok(())
    }

    fn block_log(&mut self, time: Duration) -> Result<(), String> {
        self.bridge.log().block();
        let leader = self.a_leader();
        self.down(&[leader], time)?;
        if self.chance.bool() {
            self.bridge.restart(); // the end of the bridge must not wait for the log
        }
        self.bridge.log().go_on();
        Ok(())
    }

    /// Rotates the secret as the manual describes: both secrets, the change in Nexudus, the new secret alone.
    fn rotate(&mut self) {
        let (old, new) = (secret(self.secret), secret(self.secret + 1));
        self.bridge.use_secrets(&[&old, &new]);
        self.stage.change_key(SigningKey::new(&new).expect("not empty"));
        self.secret += 1;
        pause(Duration::from_secs(1)); // deliveries that the old secret signed are answered or signed anew
        self.bridge.use_secrets(&[&new]);
    }

    fn down(&self, brokers: &[usize], time: Duration) -> Result<(), String> {
        for &broker in brokers {
            self.cluster.kill(broker);
        }
        pause(time);
        self.cluster.start_again(brokers)
    }

    fn network(&self, brokers: &[usize], change: impl Fn(&Proxy), time: Duration) {
        for &broker in brokers {
            change(&self.proxies[broker]);
        }
        pause(time);
        for &broker in brokers {
            self.proxies[broker].restore();
        }
    }

    /// Returns a time that is shorter than the bridge waits for a confirmation, or longer.
    fn some_time(&mut self) -> Duration {
        let share = if self.chance.bool() { 0.1 + 0.4 * self.chance.f64() } else { 1.2 + self.chance.f64() };
        self.confirm_timeout.mul_f64(share)
    }

    /// Returns a broker that leads a partition of the main topics.
    fn a_leader(&mut self) -> usize {
        let action = self.chance.usize(..ISOLATED);
        let topic = self.topic(action);
        let leaders = self.client.states(&topic, ANSWER_WITHIN).into_iter();
        let leaders: Vec<usize> =
            leaders.filter_map(|state| usize::try_from(state.leader - 1).ok()).collect();
        self.chance.choice(leaders).unwrap_or(0)
    }

    /// Returns whether every partition has a leader and all its replicas.
    fn in_sync(&self) -> bool {
        (0..ACTIONS.len()).all(|action| {
            let states = self.client.states(&self.topic(action), ANSWER_WITHIN);
            !states.is_empty() && states.iter().all(|state| state.leader > 0 && state.in_sync == BROKERS)
        })
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + WELL_WITHIN;
        while !condition(self) {
            if Instant::now() > deadline {
                let at = between(0, self.stage.now());
                return Err(format!("waited {WELL_WITHIN:?} until {what}, in vain, at {at:?}"));
            }
            pause(LOOK_EVERY);
        }
        Ok(())
    }
}
