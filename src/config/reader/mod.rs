//! Reads sections of a configuration tree key by key, so that all mistakes are found at once.
//!
//! A [`Section`] returns typed values with their defaults. For a mistake the reader notes its position and returns the default,
//! so that reading continues. Unknown keys are mistakes too. Values of secret keys are never noted.

pub(super) mod address;
pub(super) mod pattern;
pub(super) mod secrets;
pub(super) mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::config::{Map, Value, ValueKind};
use url::Url;

use self::address::{looks_like_address, redacted};
use self::values::text;
use super::{Origin, Setting};
use crate::outgoing::is_loopback;

/// The results of reading other than the values.
#[derive(Default)]
pub(super) struct Notes {
    /// The name of the configuration file.
    pub(super) file: Option<String>,
    pub(super) mistakes: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) settings: Vec<Setting>,
    /// The files that secrets were read from.
    pub(super) files: Vec<PathBuf>,
}

impl Notes {
    fn origin(&self, key: &str, value: &Value) -> Origin {
        match &self.file {
            Some(file) if !from_environment(value) => Origin::File(file.clone()),
            _ => {
                let key = key.split(".\"").next().unwrap_or(key); // a quoted name is in the JSON of the variable
                Origin::Variable(format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_uppercase()))
            }
        }
    }

    /// Notes a setting, or the mistake in it.
    fn take<T>(&mut self, key: String, shown: String, origin: Origin, read: Read<T>) -> Option<T> {
        match read {
            Ok(read) => {
                self.settings.retain(|setting| setting.key != key);
                self.settings.push(Setting { key, value: shown, origin });
                Some(read)
            }
            Err(wrong) => {
                self.mistakes.push(format!("{key} {wrong} (from {origin})"));
                None
            }
        }
    }

    fn table_of(&mut self, path: &str, value: Value) -> Map<String, Value> {
        let origin = self.origin(path, &value);
        let ValueKind::Table(table) = value.kind else {
            let wrong = format!("is not a section, expected [{path}] with settings below it");
            self.take::<()>(path.to_owned(), String::new(), origin, Err(wrong));
            return Map::new();
        };
        table
    }
}

/// A table of the tree, with the path to it.
pub(super) struct Section<'a> {
    path: String,
    /// The origin of the section, for mistakes about several keys.
    origin: Origin,
    table: Map<String, Value>,
    known: Vec<String>,
    pub(super) notes: &'a mut Notes,
}

/// A read value. The error describes the expected value.
pub(super) type Read<T> = Result<T, String>;

impl<'a> Section<'a> {
    /// Makes the section of the whole tree, whose keys are sections.
    pub(super) fn root(tree: Map<String, Value>, notes: &'a mut Notes) -> Self {
        Self::of(Value::new(None, tree), String::new(), notes)
    }

    fn of(value: Value, path: String, notes: &'a mut Notes) -> Self {
        let origin = notes.origin(&path, &value);
        let table = notes.table_of(&path, value);
        Self { path, origin, table, known: Vec::new(), notes }
    }

    /// Returns whether the key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// Reads a value, or `default` if the key is not set.
    pub(super) fn get<T>(&mut self, key: &str, default: &str, read: impl Fn(&Value) -> Read<T>) -> T {
        if !self.has(key) {
            let shown = if is_bare(default) { default.to_owned() } else { quoted(default) };
            self.notes.take(self.key(key), shown, Origin::Default, Ok(()));
        }
        self.optional(key, &read).unwrap_or_else(|| {
            let value = Value::new(None, ValueKind::String(default.to_owned()));
            read(&value).expect("a default reads as what it is")
        })
    }

    /// Reads a value without a default; `None` if it is absent or a mistake.
    pub(super) fn optional<T>(&mut self, key: &str, read: impl Fn(&Value) -> Read<T>) -> Option<T> {
        self.value(key, false, read)
    }

    /// Reads a value; `None` if it is absent or a mistake. A `secret` value is never shown.
    fn value<T>(&mut self, key: &str, secret: bool, read: impl Fn(&Value) -> Read<T>) -> Option<T> {
        let value = self.remove(key)?;
        let path = self.key(key);
        let origin = self.notes.origin(&path, &value);
        let shown = if secret { quoted("***") } else { shown(&value) };
        let read = read(&value).map_err(|expected| format!("= {shown} {expected}"));
        self.notes.take(path, shown, origin, read)
    }

    /// Returns the section below this one; `None` if it does not exist.
    pub(super) fn below(&mut self, key: &str) -> Option<Section<'_>> {
        let value = self.remove(key)?;
        Some(Section::of(value, self.key(key), self.notes))
    }

    /// Returns the section below this one; empty if it does not exist.
    pub(super) fn inner(&mut self, key: &str) -> Section<'_> {
        let value = self.remove(key).unwrap_or_else(|| Value::new(None, Map::<String, Value>::new()));
        Section::of(value, self.key(key), self.notes)
    }

    /// Reads a list of texts. A text that `read` refuses is noted as a mistake and left out.
    pub(super) fn list<T>(&mut self, key: &str, read: impl Fn(&str) -> Read<T>) -> Vec<T> {
        self.texts(key, false, read)
    }

    /// Reads a list of texts. A `secret` list is never shown.
    fn texts<T>(&mut self, key: &str, secret: bool, read: impl Fn(&str) -> Read<T>) -> Vec<T> {
        let Some(value) = self.remove(key) else { return Vec::new() };
        let path = self.key(key);
        let origin = self.notes.origin(&path, &value);
        let Some(items) = texts_of(&value) else {
            let kind = if from_environment(&value) { "a JSON list of texts" } else { "a list of texts" };
            let wrong = format!(r#"is not {kind}, expected one such as ["a", "b"]"#);
            self.notes.take::<()>(path, String::new(), origin, Err(wrong));
            return Vec::new();
        };
        let (mut kept, mut shown) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for (index, item) in items.into_iter().enumerate() {
            match read(&item) {
                Ok(value) => {
                    kept.push(value);
                    shown.push(if secret { quoted("***") } else { quoted(&presentable(&item)) });
                }
                Err(wrong) => self.notes.mistakes.push(format!("{path}[{index}] {wrong} (from {origin})")),
            }
        }
        self.notes.take(path, format!("[{}]", shown.join(", ")), origin, Ok(kept)).unwrap_or_default()
    }

    /// Reads a table of texts such as `[kafka.properties]`. In a name from the environment, underscores stand for dots. `read`
    /// may refuse an entry. `secret` returns true for the names whose values are not shown.
    pub(super) fn map<T>(
        &mut self,
        key: &str,
        secret: impl Fn(&str) -> bool,
        read: impl Fn(&str, &str) -> Read<T>,
    ) -> BTreeMap<String, T> {
        let Some(value) = self.remove(key) else { return BTreeMap::new() };
        let path = self.key(key);
        let mut entries: Vec<(String, Value)> = self.notes.table_of(&path, value).into_iter().collect();
        // If file and environment both name a property, the last one wins, so the environment comes last.
        entries.sort_by_key(|(name, value)| (from_environment(value), name.clone()));
        let mut kept = BTreeMap::new();
        for (name, value) in entries {
            let origin = self.notes.origin(&format!("{path}.{name}"), &value);
            let name = if from_environment(&value) { name.replace('_', ".") } else { name };
            let text = scalar_of(&value);
            let shown =
                if secret(&name) { "***".into() } else { presentable(text.as_deref().unwrap_or_default()) };
            let entry = match &text {
                Some(text) => read(&name, text),
                None => Err("is not a text or number".into()),
            };
            let entry = self.notes.take(format!("{path}.{name:?}"), quoted(&shown), origin, entry);
            kept.extend(entry.map(|entry| (name, entry)));
        }
        kept
    }

    /// Reads a table of texts whose keys stay as the user wrote them. `read` may refuse an entry.
    pub(super) fn rules<T>(&mut self, key: &str, read: impl Fn(&str, &str) -> Read<T>) -> Vec<T> {
        let mut kept = Vec::new();
        for (name, path, value) in self.entries(key) {
            let origin = self.notes.origin(&path, &value);
            let rule = text(&value).and_then(|text| read(&name, &text));
            kept.extend(self.notes.take(path, shown(&value), origin, rule));
        }
        kept
    }

    /// Reads the tables below the table `key` with `read`, which gets the name of each.
    pub(super) fn each_below<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str, Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut kept = Vec::new();
        for (name, path, value) in self.entries(key) {
            let is_table = matches!(value.kind, ValueKind::Table(_));
            let section = Section::of(value, path, self.notes);
            if is_table {
                kept.extend(read(&name, section));
            }
        }
        kept
    }

    /// Returns the entries of the table `key` in the order of their names, with the path to each. In the environment the table
    /// can be a JSON object, since names of variables have no wildcards.
    fn entries(&mut self, key: &str) -> Vec<(String, String, Value)> {
        let Some(value) = self.remove(key) else { return Vec::new() };
        let path = self.key(key);
        let json = match &value.kind {
            ValueKind::String(text) if from_environment(&value) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let value = json.map(|json| from_json(json, value.origin())).unwrap_or(value);
        let mut entries: Vec<(String, Value)> = self.notes.table_of(&path, value).into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let is_plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let path_to =
            |name: &str| if is_plain(name) { format!("{path}.{name}") } else { format!("{path}.{name:?}") };
        entries.into_iter().map(|(name, value)| (name.clone(), path_to(&name), value)).collect()
    }

    /// Returns the origin of the section or value `key`.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        let empty = Value::new(None, Map::<String, Value>::new());
        self.notes.origin(&self.key(key), self.table.get(key).unwrap_or(&empty))
    }

    /// Returns the number of mistakes so far.
    pub(super) fn mistakes(&self) -> usize {
        self.notes.mistakes.len()
    }

    /// Notes a mistake in the section as a whole or in several of its keys.
    pub(super) fn mistake(&mut self, text: impl std::fmt::Display) {
        self.notes.mistakes.push(format!("{}{text} (from {})", self.path, self.origin));
    }

    /// Notes a setting that is allowed but probably not meant.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.notes.warnings.push(text.into());
    }

    /// Warns of an http address that is not on this machine.
    pub(super) fn warn_if_unencrypted(&mut self, key: &str, url: &Url, what: &str) {
        if url.scheme() == "http" && !is_loopback(url) {
            self.warn(format!("{}: {what} unencrypted, https would protect them", self.key(key)));
        }
    }

    /// Ends the section. Notes each key that was not read as unknown.
    pub(super) fn close(self) {
        let kind = if self.path.is_empty() { "section" } else { "setting" };
        for (key, value) in &self.table {
            let path = self.key(key);
            let origin = self.notes.origin(&path, value);
            let nearest = self.known.iter().max_by(|a, b| alike(a, key).total_cmp(&alike(b, key)));
            let hint = match nearest {
                Some(nearest) if alike(nearest, key) > 0.6 => format!("did you mean {nearest}?"),
                _ => format!("expected one of {}", self.known.join(", ")),
            };
            self.notes.mistakes.push(format!("{path} is not a {kind}, {hint} (from {origin})"));
        }
    }

    /// Returns the full path of a key.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Returns the similarity of two names, from 0 to 1.
pub(super) fn alike(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// The `config` crate's name for the environment as an origin. The origin of a file is its path; a default has none.
const ENVIRONMENT: &str = "the environment";

fn from_environment(value: &Value) -> bool {
    match &value.kind {
        // A table that only variables made has no origin itself.
        ValueKind::Table(table) => !table.is_empty() && table.values().all(from_environment),
        _ => value.origin() == Some(ENVIRONMENT),
    }
}

/// Converts the JSON in a variable to a value.
fn from_json(json: serde_json::Value, origin: Option<&str>) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Object(entries) => ValueKind::Table(
            entries.into_iter().map(|(name, value)| (name, from_json(value, origin))).collect(),
        ),
        Json::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| from_json(item, origin)).collect())
        }
        Json::Bool(value) => ValueKind::Boolean(value),
        Json::Number(number) => number.as_i64().map_or(ValueKind::Nil, ValueKind::I64),
        Json::String(text) => ValueKind::String(text),
        Json::Null => ValueKind::Nil,
    };
    Value::new(origin.map(str::to_owned).as_ref(), kind)
}

fn texts_of(value: &Value) -> Option<Vec<String>> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(|item| text(item).ok()).collect(),
        ValueKind::String(json) if from_environment(value) => serde_json::from_str(json).ok(),
        _ => None,
    }
}

fn scalar_of(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::Boolean(boolean) => Some(boolean.to_string()),
        ValueKind::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if from_environment(value) && is_bare(text) => text.clone(),
        ValueKind::String(text) => quoted(&presentable(text)),
        ValueKind::Table(_) => "{…}".into(),
        ValueKind::Array(_) => "[…]".into(),
        _ => scalar_of(value).unwrap_or_else(|| "nothing".into()),
    }
}

/// Returns a text without the secrets that an address can hold.
fn presentable(text: &str) -> String {
    if looks_like_address(text) { redacted(text) } else { text.to_owned() }
}

/// Returns whether TOML has this value without quotes.
fn is_bare(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
