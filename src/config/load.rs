//! Reading the configuration: which file, which environment variables, and every mistake in them at once.
//!
//! The file is found by argument, else `$NEXUDUS_BRIDGE_CONFIG`, else `./nexudus-bridge.toml`, else
//! `/etc/nexudus-bridge/nexudus-bridge.toml`, else there is none. Variables `NEXUDUS_BRIDGE__SECTION__KEY` win over it;
//! an empty variable counts as unset, since container files pass those for what nobody set. This is the one place that
//! reads the process's environment; everything takes it as an argument, so no test has to change it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::config::{Environment as Variables, File, FileFormat, Map, Source as _, Value};

use super::reader::Notes;
use super::{Config, PropertyCheck, Setting, settings};

/// The environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// A configuration and where each of its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every setting in force, in the order of the documentation; secrets redacted.
    pub settings: Vec<Setting>,
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
        Ok(settings) => Ok(Loaded { config, settings, file: file.map(Path::to_owned) }),
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
    let mut builder = ::config::Config::builder();
    if let Some(path) = file {
        // Read here: the library's message for a missing file does not name it.
        std::fs::read_to_string(path).map_err(|error| {
            Mistakes(vec![format!("cannot read the configuration file {}: {error}", path.display())])
        })?;
        builder = builder.add_source(File::from(path).format(FileFormat::Toml));
    }
    let merged = builder.add_source(variables).build().and_then(|config| config.collect());
    let root = merged.map_err(|error| Mistakes(vec![error.to_string().trim_end().to_owned()]))?;
    Ok((root, file.map(|path| path.display().to_string())))
}
