//! A tenant of Nexudus for one test: the double with the demo's network, and a configuration that uses it.

use std::path::{Path, PathBuf};
use std::process::Output;

use nexudus_double::{Journal, Limits, Nexudus, Options, demo};
use serde_json::Value;

use super::bridge::SECRET;
use super::program::{err, out, program};

/// The public URL of the bridge in the tenant's webhooks.
pub(crate) const PUBLIC: &str = "https://hooks.example.com";

/// Two locations with a source each. The second source has a token.
pub(crate) const SOURCES: &str = r#"
[sources.default]
secrets = ["test-secret"]
business_id = 1999000001
actions = ["Booking*", "TeamUpdated"]
[sources.north]
secrets = ["test-secret"]
business_id = 1999000002
url_tokens = ["t0ken", "before"]
actions = ["BookingCreate"]
"#;

/// The webhooks that [`SOURCES`] require.
pub(crate) const WANTED: [(&str, &str); 5] = [
    ("default", "BookingCreate"),
    ("default", "BookingUpdate"),
    ("default", "BookingDelete"),
    ("default", "TeamUpdated"),
    ("north", "BookingCreate"),
];

/// A double and a configuration file.
pub(crate) struct Tenant {
    pub(crate) nexudus: Nexudus,
    folder: tempfile::TempDir,
}

impl Tenant {
    /// Starts a tenant whose configuration has these sources.
    pub(crate) fn with(sources: &str) -> Self {
        Self::with_options(sources, Options { limits: Limits::NONE, ..Options::default() })
    }

    pub(crate) fn with_options(sources: &str, options: Options) -> Self {
        let nexudus = Nexudus::start(options).expect("free ports");
        nexudus.populate(Some(SECRET));
        let tenant = Self { nexudus, folder: tempfile::tempdir().expect("a folder") };
        tenant.configure(&format!("{}{sources}", tenant.section("")));
        tenant
    }

    /// Returns `[nexudus]` with the demo's administrator and very high rate limits.
    pub(crate) fn section(&self, more: &str) -> String {
        let who = format!("username = {:?}\npassword = {:?}", demo::EMAIL, demo::PASSWORD);
        self.section_as(&who, more)
    }

    /// Returns `[nexudus]` with other credentials.
    pub(crate) fn section_as(&self, who: &str, more: &str) -> String {
        format!(
            "[nexudus]\nbase_url = {:?}\n{who}\npublic_url = {PUBLIC:?}\nrequests_per_minute = 100000\n\
             writes_per_minute = 100000\nrequests_per_hour = 1000000\nrequest_spacing = \"0s\"\n{more}\n",
            self.nexudus.base_url()
        )
    }

    /// Replaces the configuration file.
    pub(crate) fn configure(&self, toml: &str) {
        std::fs::write(self.file(), toml).expect("written");
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("bridge.toml")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command of the program with the configuration to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        program().args(arguments).arg("--config").arg(self.file()).output().expect("the program can be run")
    }

    /// Runs a command, asserts its exit code and returns its output.
    #[track_caller]
    pub(crate) fn prints(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", out(&output), err(&output));
        out(&output)
    }

    /// Runs a command with `--json`, asserts its exit code and returns the object.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let text = self.prints(&[arguments, &["--json"]].concat(), code);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the beginning of every message about the API.
    pub(crate) fn named(&self) -> String {
        format!("Nexudus at {}", self.nexudus.address())
    }

    /// Returns the requests since the last call.
    pub(crate) fn asked(&self) -> Journal {
        let journal = self.nexudus.journal();
        self.nexudus.clear_journal();
        journal
    }

    /// Creates every webhook that the sources require.
    #[track_caller]
    pub(crate) fn apply(&self) {
        self.prints(&["webhooks", "apply"], 0);
        self.nexudus.clear_journal();
    }

    /// Returns the number of the webhook whose URL without its query ends with `path`.
    #[track_caller]
    pub(crate) fn webhook(&self, path: &str) -> i64 {
        let ends = |url: &str| url.split('?').next().is_some_and(|url| url.ends_with(path));
        let webhooks = self.nexudus.webhooks();
        let found = webhooks.iter().find(|webhook| ends(&webhook.url));
        found.unwrap_or_else(|| panic!("no webhook for {path}")).id
    }
}
