//! `webhooks enable`: switches on what is switched off, and changes nothing else.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Common, look, print_failed};
use crate::cli::output::{ADDED, Output, Usage, styled};
use crate::webhooks::apply::{Done, Scope};
use crate::webhooks::plan::Pair;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Only those of these actions, by name or number [default: all]
    #[arg(value_name = "ACTION")]
    actions: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// Exit code 0 when all of them are switched on; 1 if one is not.
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

/// The nearest name, where that one has a webhook.
fn meant<'a>(pairs: &'a [Pair], action: &str) -> Option<&'a str> {
    let mut nearest = pairs.iter().filter_map(|pair| pair.wanted.source.actions.nearest(action));
    nearest.find(|name| pairs.iter().any(|pair| pair.wanted.action() == *name))
}

fn is(pair: &Pair, action: &str) -> bool {
    pair.wanted.source.actions.find(action) == Some(pair.wanted.place)
}
