//! The placeholder of the repository's address, which a release replaces.

use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_release_replaces_every_placeholder_of_the_repository_address() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = tempfile::tempdir().expect("a folder");
    let rules = "deploy/prometheus/rules/bridge.yml";
    let files = ["README.md", "docs/getting-started.md", "deploy/helm/nexudus-bridge/values.yaml", rules];
    for file in files {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a path of the test");
        fs::copy(repository.join(file), to).expect("copied");
    }
    let script = repository.join("deploy/release/address");
    let status =
        Command::new(script).args(["https://git.example/us/bridge", "v1.2.3"]).arg(copy.path()).status();
    assert!(status.expect("bash runs it").success());
    for file in files {
        let text = read(&copy.path().join(file));
        assert!(text.contains("https://git.example/us/bridge"), "{file} has no address of the repository");
        for placeholder in ["https://example.com/nexudus-bridge", "URL-OF-THIS-REPOSITORY"] {
            assert!(!text.contains(placeholder), "{file} still has {placeholder}");
        }
    }
    let runbook = "https://git.example/us/bridge/blob/v1.2.3/docs/runbook.md#nexudusbridgedown";
    assert!(read(&copy.path().join(rules)).contains(runbook));
}
