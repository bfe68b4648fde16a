//! A real Prometheus: the program that `tests/run` fetches, and its HTTP API.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bridge::{MAX_WAIT, http_client};
use super::guarded::Guarded;
use super::kafka::free_port;

/// A running Prometheus. Dropping it ends it.
pub(crate) struct Prometheus {
    program: Guarded,
    http: reqwest::Client,
    url: String,
}

/// A time on Prometheus's clock, in seconds.
pub(crate) type Seconds = f64;

impl Prometheus {
    /// Starts Prometheus with a configuration file, on a port and with data of its own.
    pub(crate) async fn start(configuration: &Path) -> Self {
        let port = free_port();
        let data = |folder: &Path| format!("--storage.tsdb.path={}", folder.join("data").display());
        let file = format!("--config.file={}", configuration.display());
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let program = Self::program(|folder| vec![file, listen, data(folder)]);
        Self::ready(program, format!("http://127.0.0.1:{port}")).await
    }

    /// Starts the program with these arguments.
    pub(crate) fn program(arguments: impl FnOnce(&Path) -> Vec<String>) -> Guarded {
        if let Err(error) = Command::new("prometheus").arg("--version").output() {
            panic!(
                "prometheus cannot be run ({error}); install it, or let tests/run fetch it (Debian, Ubuntu)"
            );
        }
        Guarded::start(Path::new("prometheus"), arguments)
    }

    /// Waits until a program that was started answers at `url`.
    pub(crate) async fn ready(program: Guarded, url: String) -> Self {
        let mut this = Self { program, http: http_client(), url };
        let begun = Instant::now();
        let ready = format!("{}/-/ready", this.url);
        while !this.http.get(&ready).send().await.is_ok_and(|reply| reply.status().is_success()) {
            this.program.is_still_running();
            assert!(begun.elapsed() < MAX_WAIT, "Prometheus is not ready:\n{}", this.program.output());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        this
    }

    /// Returns the data of an API call, or the error in its answer.
    pub(crate) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = url::Url::parse(&format!("{}/api/v1/{path}", self.url)).expect("an address");
        url.query_pairs_mut().extend_pairs(parameters);
        let reply = self.http.get(url).send().await.expect("Prometheus answers");
        let text = reply.text().await.expect("text");
        let mut json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        match json["status"].as_str() {
            Some("success") => Ok(json["data"].take()),
            _ => Err(json["error"].as_str().unwrap_or(&text).to_owned()),
        }
    }

    /// Returns the series of an expression at a time; at the present time if `at` is `None`.
    pub(crate) async fn query(&self, expression: &str, at: Option<Seconds>) -> Result<Vec<Value>, String> {
        let at = at.map(|at| at.to_string());
        let mut parameters = vec![("query", expression)];
        parameters.extend(at.as_deref().map(|at| ("time", at)));
        self.ask("query", &parameters).await.map(series)
    }

    /// Waits until the result of an expression is not empty.
    pub(crate) async fn wait_for(&self, expression: &str) {
        let begun = Instant::now();
        while self.query(expression, None).await.expect("a right query").is_empty() {
            assert!(begun.elapsed() < MAX_WAIT, "{expression} gives nothing");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the series that an expression has at any time of a range.
    pub(crate) async fn query_range(
        &self,
        expression: &str,
        (from, to): (Seconds, Seconds),
        step: Duration,
    ) -> Result<Vec<Value>, String> {
        let [from, to, step] = [from, to, step.as_secs_f64()].map(|seconds| seconds.to_string());
        let parameters = [("query", expression), ("start", &from), ("end", &to), ("step", &step)];
        self.ask("query_range", &parameters).await.map(series)
    }

    /// Returns the labels of the series that match a selector, since the beginning.
    pub(crate) async fn series(&self, selector: &str) -> Result<Vec<Value>, String> {
        self.ask("series", &[("match[]", selector)])
            .await
            .map(|data| data.as_array().cloned().unwrap_or_default())
    }

    /// Returns all loaded rules, each with the `file` and `interval` of its group beside its own fields.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).await.expect("it has rules");
        let groups = data["groups"].as_array().expect("a list of groups");
        let rules = groups.iter().flat_map(|group| {
            group["rules"].as_array().expect("a list of rules").iter().map(|rule| {
                let mut rule = rule.clone();
                rule["file"] = group["file"].clone();
                rule["interval"] = group["interval"].clone();
                rule
            })
        });
        rules.collect()
    }
}

fn series(mut data: Value) -> Vec<Value> {
    // A scalar is converted to one series without labels.
    match data["result"].take() {
        Value::Array(series) if data["resultType"] != "scalar" => series,
        scalar => vec![scalar],
    }
}
