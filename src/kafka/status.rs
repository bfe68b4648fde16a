//! The state of the cluster according to the Kafka client: contact, last error, state of the topics.
//!
//! The client's callbacks and the watch write it. Readiness and the answers to unconfirmed deliveries read it. Errors are shown as
//! librdkafka's text for their code, which never contains a host.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::types::RDKafkaErrorCode;

use super::topic_state::TopicState;
use crate::telemetry::limit::{LogLimit, LogLimits};

/// Time without an answer of the cluster after which the bridge is not ready: some rounds of the watch.
const SILENCE: Duration = Duration::from_secs(8);

/// Interval of the client's statistics, which report throttling.
const STATISTICS: Duration = Duration::from_secs(5);

/// Time for which a specific client error is shown instead of a general one that follows it.
const SPECIFIC_ERROR_TTL: Duration = Duration::from_secs(30);

/// The state of the contact with the cluster.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Inner>,
    /// The state of the wanted topics.
    pub topics: TopicState,
    /// Rate limits of librdkafka's log lines, by facility. There are some dozens of facilities.
    pub(super) lines: LogLimits<String>,
    /// Rate limits of log lines about client errors, by error code.
    error_lines: LogLimits<i32>,
    throttled_lines: LogLimit,
}

#[derive(Debug, Default)]
struct Inner {
    answered: Option<Instant>,
    all_down: bool,
    leaderless: bool,
    retired: bool,
    last_error: Option<(RDKafkaErrorCode, Instant)>,
    /// The reason why there is no new token, if clients need one.
    no_token: Option<String>,
    throttled: Option<Throttled>,
}

/// Throttling by a broker because the producer's quota is used up. The broker does not read the connection during this time, so
/// metadata requests wait too.
#[derive(Debug, Clone, Copy)]
struct Throttled {
    time: Duration,
    until: Instant,
}

/// Returns how specific an error is: a wrong password causes broken connections, and these cause `AllBrokersDown`.
fn specificity(code: RDKafkaErrorCode) -> u8 {
    match code {
        RDKafkaErrorCode::AllBrokersDown => 0,
        RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut => 1,
        _ => 2,
    }
}

impl Status {
    /// Returns true if a broker is connected.
    pub fn connected(&self) -> bool {
        let inner = self.inner.lock();
        inner.answered.is_some() && !inner.all_down
    }

    /// Returns the known causes of a fault: the client's last error since the cluster answered, the missing token, and throttling.
    pub fn explanation(&self) -> Option<String> {
        self.inner.lock().explanation()
    }

    /// Returns the reason why the bridge is not ready; `None` if the cluster answers and the topics were compared.
    pub fn not_ready_reason(&self) -> Option<String> {
        self.silence().or_else(|| self.topics.not_ready_reason().map(str::to_owned))
    }

    /// Returns the reason why no event can be confirmed; `None` while the cluster answers.
    fn silence(&self) -> Option<String> {
        let inner = self.inner.lock();
        let what = match inner.answered {
            None => "no contact with the Kafka cluster yet".to_owned(),
            Some(_) if inner.all_down && !inner.is_muted() => "no Kafka broker is connected".to_owned(),
            Some(at) if at.elapsed() > SILENCE && inner.throttled().is_none() => {
                format!("the Kafka cluster has not answered for {} s", at.elapsed().as_secs())
            }
            Some(_) if inner.leaderless => "no partition of the quarantine topic has a leader".to_owned(),
            Some(_) => return None,
        };
        Some(match inner.explanation() {
            Some(explanation) => format!("{what}; {explanation}"),
            None => what,
        })
    }

    /// Stops log lines about client errors. To be called when the bridge has stopped.
    pub fn retire(&self) {
        self.inner.lock().retired = true;
    }

    /// Notes an answer of the cluster. `leaderless` is true if no partition of the probed topic has a leader.
    pub(super) fn answered(&self, leaderless: bool) {
        let mut inner = self.inner.lock();
        inner.answered = Some(Instant::now());
        inner.leaderless = leaderless;
        inner.all_down = false;
        inner.last_error = None;
    }

    /// Returns true while a broker throttles the producer.
    pub(super) fn is_throttled(&self) -> bool {
        self.inner.lock().throttled().is_some()
    }

    /// Notes the longest time for which a broker throttled the producer since the last statistics.
    pub(super) fn throttled(&self, broker: i32, time: Duration) {
        let until = Instant::now() + time + STATISTICS;
        self.inner.lock().throttled = Some(Throttled { time, until });
        if let Some(left_out) = self.throttled_lines.allow() {
            let seconds = time.as_secs_f64();
            tracing::warn!(
                broker,
                seconds,
                left_out,
                "a Kafka broker throttles the producer: its quota is used up"
            );
        }
    }

    /// Notes a client error. Returns the number of suppressed lines if a line about it may be written now, else `None`.
    pub(super) fn failed(&self, code: RDKafkaErrorCode) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.all_down |= code == RDKafkaErrorCode::AllBrokersDown;
        let is_explained = inner.last_error.is_some_and(|(last, at)| {
            specificity(last) > specificity(code) && at.elapsed() < SPECIFIC_ERROR_TTL
        });
        if !is_explained {
            inner.last_error = Some((code, Instant::now()));
        }
        if inner.retired { None } else { self.error_lines.allow(code as i32) }
    }

    /// Notes why there is no new token; `None` when one was fetched.
    pub(super) fn set_no_token(&self, why: Option<String>) {
        self.inner.lock().no_token = why;
    }
}

impl Inner {
    fn explanation(&self) -> Option<String> {
        let error = self.last_error.map(|(code, _)| format!("the Kafka client's last error: {code}"));
        let no_token = self.no_token.as_ref().map(|why| format!("no token to sign in with: {why}"));
        let throttled = self.throttled().map(|throttled| {
            let seconds = throttled.time.as_secs_f64();
            format!("a Kafka broker throttles the producer for {seconds:.1} s: its quota is used up")
        });
        let all: Vec<String> = [error, no_token, throttled].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Returns true if the client closed its connections only because a throttling broker answered too late.
    fn is_muted(&self) -> bool {
        let timed_out = |(code, _)| code == RDKafkaErrorCode::OperationTimedOut;
        self.throttled().is_some() && self.last_error.is_some_and(timed_out)
    }

    fn throttled(&self) -> Option<Throttled> {
        self.throttled.filter(|throttled| Instant::now() < throttled.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_shown_with_the_client_s_error_and_ends_when_the_cluster_answers() {
        let status = Status::default();
        assert_eq!(status.silence().unwrap(), "no contact with the Kafka cluster yet");
        status.failed(RDKafkaErrorCode::AllBrokersDown);
        status.failed(RDKafkaErrorCode::Authentication);
        status.failed(RDKafkaErrorCode::BrokerTransportFailure);
        status.failed(RDKafkaErrorCode::AllBrokersDown);
        assert!(!status.connected());
        assert!(status.silence().unwrap().ends_with("error: Authentication (Local: Authentication failure)"));
        status.answered(false);
        assert_eq!((status.silence(), status.explanation(), status.connected()), (None, None, true));
        status.failed(RDKafkaErrorCode::AllBrokersDown);
        assert!(status.silence().unwrap().starts_with("no Kafka broker is connected"));
        status.answered(true);
        assert!(status.silence().unwrap().contains("has a leader"));
    }

    #[test]
    fn a_missing_token_is_shown_until_there_is_one_and_matters_only_once_the_cluster_is_silent() {
        let status = Status::default();
        status.set_no_token(Some("the token server cannot be reached".to_owned()));
        assert!(
            status
                .not_ready_reason()
                .unwrap()
                .ends_with("yet; no token to sign in with: the token server cannot be reached")
        );
        status.answered(false);
        assert_eq!(status.silence(), None);
        status.failed(RDKafkaErrorCode::AllBrokersDown);
        let not_ready_reason = status.silence().unwrap();
        assert!(
            not_ready_reason.contains("AllBrokersDown") && not_ready_reason.ends_with("reached"),
            "{not_ready_reason}"
        );
        status.set_no_token(None);
        assert!(!status.silence().unwrap().contains("token"));
    }

    #[test]
    fn a_cluster_that_throttles_is_not_a_silent_one() {
        let a_minute = Duration::from_secs(60);
        let silent_since = |status: &Status, time: Duration| {
            status.inner.lock().answered =
                Some(Instant::now().checked_sub(time).expect("the machine runs for longer"));
        };
        let status = Status::default();
        status.answered(false);
        silent_since(&status, SILENCE * 2);
        assert!(status.silence().is_some_and(|why| why.contains("has not answered")));
        status.throttled(1, a_minute);
        assert_eq!(status.silence(), None);
        assert!(status.explanation().is_some_and(|why| why.contains("throttles the producer for 60.0 s")));
        // The client closes a connection that the broker does not read.
        status.failed(RDKafkaErrorCode::OperationTimedOut);
        status.failed(RDKafkaErrorCode::AllBrokersDown);
        assert_eq!(status.silence(), None);
        // A broken connection is a fault even while a broker throttles.
        status.failed(RDKafkaErrorCode::BrokerTransportFailure);
        assert!(status.silence().is_some_and(|why| why.contains("no Kafka broker is connected")));

        let status = Status::default();
        status.answered(false);
        silent_since(&status, SILENCE * 2);
        status.throttled(1, Duration::ZERO);
        status.inner.lock().throttled.as_mut().expect("just noted").until = Instant::now();
        assert!(status.silence().is_some(), "the throttling is over");
        assert_eq!(status.explanation(), None);
    }

    #[test]
    fn each_client_error_has_a_log_limit_and_a_stopped_bridge_logs_none() {
        let status = Status::default();
        assert_eq!(status.failed(RDKafkaErrorCode::Resolve), Some(0));
        status.answered(false);
        assert_eq!(status.failed(RDKafkaErrorCode::Resolve), None);
        assert_eq!(status.failed(RDKafkaErrorCode::SSL), Some(0));
        status.retire();
        assert_eq!(status.failed(RDKafkaErrorCode::Authentication), None);
    }
}
