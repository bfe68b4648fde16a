//! `quarantine replay`: publishes quarantined messages again and prints a line for each.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::FilterArgs;
use crate::app::BuildError;
use crate::app::signals::Signals;
use crate::cli::client::Cluster;
use crate::cli::output::{
    self, ADDED, ERROR, Exit, FAINT, Output, Usage, WARNING, grouped, offset, one_line, plural, styled,
};
use crate::cli::tail::short;
use crate::config::Config;
use crate::delivery::Confirmed;
use crate::delivery::replay::Replayer;
use crate::event::Event;
use crate::kafka::progress::{Progress, Room};
use crate::quarantine::messages::Messages;
use crate::quarantine::position::Position;
use crate::quarantine::publisher::Publisher;
use crate::quarantine::replay::{Choice, Counts, GROUP, Replay, Step};
use crate::quarantine::row::Row;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the messages at these positions, as `list` prints them
    #[arg(value_name = "PARTITION@OFFSET")]
    positions: Vec<Position>,
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

/// Runs the command. Exit code 0 if every chosen message is replayed, now or by an earlier run; 1 if one was skipped, has failed, or
/// is left.
pub(crate) async fn replay(args: Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    if args.corrected.is_some() && args.positions.is_empty() && args.filters.action.is_empty() {
        let text =
            "--as publishes all chosen messages under one action, so it requires --action or positions";
        bail!(Usage(text.to_owned()));
    }
    let config = args.cluster.configuration(file)?;
    let topic = config.topics.quarantine();
    let corrected = args.corrected.map(|action| known(&config, &action)).transpose()?;
    let replayer = Replayer::new(&config).map_err(BuildError::Kafka)?;
    let filters = args.filters.filters()?;
    let mut messages = Messages::open(&config.kafka, &topic, &args.positions).await?;
    let progress = Progress::open(&config.kafka, GROUP, &topic).await?;
    if !progress.remembers && !args.again {
        output::note(
            "no earlier run is remembered on this cluster; Kafka forgets one some days after its last commit",
        );
    }
    let positions = (!args.positions.is_empty()).then(|| args.positions.into_iter().collect());
    let choice = Choice { filters, positions, corrected, dry_run: args.dry_run, again: args.again };
    let mut replay = Replay::new(Publisher::new(replayer), progress, choice);
    let mut signals = Signals::listen()?;
    let interrupted = async || signals.next().await;
    let ended = replay.run(&mut messages, interrupted, |row, step| print(out, row, step)).await;
    let Replay { choice, mut counts, .. } = replay;
    for position in choice.positions.iter().flatten().filter(|_| ended.is_ok()) {
        output::error(format_args!("no message at {position} of {topic}, or no longer"));
        counts.failed += 1;
    }
    out.line(summary(&counts, args.dry_run));
    let forgotten: u64 = counts.forgotten.values().sum();
    if forgotten > 0 {
        output::note(format_args!(
            "{} cannot be remembered, as there are too many gaps; the next run replays what it chooses of them again, with \
             the same ids",
            plural(forgotten, "replayed message")
        ));
    }
    ended.context("the replay was ended before its time; another run continues it")?;
    Ok(Exit::of(counts.skipped == 0 && counts.failed == 0))
}

/// Returns the name of an action if at least one source has it.
fn known(config: &Config, action: &str) -> Result<String, Usage> {
    let mut lists = config.sources.values().map(|source| &source.actions);
    if let Some(name) = lists.clone().find_map(|list| Some(list.get(list.find(action)?).name())) {
        return Ok(name.to_owned());
    }
    let hint = match lists.find_map(|list| list.nearest(action)) {
        Some(name) => format!("did you mean {name}?"),
        None => "`nexudus-bridge actions` lists those of Nexudus".to_owned(),
    };
    Err(Usage(format!("--as {action:?}: no source has this action; {hint}")))
}

fn print(out: &mut Output, row: &Row, step: Step) {
    let (result, detail) = match step {
        Step::Skipped(reason) => (styled(WARNING, "skipped "), reason),
        Step::Planned(events) => {
            (styled(FAINT, "would replay"), list(&events, |event| &event.stream.topic, planned))
        }
        Step::Failed(reason) => (styled(ERROR, "failed  "), reason),
        Step::Replayed(events) => {
            let published = |event: &Confirmed| published(event, out.is_terminal);
            (styled(ADDED, "replayed"), list(&events, |event| &event.stream.topic, published))
        }
        Step::GapsLimit(room) => {
            let gaps =
                if let Room::Scarce { gaps } = room { grouped(gaps as u64) } else { "too many".to_owned() };
            return output::warning(format_args!(
                "partition {} has {gaps} gaps between replayed messages, nearly as many as Kafka remembers; messages \
                 replayed behind that limit are replayed again by the next run, with the same ids. To avoid it, choose \
                 messages without gaps between them: with --since and --until, or by position",
                row.position.partition
            ));
        }
    };
    let text = |text: Option<&str>| one_line(text.unwrap_or("-"));
    let [reason, action, detail] =
        [row.reason.as_deref(), row.action.as_deref(), Some(detail.as_str())].map(text);
    out.line(format_args!("{result}  {}  {reason}  {action}  {detail}", row.position));
}

fn summary(counts: &Counts, dry_run: bool) -> String {
    let Counts { replayed, events, skipped, failed, earlier, .. } = counts;
    let [replayed, skipped, failed] = [replayed, skipped, failed].map(|&number| grouped(number));
    let (events, done) = (plural(*events, "event"), if dry_run { "would be replayed" } else { "replayed" });
    let mut text = format!("{replayed} {done} ({events}), {skipped} skipped, {failed} failed");
    if *earlier > 0 {
        text.push_str(&format!(", {} replayed by earlier runs (--again repeats them)", grouped(*earlier)));
    }
    text
}

fn planned(event: &Event) -> String {
    let key = event.key.as_deref().map_or("no key".to_owned(), |key| format!("key {}", one_line(key)));
    format!("{key}, {} bytes", grouped(event.value.as_ref().map_or(0, |value| value.len()) as u64))
}

fn published(event: &Confirmed, shortens: bool) -> String {
    let id = event.id.to_string();
    let id = if shortens { short(&id) } else { id };
    format!("{}@{} id {id}", event.partition, offset(event.offset))
}

/// Returns the topic and the first events of a message.
fn list<T>(events: &[T], topic: fn(&T) -> &str, text: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 3;
    let Some(first) = events.first() else { return "an empty array, nothing to publish".to_owned() };
    let mut texts: Vec<String> = events.iter().take(SHOWN).map(text).collect();
    if events.len() > SHOWN {
        texts.push(format!("and {} more", events.len() - SHOWN));
    }
    format!("-> {}  {}", topic(first), texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_everything_that_was_chosen() {
        let counts = Counts { replayed: 1_000, events: 1_002, skipped: 1, ..Counts::default() };
        assert_eq!(summary(&counts, false), "1,000 replayed (1,002 events), 1 skipped, 0 failed");
        let counts = Counts { replayed: 1, events: 1, earlier: 2, ..Counts::default() };
        let dry = "1 would be replayed (1 event), 0 skipped, 0 failed, 2 replayed by earlier runs (--again repeats them)";
        assert_eq!(summary(&counts, true), dry);
    }
}
