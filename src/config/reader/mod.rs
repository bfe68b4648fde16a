//! Reads sections of a configuration tree key by key, so that all mistakes are found at once.
//!
//! A [`Section`] returns typed values with their defaults. It records each mistake with its key and origin, and returns the
//! default, so that reading continues. Unknown keys are mistakes too. Values of secret keys are never recorded.

pub(super) mod secrets;
pub(super) mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::config::{FileFormat, Format as _, Map, Value, ValueKind};
use url::Url;

use self::values::{redacted, text};
use super::{DEFAULT, Setting};
use crate::outgoing::is_loopback;

/// The results of reading other than the values.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) file: Option<String>,
    pub(super) mistakes: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) settings: Vec<Setting>,
    /// The files that secrets were read from.
    pub(super) files: Vec<PathBuf>,
}

impl Notes {
    /// Returns the file or variable that a value comes from.
    fn origin(&self, key: &str, value: &Value) -> String {
        match &self.file {
            Some(file) if !from_environment(value) => file.clone(),
            _ => {
                let key = key.split(".\"").next().unwrap_or(key); // quoted names are in the variable's JSON, not in its name
                format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_uppercase())
            }
        }
    }

    /// Notes a setting, or the mistake in it.
    fn note<T>(&mut self, key: String, shown: String, origin: String, read: Read<T>) -> Option<T> {
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
            let wrong = "is not a section, expected";
            self.mistakes.push(format!("{path} {wrong} [{path}] with settings below it (from {origin})"));
            return Map::new();
        };
        table
    }
}

/// A table of the tree, with the path to it. When it is dropped, each key that was not read is recorded as a mistake.
pub(super) struct Section<'a> {
    path: String,
    /// The origin of the section, for mistakes about several keys.
    pub(super) origin: String,
    table: Map<String, Value>,
    known: Vec<String>,
    pub(super) notes: &'a mut Notes,
}

/// A read value. The error describes the expected value.
pub(super) type Read<T> = Result<T, String>;

impl<'a> Section<'a> {
    /// Makes a section of a table. The path of the whole tree, whose keys are sections, is empty.
    pub(super) fn of(value: Value, path: String, notes: &'a mut Notes) -> Self {
        let origin = notes.origin(&path, &value);
        let table = notes.table_of(&path, value);
        Self { path, origin, table, known: Vec::new(), notes }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// Reads a value, or `default` if the key is not set.
    pub(super) fn get<T>(&mut self, key: &str, default: &str, read: impl Fn(&Value) -> Read<T>) -> T {
        self.optional(key, &read).unwrap_or_else(|| {
            let value = Value::new(None, ValueKind::String(default.to_owned()));
            let setting = Setting { key: self.key(key), value: shown(&value), origin: DEFAULT.to_owned() };
            self.notes.settings.push(setting);
            read(&value).expect("a default is valid")
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
        self.notes.note(path, shown, origin, read)
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
            self.notes.mistakes.push(format!("{path} {wrong} (from {origin})"));
            return Vec::new();
        };
        let mut kept = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(value) => kept.push(value),
                Err(wrong) => self.notes.mistakes.push(format!("{path}[{index}] {wrong} (from {origin})")),
            }
        }
        let shown = |item: &String| if secret { "***".to_owned() } else { without_secrets(item) };
        let shown: Vec<String> = items.iter().map(shown).collect();
        self.notes.settings.push(Setting { key: path, value: format!("{shown:?}"), origin });
        kept
    }

    /// Reads a table of texts such as `[kafka.properties]`. In a name from the environment, underscores stand for dots. `read`
    /// may refuse an entry. `secret` returns true for the names whose values are not shown.
    pub(super) fn map<T>(
        &mut self,
        key: &str,
        secret: fn(&str) -> bool,
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
            let shown = if secret(&name) {
                "***".into()
            } else {
                without_secrets(text.as_deref().unwrap_or_default())
            };
            let entry = text.ok_or_else(|| "is not a text or number".to_owned());
            let entry = entry.and_then(|text| read(&name, &text));
            let entry = self.notes.note(format!("{path}.{name:?}"), quoted(&shown), origin, entry);
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
            kept.extend(self.notes.note(path, shown(&value), origin, rule));
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
    /// can be a JSON object, since the name of a variable cannot contain a wildcard.
    fn entries(&mut self, key: &str) -> Vec<(String, String, Value)> {
        let Some(value) = self.remove(key) else { return Vec::new() };
        let path = self.key(key);
        let json = match &value.kind {
            ValueKind::String(text) if from_environment(&value) => {
                FileFormat::Json.parse(Some(&ENVIRONMENT.to_owned()), text).ok()
            }
            _ => None,
        };
        let value = json.map_or(value, |json| Value::new(Some(&ENVIRONMENT.to_owned()), json));
        let mut entries: Vec<(String, Value)> = self.notes.table_of(&path, value).into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let with_path = |(name, value): (String, Value)| match name.bytes().all(is_plain) {
            true => (name.clone(), format!("{path}.{name}"), value),
            false => (name.clone(), format!("{path}.{name:?}"), value),
        };
        entries.into_iter().map(with_path).collect()
    }

    pub(super) fn mistakes(&self) -> usize {
        self.notes.mistakes.len()
    }

    /// Notes a mistake in the section as a whole or in several of its keys.
    pub(super) fn mistake(&mut self, text: impl std::fmt::Display) {
        self.notes.mistakes.push(format!("{}{text} (from {})", self.path, self.origin));
    }

    /// Notes a warning about a setting that is valid but probably unintended.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.notes.warnings.push(text.into());
    }

    /// Warns of an http address that is not on this machine.
    pub(super) fn warn_if_unencrypted(&mut self, key: &str, url: &Url, what: &str) {
        if url.scheme() == "http" && !is_loopback(url) {
            self.warn(format!("{}: {what} unencrypted, https would protect them", self.key(key)));
        }
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let kind = if self.path.is_empty() { "section" } else { "setting" };
        for (key, value) in &self.table {
            let path = self.key(key);
            let origin = self.notes.origin(&path, value);
            let hint = match nearest(key, self.known.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("expected one of {}", self.known.join(", ")),
            };
            self.notes.mistakes.push(format!("{path} is not a {kind}, {hint} (from {origin})"));
        }
    }
}

/// Returns the name that is most similar to a wrong one, if it is similar enough.
pub(super) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &wrong);
    let nearest = names.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    nearest.filter(|name| similarity(name) > 0.6)
}

/// The `config` crate's name for the environment as an origin. The origin of a file is its path; a default has none.
pub(super) const ENVIRONMENT: &str = "the environment";

fn from_environment(value: &Value) -> bool {
    value.origin() == Some(ENVIRONMENT)
}

/// Returns whether a value comes from a file. Only files have typed numbers; variables and defaults are texts.
fn from_file(value: &Value) -> bool {
    value.origin().is_some() && !from_environment(value)
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
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
        scalar => Some(scalar.to_string()),
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if !from_file(value) && is_bare(text) => text.clone(),
        ValueKind::String(text) => quoted(&without_secrets(text)),
        ValueKind::Table(_) => "{…}".into(),
        ValueKind::Array(_) => "[…]".into(),
        _ => scalar_of(value).unwrap_or_else(|| "nothing".into()),
    }
}

/// Returns a text without the secrets that an address can hold. The address need not be valid.
fn without_secrets(text: &str) -> String {
    let has_query = text.split_once('?').is_some_and(|(_, query)| query.contains('='));
    if text.contains("://") || has_query { redacted(text) } else { text.to_owned() }
}

/// Returns whether TOML writes this value without quotes.
fn is_bare(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
