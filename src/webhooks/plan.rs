//! Plan: compares existing and wanted webhooks. Sends no requests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::observed::{Observed, address};
use super::redact::WebhookUrl;
use super::wanted::Wanted;
use crate::config::Config;

/// The webhooks of an account, grouped by the action that they need.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every wanted webhook, with its record if it exists.
    pub pairs: Vec<Pair>,
    /// Webhooks of this bridge that are not wanted. They are not changed.
    pub unwanted: Vec<Unwanted>,
    /// Number of records that do not belong to this bridge.
    pub others: usize,
}

/// A wanted webhook with its record.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The wanted webhook.
    pub wanted: Wanted,
    /// Its record, if it exists.
    pub found: Option<Observed>,
    /// Further active records of the same source, action and location. Each of them delivers every event once more.
    pub duplicates: Vec<i64>,
}

/// A webhook of this bridge that is not wanted.
#[derive(Debug, Clone, Serialize)]
pub struct Unwanted {
    /// The source in its URL.
    pub source: String,
    /// The action in its URL; the name of the catalogue if it is known.
    pub action: String,
    /// The location.
    pub business_id: Option<i64>,
    /// The id of its record.
    pub webhook_id: i64,
    /// Its URL without the token.
    pub url: String,
    /// The reason why it is not wanted.
    pub reason: &'static str,
    /// Its record.
    #[serde(skip)]
    pub found: Observed,
}

/// A difference to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Create or update.
    pub op: Op,
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The number of the action, if it is known.
    pub action_id: Option<i64>,
    /// The location.
    pub business_id: i64,
    /// The record to change.
    pub webhook_id: Option<i64>,
    /// Its URL without the token.
    pub url: String,
    /// The fields that change, each with its old and new value.
    pub fields: BTreeMap<&'static str, [Value; 2]>,
    /// True if the URL gets another token, which `fields` do not show.
    pub another_token: bool,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// A new record.
    Create,
    /// Fields of an existing record.
    Update,
}

impl Comparison {
    /// Compares all of `wanted` with all records of the account. A record belongs to a wanted webhook if its URL has the same source
    /// and action, and it has the same location. Of several such records, the first by `rank` is the webhook's record.
    pub fn new(config: &Config, public_url: &Url, wanted: Vec<Wanted>, mut records: Vec<Observed>) -> Self {
        let pair = |wanted| Pair { wanted, found: None, duplicates: Vec::new() };
        let mut pairs: Vec<Pair> = wanted.into_iter().map(pair).collect();
        let (mut unwanted, mut others) = (Vec::new(), 0);
        records.sort_by_cached_key(rank);
        for found in records {
            let Some((source, action)) = address(public_url, found.url.expose()) else {
                others += 1;
                continue;
            };
            let known = config.sources.values().find(|known| known.name.eq_ignore_ascii_case(&source));
            let action_index = known.and_then(|source| source.actions.find(&action));
            let is_for_found = |Pair { wanted, .. }: &&mut Pair| {
                known.is_some_and(|known| known.name == wanted.source.name)
                    && action_index == Some(wanted.action_index)
                    && found.business_id == Some(wanted.business_id)
            };
            let reason = match (pairs.iter_mut().find(is_for_found), known, action_index) {
                (Some(pair), ..) if pair.found.is_none() => {
                    pair.found = Some(found);
                    continue;
                }
                (Some(pair), ..) => {
                    pair.duplicates.extend(found.active.then_some(found.id));
                    "a second webhook of the action"
                }
                (None, None, _) => "no such source",
                (None, _, None) => "no such action",
                (None, Some(source), Some(action_index)) if !source.wanted.contains(&action_index) => {
                    "the action is not configured"
                }
                (None, Some(source), _) if source.business_id.is_none() => "the source has no location",
                _ => "another location",
            };
            let name = known.zip(action_index).map(|(source, index)| source.actions.get(index).name());
            let action = name.map_or(action, str::to_owned);
            let source = known.map_or(source, |known| known.name.to_string());
            let (business_id, webhook_id, url) = (found.business_id, found.id, found.url.to_string());
            unwanted.push(Unwanted { source, action, business_id, webhook_id, url, reason, found });
        }
        unwanted.sort_by_key(|unwanted| unwanted.found.id);
        Self { pairs, unwanted, others }
    }

    /// Keeps the webhooks of these sources; of all if the list is empty.
    pub fn only(mut self, sources: &[String]) -> Self {
        if !sources.is_empty() {
            self.pairs.retain(|pair| sources.iter().any(|name| **name == *pair.wanted.source.name));
            self.unwanted.retain(|unwanted| sources.contains(&unwanted.source));
        }
        self
    }

    /// Returns the wanted webhook of a source and action, by their names.
    pub fn pair(&self, source: &str, action: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| *pair.wanted.source.name == *source && pair.wanted.action() == action)
    }

    /// Returns the wanted webhooks that exist, each with its record.
    pub fn found(&self) -> impl Iterator<Item = (&Pair, &Observed)> {
        self.pairs.iter().filter_map(|pair| Some((pair, pair.found.as_ref()?)))
    }

    /// Returns the differences to write.
    pub fn changes(&self) -> Vec<Change> {
        self.pairs.iter().filter_map(Pair::change).collect()
    }

    /// Returns the pairs with several active records. The bridge deletes no record, so a person has to.
    pub fn duplicated(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| !pair.duplicates.is_empty())
    }

    /// Returns the wanted webhooks of these actions, by name or number; of all if the list is empty.
    ///
    /// # Errors
    /// No webhook is wanted for an action: the text of the mistake.
    pub fn choose(mut self, actions: &[String]) -> Result<Vec<Pair>, String> {
        for action in actions {
            if !self.pairs.iter().any(|pair| pair.is_for(action)) {
                let is_wanted = |name: &&str| self.pairs.iter().any(|pair| pair.wanted.action() == *name);
                let nearest = self
                    .pairs
                    .iter()
                    .filter_map(|pair| pair.wanted.source.actions.nearest(action))
                    .find(is_wanted);
                let hint = nearest.map_or_else(
                    || "`webhooks status` lists them".to_owned(),
                    |name| format!("did you mean {name}?"),
                );
                return Err(format!("no webhook of the action {action:?} is configured; {hint}"));
            }
        }
        self.pairs.retain(|pair| actions.is_empty() || actions.iter().any(|action| pair.is_for(action)));
        Ok(self.pairs)
    }

    /// Returns true if there is a difference to write or a duplicate to delete.
    pub fn is_pending(&self) -> bool {
        self.pairs.iter().any(|pair| pair.change().is_some() || !pair.duplicates.is_empty())
    }
}

/// Returns the rank among several records of a pair: active ones, then those that Nexudus disabled, which the guardian
/// re-enables, then those that a person disabled. Among disabled ones the latest success is first, then the smallest id.
fn rank(record: &Observed) -> impl Ord + use<> {
    let preferred = (!record.is_disabled_by_nexudus(), Reverse(record.last_trigger_time()));
    let if_inactive = (!record.active).then_some(preferred);
    (if_inactive, record.id)
}

impl Pair {
    fn is_for(&self, action: &str) -> bool {
        self.wanted.source.actions.find(action) == Some(self.wanted.action_index)
    }

    /// Returns the ids of its record, if it exists, and of the further active ones.
    pub fn webhook_ids(&self) -> impl Iterator<Item = i64> {
        self.found.iter().map(|found| found.id).chain(self.duplicates.iter().copied())
    }

    /// Returns the fault of a pair with several active records, and its remedy.
    pub fn remedy(&self) -> Option<String> {
        let ids: Vec<String> = self.webhook_ids().map(|id| id.to_string()).collect();
        (!self.duplicates.is_empty()).then(|| {
            format!(
                "webhooks {} are all active, so each event is delivered {} times; delete or disable all but one in Nexudus",
                ids.join(", "),
                ids.len()
            )
        })
    }

    /// Returns the difference to write, if any.
    pub fn change(&self) -> Option<Change> {
        let (wanted, found) = (&self.wanted, self.found.as_ref());
        let fields = found.map(|found| differences(wanted, found)).unwrap_or_default();
        if found.is_some() && fields.is_empty() {
            return None;
        }
        let shown = |value: Value| match value {
            Value::String(text) => WebhookUrl::from(text).to_string().into(),
            other => other,
        };
        Some(Change {
            op: if found.is_some() { Op::Update } else { Op::Create },
            source: wanted.source.name.to_string(),
            action: wanted.action().to_owned(),
            action_id: wanted.action_id,
            business_id: wanted.business_id,
            webhook_id: found.map(|found| found.id),
            url: found.map_or(&wanted.url, |found| &found.url).to_string(),
            fields: fields.into_iter().map(|(name, values)| (name, values.map(shown))).collect(),
            another_token: found.is_some_and(|found| found.url.has_another_token_than(&wanted.url)),
        })
    }
}

/// Returns the managed fields that differ, each with its old and new value. They hold tokens, so they must not be shown.
pub(super) fn differences(wanted: &Wanted, found: &Observed) -> BTreeMap<&'static str, [Value; 2]> {
    let mut fields = BTreeMap::new();
    if let Some(number) = wanted.action_id.filter(|number| found.action_id != Some(*number)) {
        fields.insert("Action", [json!(found.action_id), json!(number)]);
    }
    if !found.active {
        fields.insert("Active", [json!(false), json!(true)]);
    }
    if let Some(url) = corrected(&found.url, &wanted.url) {
        fields.insert("URL", [json!(found.url.expose()), json!(url.as_str())]);
    }
    fields
}

/// Returns `found` with the query of `wanted`, which holds the token, and without a fragment; `None` if nothing changes. A fragment
/// and a query after it never reach the ingress.
fn corrected(found: &WebhookUrl, wanted: &WebhookUrl) -> Option<Url> {
    let (mut url, wanted) = (found.parsed()?, wanted.parsed()?);
    let same_query = url.query_pairs().eq(wanted.query_pairs());
    if same_query && url.fragment().is_none() {
        return None;
    }
    url.set_query(wanted.query());
    url.set_fragment(None);
    Some(url)
}

/// As `plan` prints it: `+ source action url`, `~ source action id field: old -> new`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, source, action, webhook_id, url, fields, another_token, .. } = self;
        let plain = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        match op {
            Op::Create => write!(f, "+ {source} {action} {url}"),
            Op::Update => {
                write!(f, "~ {source} {action} {}", webhook_id.unwrap_or_default())?;
                for (index, (name, [old, new])) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let note = if *name == "URL" && *another_token { " (another token)" } else { "" };
                    write!(f, "{comma} {name}: {} -> {}{note}", plain(old), plain(new))?;
                }
                Ok(())
            }
        }
    }
}

/// `? source action id url: reason`.
impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, action, webhook_id, url, reason, .. } = self;
        write!(f, "? {source} {action} {webhook_id} {url}: {reason}")
    }
}

#[cfg(test)]
mod tests;
