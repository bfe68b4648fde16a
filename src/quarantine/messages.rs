//! Reads the quarantine topic, from its oldest message to the last one that exists at the start.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::filters::Filters;
use super::position::{Position, selection};
use super::row::Row;
use crate::config::{Kafka, duration};
use crate::kafka::consumer::{Message, ReadError, Reader, Start, Stop};

/// Maximum time between two messages. The messages exist already, so a longer wait is an error of the cluster.
const NEXT_WITHIN: Duration = Duration::from_secs(60);

/// The reason why reading ended early.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// Kafka reports an error.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Kafka sends no message, and reports no error.
    #[error("Kafka has sent no further message within {}", duration::show(NEXT_WITHIN))]
    Silent,
}

/// The messages of the topic.
pub struct Messages {
    reader: Reader,
    /// Number of messages that were read.
    pub read: u64,
}

impl Messages {
    /// Opens the topic. With `positions`, each partition is read from the first of them on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn open(kafka: &Kafka, topic: &str, positions: &[Position]) -> Result<Self, ReadError> {
        let reader = Reader::open(kafka, selection(topic, positions), Start::Beginning, Stop::End).await?;
        Ok(Self { reader, read: 0 })
    }

    /// Returns the next message; `None` at the end.
    ///
    /// # Errors
    /// [`MessagesError`].
    pub async fn next(&mut self) -> Result<Option<Message>, MessagesError> {
        let next = tokio::time::timeout(NEXT_WITHIN, self.reader.next()).await;
        let message = next.map_err(|_| MessagesError::Silent)??;
        self.read += u64::from(message.is_some());
        Ok(message)
    }

    /// Returns the fields of the next message that passes the filters; `None` at the end.
    ///
    /// # Errors
    /// [`MessagesError`].
    pub async fn next_row(&mut self, filters: &Filters) -> Result<Option<Row>, MessagesError> {
        while let Some(message) = self.next().await? {
            let row = Row::of(&message);
            if filters.accept(&row) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// The newest of the added rows, up to a number, which bounds the memory of a list.
pub struct Newest {
    limit: usize,
    rows: BTreeMap<(Option<Timestamp>, Position), Row>,
}

impl Newest {
    /// Returns an empty list that keeps this number of rows.
    pub fn new(limit: usize) -> Self {
        Self { limit, rows: BTreeMap::new() }
    }

    /// Adds a row, and drops the oldest if there are too many.
    pub fn add(&mut self, row: Row) {
        self.rows.insert((row.received, row.position), row);
        if self.rows.len() > self.limit {
            self.rows.pop_first();
        }
    }

    /// Returns the rows, the oldest first.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rows_are_kept_and_returned_oldest_first() {
        let mut newest = Newest::new(3);
        for (offset, second) in [(0, 5), (1, 1), (2, 9), (3, 7), (4, 3)] {
            let received = Some(Timestamp::from_second(second).unwrap());
            newest.add(Row { position: Position { partition: 0, offset }, received, ..Row::default() });
        }
        let offsets: Vec<i64> = newest.into_rows().iter().map(|row| row.position.offset).collect();
        assert_eq!(offsets, [0, 3, 2]);
    }
}
