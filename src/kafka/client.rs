//! One producer of librdkafka, with the thread that brings its delivery reports.

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

/// Maximum time for which the thread waits for a delivery report. In the last millisecond of a wait librdkafka's binding asks
/// without a pause, so waits are long; reports end them.
const POLL: Duration = Duration::from_secs(1);

/// The answer of one message.
pub(super) type Reply = oneshot::Sender<Result<Position, Unconfirmed>>;

/// A producer of librdkafka. After it is dropped, its thread ends the producer, since that may block.
pub(super) struct Client {
    pub(super) producer: Arc<BaseProducer<Reports>>,
}

/// The way of a message.
#[derive(Clone)]
pub(super) struct Sending {
    ticket: Ticket,
    /// The scheduler's batch; `None` if the message is sent directly.
    batch: Option<Arc<BatchOnTheWay>>,
}

/// A batch on its way.
struct BatchOnTheWay {
    messages: usize,
    /// Messages without an answer.
    left: AtomicUsize,
    /// The answer of some message leaves open whether it was written.
    is_unsure: AtomicBool,
}

/// An event as a message that is not sent yet, and where its answer goes.
pub(super) struct Unsent {
    stream: Arc<Stream>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: OwnedHeaders,
    reply: Reply,
}

/// A message on its way.
pub(super) struct Sent {
    reply: Reply,
    /// Its size, without headers.
    pub(super) bytes: usize,
    sending: Sending,
}

/// The context of a producer: its callbacks, and where its delivery reports go.
pub(super) struct Reports {
    pub(super) context: Context,
    pub(super) recorder: Recorder,
    pub(super) answered: Box<dyn Fn(Sent, Result<Position, Unconfirmed>) + Send + Sync>,
    pub(super) offsets: Offsets,
}

/// Distinguishes offsets that a broker named from offsets that librdkafka counted.
///
/// A broker that already has the batch of a repeated request names no offset. librdkafka then numbers the messages of the batch from
/// a negative number upwards, so that later numbers look like offsets. Reports of a partition arrive in order, and the next offset
/// that the broker names is greater than the next number of such a series.
#[derive(Default)]
pub(super) struct Offsets {
    /// The last number of each series that can go on, by topic and partition.
    counted: Mutex<HashMap<(String, i32), i64>>,
}

impl Offsets {
    /// Returns the reported offset if the broker named it.
    fn named(&self, topic: &str, partition: i32, reported: i64) -> Option<i64> {
        let mut counted = self.counted.lock();
        if reported >= 0 && counted.is_empty() {
            return Some(reported);
        }
        let partition = (topic.to_owned(), partition);
        if reported < 0 || counted.get(&partition) == Some(&(reported - 1)) {
            counted.insert(partition, reported);
            return None;
        }
        counted.remove(&partition);
        Some(reported)
    }
}

impl Client {
    /// Makes a producer; it connects by itself, in the background.
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
    /// Why librdkafka does not take it, with what is to be answered.
    pub(super) fn send(&self, message: Unsent, sending: &Sending) -> Result<(), (Unconfirmed, Sent)> {
        let bytes = message.bytes();
        let Unsent { stream, key, value, headers, reply } = message;
        let sent = Box::new(Sent { reply, bytes, sending: sending.clone() });
        let mut record = BaseRecord::<[u8], [u8], Box<Sent>>::with_opaque_to(&stream.topic, sent);
        record.payload = value.as_deref();
        record.key = key.as_deref();
        record.headers = Some(headers);
        record.partition = sending.ticket.partition;
        // librdkafka refuses by itself only what is about this message.
        self.producer.send(record).map_err(|(error, record)| {
            (Unconfirmed::new(error.rdkafka_error_code(), true), *record.delivery_opaque)
        })
    }
}

impl Sending {
    pub(super) fn new(ticket: Ticket, messages: usize) -> Self {
        let batch = || BatchOnTheWay {
            messages,
            left: AtomicUsize::new(messages),
            is_unsure: AtomicBool::new(false),
        };
        Self { ticket, batch: (ticket.producer != DIRECT).then(|| Arc::new(batch())) }
    }

    /// Notes the answer of one message. Returns what the scheduler has to know now.
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

    /// Its size, without headers.
    pub(super) fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len) + self.key.as_ref().map_or(0, Bytes::len)
    }

    /// Answers it without sending it.
    pub(super) fn give_up(self, code: RDKafkaErrorCode) {
        self.reply.send(Err(Unconfirmed::new(Some(code), true))).ok(); // the caller may have stopped waiting
    }
}

impl Sent {
    /// Gives the answer. Returns what the scheduler has to know now.
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
            ("a", 0, -1001, None), // the request after it, too
            ("a", 0, -1000, None),
            ("a", 0, 13, Some(13)),
            ("a", 0, 14, Some(14)),
        ] {
            assert_eq!(offsets.named(topic, partition, reported), named, "{topic} {partition} {reported}");
        }
        assert!(offsets.counted.lock().is_empty());
    }
}
