//! Outages of webhooks: times in which Nexudus did not deliver the events of an action, until a catch-up has read these events.
//!
//! Nexudus does not record outages: the first delivery after a webhook was re-enabled overwrites the last success. So the guardian
//! keeps the last success of each disabled webhook, in memory. A restart during an outage loses nothing, since the webhook is still
//! disabled and keeps its last success. A restart after re-enabling and before the catch-up loses the outage; the log and the stored
//! metric still have it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use url::Url;

/// The outage of one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The `Id` of the webhook's record.
    pub webhook_id: i64,
    /// Time of the last success before the outage, else of the creation of the webhook.
    pub since: Timestamp,
    /// Time at which the guardian found the webhook active again; `None` while it is disabled.
    pub until: Option<Timestamp>,
    /// True if `catch-up` can read the events of this action.
    pub readable: bool,
}

/// The range of time that a catch-up has read for one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The beginning of the range.
    pub since: Timestamp,
    /// The end of the range.
    pub until: Timestamp,
}

/// The account in Nexudus that outages belong to: the API's address, and the address at which Nexudus reaches the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountKey {
    /// `nexudus.base_url`.
    pub base_url: String,
    /// `nexudus.public_url`.
    pub public_url: String,
}

impl AccountKey {
    /// Returns the account with these addresses.
    pub fn new(base_url: &Url, public_url: &Url) -> Self {
        Self { base_url: base_url.to_string(), public_url: public_url.to_string() }
    }
}

/// All outages that a bridge has kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The account that the outages belong to.
    pub account: AccountKey,
    /// Time at which the bridge started. The report has no outage that ended before this time.
    pub started: Timestamp,
    /// The outages, by source and action.
    pub outages: Vec<Outage>,
    /// The command that reads the missing events back; `None` if no event can be read.
    pub command: Option<String>,
}

/// The outages that no catch-up has covered yet: at most one for each wanted webhook.
#[derive(Debug)]
pub struct Outages {
    started: Timestamp,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    account: AccountKey,
    by_name: BTreeMap<(String, String), Outage>,
}

impl Default for Outages {
    fn default() -> Self {
        Self { started: Timestamp::now(), kept: Mutex::default() }
    }
}

impl Outages {
    /// Sets the account, and removes the outages of every other account.
    pub fn belong_to(&self, account: AccountKey) {
        let mut kept = self.kept.lock();
        if kept.account != account {
            *kept = Kept { account, by_name: BTreeMap::new() };
        }
    }

    /// Removes the outages of webhooks that are not wanted any more.
    pub fn retain(&self, is_wanted: impl Fn(&str, &str) -> bool) {
        self.kept.lock().by_name.retain(|(source, action), _| is_wanted(source, action));
    }

    /// Adds the outage of a disabled webhook. If the webhook has an uncovered outage, that one continues from its earlier time.
    pub fn disabled(&self, outage: Outage) {
        let name = (outage.source.clone(), outage.action.clone());
        let mut kept = self.kept.lock();
        let kept = kept.by_name.entry(name).or_insert(outage);
        kept.until = None;
    }

    /// Ends the outage of an active webhook, and returns the outage; `None` without an outage.
    pub fn active(&self, source: &str, action: &str, now: Timestamp) -> Option<Outage> {
        let mut kept = self.kept.lock();
        let outage = kept.by_name.get_mut(&(source.to_owned(), action.to_owned()))?;
        outage.until.get_or_insert(now);
        Some(outage.clone())
    }

    /// Removes the ranges that a catch-up has read. An outage that lasted longer than its range begins at the end of the range.
    pub fn cover(&self, ranges: &[Covered]) {
        let mut kept = self.kept.lock();
        for Covered { source, action, since, until } in ranges {
            let name = (source.clone(), action.clone());
            let Some(outage) = kept.by_name.get_mut(&name).filter(|outage| *since <= outage.since) else {
                continue;
            };
            if outage.until.is_some_and(|end| end <= *until) {
                kept.by_name.remove(&name);
            } else {
                outage.since = outage.since.max(*until);
            }
        }
    }

    /// Returns all outages.
    pub fn report(&self) -> Report {
        let kept = self.kept.lock();
        let outages: Vec<Outage> = kept.by_name.values().cloned().collect();
        let command = command(&outages);
        Report { account: kept.account.clone(), started: self.started, outages, command }
    }
}

/// Time before the last success at which a catch-up begins. An earlier event may have failed until then, and the duration of
/// Nexudus's retries is not documented.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Returns the time `overlap` before `time`, rounded down to the second.
pub fn earlier(time: Timestamp, overlap: Duration) -> Timestamp {
    let seconds = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    let overlap = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds.saturating_sub(overlap)).unwrap_or(Timestamp::MIN)
}

/// Returns the command that reads back the events of these outages, on one line; `None` if none can be read. Names of
/// sources and actions contain no character that a shell interprets.
pub fn command(outages: &[Outage]) -> Option<String> {
    let since = |Outage { source, action, since, .. }: &Outage| {
        format!(" --since {source}/{action}={}", earlier(*since, OVERLAP))
    };
    let arguments: String = outages.iter().filter(|outage| outage.readable).map(since).collect();
    (!arguments.is_empty()).then(|| format!("nexudus-bridge catch-up{arguments}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn outage(action: &str, since: i64) -> Outage {
        Outage {
            source: "north".to_owned(),
            action: action.to_owned(),
            webhook_id: 7,
            since: at(since),
            until: None,
            readable: action != "BookingDelete",
        }
    }

    fn covered(action: &str, since: i64, until: i64) -> Covered {
        Covered { source: "north".to_owned(), action: action.to_owned(), since: at(since), until: at(until) }
    }

    fn kept(outages: &Outages) -> Vec<(String, i64, bool)> {
        let row = |outage: Outage| {
            (outage.action, outage.since.as_second() - 1_700_000_000, outage.until.is_some())
        };
        outages.report().outages.into_iter().map(row).collect()
    }

    #[test]
    fn the_earliest_time_stays_until_a_catch_up_has_covered_the_whole_outage() {
        let outages = Outages::default();
        outages.disabled(outage("BookingCreate", 10));
        assert_eq!(outages.active("north", "BookingCreate", at(20)).unwrap().since, at(10));
        outages.disabled(outage("BookingCreate", 30));
        assert_eq!(kept(&outages), [("BookingCreate".to_owned(), 10, false)]);
        outages.active("north", "BookingCreate", at(40));
        for partly in [covered("BookingCreate", 11, 50), covered("BookingUpdate", 0, 50)] {
            outages.cover(&[partly]);
            assert_eq!(kept(&outages), [("BookingCreate".to_owned(), 10, true)]);
        }
        outages.cover(&[covered("BookingCreate", 10, 39)]);
        assert_eq!(kept(&outages), [("BookingCreate".to_owned(), 39, true)], "the rest is left");
        outages.cover(&[covered("BookingCreate", 10, 40)]);
        assert_eq!(kept(&outages), []);
        assert_eq!(outages.active("north", "BookingCreate", at(50)), None);
    }

    #[test]
    fn a_catch_up_during_an_outage_moves_its_beginning() {
        let outages = Outages::default();
        outages.disabled(outage("BookingCreate", 10));
        outages.cover(&[covered("BookingCreate", 10, 25)]);
        outages.disabled(outage("BookingCreate", 10)); // at the next look, with the same last success
        assert_eq!(kept(&outages), [("BookingCreate".to_owned(), 25, false)]);
    }

    #[test]
    fn outages_of_other_accounts_and_of_unwanted_webhooks_are_removed() {
        let account = |name: &str| AccountKey { base_url: name.to_owned(), public_url: String::new() };
        let outages = Outages::default();
        outages.belong_to(account("a"));
        outages.disabled(outage("BookingCreate", 10));
        outages.disabled(outage("TeamUpdated", 10));
        outages.belong_to(account("a"));
        outages.retain(|_, action| action == "TeamUpdated");
        assert_eq!(kept(&outages), [("TeamUpdated".to_owned(), 10, false)]);
        outages.belong_to(account("b"));
        assert_eq!(kept(&outages), []);
    }

    #[test]
    fn an_earlier_time_is_rounded_down_to_the_second() {
        for (time, seconds, expected) in [
            ("2026-01-02T03:04:05.9Z", 0, "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.9Z", 60, "2026-01-02T03:03:05Z"),
            ("1969-12-31T23:59:58.5Z", 0, "1969-12-31T23:59:58Z"),
        ] {
            let earlier = earlier(time.parse().unwrap(), Duration::from_secs(seconds));
            assert_eq!(earlier.to_string(), expected, "{time} {seconds}");
        }
    }

    #[test]
    fn the_command_names_every_action_that_can_be_read() {
        assert_eq!(command(&[]), None);
        assert_eq!(command(&[outage("BookingDelete", 0)]), None);
        assert_eq!(
            command(&[outage("BookingCreate", 0), outage("BookingDelete", 0), outage("TeamUpdated", 7)])
                .unwrap(),
            "nexudus-bridge catch-up --since north/BookingCreate=2023-11-13T22:13:20Z \
             --since north/TeamUpdated=2023-11-13T22:13:27Z"
        );
    }
}
