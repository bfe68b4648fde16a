//! `webhooks enable`: re-enables disabled webhooks, and changes nothing else.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Common, look, print_failed};
use crate::cli::output::{self, ADDED, Asker, Output, Usage, styled};
use crate::webhooks::apply::{Scope, Written};
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
    let pairs = look.comparison.choose(&args.actions).map_err(Usage::new)?;
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
        for Written { source, action, webhook_id } in &enabled {
            out.line(format_args!("{} {source} {action} {webhook_id}", styled(ADDED, "enabled")));
        }
        out.line(format_args!("Enabled: {}, {} failed.", enabled.len(), failed.len()));
    }
    out.end(output::exit(failed.is_empty()))
}

/// Asks before the first write, if somebody can answer.
fn agreed(args: &Args, pairs: &[Pair]) -> io::Result<bool> {
    let found = pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)));
    let disabled: Vec<(&Pair, &Observed)> = found.filter(|(_, found)| !found.active).collect();
    let asker = if args.yes || disabled.is_empty() { None } else { Asker::new(args.common.json) };
    let Some(mut asker) = asker else { return Ok(true) };
    for (Pair { wanted, .. }, found) in &disabled {
        let by = if found.is_disabled_by_nexudus() { "Nexudus" } else { "a person" };
        let (source, action) = (&wanted.source.name, wanted.action());
        let Observed { id, error_count, .. } = found;
        asker.show(format_args!("{source} {action} {id}: disabled by {by}, failures: {error_count}"))?;
    }
    let webhooks = output::plural(disabled.len() as u64, "webhook");
    asker.confirms(format_args!("Enable {webhooks} in Nexudus?"))
}
