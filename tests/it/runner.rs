//! `tests/run` checks the tool chain before it compiles anything, and stops if it cannot install.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::support::program::err;

/// The programs that `tests/run` itself uses.
const BASICS: [&str; 12] =
    ["bash", "dirname", "env", "grep", "head", "mkdir", "mktemp", "printf", "rm", "sed", "sort", "tr"];

/// Programs as shell scripts: each writes its name and arguments to `called`.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// Returns a machine with this version of Rust, and with everything else that the tests need.
    fn with_rust(version: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a folder") };
        for name in BASICS {
            let real = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
            let real = real.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {name}"));
            symlink(real, machine.folder.path().join(name)).expect("linked");
        }
        machine.has("cargo", &format!("echo 'cargo {version} (0123abcde 2026-01-01)'"));
        machine.has("java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2");
        for name in ["cc", "c++", "make", "perl", "mvn", "prometheus", "promtool", "nginx", "chromedriver"] {
            machine.has(name, "");
        }
        for name in ["chromium", "zsh", "fish"] {
            machine.has(name, "");
        }
        machine.has("id", "echo 1000");
        machine
    }

    fn has(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        let called = self.folder.path().join("called");
        let text = format!("#!/bin/bash\necho \"{name} $*\" >> {}\n{script}\n", called.display());
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a path of the test");
    }

    fn lacks(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).expect("exists");
    }

    fn install_only(&self) -> Output {
        let mut run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run"));
        run.arg("--install-only").env_clear().env("PATH", self.folder.path()).output().expect("bash runs it")
    }

    fn called(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("called")).unwrap_or_default()
    }
}

#[test]
fn without_missing_packages_no_installer_is_called() {
    let machine = Machine::with_rust("1.999.0");
    machine.has("apt-get", "");
    machine.has("sudo", "");
    let output = machine.install_only();
    assert!(output.status.success(), "{}", err(&output));
    let called = machine.called();
    assert!(!called.contains("apt-get") && !called.contains("sudo"), "{called}");
}

#[test]
fn a_rust_that_is_too_old_is_refused_before_anything_is_installed() {
    let machine = Machine::with_rust("1.80.1");
    machine.lacks("c++");
    machine.has("apt-get", "");
    machine.has("sudo", "");
    let output = machine.install_only();
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("Rust 1.80.1, too old: expected 1."), "{}", err(&output));
    assert!(!machine.called().contains("apt-get"), "{}", machine.called());
}

#[test]
fn a_refusal_by_sudo_ends_the_run_with_the_command_for_root() {
    for missing in ["c++", "cc", "make", "java", "zsh"] {
        let machine = Machine::with_rust("1.999.0");
        machine.lacks(missing);
        machine.has("apt-get", "");
        machine.has("apt-cache", "echo '  Candidate: 21.0.1'");
        machine.has("sudo", "echo 'a password is required' >&2; exit 1");
        let output = machine.install_only();
        assert_eq!(output.status.code(), Some(1), "{missing}: {}", err(&output));
        let printed = err(&output);
        let commands: Vec<&str> = printed.lines().filter(|line| line.contains("apt-get install")).collect();
        let package = match missing {
            "c++" => " g++",
            "cc" => " gcc",
            "java" => " openjdk-25-jre-headless",
            other => other,
        };
        assert_eq!(commands.len(), 1, "{missing}: {printed}");
        assert!(commands[0].starts_with("apt-get update && ") && commands[0].contains(package), "{printed}");
        assert!(!printed.contains("pkg-config"), "{printed}");
        assert!(!machine.called().contains("apt-get"), "{missing}: {}", machine.called());
    }
}

#[test]
fn on_other_systems_all_missing_packages_are_named() {
    let machine = Machine::with_rust("1.999.0");
    for name in ["c++", "mvn", "fish"] {
        machine.lacks(name);
    }
    let output = machine.install_only();
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    for text in ["c++", "Maven", "- fish"] {
        assert!(err(&output).contains(text), "{text} in {}", err(&output));
    }
}
