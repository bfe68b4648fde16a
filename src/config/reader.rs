//! Reads sections of a configuration tree key by key, so that every mistake is found at once and not just the first.
//!
//! A [`Section`] hands out typed values with their defaults; what is wrong is noted with its place and the default
//! stands in, so that reading goes on. Keys that nobody asked for are mistakes too. [`Notes`] ends up with the
//! mistakes, or with every setting in force and its origin. Values of secret keys are never noted.

mod entries;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use url::Url;

use super::address::{looks_like_address, redacted};
use super::duration::{self, NotADuration};
use super::setting::{Origin, Setting};

/// The settings and mistakes that were read so far.
pub(super) struct Notes {
    file: Option<String>,
    mistakes: Vec<String>,
    settings: Vec<Setting>,
}

impl Notes {
    pub(super) fn new(file: Option<String>) -> Self {
        Self { file, mistakes: Vec::new(), settings: Vec::new() }
    }

    pub(super) fn mistake(&mut self, text: String) {
        self.mistakes.push(text);
    }

    pub(super) fn finish(self) -> Result<Vec<Setting>, Vec<String>> {
        if self.mistakes.is_empty() { Ok(self.settings) } else { Err(self.mistakes) }
    }

    pub(super) fn origin(&self, key: &str, value: &Value) -> Origin {
        match &self.file {
            Some(file) if !from_environment(value) => Origin::File(file.clone()),
            _ => {
                let key = key.split(".\"").next().unwrap_or(key); // a quoted name is in the variable's JSON
                Origin::Variable(format!("NEXUDUS_BRIDGE__{}", key.replace('.', "__").to_uppercase()))
            }
        }
    }
}

/// A table of the tree, with the path to it.
pub(super) struct Section<'a> {
    path: String,
    /// The origin of the section, for mistakes about several keys.
    origin: Origin,
    table: Map<String, Value>,
    known: Vec<&'static str>,
    notes: &'a mut Notes,
}

/// A read value. The error is the expectation.
pub(super) type Read<T> = Result<T, String>;

impl<'a> Section<'a> {
    /// Takes the table `name` out of `root`; an absent one is empty.
    pub(super) fn open(root: &mut Map<String, Value>, name: &str, notes: &'a mut Notes) -> Self {
        Self::of(root.remove(name), name.to_owned(), notes)
    }

    fn of(value: Option<Value>, path: String, notes: &'a mut Notes) -> Self {
        let value = value.unwrap_or_else(|| Value::new(None, Map::<String, Value>::new()));
        let origin = notes.origin(&path, &value);
        let table = table_of(&path, value, notes);
        Self { path, origin, table, known: Vec::new(), notes }
    }

    /// Whether the key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A value that `read` understands, shown as it is written.
    pub(super) fn get<T>(&mut self, key: &'static str, default: &str, read: impl Fn(&Value) -> Read<T>) -> T {
        if !self.has(key) {
            let shown = if is_bare(default) { default.to_owned() } else { quoted(default) };
            self.set(key, shown, Origin::Default);
        }
        self.optional(key, false, &read).unwrap_or_else(|| {
            let value = Value::new(None, ValueKind::String(default.to_owned()));
            read(&value).expect("a default reads as what it is")
        })
    }

    /// Reads a value without a default; `None` if it is absent or a mistake. A `secret` value is never shown.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        secret: bool,
        read: impl Fn(&Value) -> Read<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let origin = self.notes.origin(&self.key(key), &value);
        let shown = if secret { quoted("***") } else { shown(&value) };
        match read(&value) {
            Ok(read) => {
                self.set(key, shown, origin);
                Some(read)
            }
            Err(expected) => {
                self.notes.mistake(format!("{} = {shown} {expected} (from {origin})", self.key(key)));
                None
            }
        }
    }

    /// The section below this one, if it is there.
    pub(super) fn below(&mut self, key: &'static str) -> Option<Section<'_>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let path = self.key(key);
        Some(Section::of(Some(value), path, self.notes))
    }

    /// The section below this one; empty if it is not there.
    pub(super) fn inner(&mut self, key: &'static str) -> Section<'_> {
        self.known.push(key);
        let path = self.key(key);
        Section::of(self.table.remove(key), path, self.notes)
    }

    /// A list of texts; each that `read` refuses is a mistake and left out. `secret` lists are never shown.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        secret: bool,
        read: impl Fn(&str) -> Read<T>,
    ) -> Vec<T> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let path = self.key(key);
        let origin = self.notes.origin(&path, &value);
        let Some(items) = texts_of(&value) else {
            let example = r#"["a", "b"]"#;
            let kind = if from_environment(&value) { "a JSON list of texts" } else { "a list of texts" };
            self.notes
                .mistake(format!("{path} is not {kind}, expected one such as {example} (from {origin})"));
            return Vec::new();
        };
        let (mut kept, mut shown) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for (index, item) in items.into_iter().enumerate() {
            match read(&item) {
                Ok(value) => {
                    kept.push(value);
                    shown.push(if secret { quoted("***") } else { quoted(&presentable(&item)) });
                }
                Err(wrong) => self.notes.mistake(format!("{path}[{index}] {wrong} (from {origin})")),
            }
        }
        self.set(key, format!("[{}]", shown.join(", ")), origin);
        kept
    }

    /// A table of texts such as `[kafka.properties]`. From the environment a name's underscores are dots. `read` may
    /// refuse an entry; `secret` tells which values are not shown.
    pub(super) fn map<T>(
        &mut self,
        key: &'static str,
        secret: impl Fn(&str) -> bool,
        read: impl Fn(&str, &str) -> Read<T>,
    ) -> BTreeMap<String, T> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return BTreeMap::new() };
        let path = self.key(key);
        let mut entries: Vec<(String, Value)> = table_of(&path, value, self.notes).into_iter().collect();
        // The environment wins over the file where both name a property, so it comes last.
        entries.sort_by_key(|(name, value)| (from_environment(value), name.clone()));
        let mut kept = BTreeMap::new();
        for (name, value) in entries {
            let origin = self.notes.origin(&format!("{path}.{name}"), &value);
            let name = if from_environment(&value) { name.replace('_', ".") } else { name };
            let Some(text) = scalar_of(&value) else {
                self.notes
                    .mistake(format!("{path}.{} is not a text or number (from {origin})", quoted(&name)));
                continue;
            };
            match read(&name, &text) {
                Ok(value) => {
                    let shown = if secret(&name) { "***".to_owned() } else { presentable(&text) };
                    let key = format!("{path}.{}", quoted(&name));
                    self.notes.settings.retain(|setting| setting.key != key);
                    self.notes.settings.push(Setting { key, value: quoted(&shown), origin });
                    kept.insert(name, value);
                }
                Err(wrong) => self.notes.mistake(format!("{path}.{} {wrong} (from {origin})", quoted(&name))),
            }
        }
        kept
    }

    /// The origin of most of the section.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How many mistakes have been noted so far.
    pub(super) fn mistakes(&self) -> usize {
        self.notes.mistakes.len()
    }

    /// Notes something wrong with the section as a whole or with several of its keys.
    pub(super) fn mistake(&mut self, text: impl std::fmt::Display) {
        self.notes.mistake(format!("{}{text} (from {})", self.path, self.origin));
    }

    /// Ends the section. Keys that were not read are unknown.
    pub(super) fn close(self) {
        for (key, value) in &self.table {
            let origin = self.notes.origin(&format!("{}.{key}", self.path), value);
            let nearest = self.known.iter().max_by(|a, b| alike(a, key).total_cmp(&alike(b, key)));
            let hint = match nearest {
                Some(nearest) if alike(nearest, key) > 0.6 => format!("did you mean {nearest}?"),
                _ => format!("expected one of {}", self.known.join(", ")),
            };
            self.notes.mistakes.push(format!("{}.{key} is not a setting, {hint} (from {origin})", self.path));
        }
    }

    /// The whole name of a key.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn set(&mut self, key: &str, value: String, origin: Origin) {
        self.notes.settings.push(Setting { key: self.key(key), value, origin });
    }
}

/// The tables below `root`'s table `name`, for sections that the user names (`[sources.NAME]`).
pub(super) fn tables(root: &mut Map<String, Value>, name: &str, notes: &mut Notes) -> Map<String, Value> {
    root.remove(name).map(|value| table_of(name, value, notes)).unwrap_or_default()
}

/// The rest of `root` is unknown.
pub(super) fn close(root: Map<String, Value>, known: &[&str], notes: &mut Notes) {
    for (name, value) in root {
        let origin = notes.origin(&name, &value);
        notes.mistake(format!(
            "{name} is not a section, expected one of {} (from {origin})",
            known.join(", ")
        ));
    }
}

/// How alike two names are, from 0 to 1.
pub(super) fn alike(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// Any text.
pub(super) fn text(value: &Value) -> Read<String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        _ => Err("is not a text, expected it in quotes".into()),
    }
}

/// `IP:port`, or `localhost:port`.
pub(super) fn address(value: &Value) -> Read<SocketAddr> {
    let wrong = || "is not an address, expected IP:port such as 127.0.0.1:8080".to_owned();
    let text = text(value).map_err(|_| wrong())?;
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(&text).parse().map_err(|_| wrong())
}

/// A length of time within bounds, such as `10s`.
pub(super) fn duration(least: Duration, most: Duration) -> impl Fn(&Value) -> Read<Duration> {
    move |value| {
        let read = text(value).ok().ok_or(NotADuration).and_then(|text| duration::parse(&text));
        let read = read.map_err(|wrong| format!("is not a duration, {wrong}"))?;
        if (least..=most).contains(&read) {
            return Ok(read);
        }
        let (least, most) = (duration::show(least), duration::show(most));
        Err(format!("is out of bounds, expected {least} to {most}"))
    }
}

/// A whole number within bounds; text from the environment is read as one.
pub(super) fn integer(least: i64, most: i64) -> impl Fn(&Value) -> Read<i64> {
    move |value| {
        let read = match &value.kind {
            ValueKind::I64(number) => Some(*number),
            ValueKind::String(text) if from_file(value).is_none() => text.replace('_', "").parse().ok(),
            _ => None,
        };
        read.filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("is not a number in bounds, expected {least} to {most}"))
    }
}

/// A number within bounds; text from the environment is read as one.
pub(super) fn number(least: f64, most: f64) -> impl Fn(&Value) -> Read<f64> {
    move |value| {
        let read = match &value.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(number) => number.to_string().parse().ok(),
            ValueKind::String(text) if from_file(value).is_none() => text.parse().ok(),
            _ => None,
        };
        read.filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("is not a number in bounds, expected {least} to {most}"))
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Read<bool> {
    match &value.kind {
        ValueKind::Boolean(boolean) => Ok(*boolean),
        ValueKind::String(text) if from_file(value).is_none() => text.parse().map_err(|_| ()),
        _ => Err(()),
    }
    .map_err(|()| "is not true or false".into())
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let found = text(value).ok().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
            format!("is not one of {}", known.join(", "))
        })
    }
}

/// The `config` crate's name for the environment as an origin; a file's is its path, a default has none.
const ENVIRONMENT: &str = "the environment";

fn from_environment(value: &Value) -> bool {
    match &value.kind {
        // Tables that only variables made have no origin themselves.
        ValueKind::Table(table) => !table.is_empty() && table.values().all(from_environment),
        _ => value.origin() == Some(ENVIRONMENT),
    }
}

fn from_file(value: &Value) -> Option<&str> {
    value.origin().filter(|origin| *origin != ENVIRONMENT)
}

fn table_of(path: &str, value: Value, notes: &mut Notes) -> Map<String, Value> {
    let origin = notes.origin(path, &value);
    match value.kind {
        ValueKind::Table(table) => table,
        _ => {
            notes.mistake(format!(
                "{path} is not a section, expected [{path}] with settings below it (from {origin})"
            ));
            Map::new()
        }
    }
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

/// A text without the secrets that an address may hold.
fn presentable(text: &str) -> String {
    if looks_like_address(text) { redacted(text) } else { text.to_owned() }
}

/// Whether TOML has this value without quotes.
fn is_bare(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Reads an http or https address without user and fragment, and without a query unless `allows_query`. `wrong` and
/// `misplaced` are the texts of the mistakes: not such an address, and parts that belong elsewhere.
pub(super) fn http_url(value: &Value, allows_query: bool, wrong: &str, misplaced: &str) -> Read<Url> {
    let url = text(value).ok().and_then(|text| Url::parse(&text).ok());
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let url = url.ok_or(wrong)?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if is_bare && (allows_query || url.query().is_none()) { Ok(url) } else { Err(misplaced.to_owned()) }
}

/// Refuses empty text.
pub(super) fn not_empty(text: String) -> Result<String, String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

/// Returns a number of a list's items or bytes whose bounds are positive.
pub(super) fn size(number: i64) -> usize {
    usize::try_from(number).expect("the bounds are positive")
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}
