//! The outages that a running bridge keeps. A run can begin at them, and reports to the bridge the ranges that it has read.

use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use jiff::Timestamp;

use super::ranges::TimeRanges;
use super::since::Subset;
use crate::config::Config;
use crate::outage::{AccountKey, Covered, Outage, Report};
use crate::outgoing;

/// Maximum time for an answer of the bridge.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The admin listener of a running bridge.
pub struct RunningBridge {
    /// Its address.
    pub url: String,
    account: AccountKey,
}

impl RunningBridge {
    /// Returns the bridge with this admin address, which must have the same account as the configuration.
    pub fn new(url: &str, config: &Config) -> Self {
        let nexudus = config.nexudus.as_ref();
        let account = nexudus.map(|nexudus| AccountKey::new(&nexudus.base_url, &nexudus.public_url));
        Self { url: url.trim_end_matches('/').to_owned(), account: account.unwrap_or_default() }
    }

    /// Requests the outages.
    ///
    /// # Errors
    /// The bridge does not answer, or belongs to another account; with the remedy.
    pub async fn report(&self) -> anyhow::Result<Report> {
        let url = format!("{}/outages", self.url);
        let (status, answer) = self.ask(&url, None).await?;
        let Ok(report) = serde_json::from_slice::<Report>(&answer) else {
            bail!(
                "{url} is not a bridge's list of outages (status {status}); --bridge names another address"
            );
        };
        let AccountKey { base_url, public_url } = &report.account;
        ensure!(
            report.account == self.account,
            "the bridge at {} manages other webhooks (base_url {base_url:?}, public_url {public_url:?}) than this \
             configuration; --bridge names another address",
            self.url
        );
        Ok(report)
    }

    /// Reports the ranges that a complete run until `until` has read. A run that began at the outages (`from_outages`) also covers
    /// those that cannot be read, since its result has named them.
    pub async fn cover(
        &self,
        read: &TimeRanges,
        subset: &Subset,
        from_outages: bool,
        until: Timestamp,
    ) -> anyhow::Result<()> {
        let range = |outage: Outage| {
            let since = match outage.readable {
                true => read.since(&outage.source, &outage.action),
                false => (from_outages && subset.has(&outage)).then_some(outage.since),
            }?;
            Some(Covered { source: outage.source, action: outage.action, since, until })
        };
        let ranges: Vec<Covered> = self.report().await?.outages.into_iter().filter_map(range).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let url = format!("{}/outages/covered", self.url);
        let body = serde_json::to_string(&ranges).expect("ranges are JSON");
        let (status, _) = self.ask(&url, Some(body)).await?;
        ensure!((200..300).contains(&status), "{url} answers {status}");
        Ok(())
    }

    /// Sends a GET request, or a POST request with `body`. Returns the status and the body of the answer.
    async fn ask(&self, url: &str, body: Option<String>) -> anyhow::Result<(u16, Vec<u8>)> {
        let answer = async {
            let client = outgoing::direct().http1_only().timeout(TIMEOUT).build()?;
            let request = match body {
                Some(body) => client.post(url).header("content-type", "application/json").body(body),
                None => client.get(url),
            };
            let answer = request.send().await?;
            Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
        };
        answer.await.map_err(|error| {
            anyhow!(
                "cannot read the outages of the bridge at {url}: {} (is it running? --bridge names another address; the log \
                 of the bridge and the metric webhook_outage_started_timestamp_seconds have the times for --since \
                 SOURCE/ACTION=T)",
                outgoing::cause(error)
            )
        })
    }
}
