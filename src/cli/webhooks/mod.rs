//! `webhooks plan|apply|status|enable`: the webhook records in Nexudus, as the configuration wants them and as they are.

mod apply;
mod enable;
mod plan;
mod status;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anstyle::Style;
use clap::Subcommand;

use super::client::control;
use super::output::{self, WARNING, one_line, styled};
use super::waits::WaitLines;
use crate::webhooks::account::NumberedAction;
use crate::webhooks::apply::Failure;
use crate::webhooks::{Account, AccountError, Look};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the changes that `apply` would make, and webhooks that are not configured
    Plan(plan::Args),
    /// Create missing webhooks and change different ones; deletes nothing, and never touches webhooks with other URLs
    Apply(apply::Args),
    /// Print the state of each webhook: enabled or disabled, failures, last success
    Status(status::Args),
    /// Re-enable webhooks that Nexudus or a person disabled; changes nothing else
    ///
    /// Concerns the configured webhooks only. On a terminal the command lists the disabled ones and asks first.
    Enable(enable::Args),
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
    #[arg(skip)]
    progress: WaitLines,
}

/// Exit code with `--detailed-exitcode`: `plan` would change something, `status` found something that is not ok.
const PENDING: u8 = 3;

/// Runs `webhooks`.
pub(super) async fn run(command: Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Plan(args) => plan::run(args, file).await,
        Command::Apply(args) => apply::run(args, file).await,
        Command::Status(args) => status::run(args, file).await,
        Command::Enable(args) => enable::run(args, file).await,
    }
}

/// The account of the configuration, once the locations are known to be there, and a first look at it.
async fn look(common: &Common, file: Option<&Path>) -> anyhow::Result<(Account, Look)> {
    let config = control(file)?;
    for warning in config.warnings.iter().filter(|warning| warning.starts_with("nexudus.")) {
        output::warning(warning);
    }
    let account = common.progress.account(&config)?;
    account.check_locations(&common.source).await?;
    let look = chosen(&account, common).await?;
    for warning in &look.warnings {
        output::warning(warning);
    }
    Ok((account, look))
}

/// The webhooks of the chosen sources as they are now.
async fn chosen(account: &Account, common: &Common) -> Result<Look, AccountError> {
    let mut look = account.look().await?;
    look.comparison = look.comparison.only(&common.source);
    Ok(look)
}

/// A line about a record in a style; what the record's fields hold does nothing to a terminal.
fn line(style: Style, record: &impl fmt::Display) -> String {
    styled(style, one_line(record.to_string().as_bytes()))
}

/// Returns a line about an action that the catalogue does not have.
fn unknown(NumberedAction { id, name }: &NumberedAction) -> String {
    let name = one_line(name.as_bytes());
    let note = format!("Nexudus has an action that is not in the catalogue: {id} {name}");
    format!("{}; to take it, add extra_actions = [{name:?}] to a source", styled(WARNING, note))
}

fn print_failed(failed: &[Failure]) {
    for Failure { source, action, webhook_id, error } in failed {
        let id = webhook_id.map(|id| format!(" {id}")).unwrap_or_default();
        output::failed(format_args!("{source} {action}{id}: {error}"));
    }
}
