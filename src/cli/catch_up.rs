//! `catch-up`: reads the records that changed in Nexudus during an outage of webhooks, and publishes them with a mark.

mod summary;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::client::{admin_url, control};
use super::dev::program;
use super::moment::moment;
use super::output::{self, Output, Usage};
use super::waits::WaitLines;
use crate::action::Action;
use crate::app::BuildError;
use crate::app::signals::Signals;
use crate::catch_up::bridge::RunningBridge;
use crate::catch_up::entities::{self, Entity};
use crate::catch_up::ranges::TimeRanges;
use crate::catch_up::run::Run;
use crate::catch_up::since::{Beginning, Beginnings, Since, Subset};
use crate::catch_up::survey::survey;
use crate::config::{Config, duration};
use crate::delivery::replay::Replayer;
use crate::outage::{Outage, Report};
use crate::webhooks::{Account, AccountError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the records that were created or updated in the window, and publishes them to the topics of their actions, marked with \
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
    /// Admin listener of the running bridge, which knows the outages [default: admin.listen of the configuration]
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
    /// Returns the command for the same run from these beginnings on, as a shell takes it.
    fn command(&self, file: Option<&Path>, since: &[String]) -> String {
        let overlap = self.overlap.filter(|_| since.iter().any(|since| since == Beginnings::LAST_TRIGGER));
        let max_records = Some(self.max_records).filter(|max_records| *max_records != MAX_RECORDS);
        let options = since.iter().map(|since| ("--since", since.clone()));
        let options = options
            .chain(self.bridge.iter().map(|bridge| ("--bridge", bridge.clone())))
            .chain(overlap.map(|overlap| ("--overlap", duration::show(overlap))))
            .chain(self.until.map(|until| ("--until", until.to_string())))
            .chain(self.source.iter().map(|source| ("--source", source.clone())))
            .chain(self.entity.iter().map(|entity| ("--entity", entity.name.to_owned())))
            .chain(max_records.map(|max_records| ("--max-records", max_records.to_string())))
            .chain(file.map(|file| ("--config", file.display().to_string())));
        let mut words: Vec<String> = options.flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let flags = [(self.dry_run, "--dry-run"), (self.json, "--json")];
        words.extend(flags.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag.to_owned()));
        let words = shlex::try_join(words.iter().map(String::as_str)).expect("no argument holds a NUL");
        format!("{} catch-up {words}", program())
    }
}

/// Returns exit code 0 when everything that can be read back is published; 1 if an event is left, or a wanted action
/// could not be read because its beginning is unknown.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut beginnings = Beginnings::new(&args.since, args.overlap).map_err(Usage::new)?;
    let subset = Subset { sources: args.source.clone(), entities: args.entity.clone() };
    let config = control(file)?;
    let lines = WaitLines::default();
    let account = lines.account(&config)?;
    let bridge = RunningBridge::new(args.bridge.as_ref().unwrap_or(&admin_url(&config)), &config);
    let (started, from_outages) = (Timestamp::now(), beginnings.before_outages.is_some());
    if from_outages {
        let report = bridge.report().await?;
        print_outages(&bridge, &report, &subset);
        beginnings.add(&report.outages, &subset);
    }
    let mut signals = Signals::listen()?;
    let ranges = time_ranges(&config, &account, &subset, &beginnings, args.until);
    let ranges = match unless_interrupted(&mut signals, ranges).await {
        Ok(ranges) => ranges,
        Err(error) => return nothing(error, || args.command(file, &beginnings.arguments())),
    };
    let bar = lines.add(output::spinner());
    let listing = async {
        let listing = |kind| bar.set_message(format!("listing {kind}"));
        survey(&account.client, &subset, &ranges, args.max_records, listing).await
    };
    let candidates = match unless_interrupted(&mut signals, listing).await {
        Ok(candidates) => candidates,
        Err(error) => {
            bar.finish_and_clear();
            return nothing(error, || args.command(file, &ranges.beginnings().arguments()));
        }
    };
    let replayer = if args.dry_run { None } else { Some(Replayer::new(&config).map_err(BuildError::Kafka)?) };
    show_count(&bar, candidates.len());
    let run = Run::new(&account.client, ranges.clone(), replayer.as_ref());
    let summary = run.all(&candidates, signals.next(), || bar.inc(1)).await;
    bar.finish_and_clear();

    let mut out = Output::stdout();
    match args.json {
        true => out.json(&summary),
        false => summary::print(&mut out, &summary),
    }
    summary::print_failures(&summary, |since| args.command(file, since));
    let done = summary.error.is_none() && summary.failed.is_empty() && summary.unknown_since.is_empty();
    if done && !args.dry_run {
        let covered = bridge.cover(&ranges, &subset, from_outages, args.until.unwrap_or(started)).await;
        // A run that began elsewhere does not need a running bridge.
        if let Some(error) = covered.err().filter(|_| from_outages) {
            output::warning(format_args!(
                "cannot report to the bridge at {} that its outages are covered: {error}",
                bridge.url
            ));
        }
    }
    out.end(output::exit(done))
}

async fn time_ranges(
    config: &Config,
    account: &Account,
    subset: &Subset,
    since: &Beginnings,
    until: Option<Timestamp>,
) -> anyhow::Result<TimeRanges> {
    account.check_locations(&subset.sources).await?;
    let comparison = match since.all {
        Some(Since::LastTrigger(_)) => Some(account.look().await.map_err(AccountError::from)?.comparison),
        _ => None,
    };
    let ranges = TimeRanges::new(config, subset, since, until, comparison.as_ref());
    ranges.check(since, subset).map_err(Usage::new)?;
    Ok(ranges)
}

async fn unless_interrupted<T>(
    signals: &mut Signals,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        () = signals.next() => Err(anyhow::anyhow!("interrupted")),
        done = work => done,
    }
}

/// Ends a run that failed before it published anything. `again` is the command that begins where it began.
fn nothing(error: anyhow::Error, again: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
    if super::is_usage(&error) {
        return Err(error);
    }
    output::error(format_args!("nothing was published: {error:#}"));
    output::message(format_args!("To begin at the same moment again: {}", again()));
    Ok(ExitCode::FAILURE)
}

/// Prints the outages that cannot be read back, and if there is none at all, since when the bridge watches.
fn print_outages(bridge: &RunningBridge, report: &Report, subset: &Subset) {
    let outages: Vec<&Outage> = report.outages.iter().filter(|outage| subset.has(outage)).collect();
    for Outage { source, action, since, .. } in outages.iter().filter(|outage| !outage.readable) {
        output::warning(format_args!(
            "events of {source}/{action} are missing since {since} and cannot be read back"
        ));
    }
    if outages.is_empty() {
        output::note(format_args!(
            "the bridge at {} has seen no outage since it started at {:.0}, or all of them are covered",
            bridge.url, report.started
        ));
    }
}

fn show_count(bar: &ProgressBar, records: usize) {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records  {eta} left");
    bar.set_style(style.expect("the template is right"));
    bar.set_length(records as u64);
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
    fn the_command_for_another_run_says_all_that_was_said_and_can_be_pasted() {
        let words = [
            "catch-up",
            "--since",
            "last-trigger",
            "--overlap",
            "90m",
            "--until",
            "2026-03-09",
            "--source",
            "north",
            "--source",
            "default",
            "--entity",
            "team",
            "--max-records",
            "7",
            "--dry-run",
            "--json",
        ];
        let args = Command::parse_from(words).args;
        let begun = Beginnings::new(&args.since, args.overlap).unwrap().arguments();
        let rest = "--until 2026-03-09T00:00:00Z --source north --source default --entity Team --max-records 7 \
                    --config 'it'\\''s here/bridge.toml' --dry-run --json";
        for (since, told) in [
            (&begun[..], "--since last-trigger --overlap '1h 30m'"),
            (&["2026-03-01T00:00:00Z".to_owned()], "--since 2026-03-01T00:00:00Z"),
        ] {
            let command = args.command(Some(Path::new("it's here/bridge.toml")), since);
            let told = shlex::split(&format!("catch-up {told} {rest}")).unwrap();
            assert!(shlex::split(&command).unwrap().ends_with(&told), "{command}");
        }
    }
}
