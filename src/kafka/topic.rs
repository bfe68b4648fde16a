//! A topic that the configuration asks for, and one that could not be created.

use std::fmt;

use rdkafka::types::RDKafkaErrorCode;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::config::TopicSettings;

/// A topic that the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its full name.
    pub name: String,
    /// The settings that it is created with.
    pub settings: TopicSettings,
}

/// Numbers that the broker chooses are null.
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

/// A topic that could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The topic.
    pub topic: String,
    /// Kafka's error code.
    pub code: RDKafkaErrorCode,
    /// Kafka's message; empty without one.
    pub message: String,
}

impl Failed {
    /// The error by name, Kafka's message, and advice, without the topic.
    pub fn error(&self) -> String {
        use RDKafkaErrorCode as Code;
        let Self { code, message, .. } = self;
        let advice = match code {
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                "; the user needs CREATE on the topic (or on the cluster), or set topics.create = false and create it otherwise"
            }
            Code::InvalidReplicationFactor => {
                "; the cluster has fewer brokers than topics.replication_factor"
            }
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
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.topic, self.error())
    }
}
