//! Confirmation: waits for the delivery report of a message, and maps errors to a [`Verdict`].
//!
//! - A time-out is [`Verdict::Unknown`], not a failure: the message may be in the log.
//! - An error about the message is [`Verdict::Refused`] only if the message was alone in its batch. Otherwise another message of the
//!   batch may have caused the error, so the message is sent again alone ([`Verdict::Alone`]).
//! - A full queue is [`Verdict::QueueFull`].
//! - Every other error, unknown codes included, is [`Verdict::Later`]: a retry of the sender may succeed.

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

/// The error of a message that was not confirmed, from the broker or from librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}")]
pub struct Unconfirmed {
    /// Its meaning for the delivery.
    pub verdict: Verdict,
    /// The library's error.
    pub code: RDKafkaErrorCode,
}

/// The error code of a message that has no delivery report at the deadline.
pub const NO_REPORT: RDKafkaErrorCode = RDKafkaErrorCode::MessageTimedOut;

/// The meaning of an error for the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A temporary error: a broker refused the message, or is not available. A retry may succeed.
    Later,
    /// The producer's queue is full: this message was not sent.
    QueueFull,
    /// Unknown: no delivery report came in time; the message may be in the log.
    Unknown,
    /// The batch was refused, perhaps because of another of its messages. The message is to be sent again alone.
    Alone,
    /// This message is refused for good.
    Refused,
}

/// Sorts an error by its code. `alone` is true if the message was the only one of its batch.
fn sort(code: RDKafkaErrorCode, alone: bool) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::QueueFull => Verdict::QueueFull,
        // No delivery report in time. The result of a message that was purged in flight is unknown, too.
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::PurgeInflight => Verdict::Unknown,
        // The message or its batch is too large or invalid.
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
        // Another record of the batch was invalid (KIP-467). The batch of a message that was alone has no other record.
        Code::InvalidDifferentRecord if !alone => Verdict::Alone,
        // Another attempt may succeed once the cause is removed. Causes are a wrong clock (InvalidTimestamp), missing rights,
        // an unknown topic, a moved leader, too few in-sync replicas, a full disk, a fatal producer, …
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

    /// Returns true if the cluster does not have the topic, or no longer the partition: the topic was deleted, or made again with fewer
    /// partitions. librdkafka can take this answer from cached metadata.
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
