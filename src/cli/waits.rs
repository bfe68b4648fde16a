//! Progress on standard error: what a command that talks to Nexudus waits for, and for how long.
//!
//! On a terminal it is a line that goes away when the wait ends; elsewhere each wait is a line of its own.

use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::output::{self, FAINT, duration, one_line, styled};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nexudus::wait::Wait;
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
        let (lines, line) = (self.0.clone(), Mutex::new(None::<ProgressBar>));
        account.watch_waits(Arc::new(move |wait| {
            let mut line = line.lock();
            if let Some(line) = line.take() {
                line.finish_and_clear();
            }
            if let Some(wait) = wait {
                *line = show(wait, &lines);
            }
        }));
        Ok(account)
    }
}

fn show(wait: &Wait, lines: &MultiProgress) -> Option<ProgressBar> {
    let (length, reason) = (duration(wait.duration), one_line(wait.reason.as_bytes()));
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
