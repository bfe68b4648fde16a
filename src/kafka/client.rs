//! A librdkafka producer, and the thread that polls it for delivery reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Message as _};
use tokio::sync::oneshot;

use super::confirm::{Position, Unconfirmed, Verdict};
use super::context::{Context, contain};
use super::scheduler::{Answered, DIRECT, Ticket};
use super::statistics::Recorder;
use crate::event::{Event, Stream};

/// Time-out of one poll for delivery reports; a report ends the poll earlier. In the last millisecond of a time-out rdkafka polls
/// without a pause, so the time-out is long.
const POLL: Duration = Duration::from_secs(1);

/// Sends the answer to one message: its position, or an error.
pub(super) type Reply = oneshot::Sender<Result<Position, Unconfirmed>>;

/// A librdkafka producer. After `Client` is dropped, the polling thread destroys the producer, since this may block.
pub(super) struct Client {
    pub(super) producer: Arc<BaseProducer<Reports>>,
}

/// The ticket and the batch of a message in flight.
#[derive(Clone)]
pub(super) struct Sending {
    ticket: Ticket,
    /// The scheduler's batch; `None` if the message is sent directly.
    batch: Option<Arc<BatchInFlight>>,
}

/// A batch in flight.
struct BatchInFlight {
    messages: usize,
    /// Number of messages without an answer.
    left: AtomicUsize,
    /// True if it is unknown whether some message of the batch was written.
    is_unsure: AtomicBool,
}

/// A message that is not sent yet, with the channel for its answer.
pub(super) struct Unsent {
    stream: Arc<Stream>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: OwnedHeaders,
    reply: Reply,
}

/// A message in flight.
pub(super) struct Sent {
    reply: Reply,
    /// Size of key and value in bytes.
    pub(super) bytes: usize,
    sending: Sending,
}

/// The context of a librdkafka producer: receives its log lines, errors, statistics and delivery reports.
pub(super) struct Reports {
    pub(super) context: Context,
    pub(super) recorder: Recorder,
    pub(super) answered: Box<dyn Fn(Sent, Result<Position, Unconfirmed>) + Send + Sync>,
    pub(super) offsets: Offsets,
}

/// Distinguishes offsets of a broker from numbers that librdkafka counts itself.
///
/// If a broker already has the batch of a repeated request, its response contains no offset. In this case librdkafka numbers the
/// messages of the batch upwards from a negative number, so later numbers look like offsets. Reports of a partition arrive in order.
/// The next offset of the broker is greater than the next number of such a series.
#[derive(Default)]
pub(super) struct Offsets {
    /// The last number of each series that can continue, by topic and partition.
    counted: Mutex<HashMap<String, HashMap<i32, i64>>>,
}

impl Offsets {
    /// Returns the reported offset if it comes from the broker.
    fn named(&self, topic: &str, partition: i32, reported: i64) -> Option<i64> {
        let mut counted = self.counted.lock();
        let last = counted.get(topic).and_then(|partitions| partitions.get(&partition));
        if reported < 0 || last == Some(&(reported - 1)) {
            counted.entry(topic.to_owned()).or_default().insert(partition, reported);
            return None;
        }
        if let Some(partitions) = counted.get_mut(topic)
            && partitions.remove(&partition).is_some()
            && partitions.is_empty()
        {
            counted.remove(topic);
        }
        Some(reported)
    }
}

impl Client {
    /// Makes a producer, which connects in the background, and starts its polling thread.
    pub(super) fn new(config: &ClientConfig, reports: Reports) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<Reports>> = Arc::new(config.create_with_context(reports)?);
        let polled = Arc::clone(&producer);
        let thread = thread::Builder::new().name("kafka-reports".to_owned()).spawn(move || {
            while Arc::strong_count(&polled) > 1 {
                polled.poll(POLL);
            }
        });
        thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { producer })
    }

    /// Hands a message to librdkafka.
    ///
    /// # Errors
    /// The reason why librdkafka refuses the message, with the message, which needs this answer.
    pub(super) fn send(&self, message: Unsent, sending: &Sending) -> Result<(), (Unconfirmed, Sent)> {
        let bytes = message.bytes();
        let Unsent { stream, key, value, headers, reply } = message;
        let sent = Box::new(Sent { reply, bytes, sending: sending.clone() });
        let mut record = BaseRecord::<[u8], [u8], Box<Sent>>::with_opaque_to(&stream.topic, sent);
        record.payload = value.as_deref();
        record.key = key.as_deref();
        record.headers = Some(headers);
        record.partition = sending.ticket.partition;
        // No error of this call is caused by another message of a batch.
        self.producer.send(record).map_err(|(error, record)| {
            (Unconfirmed::new(error.rdkafka_error_code(), true), *record.delivery_opaque)
        })
    }
}

impl Sending {
    pub(super) fn new(ticket: Ticket, messages: usize) -> Self {
        let batch = || BatchInFlight {
            messages,
            left: AtomicUsize::new(messages),
            is_unsure: AtomicBool::new(false),
        };
        Self { ticket, batch: (ticket.producer != DIRECT).then(|| Arc::new(batch())) }
    }

    /// Counts the answer to one message. Returns the report for the scheduler if the message was sent directly or is the last answer
    /// of its batch.
    fn answered(self, is_written: bool, is_sure: bool) -> Option<Answered> {
        let Self { ticket, batch } = self;
        let Some(batch) = batch else { return Some(Answered { ticket, events: 1, is_written, is_sure }) };
        batch.is_unsure.fetch_or(!is_sure, Ordering::Relaxed);
        let is_last = batch.left.fetch_sub(1, Ordering::AcqRel) == 1;
        let is_sure = !batch.is_unsure.load(Ordering::Relaxed);
        is_last.then_some(Answered { ticket, events: batch.messages, is_written, is_sure })
    }
}

impl Unsent {
    pub(super) fn new(event: &Event, reply: Reply) -> Self {
        let mut headers = Some(OwnedHeaders::new_with_capacity(14));
        event.headers(|key, value| {
            headers = headers.take().map(|headers| headers.insert(Header { key, value: Some(value) }));
        });
        Self {
            stream: Arc::clone(&event.stream),
            key: event.key.clone(),
            value: event.value.clone(),
            headers: headers.unwrap_or_default(),
            reply,
        }
    }

    /// Returns the size of key and value in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len) + self.key.as_ref().map_or(0, Bytes::len)
    }

    /// Answers the message with an error instead of sending it.
    pub(super) fn give_up(self, code: RDKafkaErrorCode) {
        self.reply.send(Err(Unconfirmed::new(Some(code), true))).ok(); // the caller may have stopped waiting
    }
}

impl Sent {
    /// Sends the answer to the waiting delivery. Returns the report for the scheduler, as `Sending::answered`.
    pub(super) fn answer(self, result: Result<Position, Unconfirmed>) -> Option<Answered> {
        let Self { reply, sending, .. } = self;
        reply.send(result).ok(); // the caller may have stopped waiting
        let is_sure = !result.is_err_and(|unconfirmed| unconfirmed.verdict == Verdict::Unknown);
        sending.answered(result.is_ok(), is_sure)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        contain(|| self.recorder.record(statistics, &self.context.status));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let result = match result {
            Ok(message) => {
                let offset = self.offsets.named(message.topic(), message.partition(), message.offset());
                Ok(Position { partition: message.partition(), offset })
            }
            Err((error, _message)) => {
                Err(Unconfirmed::new(error.rdkafka_error_code(), sent.sending.ticket.is_alone))
            }
        };
        contain(|| (self.answered)(*sent, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_librdkafka_counts_are_no_offsets() {
        let offsets = Offsets::default();
        for (topic, partition, reported, named) in [
            ("a", 0, 7, Some(7)),
            ("a", 0, -1, None), // three messages in a request that the broker already had
            ("a", 0, 0, None),
            ("b", 0, 1, Some(1)),
            ("a", 1, 1, Some(1)),
            ("a", 0, 1, None),
            ("a", 0, -1001, None), // the next request is also a repeated one
            ("a", 0, -1000, None),
            ("a", 0, 13, Some(13)),
            ("a", 0, 14, Some(14)),
        ] {
            assert_eq!(offsets.named(topic, partition, reported), named, "{topic} {partition} {reported}");
        }
        assert!(offsets.counted.lock().is_empty());
    }
}
