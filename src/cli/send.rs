//! `send`: acts as Nexudus does. Makes or reads bodies, signs them as .NET would, posts them, and measures the time of the answers.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstyle::Style;
use indicatif::ProgressBar;
use secrecy::{ExposeSecret as _, SecretString};

use super::client::{configuration, program};
use super::output::{
    self, ADDED, ERROR, Exit, FAINT, HEADING, Output, Usage, WARNING, duration, grouped, offset, one_line,
    progress_style, styled,
};
use super::sign::{given_key, read_body, secret, source_of};
use crate::action::Actions;
use crate::config::Source;
use crate::sender::bodies::Bodies;
use crate::sender::delivery::Target;
use crate::sender::load::{self, Load, QUANTILES, SentDelivery, Summary};
use crate::sender::post::{Answer, NO_CONNECTION, Poster, Retry};
use crate::signature::SigningKey;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

/// Sends the deliveries, and prints the result. Exit code 0 if the bridge answered every delivery 2xx.
pub(super) async fn run(args: Args, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let access = Access::of(&args, file)?;
    let bodies = bodies(&args, &access.actions)?;
    let target =
        Target::parse(&args.url, access.token).map_err(|error| Usage(format!("{error} (from --url)")))?;
    let retry = if args.retry { Retry::NEXUDUS } else { Retry::NEVER };
    let poster = Poster::new(target, retry, args.concurrency.get())?;
    let count = args.count.unwrap_or(bodies.list.len() as u64);
    let plan = Load { count, concurrency: args.concurrency, rate: args.rate };
    let bar = if count == 1 { ProgressBar::hidden() } else { ProgressBar::new(count) };
    bar.set_style(progress_style("{bar:40} {human_pos}/{human_len}  {rate}  {eta} left"));
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no handler, so the signal ends the process by itself
        }
    };
    let mut only = None;
    let (source, key) = (Arc::from(args.source), access.key);
    let make = move |number| bodies.delivery(number, &source, key.as_ref());
    let on_answer = |done: &SentDelivery| {
        bar.inc(1);
        if count == 1 {
            only = Some(done.answer.clone());
        }
    };
    let summary = load::run(&poster, plan, make, interrupted, on_answer).await;
    bar.finish_and_clear();
    match (&only, args.json) {
        (_, true) => out.json(&summary.document(only.as_ref())),
        (Some(answer), false) => out.block(text_of_one(answer)),
        (None, false) => out.block(text_of_all(&summary, count)),
    }
    if summary.answers.keys().any(|kind| kind.starts_with("401")) {
        output::hint(format_args!("the signature was made with {}", access.key_from));
    }
    if summary.answers.contains_key(NO_CONNECTION) {
        output::hint(format_args!(
            "is the bridge running there? --url names another; start one with \"{} dev\"",
            program()
        ));
    }
    Ok(Exit::of(summary.accepted == count))
}

/// Credentials for the bridge, and the actions of the source.
struct Access {
    key: Option<SigningKey>,
    /// Origin of the key, as text.
    key_from: String,
    token: Option<String>,
    actions: Actions,
}

impl Access {
    /// Reads the arguments. Loads the configuration only if they have no secret.
    fn of(args: &Args, file: Option<&Path>) -> anyhow::Result<Self> {
        let token = args.token.as_ref().map(|token| token.expose_secret().to_owned());
        if let Some((key, key_from)) = given_key(args.secret.as_ref(), args.secret_file.as_deref())? {
            return Ok(Self { key: Some(key), key_from, token, actions: Actions::default() });
        }
        let source = source_of(&configuration(file)?, &args.source)?;
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

fn bodies(args: &Args, actions: &Actions) -> anyhow::Result<Bodies> {
    let given = args.payload.as_deref().map(|file| read_body(Some(file))).transpose()?;
    let bodies = Bodies::new(&args.action, given, actions).map_err(Usage)?;
    bodies.note.iter().for_each(output::note);
    Ok(bodies)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number of deliveries a second, above 0".to_owned())
}

/// Returns the result of the only delivery.
fn text_of_one(answer: &Answer) -> String {
    let took = match answer.attempts {
        1 => duration(answer.latency),
        attempts => format!("{}, attempt {attempts}", duration(answer.latency)),
    };
    let receipt = match &answer.result {
        Ok(receipt) => receipt,
        Err(refusal) => {
            let refusal = one_line(refusal.to_string());
            return format!("{}: {refusal} ({took})", styled(ERROR, "not confirmed"));
        }
    };
    let status = styled(style_of(&receipt.status), one_line(&receipt.status));
    let mut text = format!("{status} in {took}");
    for event in &receipt.events {
        let [topic, id] = [&event.topic, &event.id].map(one_line);
        let position = format!("{topic} partition {} offset {}", event.partition, offset(event.offset));
        text.push_str(&format!("\n  {}  {}", styled(HEADING, position), styled(FAINT, format!("id {id}"))));
    }
    text
}

/// Returns the style of the status of a 2xx answer.
fn style_of(status: &str) -> Style {
    if status == "confirmed" { ADDED } else { WARNING }
}

/// Returns the result of several deliveries.
fn text_of_all(summary: &Summary, count: u64) -> String {
    let deliveries = grouped(summary.deliveries);
    let mut lines = Vec::new();
    if summary.deliveries < count {
        let interrupted = styled(WARNING, "interrupted");
        lines.push(format!("{interrupted} after {deliveries} of {} deliveries", grouped(count)));
    }
    let (elapsed, rate) = (duration(summary.elapsed), grouped(summary.rate().round() as u64));
    let (deliveries, events) = (styled(HEADING, deliveries), grouped(summary.events));
    let retries = match summary.attempts.saturating_sub(summary.deliveries) {
        0 => String::new(),
        retries => format!("; {} retries", grouped(retries)),
    };
    lines.push(format!("{deliveries} deliveries in {elapsed}, {rate}/s; {events} events confirmed{retries}"));
    if summary.accepted > 0 {
        let quantiles =
            QUANTILES.map(|(name, quantile)| format!("{name} {}", duration(summary.quantile(quantile))));
        lines.push(format!("  latency  {}", quantiles.join("  ")));
    }
    if let Some((longest, at)) = summary.longest {
        let longest = format!("longest  {} at {} from the start", duration(longest), duration(at));
        lines.push(format!("  {}", styled(FAINT, longest)));
    }
    for (kind, tally) in &summary.answers {
        let style = if tally.accepted { style_of(kind) } else { ERROR };
        lines.push(format!("  {:>9}  {}", grouped(tally.count), styled(style, one_line(kind))));
        let example = tally.example.as_ref().map(one_line);
        lines.extend(
            example.map(|example| format!("{:13}{}", "", styled(FAINT, format!("such as {example}")))),
        );
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
