//! Reads `docker-compose.yml` as Docker Compose does without a `.env`, as far as this file needs: every `${NAME:-default}`
//! becomes its default, and `$$` a dollar sign. `deploy/compose/check` checks with Compose's own library that the file is valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(crate) struct Compose {
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) volumes: BTreeMap<String, Option<Value>>,
}

/// A service, with the fields that the tests check.
#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) image: String,
    pub(crate) build: Option<String>,
    pub(crate) command: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, Option<Scalar>>,
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    #[serde(default)]
    pub(crate) tmpfs: Vec<String>,
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    #[serde(default)]
    pub(crate) depends_on: BTreeMap<String, Value>,
    pub(crate) healthcheck: Option<Healthcheck>,
    scale: Option<String>,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) init: bool,
    pub(crate) mem_limit: Option<String>,
    #[serde(default)]
    pub(crate) logging: Value,
    #[serde(default)]
    pub(crate) cap_drop: Vec<String>,
    #[serde(default)]
    pub(crate) security_opt: Vec<String>,
    #[serde(rename = "x-no-healthcheck")]
    pub(crate) no_healthcheck: Option<String>,
}

/// The health check of a container.
#[derive(Debug, Deserialize)]
pub(crate) struct Healthcheck {
    #[serde(default)]
    pub(crate) test: Vec<String>,
}

/// A scalar value. The value of a variable may be written as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(i64),
}

/// Returns the root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of `docker-compose.yml`.
pub(crate) fn text() -> String {
    std::fs::read_to_string(repository().join("docker-compose.yml")).expect("exists")
}

impl Compose {
    /// Reads the file.
    pub(crate) fn read() -> Self {
        let mut file: Value = serde_saphyr::from_str(&text()).unwrap_or_else(|error| panic!("{error}"));
        interpolate(&mut file);
        serde_json::from_value(file).unwrap_or_else(|error| panic!("docker-compose.yml: {error}"))
    }

    /// Returns a service by its name.
    pub(crate) fn service(&self, name: &str) -> &Service {
        self.services.get(name).unwrap_or_else(|| panic!("docker-compose.yml has no service {name}"))
    }
}

impl Service {
    /// Returns the environment variables of the service.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let text = |value: &Option<Scalar>| match value {
            None => String::new(),
            Some(Scalar::Text(text)) => text.clone(),
            Some(Scalar::Number(number)) => number.to_string(),
        };
        self.environment.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// Returns the number of containers of the service.
    pub(crate) fn scale(&self) -> usize {
        self.scale.as_ref().map_or(1, |scale| scale.parse().expect("a number"))
    }

    /// Returns the health check as a command. Docker's keyword `CMD` means "without a shell".
    pub(crate) fn health_command(&self) -> &[String] {
        let healthcheck = self.healthcheck.as_ref().expect("it has a health check");
        assert_eq!(healthcheck.test.first().map(String::as_str), Some("CMD"));
        &healthcheck.test[1..]
    }

    /// Returns the mounted files and folders of the repository, each with its path in the container.
    pub(crate) fn mounts(&self) -> Vec<(PathBuf, &str)> {
        let bind = |volume: &'_ String| volume.starts_with("./");
        let parts = self.volumes.iter().filter(|volume| bind(volume)).map(|volume| {
            let (outside, inside) = volume.split_once(':').expect("outside:inside");
            (repository().join(&outside[2..]), inside.strip_suffix(":ro").expect("mounted read-only"))
        });
        parts.collect()
    }
}

/// Returns every `${…}` of a text: its name, its default, and the whole text.
///
/// # Panics
/// If one has no default: without a `.env` its value would be empty.
pub(crate) fn variables(text: &str) -> Vec<(&str, &str, &str)> {
    let written = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let starts = written.flat_map(|line| line.match_indices("${").map(|(at, _)| &line[at..]));
    starts
        .map(|rest| {
            let end = rest.find('}').unwrap_or_else(|| panic!("no end: {rest}"));
            let (name, default) = rest[2..end]
                .split_once(":-")
                .unwrap_or_else(|| panic!("{rest}: expected ${{NAME:-default}}"));
            (name, default, &rest[..=end])
        })
        .collect()
}

/// Replaces variables by their defaults. The result stays text, as in Compose.
fn interpolate(value: &mut Value) {
    match value {
        Value::String(text) => {
            let written = text.clone();
            for (_, default, variable) in variables(&written) {
                *text = text.replace(variable, default);
            }
            *text = text.replace("$$", "$");
        }
        Value::Array(values) => values.iter_mut().for_each(interpolate),
        Value::Object(fields) => fields.values_mut().for_each(interpolate),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
