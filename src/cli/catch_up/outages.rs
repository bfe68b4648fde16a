//! What a running bridge knows about outages: `--since last-outage` begins there, and a run tells the bridge what it has read.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;

use super::Args;
use crate::action::Action;
use crate::catch_up::entities;
use crate::catch_up::since::Beginnings;
use crate::catch_up::window::Window;
use crate::cli::client::admin_url;
use crate::cli::output;
use crate::config::Config;
use crate::outage::{self, AccountKey, Covered, Outage, Report};

/// How long the bridge may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The admin listener of a running bridge.
pub(super) struct Bridge {
    url: String,
    account: AccountKey,
}

impl Bridge {
    /// The bridge at `url`, else at the admin address of the configuration.
    pub(super) fn new(url: Option<&str>, config: &Config) -> Self {
        let url = url.map_or_else(|| admin_url(config), str::to_owned);
        let account = config.nexudus.as_ref().map(|nexudus| AccountKey {
            base_url: nexudus.base_url.to_string(),
            public_url: nexudus.public_url.to_string(),
        });
        Self { url: url.trim_end_matches('/').to_owned(), account: account.unwrap_or_default() }
    }

    /// Asks for the outages.
    ///
    /// # Errors
    /// There is no bridge of the same account in Nexudus.
    pub(super) async fn report(&self) -> anyhow::Result<Report> {
        let url = format!("{}/outages", self.url);
        let answer = crate::sender::client(TIMEOUT)?.get(&url).send().await.with_context(|| {
            format!(
                "cannot ask the bridge for its outages at {url} (is it running? --bridge names another address; the bridge's log \
                 and the metric webhook_outage_started_timestamp_seconds have the times for --since SOURCE/ACTION=T)"
            )
        })?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| format!("{url} broke off"))?;
        let Ok(report) = serde_json::from_slice::<Report>(&body) else {
            bail!(
                "{url} is not a bridge's list of outages (status {status}); --bridge names another address"
            );
        };
        let theirs = &report.account;
        ensure!(
            *theirs == self.account,
            "the bridge at {} looks after other webhooks (base_url {:?}, public_url {:?}) than this configuration; --bridge names \
             another address",
            self.url,
            theirs.base_url,
            theirs.public_url,
        );
        Ok(report)
    }

    /// Tells the bridge which ranges of time were read.
    async fn cover(&self, ranges: &[Covered]) -> anyhow::Result<()> {
        let url = format!("{}/outages/covered", self.url);
        let request = crate::sender::client(TIMEOUT)?.post(&url).header("content-type", "application/json");
        let answer = request.body(serde_json::to_string(ranges)?).send().await?;
        ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
        Ok(())
    }
}

/// Adds the beginnings of those outages that are asked for and can be read. A time that was given for an action stays.
pub(super) fn add(beginnings: &mut Beginnings, args: &Args, outages: &[Outage]) {
    let overlap = args.overlap.unwrap_or(outage::OVERLAP);
    for Outage { source, action, since, .. } in
        outages.iter().filter(|outage| outage.readable && args.concerns(outage))
    {
        let name = (source.clone(), action.clone());
        beginnings.named.entry(name).or_insert_with(|| outage::earlier(*since, overlap));
    }
}

impl Args {
    /// Whether an outage is among the chosen sources and kinds of records.
    pub(super) fn concerns(&self, outage: &Outage) -> bool {
        let entity = || entities::named(Action::known(&outage.action)?.entity);
        let is_chosen = |known| self.entity.contains(&known);
        (self.source.is_empty() || self.source.contains(&outage.source))
            && (self.entity.is_empty() || entity().is_some_and(is_chosen))
    }
}

/// Says which outages cannot be read back, and where there is nothing to read, since when the bridge would know of it.
pub(super) fn tell(bridge: &Bridge, report: &Report, args: &Args) {
    let concerned = || report.outages.iter().filter(|outage| args.concerns(outage));
    for Outage { source, action, since, .. } in concerned().filter(|outage| !outage.readable) {
        output::warning(format_args!(
            "events of {source}/{action} are missing since {since} and cannot be read back"
        ));
    }
    if concerned().next().is_none() {
        output::note(format_args!(
            "the bridge at {} has seen no outage since it started at {:.0}, or all of them are covered",
            bridge.url, report.started
        ));
    }
}

/// The ranges of outages that a complete run until `until` has read. A run that begins at the outages has told of those that
/// cannot be read, so it covers them too.
fn covered(report: &Report, window: &Window, args: &Args, until: Timestamp) -> Vec<Covered> {
    let since = |outage: &Outage| match outage.readable {
        true => window.since(&outage.source, &outage.action),
        false => (args.asks_for_outages() && args.concerns(outage)).then_some(outage.since),
    };
    let range = |outage: &Outage| {
        let (source, action) = (outage.source.clone(), outage.action.clone());
        Some(Covered { source, action, since: since(outage)?, until })
    };
    report.outages.iter().filter_map(range).collect()
}

/// Tells the bridge what a complete run has read. A bridge that cannot be asked matters only to a run that began with it: others
/// may run where there is none.
pub(super) async fn report_covered(bridge: &Bridge, window: &Window, args: &Args, until: Timestamp) {
    let told = async {
        let ranges = covered(&bridge.report().await?, window, args, until);
        if ranges.is_empty() { Ok(()) } else { bridge.cover(&ranges).await }
    };
    match told.await {
        Err(error) if args.asks_for_outages() => output::warning(format_args!(
            "the bridge at {} could not be told that its outages are covered: {error:#}",
            bridge.url
        )),
        _ => {}
    }
}
