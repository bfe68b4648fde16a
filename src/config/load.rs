//! Loads the configuration from a file and environment variables, and reports all mistakes at once.
//!
//! The path of the file is the argument, else `$NEXUDUS_BRIDGE_CONFIG`, else the first of `./nexudus-bridge.toml` and
//! `/etc/nexudus-bridge/nexudus-bridge.toml` that exists. No file is needed. Variables `NEXUDUS_BRIDGE__SECTION__KEY` take
//! precedence over the file. An empty variable counts as unset, since compose files pass an empty variable for an unset value.
//!
//! Only this file reads the environment of the process. Other code gets the environment as an argument, so no test has to change it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{Environment as Variables, FileFormat, Format as _, Map, Source as _, Value, ValueKind};

use super::reader::ENVIRONMENT;
use super::{Config, PropertyCheck};

/// The environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// The mistakes in a configuration, at least one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

/// Prints a single mistake as it is, and several as their number and one line each.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [mistake] => f.write_str(mistake),
            mistakes => {
                write!(f, "the configuration has {} mistakes:", mistakes.len())?;
                mistakes.iter().try_for_each(|mistake| write!(f, "\n  {}", mistake.replace('\n', " ")))
            }
        }
    }
}

/// Returns the path of the file that [`load`] should read: `explicit`, else the first of the default paths.
pub fn find(explicit: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    const DEFAULT_PATHS: [&str; 2] = ["nexudus-bridge.toml", "/etc/nexudus-bridge/nexudus-bridge.toml"];
    let named = environment.get("NEXUDUS_BRIDGE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let present = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    explicit.map(Path::to_owned).or(named).or_else(present)
}

/// Returns the environment of the process, without variables that are not Unicode.
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the file and the environment into a valid configuration.
///
/// # Errors
/// All mistakes, each with its key, origin and the expected value.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    check: PropertyCheck,
) -> Result<Config, Mistakes> {
    let mut tree = file.map(parsed).transpose()?.unwrap_or_default();
    let variables = Variables::with_prefix("NEXUDUS_BRIDGE")
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true)
        .source(Some(environment.clone().into_iter().collect()));
    let variables =
        variables.collect().map_err(|error| Mistakes(vec![without_quotes(&error.to_string())]))?;
    for (name, value) in variables {
        overlay(&mut tree, &name, value);
    }
    super::read(tree, file, check).map_err(Mistakes)
}

/// Sets a value by the name of its variable, in which dots separate sections.
fn overlay(table: &mut Map<String, Value>, name: &str, value: Value) {
    let Some((section, key)) = name.split_once('.') else {
        table.insert(name.to_owned(), value);
        return;
    };
    let empty = || Value::new(Some(&ENVIRONMENT.to_owned()), Map::<String, Value>::new());
    let inner = table.entry(section.to_owned()).or_insert_with(empty);
    if !matches!(inner.kind, ValueKind::Table(_)) {
        *inner = empty();
    }
    if let ValueKind::Table(inner) = &mut inner.kind {
        overlay(inner, key, value);
    }
}

/// Reads and parses a file, which may also be a pipe (`/dev/stdin`, a process substitution). The `config` crate's own reader
/// accepts regular files only.
fn parsed(path: &Path) -> Result<Map<String, Value>, Mistakes> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Mistakes(vec![format!("cannot read the configuration file {name}: {error}")]))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let parsed = FileFormat::Toml.parse(Some(&name), text);
    parsed.map_err(|error| Mistakes(vec![format!("{} in {name}", without_quotes(&error.to_string()))]))
}

/// Checks that the configuration file can be read a second time. A pipe would be empty then, and an empty configuration could be
/// valid.
///
/// # Errors
/// The file is a pipe or device.
pub fn readable_again(file: Option<&Path>) -> Result<(), Mistakes> {
    let Some(path) = file else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(Mistakes(vec![format!(
            "the configuration file {} is a pipe or device and was read already: name a regular file, or restart to change the configuration",
            path.display()
        )])),
        _ => Ok(()),
    }
}

/// Returns a library's message on one line, without the lines that it quotes from the file: they may hold a secret.
fn without_quotes(message: &str) -> String {
    let quotes =
        |line: &str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    message.lines().filter(|line| !quotes(line) && !line.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::config::tests::{MINIMAL, from_file, mistakes};
    use crate::kafka::settings::check_property;

    /// Returns a pipe that holds only `text`, and a path to it.
    fn pipe(text: &str) -> (std::io::PipeReader, PathBuf) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd()).into();
        (reader, path)
    }

    #[test]
    fn a_pipe_is_read_once_and_never_again() {
        let text = format!("{MINIMAL}[ingress]\nmax_in_flight = 5\n");
        let (_open, path) = pipe(&text);
        let config = load(Some(&path), &Environment::new(), check_property).unwrap();
        assert_eq!(config.ingress.max_in_flight, 5);
        let Mistakes(mistakes) = readable_again(Some(&path)).unwrap_err();
        assert!(
            mistakes[0].contains(path.to_str().unwrap()) && mistakes[0].contains("restart"),
            "{mistakes:?}"
        );
        let (_open, path) = pipe("[ingress]\nmax_in_flight = \"5\"\n");
        let Mistakes(mistakes) = load(Some(&path), &Environment::new(), check_property).unwrap_err();
        assert!(mistakes[0].contains("is not a number"), "a number in quotes is a text: {mistakes:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!((readable_again(Some(file.path())), readable_again(None)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_byte_order_mark_before_the_configuration_is_skipped() {
        from_file(&format!("\u{feff}{MINIMAL}"), &[]).unwrap();
    }

    #[test]
    fn several_mistakes_are_one_block_with_their_number() {
        let one = Mistakes(mistakes("[sources.default]\n", &[])).to_string();
        assert!(one.starts_with("sources.default enforces signatures") && !one.contains('\n'), "{one}");
        let three = Mistakes(mistakes("[sources.default]\n[ingress]\nlisten = 1\nx = 2\n", &[])).to_string();
        let lines: Vec<&str> = three.lines().collect();
        assert_eq!((lines[0], lines.len()), ("the configuration has 3 mistakes:", 4));
        assert!(
            lines[1..].iter().all(|line| line.starts_with("  ") && line.contains("bridge.toml)")),
            "{three}"
        );
    }
}
