//! `webhooks apply`: writes what the plan shows.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use indicatif::ProgressStyle;
use serde_json::json;

use super::{Common, look, plan, plan_json, print_failed};
use crate::cli::output::{self, HEADING, Output, progress, styled};
use crate::webhooks::apply::{Applied, Scope};
use crate::webhooks::plan::Pair;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    common: Common,
    /// Do not ask before writing
    ///
    /// Without it, `apply` on a terminal shows the plan, with --json on standard error, and asks. Elsewhere it never asks.
    #[arg(long)]
    yes: bool,
}

/// Where the shared secret is typed: the API has no field for it.
const SECRET: &str = "Nexudus signs with the shared secret of the location, which no API sets: type the one of the source in \
                      Nexudus under Settings > Integrations > Webhooks.";

/// Exit code 0 when everything is as it should be; 1 if something failed, or nobody wanted to go on.
pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (account, look) = look(&args.common, file).await?;
    let changes = look.comparison.changes().len();
    let mut out = Output::stdout();
    if !args.common.json {
        plan::print(&mut out, &look)?;
    }
    if changes > 0 && !args.yes && somebody_is_there() {
        if args.common.json || !output::is_stdout_terminal() {
            let mut plan = Vec::new();
            plan::print(&mut plan, &look)?; // the person who answers must see the plan
            output::message(String::from_utf8_lossy(&plan).trim_end());
        }
        if !confirmed(changes)? {
            output::message("Nothing was written.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left  {msg}");
    let bar = progress(changes as u64, style.expect("the template is right"));
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
    if !created.is_empty() {
        output::message(SECRET);
    }
    out.end(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether there is a terminal to ask on; elsewhere nobody could answer, and whoever wrote the command meant it.
fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && output::is_stderr_terminal()
}

fn confirmed(changes: usize) -> io::Result<bool> {
    let webhooks = if changes == 1 { "webhook" } else { "webhooks" };
    output::question(format_args!("Write {changes} {webhooks} in Nexudus? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
