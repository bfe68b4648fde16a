//! Progress on standard error: what a command that talks to Nexudus waits for, and for how long.
//!
//! On a terminal it is a line that goes away when the wait ends; elsewhere each wait is a line of its own.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output::{self, FAINT, duration, one_line, styled};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::webhooks::{Account, AccountError};

/// The lines of progress of one command, one below the other.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitLines(MultiProgress);

impl WaitLines {
    /// Adds a bar, unless it is hidden.
    pub(super) fn add(&self, bar: ProgressBar) -> ProgressBar {
        if bar.is_hidden() { bar } else { self.0.add(bar) }
    }

    /// Returns the account of the configuration, whose waits are shown here.
    ///
    /// # Errors
    /// [`AccountError::NotConfigured`], [`AccountError::Client`].
    pub(super) fn account(&self, config: &Config) -> Result<Account, AccountError> {
        let mut account = Account::new(config, Arc::new(Metrics::new("")))?;
        let lines = self.0.clone();
        account.client.show_waits(Arc::new(move |length, reason| Box::new(show(length, reason, &lines))));
        Ok(account)
    }
}

/// Shows a wait. A line on a terminal goes away when it is dropped.
fn show(length: Duration, reason: &str, lines: &MultiProgress) -> Option<ProgressBar> {
    let (length, reason) = (duration(length), one_line(reason.as_bytes()));
    let line = output::spinner();
    if line.is_hidden() {
        output::message(styled(FAINT, format_args!("waiting {length} for {reason}")));
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} waiting {elapsed} of {prefix} for {wide_msg}");
    let line = lines.add(line.with_style(style.expect("the template is right")));
    line.set_prefix(length);
    line.set_message(reason);
    Some(line)
}
