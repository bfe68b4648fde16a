//! The structure of the code: allowed imports, the modules of libraries, the length of files and functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each module, the modules of this crate that it may use, as in `ARCHITECTURE.md`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("action", &[]),
    ("signature", &[]),
    ("outage", &[]),
    ("outcome", &[]),
    ("outgoing", &[]),
    ("vital", &[]),
    ("lenient", &[]),
    ("back_off", &[]),
    ("event", &["outcome"]),
    ("recent", &["outcome", "event"]),
    ("config", &["action", "signature", "outgoing"]),
    ("metrics", &["action", "outcome", "signature", "config"]),
    ("telemetry", &["config", "event", "outcome", "outgoing"]),
    ("kafka", &["action", "event", "config", "metrics", "token", "telemetry", "vital", "back_off"]),
    ("token", &["config", "outgoing", "lenient"]),
    (
        "delivery",
        &["action", "signature", "outcome", "event", "config", "metrics", "kafka", "recent", "telemetry"],
    ),
    ("nexudus", &["config", "metrics", "outgoing", "lenient", "back_off"]),
    ("webhooks", &["action", "outage", "outgoing", "config", "metrics", "nexudus", "telemetry", "back_off"]),
    ("catch_up", &["action", "outage", "outgoing", "config", "delivery", "nexudus", "webhooks"]),
    ("quarantine", &["outcome", "event", "config", "kafka", "delivery"]),
    ("demo", &["action", "config", "kafka", "sender"]),
    ("tail", &["action", "event", "config", "kafka", "sender"]),
    ("asyncapi", &["action", "outcome", "event", "config", "kafka"]),
    ("sender", &["action", "signature", "outgoing", "back_off"]),
    (
        "http",
        &[
            "signature",
            "outage",
            "outcome",
            "event",
            "config",
            "metrics",
            "kafka",
            "recent",
            "delivery",
            "vital",
        ],
    ),
    (
        "app",
        &[
            "outage",
            "config",
            "metrics",
            "token",
            "kafka",
            "delivery",
            "http",
            "telemetry",
            "webhooks",
            "vital",
        ],
    ),
    (
        "cli",
        &[
            "action",
            "signature",
            "outage",
            "outcome",
            "event",
            "config",
            "metrics",
            "kafka",
            "delivery",
            "nexudus",
            "webhooks",
            "catch_up",
            "quarantine",
            "tail",
            "asyncapi",
            "demo",
            "sender",
            "app",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Maximum number of lines of code in a file, without blank lines and comments.
const LONGEST_FILE: usize = 400;

/// Maximum number of lines of a function.
const LONGEST_FUNCTION: usize = 70;

/// A folder of this repository.
fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources() -> Vec<(PathBuf, String)> {
    sources_in(&folder("src"))
}

fn sources_and_tests() -> Vec<(PathBuf, String)> {
    let folders = ["src", "tests", "benches"].map(folder);
    let mut files: Vec<_> = folders.iter().flat_map(|folder| sources_in(folder)).collect();
    files.retain(|(path, _)| !path.components().any(|part| part.as_os_str() == ".cache"));
    files
}

fn sources_in(folder: &Path) -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("the sources exist") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    let mut files = Vec::new();
    collect(folder, &mut files);
    assert!(files.len() > 1, "found {} files", files.len());
    files
}

/// Returns the module that a file belongs to: the first part of its path below `src`.
fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(folder("src")).expect("below src");
    relative
        .components()
        .next()
        .expect("a part")
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

/// Returns the code of a file without its tests, which may use every module.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.ends_with("sender/double.rs") // a bridge to send to
}

#[test]
fn modules_use_allowed_modules_only() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let module = module_of(&path);
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} has no line in MAY_USE"));
        let position = module_path(&path, &folder("src"));
        for used in paths(&format!("\n{}", code(&text))) {
            let Some(used) = absolute(&used, &position).into_iter().next() else { continue };
            let known = MAY_USE.iter().any(|(name, _)| *name == used);
            let fine = !known || used == module || allowed.contains(&used.as_str());
            assert!(fine, "{}: {module} may not use {used}", path.display());
        }
    }
}

#[test]
fn libraries_are_used_in_their_modules_only() {
    let rooms: [(&str, &[&str]); 6] = [
        ("rdkafka::", &["kafka"]),
        ("actix_web", &["http"]),
        ("prometheus::", &["metrics"]),
        ("reqwest::", &["outgoing", "sender", "token", "nexudus"]),
        ("opentelemetry", &["telemetry"]),
        ("clap::", &["cli"]),
    ];
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let module = module_of(&path);
        for (library, rooms) in rooms {
            let named = code(&text)
                .lines()
                .any(|line| line.contains(library) && !line.trim_start().starts_with("//"));
            assert!(!named || rooms.contains(&module.as_str()), "{} names {library}", path.display());
        }
    }
}

/// So all clients have the same proxies, redirects and certificate authorities.
#[test]
fn http_clients_are_made_in_one_module() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        for call in ["Client::builder(", "ClientBuilder::new(", "Client::new()", "reqwest::get("] {
            let made = code(&text).contains(call) && module_of(&path) != "outgoing";
            assert!(!made, "{} makes an HTTP client of its own", path.display());
        }
    }
}

#[test]
fn only_one_module_reads_the_environment_and_only_one_prints() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let (module, code) = (module_of(&path), code(&text));
        assert!(
            !code.contains("env::var") || path.ends_with("config/load.rs"),
            "{} reads it",
            path.display()
        );
        let is_output = path.components().any(|part| part.as_os_str() == "output") && module == "cli";
        for call in ["println!(", "print!(", "stdout()", "stderr()"] {
            let allowed = is_output || path.ends_with("telemetry/log.rs") && call == "stderr()";
            // The commands print by `Output::stdout()` only.
            let printed = code.replace("Output::stdout()", "").contains(call);
            assert!(!printed || allowed, "{} prints", path.display());
        }
    }
}

#[test]
fn files_begin_with_a_module_comment_and_are_short() {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    for (path, text) in sources() {
        assert!(is_test(&path) || text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
    for (path, text) in sources_and_tests() {
        let lines = text.lines().filter(is_code).count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines of code", path.display());
    }
}

#[test]
fn functions_are_short() {
    for (path, text) in sources_and_tests() {
        for (name, lines) in functions(&text) {
            assert!(lines <= LONGEST_FUNCTION, "{}: {name} has {lines} lines", path.display());
        }
    }
}

/// Returns the name of each function with the number of its lines. Code is formatted, so a function ends at the first brace with the
/// indentation of its beginning.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let is_declared = before.split(' ').all(|word| {
            word.is_empty()
                || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word)
                || word.starts_with("pub")
                || word.ends_with(')')
        });
        if !is_declared {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[index..].iter().position(|line| **line == end || code.ends_with(['}', ';']));
        let name = after.split(['(', '<']).next().unwrap_or_default();
        functions.extend(length.map(|length| (name, length + 1)));
    }
    functions
}

#[test]
fn the_length_of_functions_is_counted() {
    let text = "impl A {\n    pub(super) async fn one<T>(\n        a: A,\n    ) {\n        x();\n    }\n\n    fn two() {}\n}\n\nfn three() {\n}\n";
    assert_eq!(functions(text), [("one", 5), ("two", 1), ("three", 2)]);
}

/// Expands `a::{b, c::{d, e as f}}` into `a::b`, `a::c::d` and `a::c::e`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).trim().to_owned()];
    };
    let inner = rest.trim_end().strip_suffix('}').expect("braces are balanced");
    let mut depth = 0;
    let parts = inner.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty()).flat_map(expanded);
    parts.map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// Returns all paths in a file, in `use` declarations and code, that begin with a keyword or a module beside the file.
fn paths(code: &str) -> Vec<String> {
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let declaration = statement.rsplit_once("\nuse ").or_else(|| statement.rsplit_once("\npub use "));
        match declaration {
            Some((_, tree)) => paths.extend(expanded(tree)),
            None => {
                let starts = ["crate::", "super::", "self::"].map(|keyword| statement.match_indices(keyword));
                for (at, _) in starts.into_iter().flatten() {
                    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
                    paths.push(statement[at..].chars().take_while(|letter| is_part(*letter)).collect());
                }
            }
        }
    }
    paths
}

/// Returns the names of the modules from the crate to this file.
fn module_path(path: &Path, root: &Path) -> Vec<String> {
    let relative = path.strip_prefix(root).expect("below the folder");
    let parts = relative.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Returns the absolute form of a path in the code of `module`.
fn absolute(path: &str, module: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path.split("::").peekable();
    if rest.next_if_eq(&"crate").is_some() {
        base.clear();
    }
    while let Some(keyword) = rest.next_if(|part| ["super", "self"].contains(part)) {
        if keyword == "super" {
            base.pop();
        }
    }
    base.extend(rest.map(str::to_owned));
    base
}

/// Returns for each module the modules that its file imports. A module may use the items of the modules above it in the tree.
fn imports(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files = sources_in(root).into_iter().filter(|(path, _)| !is_test(path) && !path.ends_with("main.rs"));
    let files: BTreeMap<Vec<String>, String> =
        files.map(|(path, text)| (module_path(&path, root), format!("\n{}", code(&text)))).collect();
    let mut imports = BTreeMap::new();
    for (module, text) in &files {
        let mut used = BTreeSet::new();
        for path in paths(text) {
            let mut target = absolute(&path, module);
            while !target.is_empty() && !files.contains_key(&target) {
                target.pop();
            }
            if !target.is_empty() && !module.starts_with(&target) {
                used.insert(target.join("::"));
            }
        }
        imports.insert(module.join("::"), used);
    }
    imports
}

/// Returns the imports of circles, and of the modules between two circles; empty without a circle.
fn circular(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let used: BTreeSet<String> = imports.values().flatten().cloned().collect();
        let (uses_some, is_used) = (|used: &BTreeSet<_>| !used.is_empty(), |module| used.contains(module));
        let remaining: BTreeSet<String> = imports
            .iter()
            .filter(|(module, used)| uses_some(used) && is_used(*module))
            .map(|(module, _)| module.clone())
            .collect();
        if remaining.len() == imports.len() {
            return imports;
        }
        imports.retain(|module, _| remaining.contains(module));
        imports.values_mut().for_each(|used| used.retain(|module| remaining.contains(module)));
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for (root, least) in [("src", 200), ("tests/double/src", 20)] {
        let imports = imports(&folder(root));
        let count: usize = imports.values().map(BTreeSet::len).sum();
        assert!(count > least, "{root}: only {count} imports are found");
        let circular = circular(imports);
        assert!(circular.is_empty(), "{root}: these files import each other in a circle: {circular:#?}");
    }
}
