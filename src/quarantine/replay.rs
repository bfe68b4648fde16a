//! The replay loop: publishes quarantined messages again, one after the other.
//!
//! After the last event of a message is confirmed, its offset is stored in the consumer group [`GROUP`], before the next
//! message is published. So the next run continues a run that ended early. If the process is killed, it repeats at most
//! one message, with the same ids.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use super::filters::Filters;
use super::messages::{Messages, MessagesError};
use super::position::Position;
use super::publisher::Publisher;
use super::row::Row;
use crate::delivery::Confirmed;
use crate::event::Event;
use crate::kafka::consumer::{Message, ReadError};
use crate::kafka::progress::{Progress, Room};

/// The consumer group whose offsets are the progress of replays.
pub const GROUP: &str = "nexudus-bridge-quarantine-replay";

/// Which messages are replayed, and how.
#[derive(Debug, Default)]
pub struct Choice {
    /// Conditions that each message has to meet.
    pub filters: Filters,
    /// The positions that are left to replay; none: any position.
    pub positions: Option<BTreeSet<Position>>,
    /// The action to publish to, instead of that of the URL.
    pub corrected: Option<String>,
    /// True if nothing is published.
    pub dry_run: bool,
    /// True if messages are included that an earlier run has replayed.
    pub again: bool,
}

/// A step of a replay.
pub enum Step {
    /// The message makes no events, for this reason.
    Skipped(String),
    /// These events would be published.
    Planned(Vec<Event>),
    /// An event was not confirmed, for this reason.
    Failed(String),
    /// All events are confirmed.
    Replayed(Vec<Confirmed>),
    /// The partition of the message has hardly any room left for gaps, or none. Reported once for each partition.
    GapsLimit(Room),
}

/// Number of messages by result.
#[derive(Debug, Default)]
pub struct Counts {
    /// Replayed, or in a dry run ready for it.
    pub replayed: u64,
    /// Number of events of these messages.
    pub events: u64,
    /// Skipped, since no events could be made.
    pub skipped: u64,
    /// Not confirmed, or not found.
    pub failed: u64,
    /// Replayed by an earlier run, and not by this one.
    pub earlier: u64,
    /// Replayed, but not stored as progress, by partition. Each partition with [`Step::GapsLimit`] has an entry.
    pub forgotten: BTreeMap<i32, u64>,
}

/// The reason why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The topic cannot be read.
    #[error(transparent)]
    Messages(#[from] MessagesError),
    /// The progress cannot be stored.
    #[error("published and confirmed, but that cannot be remembered: {0}")]
    Progress(ReadError),
    /// Several topics in a row have timed out.
    #[error("the cluster confirms nothing")]
    Silent,
    /// The operator has interrupted the replay between two messages.
    #[error("interrupted")]
    Interrupted,
    /// The operator has interrupted the replay twice during one message.
    #[error("interrupted in the middle of {0}")]
    InterruptedIn(Position),
}

/// A replay under way.
pub struct Replay {
    publisher: Publisher,
    progress: Progress,
    /// The messages to replay. Positions are removed as they are found.
    pub choice: Choice,
    /// The result so far.
    pub counts: Counts,
}

impl Replay {
    /// Returns a replay that has read nothing yet.
    pub fn new(publisher: Publisher, progress: Progress, choice: Choice) -> Self {
        Self { publisher, progress, choice, counts: Counts::default() }
    }

    /// Replays until the end of `messages`, or until `interrupted` completes. The first interruption during a message lets it
    /// finish, a second one does not.
    ///
    /// # Errors
    /// [`ReplayError`]. The next run continues.
    pub async fn run(
        &mut self,
        messages: &mut Messages,
        mut interrupted: impl AsyncFnMut(),
        mut report: impl FnMut(&Row, Step),
    ) -> Result<(), ReplayError> {
        while self.choice.positions.as_ref().is_none_or(|positions| !positions.is_empty()) {
            let message = tokio::select! {
                biased;
                () = interrupted() => return Err(ReplayError::Interrupted),
                message = messages.next() => message?,
            };
            let Some(message) = message else { break };
            let row = Row::of(&message);
            if !self.is_chosen(&row) {
                continue;
            }
            let mut replayed = pin!(self.replay(&row, message, &mut report));
            tokio::select! {
                result = &mut replayed => {
                    result?;
                    continue;
                }
                () = interrupted() => {}
            }
            return tokio::select! {
                result = replayed => result.and(Err(ReplayError::Interrupted)),
                () = interrupted() => Err(ReplayError::InterruptedIn(row.position)),
            };
        }
        Ok(())
    }

    fn is_chosen(&mut self, row: &Row) -> bool {
        let Choice { filters, positions, again, .. } = &mut self.choice;
        let is_here = positions.as_mut().is_none_or(|positions| positions.remove(&row.position));
        let Position { partition, offset } = row.position;
        let chosen = is_here && filters.accept(row);
        let earlier = chosen && !*again && self.progress.is_done(partition, offset);
        self.counts.earlier += u64::from(earlier);
        chosen && !earlier
    }

    async fn replay(
        &mut self,
        row: &Row,
        message: Message,
        report: &mut impl FnMut(&Row, Step),
    ) -> Result<(), ReplayError> {
        let corrected = self.choice.corrected.as_deref();
        let events = match self.publisher.replayer.route(message, corrected) {
            Ok(events) => events,
            Err(reason) => {
                self.counts.skipped += 1;
                report(row, Step::Skipped(reason.to_string()));
                return Ok(());
            }
        };
        let count = events.len() as u64;
        if self.choice.dry_run {
            report(row, Step::Planned(events));
        } else {
            match self.publisher.publish(&events).await {
                Ok(confirmed) => self.confirmed(row, confirmed, report).await?,
                Err(reason) => {
                    self.counts.failed += 1;
                    report(row, Step::Failed(reason));
                    return if self.publisher.is_cluster_silent() {
                        Err(ReplayError::Silent)
                    } else {
                        Ok(())
                    };
                }
            }
        }
        self.counts.replayed += 1;
        self.counts.events += count;
        Ok(())
    }

    /// Stores the progress.
    async fn confirmed(
        &mut self,
        row: &Row,
        confirmed: Vec<Confirmed>,
        report: &mut impl FnMut(&Row, Step),
    ) -> Result<(), ReplayError> {
        let Position { partition, offset } = row.position;
        let stored = self.progress.done(partition, offset).await;
        report(row, Step::Replayed(confirmed));
        let room = stored.map_err(ReplayError::Progress)?;
        let forgotten = match room {
            Room::Enough => return Ok(()),
            Room::Scarce { .. } => 0,
            Room::Full { forgotten } => forgotten,
        };
        if self.counts.forgotten.insert(partition, forgotten).is_none() {
            report(row, Step::GapsLimit(room));
        }
        Ok(())
    }
}
