//! `webhooks enable`: re-enables disabled webhooks, and changes nothing else.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Common, look, print_failed};
use crate::cli::output::{ADDED, Asker, Output, Usage, styled};
use crate::webhooks::apply::{Done, Scope};
use crate::webhooks::observed::Observed;
use crate::webhooks::plan::Pair;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Names or numbers of actions [default: all]
    #[arg(value_name = "ACTION")]
    actions: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Write without asking
    ///
    /// Without it, `enable` asks if standard input is a terminal. Elsewhere it never asks.
    #[arg(long)]
    yes: bool,
}

/// Exit code 0 when all of them are enabled; 1 if one is not, or the answer was no.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (account, look) = look(&args.common, file).await?;
    let mut pairs = look.comparison.pairs;
    for action in &args.actions {
        if !pairs.iter().any(|pair| is(pair, action)) {
            let hint = match meant(&pairs, action) {
                Some(name) => format!("did you mean {name}?"),
                None => "`webhooks status` lists them".to_owned(),
            };
            let wrong = format!("no webhook of the action {action:?} is asked for; {hint}");
            return Err(Usage::new(wrong).into());
        }
    }
    pairs.retain(|pair| args.actions.is_empty() || args.actions.iter().any(|action| is(pair, action)));
    if !agreed(&args, &pairs)? {
        return Ok(ExitCode::FAILURE);
    }
    let applied = account.apply(&pairs, Scope::Enable, &|_| {}).await;
    let (enabled, failed) = (applied.updated, applied.failed);
    print_failed(&failed);
    let mut out = Output::stdout();
    if args.common.json {
        out.json(&json!({"enabled": enabled, "failed": failed}));
    } else {
        for Done { source, action, webhook_id } in &enabled {
            out.line(format_args!("{} {source} {action} {webhook_id}", styled(ADDED, "enabled")));
        }
        out.line(format_args!("Enabled: {}, {} failed.", enabled.len(), failed.len()));
    }
    out.end(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks before the first write, if somebody can answer.
fn agreed(args: &Args, pairs: &[Pair]) -> io::Result<bool> {
    let disabled =
        pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref().filter(|found| !found.active)?)));
    let disabled: Vec<(&Pair, &Observed)> = disabled.collect();
    let asker = if args.yes || disabled.is_empty() { None } else { Asker::new(args.common.json) };
    let Some(mut asker) = asker else { return Ok(true) };
    for (pair, found) in &disabled {
        let by = if found.is_disabled_by_nexudus() { "Nexudus" } else { "a person" };
        let (source, action) = (&pair.wanted.source.name, pair.wanted.action());
        let failures = found.error_count;
        let id = found.id;
        asker.show(format_args!("{source} {action} {id}: disabled by {by}, failures: {failures}"))?;
    }
    let webhooks = if disabled.len() == 1 { "webhook" } else { "webhooks" };
    let agrees = asker.agrees(format_args!("Enable {} {webhooks} in Nexudus?", disabled.len()))?;
    if !agrees {
        asker.show("Nothing was written.")?;
    }
    Ok(agrees)
}

/// The nearest name, where that one has a webhook.
fn meant<'a>(pairs: &'a [Pair], action: &str) -> Option<&'a str> {
    let mut nearest = pairs.iter().filter_map(|pair| pair.wanted.source.actions.nearest(action));
    nearest.find(|name| pairs.iter().any(|pair| pair.wanted.action() == *name))
}

fn is(pair: &Pair, action: &str) -> bool {
    pair.wanted.source.actions.find(action) == Some(pair.wanted.action_index)
}
