//! Progress on a topic: the processed messages, stored on the cluster as offsets of a consumer group.
//!
//! All messages before the group's offset are done. A replay of selected messages leaves gaps, and so does a message that fails.
//! The metadata of the commit holds the messages that are done after the first gap, as ranges (`19-20,23`). The group has no
//! members. Its lag counts from the first message that is not done.
//!
//! The calls of librdkafka block, so they run on threads for blocking work.

use std::collections::BTreeMap;
use std::sync::Arc;

use rangemap::RangeSet;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::{CONTACT_TIMEOUT, LastError, ReadError, Stop, client_config, new_consumer, sign_in};
use super::oauth::Tokens;
use crate::config::Kafka;

/// Maximum length of the metadata: a little less than the default of the broker's `offset.metadata.max.bytes`.
const METADATA_BYTES: usize = 4_000;

/// Length of the metadata above which [`Room::Scarce`] is reported.
const SCARCE_BYTES: usize = METADATA_BYTES / 10 * 9;

/// Space that is left for the progress of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Space for many more gaps.
    Enough,
    /// The ranges after the first gap fill more than 90 % of the metadata.
    Scarce {
        /// The number of gaps.
        gaps: usize,
    },
    /// The ranges do not fit: some messages that are done will be processed again.
    Full {
        /// The number of messages.
        forgotten: u64,
    },
}

/// The messages of a topic that are done.
pub struct Progress {
    consumer: Arc<StreamConsumer<LastError>>,
    servers: String,
    group: &'static str,
    topic: String,
    /// True if the cluster had progress; false before the first commit and after the group has expired.
    pub remembers: bool,
    done: BTreeMap<i32, Done>,
    /// Present if the client signs in with tokens.
    _tokens: Option<Tokens>,
}

impl Progress {
    /// Reads the progress of the group from the cluster.
    ///
    /// # Errors
    /// [`ReadError`]: no answer, or no right to read the group.
    pub async fn open(kafka: &Kafka, group: &'static str, topic: &str) -> Result<Self, ReadError> {
        let mut config = client_config(kafka, Stop::Never);
        config.set("group.id", group);
        let consumer = new_consumer(&config)?;
        let tokens = sign_in(&consumer, kafka.oauth.as_ref()).await?;
        let mut progress = Self {
            consumer,
            servers: kafka.bootstrap_servers.clone(),
            group,
            topic: topic.to_owned(),
            remembers: false,
            done: BTreeMap::new(),
            _tokens: tokens,
        };
        let (consumer, topic) = (Arc::clone(&progress.consumer), progress.topic.clone());
        (progress.remembers, progress.done) =
            progress.blocking(move || remembered(&consumer, &topic)).await?;
        Ok(progress)
    }

    /// Returns true if a message is done.
    pub fn is_done(&self, partition: i32, offset: i64) -> bool {
        self.done.get(&partition).is_some_and(|done| done.0.contains(&offset))
    }

    /// Commits that a message is done, and returns the space that is left for its partition.
    ///
    /// # Errors
    /// [`ReadError`]: no answer, or no right to write the group's offsets.
    pub async fn done(&mut self, partition: i32, offset: i64) -> Result<Room, ReadError> {
        let done = self.done.entry(partition).or_default();
        done.0.insert(offset..offset + 1);
        let (first, (metadata, room)) = (done.first_open(), done.metadata());
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        self.blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::Offset(first))?;
            if let Some(mut element) = list.find_partition(&topic, partition) {
                element.set_metadata(metadata);
            }
            consumer.commit(&list, CommitMode::Sync)
        })
        .await?;
        Ok(room)
    }

    /// Runs a blocking call on a thread, and reads the client's events meanwhile. librdkafka reports a missing right on the group as an
    /// event only; the call itself would time out.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let mut answer = tokio::task::spawn_blocking(ask);
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let answer = answer.map_err(|error| ReadError::Client(error.to_string()))?;
                    return answer.map_err(|error| self.judge(&error));
                }
                event = self.consumer.recv() => {
                    let code = event.err().and_then(|error| error.rdkafka_error_code());
                    if code == Some(Code::GroupAuthorizationFailed) {
                        return Err(ReadError::GroupAuthorization(self.group));
                    }
                }
            }
        }
    }

    fn judge(&self, error: &KafkaError) -> ReadError {
        let group = self.group;
        match error.rdkafka_error_code() {
            Some(Code::GroupAuthorizationFailed) => ReadError::GroupAuthorization(group),
            Some(Code::TopicAuthorizationFailed) => ReadError::Authorization(error.to_string()),
            Some(Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown) => {
                self.consumer.context().note(error);
                let detail = self.consumer.context().last_error();
                ReadError::Unreachable { servers: self.servers.clone(), detail }
            }
            _ => ReadError::Client(format!("group {group}: {error}")),
        }
    }
}

/// Returns whether the group has committed offsets, and the messages that are done of each partition.
fn remembered(consumer: &StreamConsumer<LastError>, topic: &str) -> KafkaResult<(bool, BTreeMap<i32, Done>)> {
    let metadata = consumer.fetch_metadata(Some(topic), CONTACT_TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition.id());
    }
    let (mut any, mut done) = (false, BTreeMap::new());
    for element in consumer.committed_offsets(list, CONTACT_TIMEOUT)?.elements() {
        element.error()?;
        let (low, high) = consumer.fetch_watermarks(topic, element.partition(), CONTACT_TIMEOUT)?;
        let committed = match element.offset() {
            Offset::Offset(offset) if offset <= high => {
                any = true;
                Done::remembered(offset, element.metadata())
            }
            _ => Done::default(), // no commit, or one for a deleted topic of this name
        };
        done.insert(element.partition(), committed.and_everything_before(low));
    }
    Ok((any, done))
}

/// The offsets of one partition that are done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done(RangeSet<i64>);

impl Done {
    /// Reads a commit. Text in `metadata` that is no range comes from another program and is skipped.
    fn remembered(committed: i64, metadata: &str) -> Self {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse::<i64>().ok()?, last.parse::<i64>().ok()?);
            (0 <= first && first <= last && last < i64::MAX).then(|| first..last + 1)
        };
        Self(metadata.split(',').filter_map(range).collect()).and_everything_before(committed)
    }

    /// Adds all messages before `offset`: they are done, or were deleted from the topic.
    fn and_everything_before(mut self, offset: i64) -> Self {
        if offset > 0 {
            self.0.insert(0..offset);
        }
        self
    }

    /// Returns the first offset that is not done: the offset to commit.
    fn first_open(&self) -> i64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// Returns the ranges after the first gap, as many as fit, and the space that is left. Messages of the other ranges will be processed
    /// again, which makes duplicates and loses nothing.
    fn metadata(&self) -> (String, Room) {
        let (mut text, mut gaps, mut forgotten) = (String::new(), 0, 0);
        for range in self.0.iter().filter(|range| range.start > 0) {
            let (first, last) = (range.start, range.end - 1);
            let shown = if first == last { first.to_string() } else { format!("{first}-{last}") };
            if forgotten > 0 || text.len() + shown.len() + 1 > METADATA_BYTES {
                forgotten += range.end.abs_diff(range.start);
                continue;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&shown);
            gaps += 1;
        }
        let room = match forgotten {
            0 if text.len() <= SCARCE_BYTES => Room::Enough,
            0 => Room::Scarce { gaps },
            forgotten => Room::Full { forgotten },
        };
        (text, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(offsets: impl IntoIterator<Item = i64>) -> Done {
        Done(offsets.into_iter().map(|offset| offset..offset + 1).collect())
    }

    #[test]
    fn what_is_done_comes_back_from_a_commit_as_it_was() {
        for (offsets, first, metadata) in [
            (vec![], 0, ""),
            (vec![0, 1, 2], 3, ""),
            (vec![0, 1, 3, 5, 6, 7], 2, "3,5-7"),
            (vec![4, 2, 3], 0, "2-4"),
        ] {
            let done = done(offsets);
            assert_eq!((done.first_open(), done.metadata()), (first, (metadata.to_owned(), Room::Enough)));
            assert_eq!(Done::remembered(first, metadata), done);
        }
    }

    #[test]
    fn what_retention_took_away_needs_no_memory_and_strange_metadata_no_attention() {
        let gaps = done([1, 3, 5, 9]).and_everything_before(5);
        assert_eq!((gaps.first_open(), gaps.metadata()), (6, ("9".to_owned(), Room::Enough)));
        assert_eq!(Done::remembered(2, "x,7-3,-4,,8,9223372036854775807"), done([0, 1, 8]));
    }

    #[test]
    fn metadata_stays_within_the_brokers_bound_and_forgets_the_youngest_first() {
        let gaps = done((0..5_000).map(|n| 2 * n + 1));
        let (text, room) = gaps.metadata();
        assert!(text.len() <= METADATA_BYTES, "{}", text.len());
        let kept = Done::remembered(0, &text);
        assert!(kept.0.contains(&1) && !kept.0.contains(&2) && !kept.0.contains(&9_999));
        assert_eq!(room, Room::Full { forgotten: 5_000 - kept.0.iter().count() as u64 });
    }

    #[test]
    fn room_is_reported_as_scarce_before_a_message_is_forgotten() {
        let mut rooms = Vec::new();
        for count in 0..1_000 {
            let (_, room) = done((0..count).map(|n| 2 * n + 1)).metadata();
            match (rooms.last(), room) {
                (None | Some(Room::Enough), Room::Enough)
                | (Some(Room::Scarce { .. }), Room::Scarce { .. }) => {}
                (Some(Room::Full { .. }), Room::Full { .. }) => {}
                _ => rooms.push(room),
            }
        }
        assert!(
            matches!(rooms[..], [Room::Scarce { gaps: 820..840 }, Room::Full { forgotten: 1 }]),
            "{rooms:?}"
        );
    }
}
