//! `webhooks plan`: what `apply` would write.

use std::path::Path;
use std::process::ExitCode;

use super::{Common, PENDING, line, look, unknown};
use crate::cli::output::{ADDED, ERROR, Output, WARNING};
use crate::webhooks::Look;
use crate::webhooks::plan::{Change, Op};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    common: Common,
    /// Exit with code 3 if `apply` would change something, or a webhook exists twice
    #[arg(long)]
    detailed_exitcode: bool,
}

pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (_, look) = look(&args.common, file).await?;
    let mut out = Output::stdout();
    match args.common.json {
        true => out.json(&look.document()),
        false => out.block(text(&look)),
    }
    let pending = args.detailed_exitcode && look.comparison.is_pending();
    out.end(if pending { ExitCode::from(PENDING) } else { ExitCode::SUCCESS })
}

/// Returns the plan as text: the changes, duplicates, unwanted webhooks, and a summary.
pub(super) fn text(look: &Look) -> String {
    let comparison = &look.comparison;
    let changes = comparison.changes();
    let style = |change: &Change| if change.op == Op::Create { ADDED } else { WARNING };
    let mut lines: Vec<String> = changes.iter().map(|change| line(style(change), change)).collect();
    for pair in comparison.duplicated() {
        let (source, action) = (&pair.wanted.source.name, pair.wanted.action());
        lines.push(line(ERROR, &format!("! {source} {action}: {}", pair.remedy().unwrap_or_default())));
    }
    lines.extend(comparison.unwanted.iter().map(|unwanted| line(WARNING, unwanted)));
    lines.extend(look.unknown_actions.iter().map(unknown));
    if comparison.others > 0 {
        lines.push(format!("{} others are not ours and stay as they are.", comparison.others));
    }
    let unchanged = comparison.pairs.len() - changes.len();
    let create = changes.iter().filter(|change| change.op == Op::Create).count();
    let change = changes.len() - create;
    let plan = format!("Plan: {create} to create, {change} to change, {unchanged} unchanged");
    lines.push(match (comparison.is_pending(), comparison.duplicated().count()) {
        (false, _) => format!("No changes. {unchanged} webhooks match the configuration."),
        (true, 0) => format!("{plan}."),
        (true, number) => format!("{plan}; {number} with duplicates that `apply` does not delete."),
    });
    lines.join("\n")
}
