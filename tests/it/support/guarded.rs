//! A program that runs beside a test and ends with it, even if the test is killed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kafka::{GUARD_SCRIPT, Guard};

/// A running program with its output and a folder for its files. Dropping it kills the program and removes the folder.
pub(crate) struct Guarded {
    /// `None` during the drop.
    guard: Option<Guard>,
    folder: PathBuf,
}

impl Guarded {
    /// Starts a program. `arguments` makes its arguments from the path of the folder.
    pub(crate) fn start<A: AsRef<OsStr>>(program: &Path, arguments: impl FnOnce(&Path) -> Vec<A>) -> Self {
        let folder = tempfile::Builder::new().prefix("program-").tempdir().expect("a folder").keep();
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD_SCRIPT).arg("guard").arg(&folder).arg(program).args(arguments(&folder));
        let guard = Guard::start(command).unwrap_or_else(|reason| panic!("{reason}"));
        Self { guard: Some(guard), folder }
    }

    /// Returns the output so far.
    pub(crate) fn output(&self) -> String {
        let written = std::fs::read(self.folder.join("broker.log")).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Fails with the output if the program has ended.
    #[track_caller]
    pub(crate) fn is_still_running(&mut self) {
        if let Some(status) = self.guard.as_mut().and_then(Guard::ended) {
            panic!("the program has ended ({status}):\n{}", self.output());
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.guard.take());
        // The guard has removed the folder, unless the program had ended by itself.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
