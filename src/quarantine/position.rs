//! The position of a quarantined message on the command line: `PARTITION@OFFSET`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::kafka::consumer::Selection;

/// Position of a message on its topic: `PARTITION@OFFSET`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset on it.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// Serializes the text as `position`, besides the two numbers.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Position", 3)?;
        fields.serialize_field("position", &self.to_string())?;
        fields.serialize_field("partition", &self.partition)?;
        fields.serialize_field("offset", &self.offset)?;
        fields.end()
    }
}

impl FromStr for Position {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected PARTITION@OFFSET as `quarantine list` shows it, such as 2@17";
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (partition, offset) = text.split_once('@').ok_or(EXPECTED)?;
        if !digits(partition) || !digits(offset) {
            return Err(EXPECTED);
        }
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else { return Err(EXPECTED) };
        Ok(Self { partition, offset })
    }
}

/// Selects the partitions with these positions, each from its first position on. Without positions, selects the whole topic.
pub fn selection(topic: &str, positions: &[Position]) -> Selection {
    let mut offsets = BTreeMap::new();
    for position in positions {
        let first = offsets.entry(position.partition).or_insert(position.offset);
        *first = position.offset.min(*first);
    }
    let topic = topic.to_owned();
    if offsets.is_empty() { Selection::Named(vec![topic]) } else { Selection::From { topic, offsets } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_partition_and_an_offset() {
        let position: Position = "2@17".parse().unwrap();
        assert_eq!(
            (position, position.to_string().as_str()),
            (Position { partition: 2, offset: 17 }, "2@17")
        );
        for text in
            ["", "2", "@", "2@", "@17", "-1@0", "2@-1", "+1@+2", "2@17@3", "2:17", "9999999999@0", " 2@17"]
        {
            assert!(text.parse::<Position>().unwrap_err().contains("PARTITION@OFFSET"), "{text}");
        }
    }

    #[test]
    fn positions_are_read_from_the_first_of_each_partition() {
        let positions: Vec<Position> =
            ["2@17", "0@3", "2@5"].iter().map(|text| text.parse().unwrap()).collect();
        let Selection::From { topic, offsets } = selection("q", &positions) else { panic!("of positions") };
        assert_eq!((topic.as_str(), offsets), ("q", BTreeMap::from([(0, 3), (2, 5)])));
        assert!(matches!(selection("q", &[]), Selection::Named(topics) if topics == ["q"]));
    }
}
