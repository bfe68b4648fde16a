//! The position of a quarantined message, as people write it: `PARTITION@OFFSET`.

use std::fmt;
use std::str::FromStr;

/// Position of a message on its topic: `PARTITION@OFFSET`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
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
}
