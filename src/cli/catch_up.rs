//! `catch-up`: reads what changed in Nexudus while webhooks were off, and publishes it, marked.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::client::control;
use super::moment::moment;
use super::output::{
    ADDED, ERROR, HEADING, Table, Usage, WARNING, grouped, one_line, print_json, printed, styled,
};
use super::serve::Signals;
use crate::app::BuildError;
use crate::catch_up::entities::{self, Entity};
use crate::catch_up::run::{Failed, Published, Run, Summary};
use crate::catch_up::survey::survey;
use crate::catch_up::window::{Since, Window};
use crate::delivery::replay::Replayer;
use crate::metrics::Metrics;
use crate::webhooks::{Account, AccountError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Records that were created or updated are read and published to the topics of their actions, marked with the header \
ce_nexuduscatchup. Deletions and signals leave nothing that could be read. A second run publishes copies with equal ids. \
In Nexudus nothing is written. It allows about 100 records a minute.

A webhook's last success moves on with the first delivery after it was switched on again: if it was off for longer than \
--overlap, say since when instead of last-trigger.

  nexudus-bridge catch-up --since 2026-01-31T08:00:00Z --dry-run
  nexudus-bridge catch-up --since last-trigger --entity Booking --entity Team")]
pub(super) struct Args {
    /// From when on: a time (2026-01-31T08:00:00Z; without a zone it is UTC), how long ago (2h), or last-trigger: for each
    /// webhook from its last success on
    #[arg(long, value_name = "T", value_parser = beginning)]
    since: Beginning,
    /// Until when, in the same forms [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
    /// With --since last-trigger: how much earlier, for events that were still failing while later ones succeeded
    /// [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    overlap: Option<Duration>,
    /// Only this source; may be given several times
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only this kind of record, such as Booking; may be given several times
    #[arg(long, value_name = "ENTITY", value_parser = kind)]
    entity: Vec<&'static Entity>,
    /// Only say what would be published; everything is read all the same
    #[arg(long)]
    dry_run: bool,
    /// Publish nothing if there are more records than that
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_records: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How many failures are told one by one.
const FAILURES_SHOWN: usize = 20;

/// `--overlap`, where it is not given: a day, since nobody knows for how long Nexudus tries.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Copy)]
enum Beginning {
    At(Timestamp),
    LastTrigger,
}

fn beginning(text: &str) -> Result<Beginning, String> {
    match text {
        "last-trigger" => Ok(Beginning::LastTrigger),
        _ => moment(text).map(Beginning::At).map_err(|wrong| format!("{wrong}, or last-trigger")),
    }
}

fn kind(text: &str) -> Result<&'static Entity, String> {
    let known = entities::all().find(|entity| entity.name.eq_ignore_ascii_case(text));
    known.ok_or_else(|| {
        let names: Vec<&str> = entities::all().map(|entity| entity.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Exit code 0 when everything that can be read back is published; 1 if something is left.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    if args.overlap.is_some() && matches!(args.since, Beginning::At(_)) {
        return Err(Usage::new("--overlap goes with --since last-trigger only").into());
    }
    let config = control(file).await?;
    let account = Account::new(&config, Arc::new(Metrics::new("")))?;
    account.check_locations(&args.source).await?;
    let (since, comparison) = match args.since {
        Beginning::At(time) => (Since::At(time), None),
        Beginning::LastTrigger => {
            let look = account.look().await.map_err(AccountError::from)?;
            (Since::LastTrigger(args.overlap.unwrap_or(OVERLAP)), Some(look.comparison))
        }
    };
    let window = Window::new(&config, (&args.source, &args.entity), since, args.until, comparison.as_ref());
    check(&window, &args)?;

    let bar = progress();
    let told = |kind| bar.set_message(format!("listing {kind}"));
    let candidates = match survey(account.client(), &args.entity, &window, args.max_records, told).await {
        Ok(candidates) => candidates,
        Err(error) => {
            bar.finish_and_clear();
            return Err(error).context("nothing was published");
        }
    };
    let replayer = if args.dry_run { None } else { Some(Replayer::new(&config).map_err(BuildError::Kafka)?) };
    let mut signals = Signals::listen()?;
    count(&bar, candidates.len());
    let run = Run::new(account.client(), window, replayer.as_ref());
    let summary = run.all(&candidates, signals.next(), || bar.inc(1)).await;
    bar.finish_and_clear();

    let result = if args.json { print_json(&summary) } else { print(&summary) };
    complain(&summary);
    printed(result)?;
    let done = summary.error.is_none() && summary.failed.is_empty();
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks whether there is anything to do.
fn check(window: &Window, args: &Args) -> Result<(), Usage> {
    for entity in &args.entity {
        if !window.asks_for(entity) {
            let actions = [entity.created(), entity.updated()].into_iter().flatten();
            let actions: Vec<&str> = actions.map(|entry| entry.name).collect();
            let (name, actions) = (entity.name, actions.join(" or "));
            return Err(Usage::new(format!(
                "no source that is asked for wants {actions}, which tell of {name} records"
            )));
        }
    }
    match (window.earliest(), args.until) {
        (Some(begin), Some(until)) if begin > until => {
            Err(Usage::new(format!("--until {until} lies before the beginning, {begin}")))
        }
        (None, _) if !window.unknown.is_empty() => Err(Usage::new(format!(
            "there is no webhook that would tell since when events are missing; expected --since with a time. It is about {}",
            window.unknown.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// What went wrong, and how to go on.
fn complain(summary: &Summary) {
    let clean = |text: &str| one_line(text.as_bytes());
    for Failed { entity, id, event, error } in summary.failed.iter().take(FAILURES_SHOWN) {
        let event = event.as_deref().map(|event| format!(" ({event})")).unwrap_or_default();
        anstream::eprintln!("{} {entity} {id}{event}: {}", styled(ERROR, "failed:"), clean(error));
    }
    if let Some(more) = summary.failed.len().checked_sub(FAILURES_SHOWN).filter(|more| *more > 0) {
        anstream::eprintln!("{} {} more", styled(ERROR, "failed:"), grouped(more as u64));
    }
    if let Some(error) = &summary.error {
        anstream::eprintln!("{} ended before its time: {}", styled(ERROR, "error:"), clean(error));
    }
    if let Some(since) = &summary.go_on_since {
        let when = if summary.error.is_some() { "To go on" } else { "Once that is cured" };
        let same = "with the other options as they were";
        anstream::eprintln!("Not everything is published. {when}, {same}: --since {since}");
    }
}

fn print(summary: &Summary) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let Summary {
        run_id,
        dry_run,
        published,
        uncovered,
        unplaced,
        elsewhere,
        outside,
        gone,
        failed,
        unreadable,
        unknown_since,
        ..
    } = summary;
    if !published.is_empty() {
        let mut table = Table::new(["SOURCE", "ACTION", "EVENTS"]);
        table.align_right(2);
        for Published { source, action, events } in published {
            table.row([source.clone(), action.clone(), grouped(*events as u64)]);
        }
        writeln!(out, "{table}")?;
    }
    let total: usize = published.iter().map(|published| published.events).sum();
    let verb = if *dry_run { "Would publish" } else { "Published" };
    let events = if total == 1 { "event" } else { "events" };
    let mark = if *dry_run { String::new() } else { format!(", marked ce_nexuduscatchup: {run_id}") };
    let line = format!("{verb} {} {events}{mark}", grouped(total as u64));
    writeln!(out, "{}", styled(if *dry_run { HEADING } else { ADDED }, line))?;
    for (what, kinds) in [
        ("changed, but no action that is asked for tells of it", uncovered),
        ("belong to a location that nobody knows", unplaced),
    ] {
        if !kinds.is_empty() {
            let kinds: Vec<String> = kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            writeln!(out, "{}", styled(WARNING, format!("Left out: {} {what}", kinds.join(", "))))?;
        }
    }
    for (number, what) in [
        (*elsewhere, "of locations that were not asked for"),
        (*outside, "that did not change in the window after all"),
        (*gone, "that were deleted meanwhile"),
    ] {
        if number > 0 {
            writeln!(out, "Left out: {} {what}", grouped(number as u64))?;
        }
    }
    if !failed.is_empty() {
        let line = format!("Failed: {}", grouped(failed.len() as u64));
        writeln!(out, "{}", styled(ERROR, line))?;
    }
    if !unknown_since.is_empty() {
        let line = format!(
            "No webhook tells since when these are missing, so say --since T: {}",
            unknown_since.join(", ")
        );
        writeln!(out, "{}", styled(WARNING, line))?;
    }
    if !unreadable.is_empty() {
        writeln!(
            out,
            "Nothing can be read back of deletions, signals and transitions ({} of the actions asked for): {}",
            unreadable.len(),
            unreadable.join(", ")
        )?;
    }
    Ok(())
}

/// What is going on, on standard error, if that is a terminal.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// From now on so many records are counted.
fn count(bar: &ProgressBar, records: usize) {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records  {eta} left");
    bar.set_style(style.expect("the template is right"));
    bar.set_length(records as u64);
}
