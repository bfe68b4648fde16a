//! `webhooks plan`: what `apply` would write.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{Common, PENDING, line, look, plan_json, print_unknown, print_unwanted};
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
    if args.common.json {
        out.json(&plan_json(&look));
    } else {
        print(&mut out, &look)?;
    }
    let pending = args.detailed_exitcode && look.comparison.is_pending();
    out.end(if pending { ExitCode::from(PENDING) } else { ExitCode::SUCCESS })
}

/// The plan as people read it, without a line break at the end.
pub(super) fn text(look: &Look) -> io::Result<String> {
    let mut text = Vec::new();
    print(&mut text, look)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// As people read it: the changes, what nobody asked for, and a line that sums up.
pub(super) fn print(out: &mut impl Write, look: &Look) -> io::Result<()> {
    let comparison = &look.comparison;
    let changes = comparison.changes();
    for change in &changes {
        writeln!(out, "{}", line(if change.op == Op::Create { ADDED } else { WARNING }, change))?;
    }
    let duplicates = comparison.duplicates();
    for duplicates in &duplicates {
        writeln!(out, "{}", line(ERROR, duplicates))?;
    }
    print_unwanted(out, &comparison.unwanted)?;
    print_unknown(out, &look.unknown_actions)?;
    if comparison.others > 0 {
        writeln!(out, "{} others are not ours and stay as they are.", comparison.others)?;
    }
    let unchanged = comparison.unchanged();
    if !comparison.is_pending() {
        return writeln!(out, "No changes. {unchanged} webhooks match the configuration.");
    }
    let create = changes.iter().filter(|Change { op, .. }| *op == Op::Create).count();
    let change = changes.len() - create;
    write!(out, "Plan: {create} to create, {change} to change, {unchanged} unchanged")?;
    match duplicates.len() {
        0 => writeln!(out, "."),
        number => writeln!(out, "; {number} with duplicates that `apply` does not delete."),
    }
}
