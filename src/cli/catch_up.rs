//! `catch-up`: reads what changed in Nexudus while webhooks were off, and publishes it, marked.

mod outages;
mod summary;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use self::outages::Bridge;
use super::client::control;
use super::dev::program;
use super::moment::moment;
use super::output::{self, Output, Usage};
use super::serve::Signals;
use super::waits::Progress;
use crate::action::Action;
use crate::app::BuildError;
use crate::catch_up::entities::{self, Entity};
use crate::catch_up::run::{Broken, Run};
use crate::catch_up::since::{Beginnings, Since};
use crate::catch_up::survey::survey;
use crate::catch_up::window::Window;
use crate::config::Config;
use crate::config::duration;
use crate::delivery::replay::Replayer;
use crate::outage::OVERLAP;
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

/// `--max-records`, where it is not given.
const MAX_RECORDS: usize = 10_000;

#[derive(Debug, Clone)]
enum Beginning {
    At(Timestamp),
    LastTrigger,
    LastOutage,
    Of { source: String, action: String, time: Timestamp },
}

fn beginning(text: &str) -> Result<Beginning, String> {
    if text == Beginnings::LAST_TRIGGER {
        return Ok(Beginning::LastTrigger);
    }
    if text == Beginnings::LAST_OUTAGE {
        return Ok(Beginning::LastOutage);
    }
    let Some((name, time)) = text.split_once('=') else {
        return moment(text)
            .map(Beginning::At)
            .map_err(|wrong| format!("{wrong}, last-outage or last-trigger"));
    };
    let (source, action) = name.split_once('/').ok_or("expected SOURCE/ACTION before the =")?;
    let action = Action::known(action).map_or(action, |entry| entry.name).to_owned();
    Ok(Beginning::Of { source: source.to_owned(), action, time: moment(time)? })
}

fn kind(text: &str) -> Result<&'static Entity, String> {
    let known = entities::all().find(|entity| entity.name.eq_ignore_ascii_case(text));
    known.ok_or_else(|| {
        let names: Vec<&str> = entities::all().map(|entity| entity.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

impl Args {
    /// All of `--since`, with `--overlap`.
    fn beginnings(&self) -> Result<Beginnings, Usage> {
        let mut told = Beginnings { all: None, named: BTreeMap::new() };
        for beginning in &self.since {
            let again = match beginning {
                Beginning::At(time) => told.all.replace(Since::At(*time)).is_some(),
                Beginning::LastTrigger => {
                    told.all.replace(Since::LastTrigger(self.overlap.unwrap_or(OVERLAP))).is_some()
                }
                Beginning::LastOutage => false, // the bridge tells
                Beginning::Of { source, action, time } => {
                    told.named.insert((source.clone(), action.clone()), *time).is_some()
                }
            };
            if again {
                return Err(Usage::new(
                    "--since is said twice for the same; expected one T for all and one for each SOURCE/ACTION",
                ));
            }
        }
        let all = told.all.and_then(|since| if let Since::At(time) = since { Some(time) } else { None });
        let now = Timestamp::now();
        if let Some(future) = all.iter().chain(told.named.values()).find(|time| **time > now) {
            return Err(Usage::new(format!("--since {future} lies in the future; it is {now:.0} now")));
        }
        if self.overlap.is_some()
            && !self.asks_for_outages()
            && !matches!(told.all, Some(Since::LastTrigger(_)))
        {
            return Err(Usage::new("--overlap goes with --since last-outage and last-trigger only"));
        }
        Ok(told)
    }

    /// Whether the running bridge tells beginnings.
    fn asks_for_outages(&self) -> bool {
        self.since.iter().any(|beginning| matches!(beginning, Beginning::LastOutage))
    }

    /// The command for the same run from these beginnings on, as a shell takes it.
    fn command(&self, file: Option<&Path>, since: &[String]) -> String {
        let mut words = vec!["catch-up".to_owned()];
        let mut say = |name: &str, value: String| words.extend([name.to_owned(), value]);
        for since in since {
            say("--since", since.clone());
        }
        if since.is_empty() {
            say("--since", Beginnings::LAST_OUTAGE.to_owned());
        }
        if let Some(bridge) = &self.bridge {
            say("--bridge", bridge.clone());
        }
        if let Some(overlap) = self.overlap.filter(|_| since.iter().any(|it| it == Beginnings::LAST_TRIGGER))
        {
            say("--overlap", duration::show(overlap));
        }
        if let Some(until) = self.until {
            say("--until", until.to_string());
        }
        for source in &self.source {
            say("--source", source.clone());
        }
        for entity in &self.entity {
            say("--entity", entity.name.to_owned());
        }
        if self.max_records != MAX_RECORDS {
            say("--max-records", self.max_records.to_string());
        }
        if let Some(file) = file {
            say("--config", file.display().to_string());
        }
        let flags = [(self.dry_run, "--dry-run"), (self.json, "--json")];
        words.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_owned()));
        let words = shlex::try_join(words.iter().map(String::as_str)).expect("no argument holds a NUL");
        format!("{} {words}", program())
    }
}

/// Returns exit code 0 when everything that can be read back is published; 1 if an event is left, or a wanted action
/// could not be read because its beginning is unknown.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut told = args.beginnings()?;
    let config = control(file)?;
    let lines = Progress::default();
    let account = lines.account(&config)?;
    let (bridge, begun) = (Bridge::new(args.bridge.as_deref(), &config), Timestamp::now());
    if args.asks_for_outages() {
        let report = bridge.report().await?;
        outages::tell(&bridge, &report, &args);
        outages::add(&mut told, &args, &report.outages);
    }
    let mut signals = Signals::listen()?;
    let window = unless_stopped(&mut signals, window(&config, &account, &args, &told)).await;
    let window = match window {
        Ok(window) => window,
        Err(error) => return nothing(error, || args.command(file, &told.arguments())),
    };
    let bar = lines.add(progress());
    let listing = async {
        let told = |kind| bar.set_message(format!("listing {kind}"));
        Ok(survey(account.client(), &args.entity, &window, args.max_records, told).await?)
    };
    let candidates = match unless_stopped(&mut signals, listing).await {
        Ok(candidates) => candidates,
        Err(error) => {
            bar.finish_and_clear();
            return nothing(error, || args.command(file, &window.beginnings().arguments()));
        }
    };
    let replayer = if args.dry_run { None } else { Some(Replayer::new(&config).map_err(BuildError::Kafka)?) };
    count(&bar, candidates.len());
    let run = Run::new(account.client(), window.clone(), replayer.as_ref());
    let summary = run.all(&candidates, signals.next(), || bar.inc(1)).await;
    bar.finish_and_clear();

    let mut out = Output::stdout();
    if args.json {
        out.json(&summary);
    } else {
        summary::print(&mut out, &summary)?;
    }
    summary::complain(&summary, |since| args.command(file, since));
    let done = summary.error.is_none() && summary.failed.is_empty() && summary.unknown_since.is_empty();
    if done && !args.dry_run {
        outages::report_covered(&bridge, &window, &args, args.until.unwrap_or(begun)).await;
    }
    out.end(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The windows, once Nexudus has said what they need.
async fn window(
    config: &Config,
    account: &Account,
    args: &Args,
    since: &Beginnings,
) -> anyhow::Result<Window> {
    account.check_locations(&args.source).await?;
    let comparison = match since.all {
        Some(Since::LastTrigger(_)) => Some(account.look().await.map_err(AccountError::from)?.comparison),
        _ => None,
    };
    let window = Window::new(config, (&args.source, &args.entity), since, args.until, comparison.as_ref());
    window.check(since, &args.entity).map_err(Usage::new)?;
    Ok(window)
}

/// `work`, unless somebody wants it to end.
async fn unless_stopped<T>(
    signals: &mut Signals,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        () = signals.next() => Err(Broken::Interrupted.into()),
        done = work => done,
    }
}

/// The end of a run that broke before it published anything. `again` is the command that begins where it began.
fn nothing(error: anyhow::Error, again: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
    if super::is_usage(&error) {
        return Err(error);
    }
    output::error(format_args!("nothing was published: {error:#}"));
    output::message(format_args!("To begin at the same moment again: {}", again()));
    Ok(ExitCode::FAILURE)
}

/// What is going on, on standard error, if that is a terminal.
fn progress() -> ProgressBar {
    if !output::is_stderr_terminal() {
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
        let begun = args.beginnings().unwrap().arguments();
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
