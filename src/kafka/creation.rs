//! Creates topics and returns Kafka's message about each refused topic.
//!
//! rdkafka's admin client returns error codes only. Kafka's message also contains the number of brokers
//! (`InvalidReplicationFactor`) or the topic whose name collides (`InvalidTopic`).
#![expect(unsafe_code, reason = "rdkafka's create_topics drops the message of each result")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaAdminOp, RDKafkaErrorCode, RDKafkaRespErr};
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::config::TopicSettings;

/// Time after a request's time-out within which librdkafka reports the time-out.
const MARGIN: Duration = Duration::from_secs(2);

/// A topic of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its full name.
    pub name: String,
    /// The settings that it is created with.
    pub settings: TopicSettings,
}

/// Serializes numbers that the broker chooses as null.
impl Serialize for Wanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let TopicSettings { partitions, replication_factor, config } = &self.settings;
        let number = |number: &i32| Some(*number).filter(|number| *number > 0);
        let fields = json!({
            "topic": self.name,
            "partitions": number(partitions),
            "replication_factor": number(replication_factor),
            "config": config,
        });
        fields.serialize(serializer)
    }
}

/// Creates these topics and returns those that were refused, each with its error. Blocks until the cluster has answered, or for
/// about `within`. A topic that exists already is not a refusal.
///
/// # Errors
/// The reason why the cluster does not answer; no topic was refused.
pub(super) fn create<C: ClientContext>(
    client: &Client<C>,
    topics: &[Wanted],
    within: Duration,
) -> Result<BTreeMap<String, String>, String> {
    let (mut refused, mut new_topics) = (BTreeMap::new(), Vec::with_capacity(topics.len()));
    for topic in topics {
        match new_topic(topic) {
            Ok(new_topic) => new_topics.push(new_topic),
            Err(message) => {
                refused.insert(topic.name.clone(), describe(RDKafkaErrorCode::InvalidArgument, &message));
            }
        }
    }
    if new_topics.is_empty() {
        return Ok(refused);
    }
    match request(client, &new_topics, within) {
        Ok(event) => refused.extend(results(&event)),
        Err((RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, message)) => {
            let error = describe(RDKafkaErrorCode::UnsupportedFeature, &message);
            refused.extend(topics.iter().map(|topic| (topic.name.clone(), error.clone())));
        }
        Err((_, message)) => return Err(message),
    }
    Ok(refused)
}

/// Returns an error by name, Kafka's message if it has one, and advice.
fn describe(code: RDKafkaErrorCode, message: &str) -> String {
    use RDKafkaErrorCode as Code;
    let advice = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "; the user needs CREATE on the topic (or on the cluster), or set topics.create = false and create it otherwise"
        }
        Code::InvalidReplicationFactor => "; the cluster has fewer brokers than topics.replication_factor",
        Code::PolicyViolation => "; a policy of the cluster forbids it",
        Code::InvalidConfig => {
            "; one of the settings in [topics.config] or [topics.overrides] is not a topic setting"
        }
        _ => "",
    };
    match message.trim_end_matches(['.', ' ']) {
        "" => format!("{code}{advice}"),
        message => format!("{code:?}: {message}{advice}"),
    }
}

/// An object of librdkafka, destroyed when dropped.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(object).map(|object| Self { object, destroy })
    }

    fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `object` came from the constructor that `destroy` belongs to, and nothing else destroys it.
        unsafe { (self.destroy)(self.as_ptr()) }
    }
}

type Event = Owned<bindings::rd_kafka_event_t>;

fn new_topic(wanted: &Wanted) -> Result<Owned<bindings::rd_kafka_NewTopic_t>, String> {
    let text = |value: &str| CString::new(value).map_err(|error| error.to_string());
    let mut message: [c_char; 512] = [0; 512];
    let name = text(&wanted.name)?;
    // SAFETY: `name` ends with NUL and is copied; `message` is as long as stated.
    let topic = unsafe {
        bindings::rd_kafka_NewTopic_new(
            name.as_ptr(),
            wanted.settings.partitions,
            wanted.settings.replication_factor,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    let Some(topic) = Owned::new(topic, bindings::rd_kafka_NewTopic_destroy) else {
        return Err(message_of(message.as_ptr()));
    };
    for (name, value) in &wanted.settings.config {
        let (name, value) = (text(name)?, text(value)?);
        // SAFETY: the topic is valid; both strings end with NUL and are copied.
        let code =
            unsafe { bindings::rd_kafka_NewTopic_set_config(topic.as_ptr(), name.as_ptr(), value.as_ptr()) };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(format!("{name:?} is not a setting: {}", RDKafkaErrorCode::from(code)));
        }
    }
    Ok(topic)
}

/// Sends the request and waits for the event with its results.
fn request<C: ClientContext>(
    client: &Client<C>,
    topics: &[Owned<bindings::rd_kafka_NewTopic_t>],
    within: Duration,
) -> Result<Event, (RDKafkaRespErr, String)> {
    let milliseconds = |time: Duration| c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    let no_memory =
        || (RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL, "the Kafka client is out of memory".to_owned());
    let mut pointers: Vec<_> = topics.iter().map(Owned::as_ptr).collect();
    let mut message: [c_char; 512] = [0; 512];
    // SAFETY: the client is borrowed, so its pointer is valid. Queue and options are used while they are owned here.
    // The request copies the topics. `message` is as long as stated.
    let event = unsafe {
        let queue = bindings::rd_kafka_queue_new(client.native_ptr());
        let queue = Owned::new(queue, bindings::rd_kafka_queue_destroy).ok_or_else(no_memory)?;
        let operation = RDKafkaAdminOp::RD_KAFKA_ADMIN_OP_CREATETOPICS;
        let options = bindings::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        let options = Owned::new(options, bindings::rd_kafka_AdminOptions_destroy).ok_or_else(no_memory)?;
        for set in [
            bindings::rd_kafka_AdminOptions_set_request_timeout,
            bindings::rd_kafka_AdminOptions_set_operation_timeout,
        ] {
            let code = set(options.as_ptr(), milliseconds(within), message.as_mut_ptr(), message.len());
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err((code, message_of(message.as_ptr())));
            }
        }
        bindings::rd_kafka_CreateTopics(
            client.native_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            options.as_ptr(),
            queue.as_ptr(),
        );
        let event = bindings::rd_kafka_queue_poll(queue.as_ptr(), milliseconds(within + MARGIN));
        Owned::new(event, bindings::rd_kafka_event_destroy)
    };
    let timed_out = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT;
    let event = event.ok_or_else(|| (timed_out, RDKafkaErrorCode::OperationTimedOut.to_string()))?;
    // SAFETY: the event is valid, and so is its message until it is destroyed.
    let (code, message) = unsafe {
        let message = bindings::rd_kafka_event_error_string(event.as_ptr());
        (bindings::rd_kafka_event_error(event.as_ptr()), message_of(message))
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(event) } else { Err((code, message)) }
}

/// Returns the topics that the event reports as refused, each with its error.
fn results(event: &Event) -> Vec<(String, String)> {
    let mut count = 0;
    // SAFETY: the event is valid and owns its results, which are read before it is destroyed; `count` is their number.
    unsafe {
        let result = bindings::rd_kafka_event_CreateTopics_result(event.as_ptr());
        if result.is_null() {
            return Vec::new();
        }
        let topics = bindings::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        let results = (0..count).map(|index| {
            let topic = *topics.add(index);
            let message = message_of(bindings::rd_kafka_topic_result_error_string(topic));
            let code = RDKafkaErrorCode::from(bindings::rd_kafka_topic_result_error(topic));
            (message_of(bindings::rd_kafka_topic_result_name(topic)), code, message)
        });
        results
            .filter(|(_, code, _)| {
                ![RDKafkaErrorCode::NoError, RDKafkaErrorCode::TopicAlreadyExists].contains(code)
            })
            .map(|(topic, code, message)| (topic, describe(code, &message)))
            .collect()
    }
}

/// Returns a copy of a string of librdkafka; an empty string for a null pointer.
fn message_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: every caller passes a pointer to a string that ends with NUL and outlives the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
