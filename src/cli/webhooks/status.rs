//! `webhooks status`: how each webhook does, as Nexudus sees it.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use strum::VariantArray as _;

use super::{Common, PENDING, look, unknown};
use crate::cli::output::{HEADING, Output, Table, is_stdout_terminal, one_line, styled};
use crate::webhooks::status::{WebhookState, WebhookStatus, rows, summary};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    common: Common,
    /// Only webhooks in this state: disabled, missing, failing, duplicate, unwanted or ok; repeatable
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    state: Vec<WebhookState>,
    /// Exit with code 3 if a listed webhook is not ok
    #[arg(long)]
    detailed_exitcode: bool,
}

fn state(text: &str) -> Result<WebhookState, String> {
    let labels: Vec<&str> = WebhookState::VARIANTS.iter().map(|state| state.label()).collect();
    text.parse().map_err(|_| format!("expected one of {}", labels.join(", ")))
}

/// The longest error in a table on a terminal, in characters; in a pipe and in the JSON errors are complete.
const LONGEST_ERROR: usize = 60;

pub(super) async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (_, look) = look(&args.common, file).await?;
    let mut rows = rows(&look.comparison);
    let summary = summary(&rows, look.comparison.others);
    rows.retain(|row| args.state.is_empty() || args.state.contains(&row.state));
    let mut out = Output::stdout();
    if args.common.json {
        out.json(&json!({
            "webhooks": rows,
            "others": look.comparison.others,
            "unknown_actions": look.unknown_actions,
        }));
    } else {
        out.line(styled(HEADING, summary));
        if !rows.is_empty() {
            out.block(table(&rows));
        }
        look.unknown_actions.iter().for_each(|action| out.line(unknown(action)));
    }
    let well = rows.iter().all(|row| row.state == WebhookState::Ok);
    out.end(if args.detailed_exitcode && !well { ExitCode::from(PENDING) } else { ExitCode::SUCCESS })
}

fn table(rows: &[WebhookStatus]) -> Table {
    let mut table = Table::new(["SOURCE", "ACTION", ">ID", "STATE", ">ERRORS", "LAST_TRIGGER", "LAST_ERROR"]);
    for row in rows {
        let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        table.row([
            row.source.clone(),
            one_line(row.action.as_bytes()),
            number(row.webhook_id),
            row.state.label().to_owned(),
            number(row.error_count),
            row.last_trigger.as_deref().map(|text| one_line(text.as_bytes())).unwrap_or_default(),
            row.last_error.as_deref().map(short).unwrap_or_default(),
        ]);
    }
    table
}

/// Returns an error in one line, shortened only where a person reads it on a terminal.
fn short(error: &str) -> String {
    let line = one_line(error.as_bytes());
    if !is_stdout_terminal() {
        return line;
    }
    match line.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
