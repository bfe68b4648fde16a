//! Reading the configuration: which file, which environment variables, and every mistake in them at once.
//!
//! The file is found by argument, else `$NEXUDUS_BRIDGE_CONFIG`, else `./nexudus-bridge.toml`, else
//! `/etc/nexudus-bridge/nexudus-bridge.toml`, else there is none. Variables `NEXUDUS_BRIDGE__SECTION__KEY` win over it;
//! an empty variable counts as unset, since container files pass those for what nobody set. This is the one place that
//! reads the process's environment; everything takes it as an argument, so no test has to change it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::config::{ConfigError, Environment as Variables, File, FileFormat, Map, Source, Value};

use super::reader::Notes;
use super::{Config, PropertyCheck, settings};

/// The environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// A configuration and where each of its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

/// Everything that is wrong with a configuration; at least one thing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

/// The file that [`load`] should read, of those the program looks for.
pub fn find(explicit: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    const LOOKED_FOR: [&str; 2] = ["nexudus-bridge.toml", "/etc/nexudus-bridge/nexudus-bridge.toml"];
    let named = environment.get("NEXUDUS_BRIDGE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let present = || LOOKED_FOR.iter().map(PathBuf::from).find(|path| path.exists());
    explicit.map(Path::to_owned).or(named).or_else(present)
}

/// The process's environment; what is not Unicode cannot be a setting of ours and is left out.
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads file and environment into a valid configuration.
///
/// # Errors
/// All mistakes, each with its place and what would be right.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    check: PropertyCheck,
) -> Result<Loaded, Mistakes> {
    let (root, file_names) = collect(file, environment)?;
    let mut notes = Notes::new(file_names);
    let config = settings::read(root, &mut notes, check);
    match notes.finish() {
        Ok(settings) => Ok(Loaded { config: Config { settings, ..config }, file: file.map(Path::to_owned) }),
        Err(mistakes) => Err(Mistakes(mistakes)),
    }
}

fn collect(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<(Map<String, Value>, Option<String>), Mistakes> {
    let variables = Variables::with_prefix("NEXUDUS_BRIDGE")
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true)
        .source(Some(environment.clone().into_iter().collect()));
    let mut layers = Layers::default();
    if let Some(path) = file {
        // Read here: the library's message for a missing file does not name it.
        std::fs::read_to_string(path).map_err(|error| {
            Mistakes(vec![format!("cannot read the configuration file {}: {error}", path.display())])
        })?;
        layers.add(&File::from(path).format(FileFormat::Toml), Some(path))?;
    }
    layers.add(&variables, None)?;
    let root = layers.merged()?;
    Ok((root, file.map(|path| path.display().to_string())))
}

/// File and variables, each over the one before.
#[derive(Default)]
struct Layers {
    plain: Vec<Layer>,
    odd: Map<String, Value>,
}

/// A layer whose names lead to one place each.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layers {
    /// Takes what a source has. Names that no section can have are put aside: the library reads them as paths, and
    /// `a[99999999999]` asks for a list of that length.
    fn add(&mut self, source: &impl Source, file: Option<&Path>) -> Result<(), Mistakes> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let collected = source.collect().map_err(|error| mistake(&error, file))?;
        let (plain, odd) = collected.into_iter().partition(|(name, _)| name.bytes().all(allowed));
        self.plain.push(Layer(plain));
        self.odd.extend::<Map<String, Value>>(odd);
        Ok(())
    }

    /// Everything, the odd names among the sections, where they are told to be none.
    fn merged(self) -> Result<Map<String, Value>, Mistakes> {
        let builder =
            self.plain.into_iter().fold(::config::Config::builder(), |all, layer| all.add_source(layer));
        let merged = builder.build().and_then(|config| config.collect());
        let merged = merged.map_err(|error| mistake(&error, None))?;
        Ok(merged.into_iter().chain(self.odd).collect())
    }
}

/// What the library says, without the line that it quotes from the file: that may hold a secret. It also has the file's
/// name as it is seen from the current directory; the user knows it as it was given.
fn mistake(error: &ConfigError, file: Option<&Path>) -> Mistakes {
    let (said, place) = match (error, file) {
        (ConfigError::FileParse { cause, .. }, Some(file)) => {
            (cause.to_string(), format!(" in {}", file.display()))
        }
        _ => (error.to_string(), String::new()),
    };
    let quotes =
        |line: &str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    let kept: Vec<&str> = said.lines().filter(|line| !quotes(line) && !line.is_empty()).collect();
    Mistakes(vec![kept.join(": ") + &place])
}
