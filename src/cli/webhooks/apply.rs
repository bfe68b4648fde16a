//! `webhooks apply`: writes what the plan shows.

use std::path::Path;
use std::process::ExitCode;

use indicatif::ProgressStyle;
use serde_json::json;

use super::{Common, chosen, look, plan, print_failed};
use crate::cli::output::{self, Asker, HEADING, Output, progress, styled};
use crate::webhooks::apply::{Applied, Scope};
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

/// Exit code 0 when everything is as it should be; 1 if something failed, or the answer was no.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (account, look) = look(&args.common, file).await?;
    let mut out = Output::stdout();
    if !args.common.json {
        out.block(plan::text(&look));
    }
    let Some(look) = agreed(&args, &account, look).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let changes = look.comparison.changes().len();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left  {msg}");
    let bar = args.common.progress.add(progress(changes as u64, style.expect("the template is right")));
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
        let summary = format!(
            "Applied: {} created, {} changed, {} failed.",
            created.len(),
            updated.len(),
            failed.len()
        );
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
    out.end(output::exit(failed.is_empty()))
}

/// Asks before the first write, if somebody can answer. Returns the webhooks as they are after the answer: others may have
/// written meanwhile, and then the question is asked again about what is left. Returns none if the answer is no.
async fn agreed(args: &Args, account: &Account, mut look: Look) -> anyhow::Result<Option<Look>> {
    let Some(mut asker) = (if args.yes { None } else { Asker::new(args.common.json) }) else {
        return Ok(Some(look));
    };
    let mut changes = look.comparison.changes();
    if !changes.is_empty() && !asker.shows_stdout() {
        asker.show(plan::text(&look))?;
    }
    while !changes.is_empty() {
        let webhooks = output::plural(changes.len() as u64, "webhook");
        if !asker.confirms(format_args!("Write {webhooks} in Nexudus?"))? {
            return Ok(None);
        }
        look = chosen(account, &args.common).await?;
        let now = look.comparison.changes();
        if now == changes {
            break;
        }
        asker.show("Somebody else has changed the webhooks in Nexudus since the plan. The plan is now:")?;
        asker.show(plan::text(&look))?;
        changes = now;
    }
    Ok(Some(look))
}
