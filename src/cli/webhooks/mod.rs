//! `webhooks plan|apply|status|enable`: compares the webhooks in Nexudus with the configuration, writes the differences, and shows
//! their state.

mod apply;

use std::fmt;
use std::path::Path;

use anstyle::Style;
use clap::Subcommand;
use indicatif::MultiProgress;
use serde_json::json;
use strum::VariantArray as _;

pub(super) use self::apply::{apply, enable};
use super::client::account;
use super::output::{self, ADDED, ERROR, Exit, HEADING, Output, WARNING, one_line, styled, table};
use crate::webhooks::account::NumberedAction;
use crate::webhooks::plan::{Change, Op};
use crate::webhooks::status::{WebhookState, WebhookStatus, rows, summary};
use crate::webhooks::{Account, AccountError, Look};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the changes that `apply` would make, and webhooks that are not configured
    Plan(PlanArgs),
    /// Create missing webhooks and change different ones; deletes nothing, and never touches webhooks with other URLs
    Apply(apply::ApplyArgs),
    /// Print the state of each webhook: enabled or disabled, failures, last success
    Status(StatusArgs),
    /// Re-enable webhooks that Nexudus or a person disabled; changes nothing else
    ///
    /// Concerns the configured webhooks only. On a terminal the command lists the disabled ones and asks first.
    Enable(apply::EnableArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    common: Common,
    /// Exit with code 3 if `apply` would change something, or a webhook exists twice
    #[arg(long)]
    detailed_exitcode: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    common: Common,
    /// Only webhooks in this state: disabled, missing, failing, duplicate, unwanted or ok; repeatable
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    state: Vec<WebhookState>,
    /// Exit with code 3 if a listed webhook is not ok
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Options of all four.
#[derive(Debug, clap::Args)]
struct Common {
    /// Only this source; repeatable
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<WebhookState, String> {
    let labels: Vec<&str> = WebhookState::VARIANTS.iter().map(|state| state.label()).collect();
    text.parse().map_err(|_| format!("expected one of {}", labels.join(", ")))
}

/// Returns the account of the configuration, the webhooks of the chosen sources, and the progress lines. Fails if Nexudus does not
/// have the locations of the sources.
async fn look(common: &Common, file: Option<&Path>) -> anyhow::Result<(Account, Look, MultiProgress)> {
    let (config, account, lines) = account(file)?;
    config.warnings.iter().filter(|warning| warning.starts_with("nexudus.")).for_each(output::warning);
    account.check_locations(&common.source).await?;
    let look = chosen(&account, common).await?;
    look.warnings.iter().for_each(output::warning);
    Ok((account, look, lines))
}

/// Returns the current webhooks of the chosen sources.
async fn chosen(account: &Account, common: &Common) -> Result<Look, AccountError> {
    let mut look = account.look().await?;
    look.comparison = look.comparison.only(&common.source);
    Ok(look)
}

pub(super) async fn plan(args: PlanArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let (_, look, _) = look(&args.common, file).await?;
    match args.common.json {
        true => out.json(&look.document()),
        false => out.block(text(&look)),
    }
    Ok(Exit::of_comparison(args.detailed_exitcode, look.comparison.is_pending()))
}

/// Returns the plan as text: the changes, duplicates, unwanted webhooks, and a summary.
fn text(look: &Look) -> String {
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

/// Returns a line about a record in a style, without control characters of the record's fields.
fn line(style: Style, record: &impl fmt::Display) -> String {
    styled(style, one_line(record.to_string()))
}

/// Returns a line about an action that the catalogue does not have.
fn unknown(NumberedAction { id, name }: &NumberedAction) -> String {
    let name = one_line(name);
    let note = format!("Nexudus has an action that is not in the catalogue: {id} {name}");
    format!("{}; to take it, add extra_actions = [{name:?}] to a source", styled(WARNING, note))
}

pub(super) async fn status(args: StatusArgs, file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let (_, look, _) = look(&args.common, file).await?;
    let mut rows = rows(&look.comparison);
    let summary = summary(&rows, look.comparison.others);
    rows.retain(|row| args.state.is_empty() || args.state.contains(&row.state));
    if args.common.json {
        out.json(&json!({
            "webhooks": rows,
            "others": look.comparison.others,
            "unknown_actions": look.unknown_actions,
        }));
    } else {
        out.line(styled(HEADING, summary));
        if !rows.is_empty() {
            let heading = ["SOURCE", "ACTION", ">ID", "STATE", ">ERRORS", "LAST_TRIGGER", "LAST_ERROR"];
            out.block(table(heading, rows.iter().map(|row| cells(row, out.is_terminal))));
        }
        look.unknown_actions.iter().for_each(|action| out.line(unknown(action)));
    }
    let differs = rows.iter().any(|row| row.state != WebhookState::Ok);
    Ok(Exit::of_comparison(args.detailed_exitcode, differs))
}

/// Returns the cells of a row. On a terminal, errors are shortened.
fn cells(row: &WebhookStatus, is_terminal: bool) -> [String; 7] {
    const LONGEST_ERROR: usize = 60; // characters
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let mut error = row.last_error.as_deref().map(one_line).unwrap_or_default();
    if let Some((end, _)) = error.char_indices().nth(LONGEST_ERROR).filter(|_| is_terminal) {
        error.replace_range(end.., "…");
    }
    [
        row.source.clone(),
        row.action.clone(),
        number(row.webhook_id),
        row.state.label().to_owned(),
        number(row.error_count),
        row.last_trigger.clone().unwrap_or_default(),
        error,
    ]
}
