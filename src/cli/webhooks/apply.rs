//! `webhooks apply`: writes what the plan shows.

use std::path::Path;
use std::process::ExitCode;

use indicatif::ProgressStyle;
use serde_json::json;
use url::Url;

use super::{Common, chosen, look, plan, plan_json, print_failed};
use crate::cli::output::{self, Asker, HEADING, Output, progress, styled};
use crate::config::{SignaturePolicy, Source};
use crate::outgoing::is_loopback;
use crate::webhooks::apply::{Applied, Done, Scope};
use crate::webhooks::plan::Pair;
use crate::webhooks::{Account, Look};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    common: Common,
    /// Write without asking
    ///
    /// Without it, `apply` shows the plan and asks if standard input is a terminal. Elsewhere it never asks.
    #[arg(long)]
    yes: bool,
}

/// The note on the shared secret, which the API has no field for. It concerns sources that check signatures and had no webhook
/// before this run. A bridge that Nexudus reaches on loopback belongs to a double, which knows the secret.
fn secret_note(look: &Look, created: &[Done], public_url: &Url) -> Option<String> {
    let is_new = |source: &Source| {
        let mut own = look.comparison.pairs.iter().filter(|pair| pair.wanted.source.name == source.name);
        own.all(|pair| pair.found.is_none())
    };
    let made = |source: &Source| created.iter().any(|done| *done.source == *source.name);
    let concerned = look.comparison.pairs.iter().map(|pair| &pair.wanted.source);
    let mut names: Vec<&str> = concerned
        .filter(|source| source.policy != SignaturePolicy::Off && made(source) && is_new(source))
        .map(|source| &*source.name)
        .collect();
    names.dedup();
    if names.is_empty() || is_loopback(public_url) {
        return None;
    }
    Some(format!(
        "Nexudus signs with the shared secret of the location, which no API sets: type the secret of each new source ({}) \
         in Nexudus under Settings > Integrations > Webhooks of its location.",
        names.join(", ")
    ))
}

/// Exit code 0 when everything is as it should be; 1 if something failed, or the answer was no.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (account, look) = look(&args.common, file).await?;
    let mut out = Output::stdout();
    if !args.common.json {
        plan::print(&mut out, &look)?;
    }
    let Some(look) = agreed(&args, &account, look).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let changes = look.comparison.changes().len();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left  {msg}");
    let bar = args.common.progress.add(progress(changes as u64, style.expect("the template is right")));
    let tell = |pair: &Pair| {
        bar.set_message(format!("{} {}", pair.wanted.source.name, pair.wanted.action()));
        bar.inc(1);
    };
    let applied = account.apply(&look.comparison.pairs, Scope::All, &tell).await;
    bar.finish_and_clear();
    let Applied { created, updated, failed } = &applied;
    print_failed(failed);
    if args.common.json {
        let mut document = plan_json(&look);
        document["created"] = json!(created);
        document["updated"] = json!(updated);
        document["failed"] = json!(failed);
        out.json(&document);
    } else if changes > 0 {
        let summary = format!(
            "Applied: {} created, {} changed, {} failed.",
            created.len(),
            updated.len(),
            failed.len()
        );
        out.line(styled(HEADING, summary));
    }
    if let Some(note) = secret_note(&look, created, &account.client().config().public_url) {
        output::message(note);
    }
    out.end(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks before the first write, if somebody can answer. Returns the webhooks as they are after the answer: others may have
/// written meanwhile, and then the question is asked again about what is left. Returns none if the answer is no.
async fn agreed(args: &Args, account: &Account, mut look: Look) -> anyhow::Result<Option<Look>> {
    let Some(mut asker) = (if args.yes { None } else { Asker::new(args.common.json) }) else {
        return Ok(Some(look));
    };
    let mut changes = look.comparison.changes();
    if !changes.is_empty() && !asker.shows_stdout() {
        asker.show(plan::text(&look)?)?;
    }
    while !changes.is_empty() {
        let webhooks = if changes.len() == 1 { "webhook" } else { "webhooks" };
        if !asker.agrees(format_args!("Write {} {webhooks} in Nexudus?", changes.len()))? {
            asker.show("Nothing was written.")?;
            return Ok(None);
        }
        look = chosen(account, &args.common).await?;
        let now = look.comparison.changes();
        if now == changes {
            break;
        }
        asker.show("Somebody else has changed the webhooks in Nexudus since the plan. The plan is now:")?;
        asker.show(plan::text(&look)?)?;
        changes = now;
    }
    Ok(Some(look))
}
