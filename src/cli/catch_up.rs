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
use super::output::{ADDED, ERROR, HEADING, Table, Usage, WARNING, grouped, one_line, styled};
use crate::app::BuildError;
use crate::catch_up::entities::{self, Entity};
use crate::catch_up::run::{Failed, Published, Run, Summary};
use crate::catch_up::survey::{SurveyError, survey};
use crate::catch_up::window::{Since, Window};
use crate::delivery::replay::Replayer;
use crate::metrics::Metrics;
use crate::webhooks::{Account, AccountError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// From when on: a time such as 2026-01-31T08:00:00Z, a duration ago such as 2h, or last-trigger: for each webhook
    /// from its last success on
    #[arg(long, value_name = "T", value_parser = beginning)]
    since: Beginning,
    /// Until when [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
    /// With --since last-trigger: how much earlier, for events that were still failing while later ones succeeded
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    overlap: Duration,
    /// Only this source; may be given several times
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only this kind of record, such as Booking; may be given several times
    #[arg(long, value_name = "ENTITY", value_parser = kind)]
    entity: Vec<&'static Entity>,
    /// Only say what would be published
    #[arg(long)]
    dry_run: bool,
    /// Publish nothing if there are more records than that
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_records: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

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
    let mut config = control(file).await?;
    if let Some(nexudus) = &mut config.nexudus {
        nexudus.as_command();
    }
    let account = Account::new(&config, Arc::new(Metrics::new("")))?;
    account.check_locations(&args.source).await?;
    let (since, comparison) = match args.since {
        Beginning::At(time) => (Since::At(time), None),
        Beginning::LastTrigger => {
            let look = account.look().await.map_err(AccountError::from)?;
            (Since::LastTrigger(args.overlap), Some(look.comparison))
        }
    };
    let window = Window::new(&config, (&args.source, &args.entity), since, args.until, comparison.as_ref());
    if let (Some(begin), Some(until)) = (window.earliest(), args.until)
        && begin > until
    {
        return Err(Usage::new(format!("--until {until} lies before --since {begin}")).into());
    }
    let candidates = match survey(account.client(), &args.entity, &window, args.max_records).await {
        Ok(candidates) => candidates,
        Err(error @ SurveyError::TooMany { .. }) => return Err(error.into()),
        Err(error) => return Err(error).context("nothing was published"),
    };
    let replayer = if args.dry_run { None } else { Some(Replayer::new(&config).map_err(BuildError::Kafka)?) };
    let bar = progress(candidates.len());
    let (summary, broken) =
        Run::new(account.client(), window, replayer.as_ref()).all(&candidates, || bar.inc(1)).await;
    bar.finish_and_clear();
    if args.json {
        let mut out = anstream::stdout().lock();
        serde_json::to_writer(&mut out, &summary)?;
        writeln!(out)?;
    } else {
        print(&summary)?;
    }
    for Failed { action, id, error } in &summary.failed {
        anstream::eprintln!("{} {action} of record {id}: {error}", styled(ERROR, "failed:"));
    }
    if let Some(broken) = &broken {
        anstream::eprintln!(
            "{} ended before its time: {}",
            styled(ERROR, "error:"),
            one_line(broken.to_string().as_bytes())
        );
    }
    if let Some(since) = &summary.go_on_since {
        anstream::eprintln!("Not everything is published. To go on: --since {since}");
    }
    let done = broken.is_none() && summary.failed.is_empty();
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        gone,
        unreadable,
        unknown_since,
        ..
    } = summary;
    if !published.is_empty() {
        let mut table = Table::new(["SOURCE", "ACTION", "RECORDS"]);
        table.align_right(2);
        for Published { source, action, records } in published {
            table.row([source.clone(), action.clone(), grouped(*records as u64)]);
        }
        writeln!(out, "{table}")?;
    }
    let total: usize = published.iter().map(|published| published.records).sum();
    let verb = if *dry_run { "Would publish" } else { "Published" };
    let line = format!("{verb} {} records, marked ce_nexuduscatchup: {run_id}", grouped(total as u64));
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
    if *elsewhere > 0 {
        writeln!(out, "Left out: {elsewhere} of locations that were not asked for")?;
    }
    if *gone > 0 {
        writeln!(out, "Left out: {gone} that were deleted meanwhile")?;
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

/// A bar on standard error, if that is a terminal and there is something to wait for.
fn progress(records: usize) -> ProgressBar {
    if records < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records  {eta} left");
    ProgressBar::new(records as u64).with_style(style.expect("the template is right"))
}
