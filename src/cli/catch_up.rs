//! `catch-up`: reads the records that changed in Nexudus during an outage of webhooks, and publishes them with a mark.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;

use super::client::{account, admin_url, program};
use super::moment::moment;
use super::output::{
    self, ADDED, ERROR, Exit, HEADING, Output, Usage, WARNING, grouped, plural, progress_style, styled, table,
};
use crate::action::Action;
use crate::app::BuildError;
use crate::app::signals::Signals;
use crate::catch_up::bridge::RunningBridge;
use crate::catch_up::entities::{self, Entity};
use crate::catch_up::ranges::TimeRanges;
use crate::catch_up::run::{Failed, Published, Run, RunResult};
use crate::catch_up::since::{Beginning, Beginnings, Since, Subset};
use crate::catch_up::survey::survey;
use crate::config::duration;
use crate::delivery::replay::Replayer;
use crate::outage::{Outage, Report};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the records that were created or updated in the time range, and publishes them to the topics of their actions, marked with \
the header ce_nexuduscatchup. A record that was created and later updated gives both events. Deletions and signals leave nothing \
that could be read. Nothing is written to Nexudus. Each record costs one \
request, of which Nexudus allows 120 a minute and 5,000 an hour.

Running it again publishes the same events again, with the same ids unless a record changed meanwhile.

A run that ends early prints the command that resumes it. Some events come twice then.

The last success of a webhook moves on with the first delivery after it was enabled again. The guardian of a running bridge \
keeps the old one: --since last-outage asks it. Without a running bridge, give the time at which the outage began.

  nexudus-bridge catch-up --since 2026-01-31T08:00:00Z --dry-run
  nexudus-bridge catch-up --since last-outage
  nexudus-bridge catch-up --since last-trigger --entity Booking --entity Team")]
pub(super) struct Args {
    /// Start of the time range: a time (2026-01-31T08:00:00Z; UTC without a zone), a duration before now (2h),
    /// last-outage (the last success of each webhook before Nexudus disabled it) or last-trigger (the last success of
    /// each webhook). SOURCE/ACTION=TIME sets it for one action; repeatable. Without a T for the others, only those
    /// actions are read
    #[arg(long, value_name = "T", value_parser = beginning, required = true)]
    since: Vec<Beginning>,
    /// End of the time range, in the same forms [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
    /// With --since last-outage or last-trigger: time to start earlier, for events that still failed while later ones succeeded
    /// [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    overlap: Option<Duration>,
    /// Only this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only this kind of record, such as Booking; repeatable
    #[arg(long, value_name = "ENTITY", value_parser = kind)]
    entity: Vec<&'static Entity>,
    /// Read everything, print what would be published, and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Maximum number of records; above it nothing is published
    #[arg(long, value_name = "N", default_value_t = MAX_RECORDS)]
    max_records: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Admin listener of the running bridge, which keeps the outages [default: admin.listen of the configuration]
    #[arg(long, value_name = "URL")]
    bridge: Option<String>,
}

/// Default of `--max-records`.
const MAX_RECORDS: usize = 10_000;

fn beginning(text: &str) -> Result<Beginning, String> {
    match (text, text.split_once('=')) {
        (Beginnings::LAST_TRIGGER, _) => Ok(Beginning::LastTrigger),
        (Beginnings::LAST_OUTAGE, _) => Ok(Beginning::LastOutage),
        (_, None) => match moment(text) {
            Ok(time) => Ok(Beginning::At(time)),
            Err(expected) => Err(format!("{expected}, last-outage or last-trigger")),
        },
        (_, Some((name, time))) => {
            let (source, action) = name.split_once('/').ok_or("expected SOURCE/ACTION before the =")?;
            let action = Action::known(action).map_or(action, |entry| entry.name).to_owned();
            Ok(Beginning::Of(source.to_owned(), action, moment(time)?))
        }
    }
}

fn kind(text: &str) -> Result<&'static Entity, String> {
    let known = entities::all().find(|entity| entity.name.eq_ignore_ascii_case(text));
    known.ok_or_else(|| {
        let names: Vec<&str> = entities::all().map(|entity| entity.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

impl Args {
    /// Returns the shell command for the same run with these values of `--since`.
    fn command(&self, file: Option<&Path>, since: &[String]) -> String {
        let overlap = self.overlap.filter(|_| since.iter().any(|since| since == Beginnings::LAST_TRIGGER));
        let max_records = Some(self.max_records).filter(|max_records| *max_records != MAX_RECORDS);
        let option = |name: &str, value: String| [name.to_owned(), value];
        let options = since.iter().map(|since| option("--since", since.clone()));
        let options = options
            .chain(self.bridge.iter().map(|bridge| option("--bridge", bridge.clone())))
            .chain(overlap.map(|overlap| option("--overlap", duration::show(overlap))))
            .chain(self.until.map(|until| option("--until", until.to_string())))
            .chain(self.source.iter().map(|source| option("--source", source.clone())))
            .chain(self.entity.iter().map(|entity| option("--entity", entity.name.to_owned())))
            .chain(max_records.map(|max_records| option("--max-records", max_records.to_string())))
            .chain(file.map(|file| option("--config", file.display().to_string())));
        let flags = [(self.dry_run, "--dry-run"), (self.json, "--json")];
        let flags = flags.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag.to_owned());
        let words: Vec<String> = options.flatten().chain(flags).collect();
        let words = shlex::try_join(words.iter().map(String::as_str)).expect("no argument holds a NUL");
        format!("{} catch-up {words}", program())
    }
}

/// Returns exit code 0 if every event that can be read back is published. Returns 1 if an event is left, or if a wanted action could
/// not be read because its beginning is unknown.
pub(super) async fn run(args: Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let mut beginnings = Beginnings::new(&args.since, args.overlap).map_err(Usage)?;
    let subset = Subset { sources: args.source.clone(), entities: args.entity.clone() };
    let (config, account, lines) = account(file)?;
    let bridge = RunningBridge::new(args.bridge.as_ref().unwrap_or(&admin_url(&config)), &config);
    let (started, from_outages) = (Timestamp::now(), beginnings.before_outages.is_some());
    if from_outages {
        let report = bridge.report().await?;
        print_outages(&bridge, &report, &subset);
        beginnings.add(&report.outages, &subset);
    }
    let mut signals = Signals::listen()?;
    let bar = lines.add(output::spinner());
    let mut since = beginnings.arguments();
    let preparation = async {
        account.check_locations(&subset.sources).await?;
        let comparison = match beginnings.all {
            Some(Since::LastTrigger(_)) => Some(account.look().await?.comparison),
            _ => None,
        };
        let ranges = TimeRanges::new(&config, &subset, &beginnings, args.until, comparison.as_ref());
        ranges.check(&beginnings, &subset).map_err(Usage)?;
        since = ranges.beginnings().arguments();
        let listing = |kind| bar.set_message(format!("listing {kind}"));
        let candidates = survey(&account.client, &subset, &ranges, args.max_records, listing).await?;
        anyhow::Ok((ranges, candidates))
    };
    let prepared = tokio::select! {
        biased;
        () = signals.next() => Err(anyhow!("interrupted")),
        prepared = preparation => prepared,
    };
    let (ranges, candidates) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            bar.finish_and_clear();
            if super::exit_of(&error) == Exit::Usage {
                return Err(error);
            }
            output::error(format_args!("nothing was published: {error:#}"));
            let again = args.command(file, &since);
            output::message(format_args!("To begin at the same moment again: {again}"));
            return Ok(Exit::Failed);
        }
    };
    let replayer = if args.dry_run { None } else { Some(Replayer::new(&config).map_err(BuildError::Kafka)?) };
    bar.set_style(progress_style("{bar:40} {human_pos}/{human_len} records  {eta} left"));
    bar.set_length(candidates.len() as u64);
    let run = Run::new(&account.client, ranges.clone(), replayer.as_ref());
    let summary = run.all(&candidates, signals.next(), || bar.inc(1)).await;
    bar.finish_and_clear();

    match args.json {
        true => out.json(&summary),
        false => print(out, &summary),
    }
    print_failures(&summary, |since| args.command(file, since));
    let done = summary.error.is_none() && summary.failed.is_empty() && summary.unknown_since.is_empty();
    if done && !args.dry_run {
        let covered = bridge.cover(&ranges, &subset, from_outages, args.until.unwrap_or(started)).await;
        // Only a run with --since last-outage needs a running bridge.
        if let Some(error) = covered.err().filter(|_| from_outages) {
            let url = &bridge.url;
            output::warning(format_args!("cannot report to {url} that its outages are covered: {error}"));
        }
    }
    Ok(Exit::of(done))
}

/// Prints a warning for each outage that cannot be read back. Without any outage, prints the time of the bridge's start.
fn print_outages(bridge: &RunningBridge, report: &Report, subset: &Subset) {
    let outages: Vec<&Outage> = report.outages.iter().filter(|outage| subset.has(outage)).collect();
    for Outage { source, action, since, .. } in outages.iter().filter(|outage| !outage.readable) {
        output::warning(format_args!(
            "events of {source}/{action} are missing since {since} and cannot be read back"
        ));
    }
    if outages.is_empty() {
        output::note(format_args!(
            "the bridge at {} has detected no outage since it started at {:.0}, or all of them are covered",
            bridge.url, report.started
        ));
    }
}

/// Prints failures on standard error, and the command that resumes the run.
fn print_failures(summary: &RunResult, command: impl FnOnce(&[String]) -> String) {
    const SHOWN: usize = 20;
    for Failed { entity, id, event, error } in summary.failed.iter().take(SHOWN) {
        let event = event.as_deref().map(|event| format!(" ({event})")).unwrap_or_default();
        output::failed(format_args!("{entity} {id}{event}: {error}"));
    }
    let more = summary.failed.len().saturating_sub(SHOWN);
    if more > 0 {
        output::failed(format_args!("{} more", grouped(more as u64)));
    }
    if let Some(error) = &summary.error {
        output::error(format_args!("ended before its time: {error}"));
    }
    if !summary.go_on_since.is_empty() {
        let how = match (&summary.error, summary.dry_run) {
            (_, true) => "Not all records were read. To begin at the same moment again",
            (Some(_), _) => "Not everything is published. To continue",
            (None, _) => "Not everything is published. After the cause is removed",
        };
        output::message(format_args!("{how}: {}", command(&summary.go_on_since)));
    }
}

/// Prints the result of a run.
fn print(out: &mut Output, summary: &RunResult) {
    const NAMES_SHOWN: usize = 5;
    let total: usize = summary.published.iter().map(|published| published.events).sum();
    let events = plural(total as u64, "event");
    if total > 0 {
        let cells = |Published { source, action, events }: &Published| {
            [source.clone(), action.clone(), grouped(*events as u64)]
        };
        out.block(table(["SOURCE", "ACTION", ">EVENTS"], summary.published.iter().map(cells)));
    }
    if summary.dry_run {
        out.line(styled(HEADING, format!("Would publish {events}")));
    } else {
        let line = format!("Published {events}, marked ce_nexuduscatchup: {}", summary.run_id);
        out.line(styled(ADDED, line));
        if total > 0 {
            out.line("Running it again publishes the same events again, with the same ids");
        }
    }
    for (reason, kinds) in [
        ("changed, but no source wants the action for that change", &summary.uncovered),
        ("have no location that can be read", &summary.unplaced),
    ] {
        if !kinds.is_empty() {
            let kinds: Vec<String> = kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            out.line(styled(WARNING, format!("Left out: {} {reason}", kinds.join(", "))));
        }
    }
    for (number, reason) in [
        (summary.elsewhere, "of other locations: no source of this run has their business_id"),
        (summary.outside, "without a change in the range of a wanted action"),
        (summary.gone, "deleted since they were listed"),
    ] {
        if number > 0 {
            out.line(format_args!("Left out: {} {reason}", plural(number as u64, "record")));
        }
    }
    if !summary.failed.is_empty() {
        out.line(styled(ERROR, format!("Failed: {}", grouped(summary.failed.len() as u64))));
    }
    if !summary.unknown_since.is_empty() {
        let line = format!(
            "Not read, since no webhook gives a beginning: {}; give one with --since SOURCE/ACTION=TIME for each",
            summary.unknown_since.join(", ")
        );
        out.line(styled(ERROR, line));
    }
    let count = summary.unreadable.len();
    if count > 0 {
        let mut names = summary.unreadable[..count.min(NAMES_SHOWN)].join(", ");
        if count > NAMES_SHOWN {
            names.push_str(&format!(" and {} more (--json lists all)", count - NAMES_SHOWN));
        }
        out.line(format_args!(
            "Not readable: {count} wanted actions for deletions, signals and transitions: {names}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_that_resumes_has_every_option_and_is_quoted_for_a_shell() {
        let line = "catch-up --since last-trigger --overlap 90m --until 2026-03-09 --source north --source default \
                    --entity team --max-records 7 --dry-run --json";
        let args = Command::parse_from(line.split(' ')).args;
        let begun = Beginnings::new(&args.since, args.overlap).unwrap().arguments();
        let rest = "--until 2026-03-09T00:00:00Z --source north --source default --entity Team --max-records 7 \
                    --config 'it'\\''s here/bridge.toml' --dry-run --json";
        for (since, expected) in [
            (&begun[..], "--since last-trigger --overlap '1h 30m'"),
            (&["2026-03-01T00:00:00Z".to_owned()], "--since 2026-03-01T00:00:00Z"),
        ] {
            let command = args.command(Some(Path::new("it's here/bridge.toml")), since);
            let expected = shlex::split(&format!("catch-up {expected} {rest}")).unwrap();
            assert!(shlex::split(&command).unwrap().ends_with(&expected), "{command}");
        }
    }
}
