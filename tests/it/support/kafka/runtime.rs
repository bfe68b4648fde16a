//! The programs of Kafka: jars and Java on this machine, or a container.
//!
//! Java is the first choice: a broker answers after three seconds, and nothing has to be installed. Maven fetches the jars once
//! (`tests/support-kafka/jars`, 44 MB) into the target directory. Without Java, a Docker engine runs the official image. The
//! broker's directory is mounted and its ports are published on loopback, so tests see no difference.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::guard;
use super::server::Place;

/// The version in `tests/support-kafka/pom.xml`.
pub(crate) const VERSION: &str = "4.3.1";

/// The oldest Java that brokers of this version run on.
const JAVA_MAJOR: u32 = 17;

/// Keeps Java from leaving a folder with performance data in the temporary directory.
pub(crate) const NO_FILES: &str = "-XX:-UsePerfData";

/// The image's own jars.
const IMAGE_CLASS_PATH: &str = "/opt/kafka/libs/*";

/// A way to run Kafka's Java programs.
pub(super) enum Runtime {
    /// The `java` program, and the directory with the jars.
    Java { java: PathBuf, jars: PathBuf },
    /// `docker`, and the image.
    Docker { image: String },
}

impl Runtime {
    /// Returns the first way that works on this machine, found once. The error names what to install.
    pub(super) fn find() -> Result<&'static Self, String> {
        static FOUND: OnceLock<Result<Runtime, String>> = OnceLock::new();
        FOUND.get_or_init(Self::search).as_ref().map_err(Clone::clone)
    }

    fn search() -> Result<Self, String> {
        let no_java = match find_java().and_then(|java| Ok((java, find_jars()?))) {
            Ok((java, jars)) => return Ok(Self::Java { java, jars }),
            Err(reason) => reason,
        };
        match succeeds(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])) {
            Ok(_) => Ok(Self::Docker { image: format!("apache/kafka:{VERSION}") }),
            Err(no_docker) => Err(format!(
                "cannot start Apache Kafka {VERSION} for this test. Install Java {JAVA_MAJOR} or newer and \
                 Maven (Debian, Ubuntu: apt-get install openjdk-{JAVA_MAJOR}-jre-headless maven; tests/run \
                 does that), or start a Docker engine; tests that are content with any broker also take the \
                 address of a running cluster from {}.\n  Java: {no_java}\n  Docker: {no_docker}",
                super::CLUSTER_VARIABLE
            )),
        }
    }

    /// Returns the command that runs a broker under its guard.
    pub(super) fn broker(&self, place: &Place, arguments: &[OsString]) -> Command {
        let guarded = |command: &mut Command, java: &Path, class_path: OsString| {
            command.arg("-c").arg(guard::SCRIPT).arg("guard").arg(&place.directory);
            command.arg(java).arg(NO_FILES).arg("-cp").arg(class_path).args(arguments);
        };
        match self {
            Self::Java { java, jars } => {
                let mut command = Command::new("sh");
                guarded(&mut command, java, class_path(jars));
                command
            }
            Self::Docker { image } => {
                let mut command = docker_run(place);
                command.arg("-i").args(["--name", &place.name()]);
                for port in place.ports {
                    command.arg("-p").arg(format!("127.0.0.1:{port}:{port}"));
                }
                command.args(["--entrypoint", "sh", image]);
                guarded(&mut command, Path::new("java"), IMAGE_CLASS_PATH.into());
                command
            }
        }
    }

    /// Runs one of Kafka's tools to its end. `beside` is true if the tool has to connect to the running broker of this place.
    pub(super) fn tool(&self, place: &Place, beside: bool, arguments: &[OsString]) -> Result<(), String> {
        let mut command = match self {
            Self::Java { java, .. } => Command::new(java),
            Self::Docker { image } if !beside => {
                let mut command = docker_run(place);
                command.args(["--entrypoint", "java", image]);
                command
            }
            Self::Docker { .. } => {
                let mut command = Command::new("docker");
                command.args(["exec", &place.name(), "java"]);
                command
            }
        };
        command.arg(NO_FILES).arg("-cp").arg(match self {
            Self::Java { jars, .. } => class_path(jars),
            Self::Docker { .. } => IMAGE_CLASS_PATH.into(),
        });
        // For short runs: no second compiler, and no threads for garbage collection.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"]).args(arguments);
        succeeds(&mut command).map(|_| ())
    }

    /// Returns the address on which a broker listens: a published port leads to the external address of the container.
    pub(super) fn listen_host(&self) -> &'static str {
        match self {
            Self::Java { .. } => "127.0.0.1",
            Self::Docker { .. } => "0.0.0.0",
        }
    }
}

/// Returns Java and the class path of Kafka's own programs, for tests that run these programs.
///
/// # Errors
/// The missing program. A Docker engine is not enough for these tests.
pub(crate) fn java() -> Result<(&'static Path, OsString), String> {
    match Runtime::find()? {
        Runtime::Java { java, jars } => Ok((java, class_path(jars))),
        Runtime::Docker { .. } => Err("this test runs Kafka's programs and needs Java and Maven".to_owned()),
    }
}

/// Returns the class path of a directory. Java reads `*` as all jars of the directory.
fn class_path(jars: &Path) -> OsString {
    jars.join("*").into_os_string()
}

/// Returns a command that runs a container as the owner of the broker's directory.
fn docker_run(place: &Place) -> Command {
    let owner = fs::metadata(&place.directory).expect("the directory was just made");
    let mount = format!("{0}:{0}", place.directory.display());
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--user", &format!("{}:{}", owner.uid(), owner.gid()), "-v", &mount]);
    command
}

/// Returns `java` of `JAVA_HOME` or the search path, if it is new enough.
fn find_java() -> Result<PathBuf, String> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let java = home.filter(|java| java.exists()).unwrap_or_else(|| "java".into());
    let output = succeeds(Command::new(&java).args([NO_FILES, "-version"]))?;
    let banner = String::from_utf8_lossy(&output.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15; before Java 9: "1.8.0_392"
    let version = banner.split('"').nth(1).unwrap_or_default();
    let major = version.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major >= JAVA_MAJOR => Ok(java),
        _ => Err(format!("{} is version {version:?}, expected {JAVA_MAJOR} or newer", java.display())),
    }
}

/// Returns the directory with the jars. Maven fills it first if it is missing, for one process at a time.
fn find_jars() -> Result<PathBuf, String> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo makes it in the target directory");
    let lock = File::create(target.join("kafka.lock")).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| format!("cannot lock {}/kafka.lock: {error}", target.display()))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support-kafka/jars");
    let output = succeeds(Command::new(script).arg(target))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().into())
}

/// Runs a command to its end. The error has the command and its output.
fn succeeds(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
            Err(format!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&printed).trim()))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}
