//! A headless Chromium, driven through chromedriver's `WebDriver` interface (W3C), with a profile of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bridge::{MAX_WAIT, http_client};

const INSTALL: &str =
    "install Chromium and its driver (Debian: apt-get install chromium chromium-driver; or run tests/run)";

/// Flags of Chromium: no window, and no connection to any other service.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
    "--hide-scrollbars",
];

/// A browser with one page.
pub(crate) struct Browser {
    driver: Child,
    output: BufReader<ChildStdout>,
    http: reqwest::Client,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser. If Chromium is not installed, the test fails with the command to install it.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // Chromium also writes into these folders.
            .envs(["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR"].map(|name| (name, profile.path())))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver cannot be run ({error}); {INSTALL}"));
        let mut output = BufReader::new(driver.stdout.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("chromedriver speaks UTF-8");
            assert!(read > 0, "chromedriver ended before it listened; {INSTALL}");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches(['.', '\n']).to_owned();
            }
        };
        let folder = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([folder.as_str()]).collect();
        let http = http_client();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, output, http, session, _profile: profile };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.ask("", wanted).await;
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("no Chromium: {made}; {INSTALL}"));
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Sends a `WebDriver` command and returns its result.
    async fn ask(&self, command: &str, arguments: Value) -> Value {
        let request = self.http.post(format!("{}{command}", self.session)).body(arguments.to_string());
        let answer = request.send().await.expect("chromedriver answers").bytes().await.expect("whole");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{command} {arguments}: {}", value["message"]);
        value
    }

    /// Sends a command of Chromium's own protocol and returns its result.
    async fn command(&self, name: &str, arguments: Value) -> Value {
        self.ask("/goog/cdp/execute", json!({"cmd": name, "params": arguments})).await
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.ask("/url", json!({"url": url})).await;
    }

    /// Runs a script and returns the value of its `return`.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Returns the visible text of the element with this id.
    pub(crate) async fn text(&self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById({id:?}).innerText")).await;
        text.as_str().unwrap_or_else(|| panic!("{id} has no text")).to_owned()
    }

    /// Waits until `wanted` is true for the text of the element with this id, and returns the text.
    pub(crate) async fn wait_for(&self, id: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = tokio::time::Instant::now() + 2 * MAX_WAIT;
        loop {
            let text = self.text(id).await;
            if wanted(&text) {
                return text;
            }
            assert!(tokio::time::Instant::now() < deadline, "{id} still shows {text:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Presses keys, one after the other. Special keys have code points of their own in `WebDriver`.
    pub(crate) async fn press(&self, keys: &str) {
        let presses = |key: char| {
            let key = key.to_string();
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        };
        let actions: Vec<Value> = keys.chars().flat_map(presses).collect();
        self.ask("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await;
    }

    /// Sets the width of the screen and the color scheme, `light` or `dark`.
    pub(crate) async fn screen(&self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", features).await;
    }

    /// Returns the whole page as a PNG. Also keeps it in the folder that `NEXUDUS_BRIDGE_TEST_SCREENSHOTS` names, if it is set.
    pub(crate) async fn picture(&self, name: &str) -> Vec<u8> {
        let shot = self.command("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        let png = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        #[expect(clippy::disallowed_methods, reason = "it is for people who run the test")]
        if let Ok(folder) = std::env::var("NEXUDUS_BRIDGE_TEST_SCREENSHOTS") {
            std::fs::write(format!("{folder}/{name}.png"), &png).expect("the folder can be written to");
        }
        png
    }

    /// Returns the errors in the page's console since the last call, of the page and of the browser.
    pub(crate) async fn errors(&self) -> Vec<String> {
        let log = self.ask("/se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().expect("a list").iter();
        entries.filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    /// Ends the browser in order.
    pub(crate) async fn close(self) {
        self.http.delete(&self.session).send().await.expect("chromedriver answers");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After SIGTERM chromedriver ends its browser too; after SIGKILL the browser would remain.
        Command::new("kill").arg(self.driver.id().to_string()).status().ok();
        self.driver.wait().ok();
        self.output.read_to_end(&mut Vec::new()).ok();
    }
}
