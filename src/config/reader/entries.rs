//! Tables whose keys the user chooses, kept as they are written, such as the globs of `[topics.layout]`.

use ::config::{Value, ValueKind};

use super::{Read, Section, from_environment, quoted, table_of, text};
use crate::config::setting::Setting;

impl Section<'_> {
    /// A table of texts whose keys are as the user wrote them. `read` may refuse an entry.
    pub(in crate::config) fn rules<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &str) -> Read<T>,
    ) -> Vec<T> {
        let mut kept = Vec::new();
        for (name, path, value) in self.entries(key) {
            let origin = self.notes.origin(&path, &value);
            match text(&value).and_then(|text| Ok((read(&name, &text)?, text))) {
                Ok((rule, text)) => {
                    self.notes.settings.push(Setting { key: path, value: quoted(&text), origin });
                    kept.push(rule);
                }
                Err(wrong) => self.notes.mistake(format!("{path} {wrong} (from {origin})")),
            }
        }
        kept
    }

    /// The tables below the table `key`, each with its name; `read` reads one.
    pub(in crate::config) fn each_below<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut kept = Vec::new();
        for (name, path, value) in self.entries(key) {
            let is_table = matches!(value.kind, ValueKind::Table(_));
            let section = Section::of(Some(value), path, self.notes);
            if is_table {
                kept.extend(read(&name, section));
            }
        }
        kept
    }

    /// The entries of the table `key` in the order of their names, with the path to each. In the environment the table can
    /// be a JSON object, since names of variables have no wildcards.
    fn entries(&mut self, key: &'static str) -> Vec<(String, String, Value)> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let path = self.key(key);
        let json = match &value.kind {
            ValueKind::String(text) if from_environment(&value) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let value = json.map(|json| from_json(json, value.origin())).unwrap_or(value);
        let mut entries: Vec<(String, Value)> = table_of(&path, value, self.notes).into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let is_plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let path_to =
            |name: &str| if is_plain(name) { format!("{path}.{name}") } else { format!("{path}.{name:?}") };
        entries.into_iter().map(|(name, value)| (name.clone(), path_to(&name), value)).collect()
    }
}

/// The value of a variable in JSON.
fn from_json(json: serde_json::Value, origin: Option<&str>) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Object(entries) => ValueKind::Table(
            entries.into_iter().map(|(name, value)| (name, from_json(value, origin))).collect(),
        ),
        Json::Bool(value) => ValueKind::Boolean(value),
        Json::Number(number) => number.as_i64().map_or(ValueKind::Nil, ValueKind::I64),
        Json::String(text) => ValueKind::String(text),
        Json::Array(_) | Json::Null => ValueKind::Nil,
    };
    Value::new(origin.map(str::to_owned).as_ref(), kind)
}
