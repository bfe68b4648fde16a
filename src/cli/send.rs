//! `send`: acts as Nexudus does. Builds or reads bodies, signs them as .NET would, posts them and times the answers.

use std::fmt;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressState, ProgressStyle};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::actions::meant;
use super::dev::program;
use super::output::{
    self, ADDED, ERROR, FAINT, HEADING, Output, Usage, WARNING, duration, grouped, one_line, progress, styled,
};
use super::sign::{given_key, read_body, secret, source_of};
use crate::action::catalogue::ENTRIES;
use crate::action::{Action, Actions};
use crate::config::{Config, Source};
use crate::sender::delivery::{Delivery, Target};
use crate::sender::load::{self, Done, Plan, Summary};
use crate::sender::payloads::{Template, payload, wire_body};
use crate::sender::post::{Answer, NO_CONNECTION, Poster, Receipt, Retry};
use crate::signature::SigningKey;

/// The arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or number of the action; `all` for one delivery of each
    action: String,
    /// File with the body, sent byte for byte; - for standard input [default: an invented record of the action]
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// Number of deliveries; the Id grows by one with each [default: 1, for `all` one of each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Deliveries per second; each latency then counts from the planned time [default: as fast as the bridge answers]
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Maximum number of deliveries in flight
    #[arg(long, value_name = "C", default_value = "1")]
    concurrency: NonZeroUsize,
    /// Origin of the ingress
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Shared secret; other users of this machine can read it [default: that of the configuration, else that of `dev`]
    #[arg(long, value_name = "SECRET", value_parser = secret, conflicts_with = "secret_file")]
    secret: Option<SecretString>,
    /// File with the shared secret; one line break at its end is removed
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Source, a part of the URL
    #[arg(long, value_name = "NAME", default_value = Source::DEFAULT)]
    source: String,
    /// Token of the URL (?token=...) [default: that of the configuration]
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    token: Option<SecretString>,
    /// Retry a delivery up to 10 times with back-off until it is answered 2xx
    #[arg(long)]
    retry: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Sends, and prints what came of it. Exit code 0 if the bridge answered every delivery 2xx.
///
/// # Errors
/// [`Usage`] for an action without a payload, or an address that is none; otherwise the configuration's or the system's.
pub async fn run(
    args: Args,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    send(args, configuration, Output::stdout()).await
}

async fn send(
    args: Args,
    configuration: impl FnOnce() -> anyhow::Result<Config>,
    mut out: Output,
) -> anyhow::Result<ExitCode> {
    let access = Access::of(&args, configuration)?;
    let bodies = Bodies::of(&args, &access.actions)?;
    let target = Target::parse(&args.url, access.token)
        .map_err(|error| Usage::new(format!("{error} (from --url)")))?;
    let retry = if args.retry { Retry::NEXUDUS } else { Retry::NEVER };
    let poster = Poster::new(target, retry, args.concurrency.get())?;
    let count = args.count.unwrap_or(bodies.list.len() as u64);
    let plan = Plan { count, concurrency: args.concurrency, rate: args.rate };
    let bar = progress(count, style());
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no handler, so the signal ends the process by itself
        }
    };
    let mut only = None;
    let (source, key, key_from) = (Arc::from(args.source), access.key, access.key_from);
    let make = move |number| bodies.delivery(number, &source, key.as_ref());
    let seen = |done: &Done| {
        bar.inc(1);
        if count == 1 {
            only = Some(done.answer.clone());
        }
    };
    let summary = load::run(&poster, plan, make, interrupted, seen).await;
    bar.finish_and_clear();
    match (&only, args.json) {
        (_, true) => out.json(&document(&summary, only.as_ref())),
        (Some(answer), false) => print_one(&mut out, answer)?,
        (None, false) => print_summary(&mut out, &summary, count)?,
    }
    if summary.answers.keys().any(|kind| kind.starts_with("401")) {
        output::hint(format_args!("the signature was made with {key_from}"));
    }
    if summary.answers.keys().any(|kind| kind == NO_CONNECTION) {
        output::hint(format_args!(
            "is the bridge running there? --url names another; start one with \"{} dev\"",
            program()
        ));
    }
    out.end(if summary.accepted == count { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the bridge asks a sender for.
struct Access {
    key: Option<SigningKey>,
    /// Where the key is from, for people.
    key_from: String,
    token: Option<String>,
    actions: Actions,
}

impl Access {
    /// From the arguments; from the configuration what they do not give. A secret as an argument makes it superfluous.
    fn of(args: &Args, configuration: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<Self> {
        let token = args.token.as_ref().map(|token| token.expose_secret().to_owned());
        if let Some(key) = given_key(args.secret.as_ref(), args.secret_file.as_deref())? {
            let key_from = if args.secret.is_some() { "--secret" } else { "--secret-file" }.to_owned();
            return Ok(Self { key: Some(key), key_from, token, actions: Actions::default() });
        }
        let source = source_of(&configuration()?, &args.source)?;
        let configured = || source.url_tokens.first().map(|token| token.expose_secret().to_owned());
        // A source with `signature = "off"` may have no secret; then there is nothing to sign with.
        Ok(Self {
            key: source.keys.first().cloned(),
            key_from: format!("the first secret of source {} (configuration, or that of `dev`)", source.name),
            token: token.or_else(configured),
            actions: source.actions.clone(),
        })
    }
}

/// What is sent: one action's body, or every action's in turn.
struct Bodies {
    list: Vec<(Arc<str>, Template)>,
}

impl Bodies {
    fn of(args: &Args, actions: &Actions) -> anyhow::Result<Self> {
        let given =
            args.payload.as_deref().map(|file| read_body(Some(file)).map(Template::new)).transpose()?;
        if args.action.eq_ignore_ascii_case("all") {
            let own = |name: &str| payload(name).map(|fixture| Template::new(wire_body(fixture)));
            let body = |name: &'static str| Some((Arc::from(name), given.clone().or_else(|| own(name))?));
            return Ok(Self { list: ENTRIES.iter().filter_map(|entry| body(entry.name)).collect() });
        }
        let known = actions.find(&args.action).map(|place| actions.get(place));
        let name = known.map_or(args.action.as_str(), Action::name);
        let template = match (given, payload(name)) {
            (Some(given), _) => given,
            (None, Some(fixture)) => Template::new(wire_body(fixture)),
            (None, None) => return Err(no_payload(&args.action, known.is_some(), actions).into()),
        };
        if known.is_none() {
            let meant = meant(&args.action, actions);
            output::note(format_args!(
                "{name:?} is in neither the catalogue nor extra_actions{meant}; the bridge will keep it on the quarantine topic"
            ));
        }
        Ok(Self { list: vec![(name.into(), template)] })
    }

    fn delivery(&self, number: u64, source: &Arc<str>, key: Option<&SigningKey>) -> Delivery {
        let kinds = self.list.len() as u64;
        let (action, template) = &self.list[(number % kinds) as usize];
        Delivery::new(Arc::clone(source), Arc::clone(action), template.copy(number / kinds), key)
    }
}

fn no_payload(action: &str, known: bool, actions: &Actions) -> Usage {
    Usage::new(match known {
        true => format!("there is no invented record for {action:?}, expected --payload FILE with it"),
        false => format!(
            "{action:?} is not an action of the catalogue{}, expected --payload FILE to send it all the same",
            meant(action, actions)
        ),
    })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number of deliveries a second, above 0".to_owned())
}

/// How the bar looks.
fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len}  {rate}  {eta} left");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        write!(out, "{}/s", grouped(state.per_sec().round() as u64)).ok(); // a bar may be cut short
    };
    style.expect("the template is right").with_key("rate", rate)
}

fn print_one(out: &mut impl Write, answer: &Answer) -> std::io::Result<()> {
    let took = match answer.attempts {
        1 => duration(answer.latency),
        attempts => format!("{}, attempt {attempts}", duration(answer.latency)),
    };
    let receipt = match &answer.result {
        Ok(receipt) => receipt,
        Err(refusal) => {
            let refusal = one_line(refusal.to_string().as_bytes());
            return writeln!(out, "{}: {refusal} ({took})", styled(ERROR, "not confirmed"));
        }
    };
    writeln!(out, "{} in {took}", styled(status_style(receipt), one_line(receipt.status.as_bytes())))?;
    for event in &receipt.events {
        let [topic, id] = [&event.topic, &event.id].map(|text| one_line(text.as_bytes()));
        let place = format!("{topic} partition {} offset {}", event.partition, event.offset);
        writeln!(out, "  {}  {}", styled(HEADING, place), styled(FAINT, format!("id {id}")))?;
    }
    Ok(())
}

fn status_style(receipt: &Receipt) -> anstyle::Style {
    if receipt.status == "confirmed" { ADDED } else { WARNING }
}

fn print_summary(out: &mut impl Write, summary: &Summary, count: u64) -> std::io::Result<()> {
    let Summary { deliveries, events, attempts, elapsed, .. } = *summary;
    if deliveries < count {
        writeln!(
            out,
            "{} after {} of {} deliveries",
            styled(WARNING, "interrupted"),
            grouped(deliveries),
            grouped(count)
        )?;
    }
    let retries = attempts.saturating_sub(deliveries);
    writeln!(
        out,
        "{} deliveries in {}, {}/s; {} events confirmed{}",
        styled(HEADING, grouped(deliveries)),
        duration(elapsed),
        grouped(summary.rate().round() as u64),
        grouped(events),
        if retries > 0 { format!("; {} retries", grouped(retries)) } else { String::new() },
    )?;
    if summary.accepted > 0 {
        let [p50, p90, p99, max] =
            QUANTILES.map(|(name, quantile)| format!("{name} {}", duration(summary.quantile(quantile))));
        writeln!(out, "  latency  {p50}  {p90}  {p99}  {max}")?;
    }
    if let Some((longest, at)) = summary.longest {
        writeln!(
            out,
            "  {}",
            styled(FAINT, format!("longest  {} at {} from the start", duration(longest), duration(at)))
        )?;
    }
    for (kind, tally) in &summary.answers {
        let style = if tally.accepted { if kind == "confirmed" { ADDED } else { WARNING } } else { ERROR };
        writeln!(out, "  {:>9}  {}", grouped(tally.count), styled(style, one_line(kind.as_bytes())))?;
        if let Some(example) = &tally.example {
            writeln!(
                out,
                "             {}",
                styled(FAINT, format!("such as {}", one_line(example.as_bytes())))
            )?;
        }
    }
    Ok(())
}

/// The latencies that are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

fn document(summary: &Summary, only: Option<&Answer>) -> Value {
    let latency = |(name, quantile): (&str, f64)| {
        let seconds = (summary.accepted > 0).then(|| summary.quantile(quantile).as_secs_f64());
        (name.to_owned(), json!(seconds))
    };
    let answer = |(kind, tally): (&String, &load::Tally)| json!({"answer": kind, "count": tally.count, "accepted": tally.accepted, "example": tally.example});
    let event = |event: &crate::sender::post::Confirmed| json!({"id": event.id, "topic": event.topic, "partition": event.partition, "offset": event.offset});
    let mut document = json!({
        "deliveries": summary.deliveries,
        "accepted": summary.accepted,
        "events": summary.events,
        "attempts": summary.attempts,
        "elapsed_seconds": summary.elapsed.as_secs_f64(),
        "deliveries_per_second": summary.rate(),
        "latency_seconds": Value::Object(QUANTILES.into_iter().map(latency).collect()),
        "answers": summary.answers.iter().map(answer).collect::<Vec<_>>(),
    });
    if let Some(Ok(receipt)) = only.map(|answer| &answer.result) {
        document["confirmed"] = receipt.events.iter().map(event).collect();
    }
    document
}

#[cfg(test)]
mod tests;
