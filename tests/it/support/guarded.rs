//! A program that runs beside a test and never outlives it, not even when the test is killed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kafka::{GUARD_SCRIPT, Guard};

/// A running program, with what it writes and a folder for its files. Dropping it kills it and removes the folder.
pub(crate) struct Guarded {
    /// None while it is dropped.
    guard: Option<Guard>,
    folder: PathBuf,
}

impl Guarded {
    /// Starts a program, whose arguments `arguments` makes of the folder.
    pub(crate) fn start<A: AsRef<OsStr>>(program: &Path, arguments: impl FnOnce(&Path) -> Vec<A>) -> Self {
        let folder = tempfile::Builder::new().prefix("program-").tempdir().expect("a folder").keep();
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD_SCRIPT).arg("guard").arg(&folder).arg(program).args(arguments(&folder));
        let guard = Guard::start(command).unwrap_or_else(|reason| panic!("{reason}"));
        Self { guard: Some(guard), folder }
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        let written = std::fs::read(self.folder.join("broker.log")).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Fails with what it has written when it has ended.
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
        // The guard did it, unless the program had ended by itself.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
