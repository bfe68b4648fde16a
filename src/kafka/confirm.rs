//! Confirmation: waits for the delivery report of a message, and sorts errors by their meaning for the delivery.
//!
//! Every librdkafka error is sorted by its name into a [`Verdict`]. A time-out is *unknown*, not failed: the message may
//! be in the log. Refused for good are only errors about this one message, and only when it travelled alone: an error
//! that a batch-mate may have caused is tried again alone first. Everything else, unknown codes included, is for now:
//! the sender's retry will find out.

use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;

/// A message that the producer has taken.
pub struct Pending {
    pub(super) answer: oneshot::Receiver<Result<Position, Unconfirmed>>,
}

/// The position of a confirmed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset within it. `None` if the broker did not name it: it answered a repeated request for a message that it already
    /// had (`DUPLICATE_SEQUENCE_NUMBER`).
    pub offset: Option<i64>,
}

/// The broker, or the client on its behalf, did not confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}")]
pub struct Unconfirmed {
    /// Its meaning for the delivery.
    pub verdict: Verdict,
    /// The library's error.
    pub code: RDKafkaErrorCode,
}

/// The error of a message without a delivery report yet.
pub const NO_REPORT: RDKafkaErrorCode = RDKafkaErrorCode::MessageTimedOut;

/// The meaning of an error for the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not now: a broker or the cluster refused or cannot, and a retry may find it otherwise.
    Later,
    /// The producer's queue is full: nothing was sent.
    QueueFull,
    /// Unknown: no delivery report came in time; the message may be in the log.
    Unknown,
    /// The batch was refused, perhaps because of another message in it: to be tried alone.
    Alone,
    /// This message is refused for good.
    Refused,
}

/// Sorts an error by its code. `alone` is true if the message was the only one of its batch.
fn sort(code: RDKafkaErrorCode, alone: bool) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::QueueFull => Verdict::QueueFull,
        // No report in time. After a purge in flight the result is unknown, too.
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::PurgeInflight => Verdict::Unknown,
        // About this message, or about the batch it was in.
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord => {
            if alone {
                Verdict::Refused
            } else {
                Verdict::Alone
            }
        }
        // Another record of the batch was invalid (KIP-467); alone there is no other.
        Code::InvalidDifferentRecord if !alone => Verdict::Alone,
        // A wrong clock (InvalidTimestamp), missing rights, an unknown topic, a leader that moved, too few replicas, a
        // full disk, a fatal producer, …: another attempt may succeed, once somebody or something has mended it.
        _ => Verdict::Later,
    }
}

impl Pending {
    /// Waits for the delivery report. Each message gets one, at the latest when it times out.
    ///
    /// # Errors
    /// [`Unconfirmed`], with its meaning.
    pub async fn confirm(self) -> Result<Position, Unconfirmed> {
        // The producer was dropped with the message in it.
        let dropped = Unconfirmed { verdict: Verdict::Unknown, code: RDKafkaErrorCode::DestroyBroker };
        self.answer.await.unwrap_or(Err(dropped))
    }
}

impl Unconfirmed {
    /// Sorts an error. `alone` is true if the message was the only one of its batch, or was not sent.
    pub(super) fn new(code: Option<RDKafkaErrorCode>, alone: bool) -> Self {
        let code = code.unwrap_or(RDKafkaErrorCode::Fail);
        Self { verdict: sort(code, alone), code }
    }

    /// Returns true if a broker answered that it does not have the topic, now or when the client last asked. Messages name no
    /// partition, so an unknown one is a topic that lost all of them.
    pub fn is_unknown_topic(&self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(self.code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
    }
}

#[cfg(test)]
mod tests {
    use RDKafkaErrorCode::*;

    use super::*;

    /// Every code of librdkafka, with its meaning in a batch and alone.
    const BY_NAME: &[(&[RDKafkaErrorCode], Verdict, Verdict)] = &[
        (&[QueueFull], Verdict::QueueFull, Verdict::QueueFull),
        (
            &[MessageTimedOut, OperationTimedOut, TimedOutQueue, RequestTimedOut, PurgeInflight],
            Verdict::Unknown,
            Verdict::Unknown,
        ),
        (
            &[MessageSizeTooLarge, InvalidMessageSize, MessageBatchTooLarge, InvalidRecord],
            Verdict::Alone,
            Verdict::Refused,
        ),
        (&[InvalidDifferentRecord], Verdict::Alone, Verdict::Later),
        (LATER, Verdict::Later, Verdict::Later),
    ];

    #[rustfmt::skip]
    const LATER: &[RDKafkaErrorCode] = &[
        BadMessage, BadCompression, BrokerDestroy, Fail, BrokerTransportFailure, CriticalSystemResource,
        Resolve, PartitionEOF, UnknownPartition, FileSystem, UnknownTopic, AllBrokersDown,
        InvalidArgument, ISRInsufficient, NodeUpdate, SSL, WaitingForCoordinator, UnknownGroup,
        InProgress, PreviousInProgress, ExistingSubscription, AssignPartitions, RevokePartitions,
        Conflict, State, UnknownProtocol, NotImplemented, Authentication, NoOffset, Outdated,
        UnsupportedFeature, WaitCache, Interrupted, KeySerialization, ValueSerialization,
        KeyDeserialization, ValueDeserialization, Partial, ReadOnly, NoEnt, Underflow, InvalidType,
        Retry, PurgeQueue, Fatal, Inconsistent, GaplessGuarantee, PollExceeded, UnknownBroker,
        NotConfigured, Fenced, Application, AssignmentLost, Noop, AutoOffsetReset, LogTruncation,
        DestroyBroker, Unknown, OffsetOutOfRange, InvalidMessage, UnknownTopicOrPartition,
        LeaderNotAvailable, NotLeaderForPartition, BrokerNotAvailable, ReplicaNotAvailable,
        StaleControllerEpoch, OffsetMetadataTooLarge, NetworkException, CoordinatorLoadInProgress,
        CoordinatorNotAvailable, NotCoordinator, InvalidTopic, NotEnoughReplicas,
        NotEnoughReplicasAfterAppend, InvalidRequiredAcks, IllegalGeneration, InconsistentGroupProtocol,
        InvalidGroupId, UnknownMemberId, InvalidSessionTimeout, RebalanceInProgress,
        InvalidCommitOffsetSize, TopicAuthorizationFailed, GroupAuthorizationFailed,
        ClusterAuthorizationFailed, InvalidTimestamp, UnsupportedSASLMechanism, IllegalSASLState,
        UnsupportedVersion, TopicAlreadyExists, InvalidPartitions, InvalidReplicationFactor,
        InvalidReplicaAssignment, InvalidConfig, NotController, InvalidRequest,
        UnsupportedForMessageFormat, PolicyViolation, OutOfOrderSequenceNumber, DuplicateSequenceNumber,
        InvalidProducerEpoch, InvalidTransactionalState, InvalidProducerIdMapping,
        InvalidTransactionTimeout, ConcurrentTransactions, TransactionCoordinatorFenced,
        TransactionalIdAuthorizationFailed, SecurityDisabled, OperationNotAttempted, KafkaStorageError,
        LogDirNotFound, SaslAuthenticationFailed, UnknownProducerId, ReassignmentInProgress,
        DelegationTokenAuthDisabled, DelegationTokenNotFound, DelegationTokenOwnerMismatch,
        DelegationTokenRequestNotAllowed, DelegationTokenAuthorizationFailed, DelegationTokenExpired,
        InvalidPrincipalType, NonEmptyGroup, GroupIdNotFound, FetchSessionIdNotFound,
        InvalidFetchSessionEpoch, ListenerNotFound, TopicDeletionDisabled, FencedLeaderEpoch,
        UnknownLeaderEpoch, UnsupportedCompressionType, StaleBrokerEpoch, OffsetNotAvailable,
        MemberIdRequired, PreferredLeaderNotAvailable, GroupMaxSizeReached, FencedInstanceId,
        EligibleLeadersNotAvailable, ElectionNotNeeded, NoReassignmentInProgress,
        GroupSubscribedToTopic, UnstableOffsetCommit, ThrottlingQuotaExceeded, ProducerFenced,
        ResourceNotFound, DuplicateResource, UnacceptableCredential, InconsistentVoterSet,
        InvalidUpdateVersion, FeatureUpdateFailed, PrincipalDeserializationFailure, UnknownTopicId,
        FencedMemberEpoch, UnreleasedInstanceId, UnsupportedAssignor, StaleMemberEpoch,
        UnknownSubscriptionId, TelemetryTooLarge, RebootstrapRequired,
    ];

    #[test]
    fn every_error_is_sorted_by_its_name() {
        let mut codes = 0;
        for (names, batched, alone) in BY_NAME {
            for &code in *names {
                assert_eq!((sort(code, false), sort(code, true)), (*batched, *alone), "{code:?}");
                codes += 1;
            }
        }
        assert_eq!(codes, 169, "all of librdkafka's codes but NoError and the bounds of the enum");
    }
}
