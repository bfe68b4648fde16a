//! Plan: compares existing and wanted webhooks. Sends no requests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use url::Url;

use super::observed::{Address, Observed, address};
use super::redact::WebhookUrl;
use super::wanted::Wanted;
use crate::config::Config;
use crate::nexudus::time;

/// The webhooks of an account, grouped by the action that they need.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every wanted webhook, with its record if it exists.
    pub pairs: Vec<Pair>,
    /// Webhooks of this bridge that are not wanted. They are not changed.
    pub unwanted: Vec<Unwanted>,
    /// Number of records of others.
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

/// Several active webhooks of one source and action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The source.
    pub source: String,
    /// The action's name.
    pub action: String,
    /// The record that `apply` and the guardian look after, then the others.
    pub webhook_ids: Vec<i64>,
}

/// A webhook of this bridge that is not wanted.
#[derive(Debug, Clone)]
pub struct Unwanted {
    /// Its record.
    pub found: Observed,
    /// The source in its URL.
    pub source: String,
    /// The action in its URL; the name of the catalogue if it is known.
    pub action: String,
    /// Why it is not wanted.
    pub reason: &'static str,
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
    /// Compares all of `wanted` with all records of the account. A record is a wanted one's if its URL leads to the same
    /// source and action and it belongs to the same location; of several, the active one, else one that
    /// Nexudus disabled, among them the one of the last success, else the oldest.
    pub fn new(config: &Config, public_url: &Url, wanted: Vec<Wanted>, mut records: Vec<Observed>) -> Self {
        let mut pairs: Vec<Pair> =
            wanted.into_iter().map(|wanted| Pair { wanted, found: None, duplicates: Vec::new() }).collect();
        let index: BTreeMap<(String, usize, i64), usize> =
            pairs.iter().enumerate().map(|(at, pair)| (key(&pair.wanted), at)).collect();
        let (mut unwanted, mut others) = (Vec::new(), 0);
        records.sort_by_cached_key(rank);
        for found in records {
            let Some(Address { source, action }) = address(public_url, found.url.expose()) else {
                others += 1;
                continue;
            };
            let known = config.sources.values().find(|known| known.name.eq_ignore_ascii_case(&source));
            let source = known.map_or(source, |known| known.name.to_string());
            let action_index = known.and_then(|source| source.actions.find(&action));
            let pair = action_index
                .zip(found.business_id)
                .and_then(|(action_index, business)| index.get(&(source.clone(), action_index, business)));
            let reason = match pair {
                Some(&at) if pairs[at].found.is_none() => {
                    pairs[at].found = Some(found);
                    continue;
                }
                Some(&at) => {
                    pairs[at].duplicates.extend(found.active.then_some(found.id));
                    "a second one of the same"
                }
                None => match (known, action_index) {
                    (None, _) => "no such source",
                    (_, None) => "no such action",
                    (Some(source), Some(action_index)) if !source.wanted.contains(&action_index) => {
                        "the action is not asked for"
                    }
                    (Some(source), _) if source.business_id.is_none() => "the source has no location",
                    _ => "another location",
                },
            };
            let name = known
                .zip(action_index)
                .map(|(source, action_index)| source.actions.get(action_index).name().to_owned());
            unwanted.push(Unwanted { found, source, action: name.unwrap_or(action), reason });
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

    /// A source's webhook for an action, by their names, where it is wanted.
    pub fn pair(&self, source: &str, action: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| *pair.wanted.source.name == *source && pair.wanted.action() == action)
    }

    /// Returns the differences to write.
    pub fn changes(&self) -> Vec<Change> {
        self.pairs.iter().filter_map(Pair::change).collect()
    }

    /// The webhooks that exist several times. Nothing here deletes a record, so a person has to.
    pub fn duplicates(&self) -> Vec<Duplicates> {
        self.pairs.iter().filter_map(Pair::duplicated).collect()
    }

    /// Returns the wanted webhooks of these actions, by name or number; of all if the list is empty.
    ///
    /// # Errors
    /// No webhook is wanted for an action: the text of the mistake.
    pub fn choose(mut self, actions: &[String]) -> Result<Vec<Pair>, String> {
        for action in actions {
            if !self.pairs.iter().any(|pair| pair.is_for(action)) {
                let mut nearest =
                    self.pairs.iter().filter_map(|pair| pair.wanted.source.actions.nearest(action));
                let nearest =
                    nearest.find(|name| self.pairs.iter().any(|pair| pair.wanted.action() == *name));
                let hint = nearest.map_or_else(
                    || "`webhooks status` lists them".to_owned(),
                    |name| format!("did you mean {name}?"),
                );
                return Err(format!("no webhook of the action {action:?} is asked for; {hint}"));
            }
        }
        self.pairs.retain(|pair| actions.is_empty() || actions.iter().any(|action| pair.is_for(action)));
        Ok(self.pairs)
    }

    /// Returns true if there is a difference to write or a duplicate to delete.
    pub fn is_pending(&self) -> bool {
        self.pairs.iter().any(|pair| pair.change().is_some() || !pair.duplicates.is_empty())
    }

    /// Returns the number of webhooks without a difference.
    pub fn unchanged(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.change().is_none()).count()
    }
}

/// Order of preference among several records of a pair: active ones, then those that Nexudus disabled, which the guardian
/// re-enables, then those that a person disabled.
fn rank(record: &Observed) -> impl Ord + use<> {
    let last_trigger = record.last_trigger.as_deref().and_then(time::read);
    let if_inactive = (!record.active).then_some((!record.is_disabled_by_nexudus(), Reverse(last_trigger)));
    (if_inactive, record.id)
}

fn key(wanted: &Wanted) -> (String, usize, i64) {
    (wanted.source.name.to_string(), wanted.action_index, wanted.business_id)
}

impl Pair {
    /// All active records of the pair, if there are several.
    pub fn duplicated(&self) -> Option<Duplicates> {
        let found = self.found.as_ref().filter(|_| !self.duplicates.is_empty())?;
        Some(Duplicates {
            source: self.wanted.source.name.to_string(),
            action: self.wanted.action().to_owned(),
            webhook_ids: std::iter::once(found.id).chain(self.duplicates.iter().copied()).collect(),
        })
    }

    /// Returns the difference to write, if there is one.
    pub fn change(&self) -> Option<Change> {
        let Wanted { source, business_id, action_id, url, .. } = &self.wanted;
        let (op, fields, webhook_id, url) = match &self.found {
            None => (Op::Create, BTreeMap::new(), None, url),
            Some(found) => {
                let fields = differences(&self.wanted, found);
                if fields.is_empty() {
                    return None;
                }
                (Op::Update, fields, Some(found.id), &found.url)
            }
        };
        let shown = |value: Value| match value {
            Value::String(text) => WebhookUrl::from(text).to_string().into(),
            other => other,
        };
        let another_token =
            self.found.as_ref().is_some_and(|found| found.url.has_another_token_than(&self.wanted.url));
        Some(Change {
            op,
            source: source.name.to_string(),
            action: self.wanted.action().to_owned(),
            action_id: *action_id,
            business_id: *business_id,
            webhook_id,
            url: url.to_string(),
            fields: fields.into_iter().map(|(name, values)| (name, values.map(shown))).collect(),
            another_token,
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

/// Returns the URL that `found` has to become, if it differs: with the query of `wanted`, which holds the token. A fragment
/// never reaches the ingress, and a query behind it would be a part of it, so it goes.
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

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

impl Pair {
    fn is_for(&self, action: &str) -> bool {
        self.wanted.source.actions.find(action) == Some(self.wanted.action_index)
    }
}

impl Serialize for Unwanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { source, action, found, reason } = self;
        let (business_id, webhook_id, url) = (found.business_id, found.id, found.url.to_string());
        let fields = json!({
            "source": source, "action": action, "business_id": business_id, "webhook_id": webhook_id, "url": url,
            "reason": reason,
        });
        fields.serialize(serializer)
    }
}

impl Duplicates {
    /// The fault and its remedy.
    pub fn remedy(&self) -> String {
        let ids: Vec<String> = self.webhook_ids.iter().map(i64::to_string).collect();
        format!(
            "webhooks {} are all active, so each event is delivered {} times; delete or disable all but one in Nexudus",
            ids.join(", "),
            ids.len()
        )
    }
}

/// `! source action: remedy`.
impl fmt::Display for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "! {} {}: {}", self.source, self.action, self.remedy())
    }
}

/// `? source action id url: reason`.
impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, source, action, reason } = self;
        write!(f, "? {source} {action} {} {}: {reason}", found.id, found.url)
    }
}

#[cfg(test)]
mod tests;
