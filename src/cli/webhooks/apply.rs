//! `webhooks apply` and `webhooks enable`: write the differences, or re-enable disabled webhooks only.

use std::io;
use std::path::Path;

use indicatif::ProgressBar;
use serde_json::json;

use super::{Common, chosen, look, text};
use crate::cli::output::{
    self, ADDED, Exit, HEADING, Output, Usage, can_ask, confirms, plural, progress_style, show, styled,
};
use crate::webhooks::apply::{Applied, Failure, Scope, Written};
use crate::webhooks::observed::Observed;
use crate::webhooks::plan::Pair;
use crate::webhooks::{Account, Look};

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    common: Common,
    /// Write without asking
    ///
    /// Without it, `apply` shows the plan and asks if standard input is a terminal. Elsewhere it never asks.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EnableArgs {
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

/// Runs `webhooks apply`. Fails if a webhook could not be written, or if the operator declined.
pub(crate) async fn apply(args: ApplyArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let (account, look, lines) = look(&args.common, file).await?;
    if !args.common.json {
        out.block(text(&look));
    }
    let is_plan_seen = out.is_terminal && !args.common.json;
    let Some(look) = agreed(&args, &account, look, is_plan_seen).await? else {
        return Ok(Exit::Failed);
    };
    let changes = look.comparison.changes().len();
    let bar = lines.add(ProgressBar::new(changes as u64));
    bar.set_style(progress_style("{bar:40} {pos}/{len}  {eta} left  {msg}"));
    let show = |pair: &Pair| {
        bar.set_message(format!("{} {}", pair.wanted.source.name, pair.wanted.action()));
        bar.inc(1);
    };
    let applied = account.apply(&look.comparison.pairs, Scope::All, &show).await;
    bar.finish_and_clear();
    let Applied { created, updated, failed } = &applied;
    print_failed(failed);
    if args.common.json {
        let mut document = look.document();
        document["created"] = json!(created);
        document["updated"] = json!(updated);
        document["failed"] = json!(failed);
        out.json(&document);
    } else if changes > 0 {
        let (created, updated, failed) = (created.len(), updated.len(), failed.len());
        let summary = format!("Applied: {created} created, {updated} changed, {failed} failed.");
        out.line(styled(HEADING, summary));
    }
    let new_sources = applied.new_sources(&look.comparison, &account.client.config.public_url);
    if !new_sources.is_empty() {
        output::message(format_args!(
            "Nexudus signs with the shared secret of the location, which no API sets: type the secret of each new source ({}) \
             in Nexudus under Settings > Integrations > Webhooks of its location.",
            new_sources.join(", ")
        ));
    }
    Ok(Exit::of(failed.is_empty()))
}

/// Requests a confirmation before the first write, if standard input is a terminal. Returns the current webhooks after the answer, or
/// `None` if the operator declined. If the changes are different by then, requests a confirmation of the new changes.
async fn agreed(
    args: &ApplyArgs,
    account: &Account,
    mut look: Look,
    is_plan_seen: bool,
) -> anyhow::Result<Option<Look>> {
    if args.yes || !can_ask() {
        return Ok(Some(look));
    }
    let mut changes = look.comparison.changes();
    if !changes.is_empty() && !is_plan_seen {
        show(text(&look))?;
    }
    while !changes.is_empty() {
        let webhooks = plural(changes.len() as u64, "webhook");
        if !confirms(format_args!("Write {webhooks} in Nexudus?"))? {
            return Ok(None);
        }
        look = chosen(account, &args.common).await?;
        let now = look.comparison.changes();
        if now == changes {
            break;
        }
        show("Somebody else has changed the webhooks in Nexudus since the plan. The plan is now:")?;
        show(text(&look))?;
        changes = now;
    }
    Ok(Some(look))
}

/// Runs `webhooks enable`. Fails if a webhook could not be enabled, or if the operator declined.
pub(crate) async fn enable(args: EnableArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let (account, look, _) = look(&args.common, file).await?;
    let pairs = look.comparison.choose(&args.actions).map_err(Usage)?;
    if !agrees(&args, &pairs)? {
        return Ok(Exit::Failed);
    }
    let Applied { updated: enabled, failed, .. } = account.apply(&pairs, Scope::Enable, &|_| {}).await;
    print_failed(&failed);
    if args.common.json {
        out.json(&json!({"enabled": enabled, "failed": failed}));
    } else {
        for Written { source, action, webhook_id } in &enabled {
            out.line(format_args!("{} {source} {action} {webhook_id}", styled(ADDED, "enabled")));
        }
        out.line(format_args!("Enabled: {}, {} failed.", enabled.len(), failed.len()));
    }
    Ok(Exit::of(failed.is_empty()))
}

/// Requests a confirmation before the first write, if standard input is a terminal. Returns false if the operator declined.
fn agrees(args: &EnableArgs, pairs: &[Pair]) -> io::Result<bool> {
    let found = pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)));
    let disabled: Vec<(&Pair, &Observed)> = found.filter(|(_, found)| !found.active).collect();
    if args.yes || disabled.is_empty() || !can_ask() {
        return Ok(true);
    }
    for (Pair { wanted, .. }, found) in &disabled {
        let by = if found.is_disabled_by_nexudus() { "Nexudus" } else { "a person" };
        let (source, action) = (&wanted.source.name, wanted.action());
        let Observed { id, error_count, .. } = found;
        show(format_args!("{source} {action} {id}: disabled by {by}, failures: {error_count}"))?;
    }
    let webhooks = plural(disabled.len() as u64, "webhook");
    confirms(format_args!("Enable {webhooks} in Nexudus?"))
}

fn print_failed(failed: &[Failure]) {
    for Failure { source, action, webhook_id, error } in failed {
        let id = webhook_id.map(|id| format!(" {id}")).unwrap_or_default();
        output::failed(format_args!("{source} {action}{id}: {error}"));
    }
}
