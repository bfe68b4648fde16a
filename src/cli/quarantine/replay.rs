//! `quarantine replay`: publishes kept messages again, by the usual path, one after the other.
//!
//! What was confirmed is remembered on the cluster in the consumer group [`GROUP`], each message after its last event was
//! confirmed and before the next one is published. So a run that was ended, or met something that could not be published,
//! is continued by the next: at most the one message is repeated that was under way when the process died, with equal ids.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use super::filters::FilterArgs;
use super::{Cluster, next};
use crate::app::BuildError;
use crate::cli::output::{
    self, ADDED, ERROR, FAINT, Output, Usage, WARNING, grouped, is_stdout_terminal, one_line, styled,
};
use crate::cli::serve::Signals;
use crate::cli::tail::short;
use crate::config::Config;
use crate::delivery::Confirmed;
use crate::delivery::replay::Replayer;
use crate::event::Event;
use crate::kafka::consumer::{Message, Reader, Start, Stop};
use crate::kafka::progress::{Progress, Room};
use crate::quarantine::filters::Filters;
use crate::quarantine::position::{Position, selection};
use crate::quarantine::publisher::Publisher;
use crate::quarantine::row::Row;

/// The consumer group whose offsets tell what was replayed.
const GROUP: &str = "nexudus-bridge-quarantine-replay";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Only the messages at these positions, as `list` prints them
    #[arg(value_name = "PARTITION@OFFSET")]
    places: Vec<Position>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Action to publish to, instead of the one in the URL; requires --action or positions
    #[arg(long = "as", value_name = "ACTION")]
    corrected: Option<String>,
    /// Print what would be published, and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Replay deliveries again that earlier runs have replayed
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    cluster: Cluster,
}

/// Exit code 0 if every chosen message is replayed, now or by an earlier run; 1 if one was skipped, has failed, or is left.
pub(super) async fn run(
    args: Args,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    if args.corrected.is_some() && args.places.is_empty() && args.filters.action.is_empty() {
        let what = "--as publishes everything that is chosen under one action, so say of what: with --action or with places";
        return Err(Usage::new(what).into());
    }
    let (config, topic) = args.cluster.of(configuration()?);
    let corrected = args.corrected.map(|action| known(&config, &action)).transpose()?;
    let replayer = Replayer::new(&config).map_err(BuildError::Kafka)?;
    let filters = args.filters.filters()?;
    let selection = selection(&topic, &args.places);
    let mut reader = Reader::open(&config.kafka, selection, Start::Beginning, Stop::End).await?;
    let progress = Progress::open(&config.kafka, GROUP, &topic).await?;
    if !progress.remembers() && !args.again {
        let note =
            "no earlier run is remembered on this cluster; Kafka forgets one some days after its last commit";
        output::note(note);
    }
    let places = (!args.places.is_empty()).then(|| args.places.into_iter().collect());
    let (dry_run, again) = (args.dry_run, args.again);
    let (tally, out) = (Tally::default(), Output::stdout());
    let publisher = Publisher::new(replayer);
    let mut replay = Replay { publisher, progress, filters, places, corrected, dry_run, again, tally, out };
    let ended = replay.all(&mut reader).await;
    for place in replay.places.iter().flatten() {
        if ended.is_ok() {
            output::error(format_args!("no message at {place} of {topic}, or no longer"));
            replay.tally.failed += 1;
        }
    }
    replay.out.line(replay.tally.summary(dry_run));
    let forgotten: u64 = replay.tally.forgotten.values().sum();
    if forgotten > 0 {
        let messages = if forgotten == 1 { "message" } else { "messages" };
        output::note(format_args!(
            "{} replayed {messages} cannot be remembered, as there are too many gaps; the next run replays what it chooses of \
             them again, with the same ids",
            grouped(forgotten)
        ));
    }
    ended.context("the replay was ended before its time; another run continues it")?;
    replay.out.end(if replay.tally.all_done() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of an action that some source has.
fn known(config: &Config, action: &str) -> anyhow::Result<String> {
    let lists = || config.sources.values().map(|source| &source.actions);
    if let Some(name) = lists().find_map(|list| Some(list.get(list.find(action)?).name().to_owned())) {
        return Ok(name);
    }
    let hint = match lists().find_map(|list| list.nearest(action)) {
        Some(name) => format!("did you mean {name}?"),
        None => "`nexudus-bridge actions` lists those of Nexudus".to_owned(),
    };
    Err(Usage::new(format!("--as {action:?}: no source has this action; {hint}")).into())
}

/// A replay under way.
struct Replay {
    publisher: Publisher,
    progress: Progress,
    filters: Filters,
    /// Where places are given, those not met yet.
    places: Option<BTreeSet<Position>>,
    corrected: Option<String>,
    dry_run: bool,
    again: bool,
    tally: Tally,
    out: Output,
}

/// What became of the chosen messages.
#[derive(Default)]
struct Tally {
    replayed: u64,
    events: u64,
    skipped: u64,
    failed: u64,
    /// Replayed by an earlier run, and not now.
    before: u64,
    /// Replayed messages that the cluster does not remember, by partition. It has an entry for each partition with scarce room.
    forgotten: BTreeMap<i32, u64>,
}

impl Replay {
    /// Replays until all is read that was there at the start, or a signal; a message that was begun is brought to its end,
    /// unless a second signal comes.
    async fn all(&mut self, reader: &mut Reader) -> anyhow::Result<()> {
        let mut signals = Signals::listen()?;
        let mut interrupted = false;
        while self.places.as_ref().is_none_or(|places| !places.is_empty()) {
            let message = tokio::select! {
                biased;
                () = signals.next() => bail!("interrupted"),
                message = next(reader) => message?,
            };
            let Some(message) = message else { break };
            let row = Row::of(&message);
            if !self.chooses(&row) {
                continue;
            }
            let mut one = pin!(self.one(&row, message));
            loop {
                tokio::select! {
                    ended = &mut one => break ended?,
                    () = signals.next() => {
                        ensure!(!interrupted, "interrupted in the middle of {}", row.place);
                        interrupted = true;
                    }
                }
            }
            ensure!(!interrupted, "interrupted");
        }
        Ok(())
    }

    fn chooses(&mut self, row: &Row) -> bool {
        let here = self.places.as_mut().is_none_or(|places| places.remove(&row.place));
        let chosen = here && self.filters.accept(row);
        let before = chosen && !self.again && self.progress.is_done(row.partition, row.offset);
        self.tally.before += u64::from(before);
        chosen && !before
    }

    async fn one(&mut self, row: &Row, message: Message) -> anyhow::Result<()> {
        let events = match self.publisher.replayer().route(message, self.corrected.as_deref()) {
            Ok(events) => events,
            Err(why) => {
                self.tally.skipped += 1;
                self.line(&styled(WARNING, "skipped "), row, &why.to_string());
                return Ok(());
            }
        };
        let count = events.len() as u64;
        if self.dry_run {
            self.line(&styled(FAINT, "would replay"), row, &planned(&events));
        } else {
            let confirmed = match self.publisher.publish(&events).await {
                Ok(confirmed) => confirmed,
                Err(why) => {
                    self.tally.failed += 1;
                    self.line(&styled(ERROR, "failed  "), row, &why);
                    ensure!(!self.publisher.is_cluster_silent(), "the cluster confirms nothing");
                    return Ok(());
                }
            };
            let remembered = self.progress.done(row.partition, row.offset).await;
            self.line(&styled(ADDED, "replayed"), row, &published(&confirmed));
            let room = remembered.context("published and confirmed, but that cannot be remembered")?;
            self.note(room, row.partition);
        }
        self.tally.replayed += 1;
        self.tally.events += count;
        Ok(())
    }

    /// Prints a line about a message: the result, its place, the reason and the action under which it was kept, and the rest.
    fn line(&mut self, result: &str, row: &Row, rest: &str) {
        let text =
            |text: &Option<String>| text.as_ref().map_or("-".to_owned(), |text| one_line(text.as_bytes()));
        let (place, reason, action, rest) =
            (row.place, text(&row.reason), text(&row.action), one_line(rest.as_bytes()));
        self.out.line(format_args!("{result}  {place}  {reason}  {action}  {rest}"));
    }

    /// Warns once for each partition that has hardly any room left for gaps, and counts what is forgotten.
    fn note(&mut self, room: Room, partition: i32) {
        let forgotten = match room {
            Room::Enough => return,
            Room::Scarce { .. } => 0,
            Room::Full { forgotten } => forgotten,
        };
        if self.tally.forgotten.insert(partition, forgotten).is_none() {
            let gaps =
                if let Room::Scarce { gaps } = room { grouped(gaps as u64) } else { "too many".to_owned() };
            output::warning(format_args!(
                "partition {partition} has {gaps} gaps between replayed messages, nearly as many as Kafka remembers; messages \
                 replayed behind that limit are replayed again by the next run, with the same ids. To avoid it, choose \
                 messages without gaps between them: with --since and --until, or by place"
            ));
        }
    }
}

impl Tally {
    fn all_done(&self) -> bool {
        self.skipped == 0 && self.failed == 0
    }

    fn summary(&self, dry_run: bool) -> String {
        let Self { replayed, events, skipped, failed, before, .. } = self;
        let plural = if *events == 1 { "event" } else { "events" };
        let [replayed, events, skipped, failed, before] =
            [replayed, events, skipped, failed, before].map(|&number| grouped(number));
        let done = if dry_run { "would be replayed" } else { "replayed" };
        let mut text = format!("{replayed} {done} ({events} {plural}), {skipped} skipped, {failed} failed");
        if self.before > 0 {
            text.push_str(&format!(", {before} replayed by earlier runs (--again repeats them)"));
        }
        text
    }
}

/// So many events of a message are told one by one.
const TOLD: usize = 3;

fn planned(events: &[Event]) -> String {
    let of = |event: &Event| {
        let key = event.key.as_deref().map_or("no key".to_owned(), |key| format!("key {}", one_line(key)));
        format!("{key}, {} bytes", grouped(event.value.as_ref().map_or(0, |value| value.len()) as u64))
    };
    told(events, |event| event.stream.topic.as_str(), of)
}

fn published(confirmed: &[Confirmed]) -> String {
    let of = |event: &Confirmed| {
        let id = event.id.to_string();
        let id = if is_stdout_terminal() { short(&id) } else { id };
        format!("{}@{} id {id}", event.partition, event.offset)
    };
    told(confirmed, |event| event.stream.topic.as_str(), of)
}

fn told<'a, T>(events: &'a [T], topic: fn(&'a T) -> &'a str, of: impl Fn(&'a T) -> String) -> String {
    let Some(first) = events.first() else { return "an empty array, nothing to publish".to_owned() };
    let mut told: Vec<String> = events.iter().take(TOLD).map(of).collect();
    if events.len() > TOLD {
        told.push(format!("and {} more", events.len() - TOLD));
    }
    format!("-> {}  {}", topic(first), told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_everything_that_was_chosen() {
        let mut tally = Tally { replayed: 1_000, events: 1_002, skipped: 1, ..Tally::default() };
        assert_eq!(tally.summary(false), "1,000 replayed (1,002 events), 1 skipped, 0 failed");
        assert!(!tally.all_done());
        tally = Tally { replayed: 1, events: 1, before: 2, ..Tally::default() };
        let dry = "1 would be replayed (1 event), 0 skipped, 0 failed, 2 replayed by earlier runs (--again repeats them)";
        assert_eq!((tally.summary(true).as_str(), tally.all_done()), (dry, true));
    }
}
