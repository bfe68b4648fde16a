//! The lister of a [`Reader`](super::Reader): a thread that lists topics and requests their offsets, since both calls block.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::{CONTACT_TIMEOUT, LastError, ReadError, Selection, Start, Stop};

/// Interval at which topics are listed to find new ones.
const RELIST_INTERVAL: Duration = Duration::from_secs(3);

/// Wait before the next list if the first one has failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Offsets by topic and partition.
pub(super) type Ends = HashMap<(String, i32), i64>;

/// The result of a list.
pub(super) struct Report {
    /// The new partitions, each with the offset to begin at.
    pub(super) starts: TopicPartitionList,
    /// The end of each partition, with [`Stop::End`].
    pub(super) ends: Ends,
}

/// Lists topics and finds new partitions, on a thread of its own.
pub(super) struct Lister {
    pub(super) consumer: Arc<StreamConsumer<LastError>>,
    pub(super) selection: Selection,
    pub(super) start: Start,
    pub(super) stop: Stop,
    /// Number of partitions of each topic that are reported.
    pub(super) known: HashMap<String, i32>,
    pub(super) report: UnboundedSender<Result<Report, ReadError>>,
}

impl Lister {
    /// Lists until the reader is dropped. The consumer is destroyed on this thread, since the thread holds the last reference.
    pub(super) fn run(mut self, stopped: &Receiver<()>) {
        let mut first = true;
        loop {
            let mut wait = Some(RELIST_INTERVAL);
            match self.find_partitions(first) {
                Ok(found) => {
                    if first || found.starts.count() > 0 {
                        self.report.send(Ok(found)).ok(); // an error means that the reader is dropped, as `stopped` reports
                    }
                    first = false;
                    wait = wait.filter(|_| self.stop == Stop::Never);
                }
                Err(ListError::Temporary(error)) => {
                    self.consumer.context().note(&error);
                    wait = Some(if first { RETRY_INTERVAL } else { RELIST_INTERVAL });
                }
                Err(ListError::Permanent(error)) => {
                    self.report.send(Err(error)).ok();
                    wait = None;
                }
            }
            let woken = match wait {
                Some(wait) => stopped.recv_timeout(wait),
                None => stopped.recv().map_err(Into::into),
            };
            if woken != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Lists the topics and returns the new partitions. Partitions of the first list are read from the reader's [`Start`], later ones
    /// from their beginning.
    fn find_partitions(&mut self, first: bool) -> Result<Report, ListError> {
        let listed = self.list()?;
        let new_of = |(topic, count): &(String, i32)| {
            let from = self.known.get(topic).copied().unwrap_or(0);
            let topic = topic.clone();
            (from..*count).map(move |partition| (topic.clone(), partition))
        };
        let mut new: Vec<(String, i32)> = listed.iter().flat_map(new_of).collect();
        if let Selection::From { offsets, .. } = &self.selection {
            new.retain(|(_, partition)| offsets.contains_key(partition));
        }
        let found = if new.is_empty() {
            Report { starts: TopicPartitionList::new(), ends: Ends::new() }
        } else {
            self.positions(&new, first)?
        };
        self.known.extend(listed);
        Ok(found)
    }

    /// Returns the selected topics with their numbers of partitions.
    fn list(&self) -> Result<Vec<(String, i32)>, ListError> {
        let metadata = self.consumer.fetch_metadata(None, CONTACT_TIMEOUT)?;
        let count = |topic: &MetadataTopic| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let all = metadata.topics().iter().map(|topic| (topic.name(), count(topic)));
        match &self.selection {
            Selection::Matching(takes) => Ok(all
                .filter(|(name, _)| takes(name))
                .map(|(name, count)| (name.to_owned(), count))
                .collect()),
            Selection::Named(names) => {
                let all: HashMap<&str, i32> = all.filter(|(_, count)| *count > 0).collect();
                let missing: Vec<String> =
                    names.iter().filter(|name| !all.contains_key(name.as_str())).cloned().collect();
                if !missing.is_empty() && self.known.is_empty() {
                    return Err(ListError::Permanent(ReadError::UnknownTopic(missing)));
                }
                Ok(names.iter().filter_map(|name| Some((name.clone(), *all.get(name.as_str())?))).collect())
            }
            Selection::From { topic, offsets } => {
                let partitions = all.filter(|(name, _)| name == topic).map(|(_, count)| count).sum();
                let missing = offsets.keys().find(|partition| !(0..partitions).contains(*partition));
                match missing {
                    None => Ok(vec![(topic.clone(), partitions)]),
                    Some(_) if partitions == 0 => {
                        Err(ListError::Permanent(ReadError::UnknownTopic(vec![topic.clone()])))
                    }
                    Some(&partition) => {
                        let topic = topic.clone();
                        Err(ListError::Permanent(ReadError::UnknownPartition {
                            topic,
                            partition,
                            partitions,
                        }))
                    }
                }
            }
        }
    }

    /// Returns the first offset and the end of each partition. Ends are resolved here. librdkafka resolves `Offset::End` only at the
    /// first fetch, and would skip messages that were written before the fetch.
    fn positions(&self, new: &[(String, i32)], first: bool) -> Result<Report, ListError> {
        if self.stop == Stop::End {
            let mut starts = by_partition(&self.ask_for(new, Offset::Beginning)?)?;
            if let Selection::From { offsets, .. } = &self.selection {
                for ((_, partition), start) in &mut starts {
                    *start = offsets.get(partition).copied().unwrap_or(0).max(*start);
                }
            }
            let mut ends = by_partition(&self.ask_for(new, Offset::End)?)?;
            ends.retain(|partition, end| starts.get(partition).is_some_and(|start| start < end));
            let mut list = TopicPartitionList::with_capacity(ends.len());
            for key @ (topic, partition) in ends.keys() {
                list.add_partition_offset(topic, *partition, Offset::Offset(starts[key]))?;
            }
            return Ok(Report { starts: list, ends });
        }
        let starts = match self.start {
            Start::End if first => self.ask_for(new, Offset::End)?,
            Start::Since(time) if first => self.since(new, time)?,
            _ => offsets(new, Offset::Beginning)?,
        };
        by_partition(&starts)?; // returns the first error in the list
        Ok(Report { starts, ends: Ends::new() })
    }

    /// Returns the first offset of each partition at this time or later, or the end. The embedded broker cannot find offsets by time.
    /// For its partitions this returns the beginning, and the reader drops older messages.
    fn since(&self, partitions: &[(String, i32)], time: Timestamp) -> KafkaResult<TopicPartitionList> {
        // The ends first, so that messages written between the two requests are after them.
        let ends = by_partition(&self.ask_for(partitions, Offset::End)?)?;
        let mut starts = self.ask_for(partitions, Offset::Offset(time.as_millisecond().max(0)))?;
        let earliest = self.ask_for(partitions, Offset::Offset(0))?;
        let has_offset = |list: &TopicPartitionList, topic: &str, partition| {
            let element = list.find_partition(topic, partition);
            element.is_some_and(|element| matches!(element.offset(), Offset::Offset(_)))
        };
        for ((topic, partition), &end) in &ends {
            if !has_offset(&starts, topic, *partition) {
                let looked_up = end == 0 || has_offset(&earliest, topic, *partition);
                let start = if looked_up { Offset::Offset(end) } else { Offset::Beginning };
                starts.set_partition_offset(topic, *partition, start)?;
            }
        }
        Ok(starts)
    }

    /// Sends one request to each broker, for all its partitions.
    fn ask_for(&self, partitions: &[(String, i32)], offset: Offset) -> KafkaResult<TopicPartitionList> {
        self.consumer.offsets_for_times(offsets(partitions, offset)?, CONTACT_TIMEOUT)
    }
}

/// The error of one list.
enum ListError {
    /// Another try may succeed.
    Temporary(KafkaError),
    /// Another try would fail too.
    Permanent(ReadError),
}

impl From<KafkaError> for ListError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => {
                Self::Permanent(ReadError::Authorization(error.to_string()))
            }
            _ => Self::Temporary(error),
        }
    }
}

fn offsets(partitions: &[(String, i32)], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

/// Returns the offsets of a response, or its first error.
fn by_partition(list: &TopicPartitionList) -> KafkaResult<Ends> {
    let offset_of = |element: TopicPartitionListElem<'_>| {
        element.error()?;
        let offset = element.offset().to_raw().unwrap_or_default();
        Ok(((element.topic().to_owned(), element.partition()), offset))
    };
    list.elements().into_iter().map(offset_of).collect()
}
