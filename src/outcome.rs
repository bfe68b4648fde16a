//! The closed list of outcomes of a delivery, with the status, the labels and the texts of each.
//!
//! Status codes, metric labels, causes and problem titles are in this file only. A new outcome does not compile until the
//! metrics and the table of the documentation have it. A time-out means *unknown*, not failed. A delivery with a right
//! signature is not refused for a permanent reason, because ten refusals in a row make Nexudus disable the webhook.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The outcome of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Every event is confirmed by the broker.
    Confirmed,
    /// The body is kept whole on the quarantine topic, and confirmed there.
    Quarantined,
    /// The body is an empty array: there is nothing to publish.
    Empty,
    /// No signature, where the source enforces one.
    MissingSignature,
    /// A signature that is malformed or wrong.
    InvalidSignature,
    /// The URL's token is missing or wrong.
    InvalidToken,
    /// No source of that name.
    UnknownSource,
    /// No action of that name, and no valid signature although the source enforces it.
    UnknownAction,
    /// Not a POST.
    Method,
    /// The body has more bytes than allowed.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The body broke off, or its chunks are malformed. A client that has disconnected gets no answer.
    Incomplete,
    /// The request is for an upgrade to another protocol, such as WebSocket.
    Upgrade,
    /// The body is content-encoded, so its bytes are not those that were signed.
    Encoded,
    /// A broker is connected but did not confirm in time. *Unknown*: the events may still reach the topic.
    Timeout,
    /// The producer's queue is full.
    QueueFull,
    /// The deliveries in flight, or their bytes, are at their maximum.
    Overloaded,
    /// No broker is connected, or a broker refused for now.
    Broker,
    /// The bridge is stopping.
    ShuttingDown,
}

impl Outcome {
    /// Every outcome, in the order of declaration: `ALL[outcome as usize] == outcome`.
    pub const ALL: [Self; Self::VARIANTS.len()] =
        *Self::VARIANTS.first_chunk().expect("it is as long as itself");

    /// Returns the metric label, which is also the `status` in the body of a 200 and the last part of a problem's `type`.
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns the HTTP status of the answer (RFC 9110).
    pub const fn status(self) -> u16 {
        match self {
            Self::Confirmed | Self::Quarantined | Self::Empty => 200,
            Self::Incomplete | Self::Upgrade => 400,
            Self::MissingSignature | Self::InvalidSignature | Self::InvalidToken => 401,
            Self::UnknownSource | Self::UnknownAction => 404,
            Self::Method => 405,
            Self::TooSlow => 408,
            Self::TooLarge => 413,
            Self::Encoded => 415,
            Self::Timeout | Self::QueueFull | Self::Overloaded | Self::Broker | Self::ShuttingDown => 503,
        }
    }

    /// Returns the `title` of the problem document (RFC 9457): the kind of problem, the same each time.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Confirmed => "Confirmed",
            Self::Quarantined => "Kept on the quarantine topic",
            Self::Empty => "Nothing to publish",
            Self::MissingSignature => "Signature missing",
            Self::InvalidSignature => "Signature wrong",
            Self::InvalidToken => "Token missing or wrong",
            Self::UnknownSource => "Unknown source",
            Self::UnknownAction => "Unknown action",
            Self::Method => "Method not allowed",
            Self::TooLarge => "Body too large",
            Self::TooSlow => "Body too slow",
            Self::Incomplete => "Body incomplete",
            Self::Upgrade => "Upgrade not supported",
            Self::Encoded => "Content encoding not supported",
            Self::Timeout => "Not confirmed in time",
            Self::QueueFull => "Producer queue full",
            Self::Overloaded => "Too many deliveries in flight",
            Self::Broker => "Broker not available",
            Self::ShuttingDown => "Shutting down",
        }
    }

    /// Returns the `Retry-After` of a 503: the seconds after which a retry makes sense. `None` for any other status.
    pub const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::QueueFull | Self::Overloaded => Some(1),
            Self::Timeout | Self::Broker | Self::ShuttingDown => Some(5),
            _ => None,
        }
    }

    /// Returns the remedy, for the operator of the bridge.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Confirmed | Self::Empty => "Nothing to do.",
            Self::Quarantined => {
                "Nothing is lost. `nexudus-bridge quarantine list` shows the reason. Remove the cause, then publish the delivery with `nexudus-bridge quarantine replay`."
            }
            Self::MissingSignature => {
                "Set the shared secret in Nexudus (Settings > Integrations > Webhooks). If the sender is not Nexudus, nothing to do."
            }
            Self::InvalidSignature => {
                "Compare the source's secret with the shared secret in Nexudus. During a rotation, list both in `secrets`."
            }
            Self::InvalidToken => {
                "Add `?token=` with a value of the source's `url_tokens` to the webhook's URL in Nexudus."
            }
            Self::UnknownSource => {
                "Correct the webhook's URL in Nexudus, or add a section [sources.NAME] and reload."
            }
            Self::UnknownAction => {
                "Correct the action in the webhook's URL. `nexudus-bridge actions` lists the names."
            }
            Self::Method => "Nothing to do: Nexudus uses POST, so the sender was a browser or a scanner.",
            Self::TooLarge => {
                "Raise ingress.max_body_bytes, max.message.bytes of the topics, and the limit of the proxy."
            }
            Self::TooSlow => {
                "Check the network and the proxy in front of the bridge, or raise ingress.body_timeout."
            }
            Self::Incomplete => {
                "Check the network and the proxy in front of the bridge: the connection ended within the body. Nexudus repeats the delivery."
            }
            Self::Upgrade => {
                "Remove the Upgrade header in the proxy. If the sender is a scanner, nothing to do."
            }
            Self::Encoded => {
                "Switch off compression of request bodies in the proxy: the signature covers the plain bytes."
            }
            Self::Timeout => {
                "Check the brokers: they are connected but too slow (in-sync replicas, disks, load). Nexudus repeats the delivery; copies have the same ce_id."
            }
            Self::QueueFull => {
                "Check the brokers: they take messages too slowly. If they are healthy, raise queue.buffering.max.kbytes in [kafka.properties]."
            }
            Self::Overloaded => {
                "Check the brokers: deliveries arrive faster than Kafka confirms them. If the brokers are healthy, raise ingress.max_in_flight and max_in_flight_bytes, or add a replica."
            }
            Self::Broker => {
                "Check that the brokers run, that the bridge can reach them, and that it may write to its topics. Nexudus repeats the delivery."
            }
            Self::ShuttingDown => "Nothing to do: another replica or a retry takes the delivery.",
        }
    }

    /// Returns whether the delivery was answered 2xx.
    pub const fn is_success(self) -> bool {
        self.status() < 300
    }
}

/// The reason why a body is kept whole on the quarantine topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum QuarantineReason {
    /// The body is not JSON, or not UTF-8.
    NotJson,
    /// The body is JSON, but neither an object nor an array of objects.
    NotRecords,
    /// The body holds more records than one delivery may.
    TooManyRecords,
    /// The source accepts the delivery, but its action is neither in the catalogue nor in `extra_actions`.
    UnknownAction,
    /// The broker refuses a message of this delivery for good.
    Refused,
}

impl QuarantineReason {
    /// Every reason.
    pub const ALL: [Self; Self::VARIANTS.len()] =
        *Self::VARIANTS.first_chunk().expect("it is as long as itself");

    /// Returns the metric label, which is also the value of the `quarantine-reason` header.
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns the reason as text.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::NotJson => "the body is not JSON (not_json)",
            Self::NotRecords => {
                "the body is JSON, but neither an object nor an array of objects (not_records)"
            }
            Self::TooManyRecords => "the body has more than 1,000 records (too_many_records)",
            Self::UnknownAction => {
                "the action is neither in the catalogue nor in extra_actions (unknown_action)"
            }
            Self::Refused => "the broker permanently refuses a record of the body (refused)",
        }
    }
}

/// The reason why only `signature = "warn"` of a source allowed a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SignatureWarning {
    /// The delivery has no signature.
    Missing,
    /// The signature is malformed or wrong.
    Invalid,
}

impl SignatureWarning {
    /// Returns the metric label, which is also the value of the `nexudus-signature` header.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_503_has_retry_after() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.retry_after_seconds().is_some(), outcome.status() == 503, "{outcome:?}");
        }
    }
}
