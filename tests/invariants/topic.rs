//! The names of topics.

/// Returns whether Kafka accepts a topic of this name.
pub(crate) fn is_valid_name(topic: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&topic.len()) && topic.bytes().all(allowed) && topic != "." && topic != ".."
}
