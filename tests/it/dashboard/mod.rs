//! Each query of the dashboard and the rules finds data of a bridge under load and faults.
//!
//! For less than a minute, a real Prometheus scrapes the real bridge on a real broker, every second and not every 15. Then the test
//! sends each query of the dashboard, with variables replaced as by Grafana, and each expression of the rules. Only times that
//! would take too long are changed ([`RULES_SOONER`]). The test fails with a list of refused queries, empty panels, and selectors
//! without a series.

mod kminion;
mod stage;
mod variables;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::compose::repository;
use crate::support::prometheus::{Prometheus, Seconds};
use crate::support::promql::{Selector, selectors};
use crate::support::say;
use stage::{Load, Stage, cause_faults};
use variables::Variables;

/// Interval at which the test's Prometheus scrapes and evaluates; in `prometheus.yml` it is 15 s.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);

/// The step of a graph's points. Grafana derives it from the graph's width.
const STEP: Duration = Duration::from_secs(2);

/// Replacements in the copies of the rules, so that each rule has a result within a minute.
const RULES_SOONER: [(&str, &str); 3] =
    [("interval: 1m", "interval: 1s"), ("interval: 5m", "interval: 1s"), ("offset 1m", "offset 5s")];

/// Panels that may show only 0. The test removes no topic, exceeds no quota and does not block the log. It does not replace a
/// producer in every run, and the client reports the size of the producer's queue only every 5 seconds.
const ZERO: [&str; 5] = [
    "Topics missing",
    "Producers replaced",
    "How full is the producer's queue?",
    "Which brokers throttle the producer?",
    "Dropped log lines",
];

/// Starts Prometheus with the files of `deploy/prometheus`, in which only the address and times are changed.
async fn prometheus(stage: &Stage) -> Prometheus {
    let ours = repository().join("deploy/prometheus");
    let folder = stage.folder.path().join("prometheus");
    fs::create_dir_all(folder.join("rules")).expect("made");
    let text = fs::read_to_string(ours.join("prometheus.yml")).expect("readable");
    let admin = format!("127.0.0.1:{}", stage.admin);
    // Outside of Kubernetes no target has a namespace.
    let target = format!("- targets: [{admin}]\n        labels: {{namespace: shop}}");
    let text = replaced(
        &text,
        &[
            ("15s", "1s"),
            ("- targets: [bridge:9464]", &target),
            ("kminion:8080", &kminion::start().to_string()),
        ],
    );
    fs::write(folder.join("prometheus.yml"), text).expect("written");
    let mut all = String::new();
    for entry in fs::read_dir(ours.join("rules")).expect("the rules") {
        let entry = entry.expect("an entry");
        all.push_str(&fs::read_to_string(entry.path()).expect("readable"));
        let text = fs::read_to_string(entry.path()).expect("readable");
        let sooner =
            RULES_SOONER.iter().fold(text, |text, (original, sooner)| text.replace(original, sooner));
        fs::write(folder.join("rules").join(entry.file_name()), sooner).expect("written");
    }
    replaced(&all, &RULES_SOONER);
    Prometheus::start(&folder.join("prometheus.yml")).await
}

/// Replaces each original, which must exist.
fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (original, instead)| {
        assert!(text.contains(original), "the file has no {original}");
        text.replace(original, instead)
    })
}

fn now() -> Seconds {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a text: {value}"))
}

/// Returns the numbers of all series. A panel draws no other values.
fn numbers(series: &[Value]) -> impl Iterator<Item = f64> {
    let points = series.iter().flat_map(|series| {
        let point = std::iter::once(&series["value"]).filter(|value| value.is_array());
        point.chain(series["values"].as_array().into_iter().flatten())
    });
    points.map(|point| text(&point[1]).parse::<f64>().expect("a number")).filter(|number| number.is_finite())
}

/// The failures, and the numbers of queries and selectors.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    queries: usize,
    selectors: BTreeMap<String, bool>,
}

impl Findings {
    /// Checks that each selector of an expression finds a series, also for each name in a list of names.
    async fn check_selectors(&mut self, origin: &str, expression: &str, prometheus: &Prometheus) {
        let read = selectors(expression);
        if read.is_empty() {
            self.wrong.push(format!("{origin}: has no selector: {expression}"));
        }
        for selector in read.iter().flat_map(Selector::alternatives) {
            let written = selector.written();
            if self.selectors.contains_key(&written) {
                continue;
            }
            let found = prometheus.series(&written).await.is_ok_and(|series| !series.is_empty());
            if !found {
                self.wrong.push(format!("{origin}: no series matches {written}"));
            }
            self.selectors.insert(written, found);
        }
    }

    /// Sends the dashboard's queries. Returns a line for each panel.
    async fn panels(
        &mut self,
        dashboard: &Value,
        prometheus: &Prometheus,
        variables: &Variables,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
            let title = text(&panel["title"]);
            let (mut series, mut largest) = (Vec::new(), 0.0_f64);
            for target in list(&panel["targets"]) {
                let expression = variables.put_in(text(&target["expr"]), STEP);
                let found = if target["instant"] == true {
                    prometheus.query(&expression, Some(variables.range.1)).await
                } else {
                    prometheus.query_range(&expression, variables.range, STEP).await
                };
                self.queries += 1;
                match found {
                    Err(error) => self.wrong.push(format!("{title}: {error}: {expression}")),
                    Ok(found) if numbers(&found).next().is_none() => {
                        self.wrong.push(format!("{title} is empty: {expression}"));
                    }
                    Ok(found) => {
                        largest = numbers(&found).fold(largest, f64::max);
                        series.push(found.len().to_string());
                    }
                }
                self.check_selectors(title, &expression, prometheus).await;
            }
            if largest <= 0.0 && !ZERO.contains(&title) {
                self.wrong.push(format!("{title} shows nothing but 0"));
            }
            let panel = format!("{title:<52} {:>7}  {:<10} {largest:>14.3}", series.len(), series.join(" "));
            lines.push(panel);
        }
        lines
    }

    /// Checks the rules that Prometheus has loaded. Returns a line for each file.
    async fn rules(&mut self, prometheus: &Prometheus) -> Vec<String> {
        let mut files = BTreeMap::<String, [usize; 3]>::new();
        for rule in prometheus.rules().await {
            let (name, expression) = (text(&rule["name"]), text(&rule["query"]));
            if rule["health"] != "ok" || rule["lastError"].as_str().is_some_and(|error| !error.is_empty()) {
                self.wrong.push(format!("{name}: {} {}", rule["health"], rule["lastError"]));
            }
            let found = prometheus.query(expression, None).await;
            self.queries += 1;
            match &found {
                Err(error) => self.wrong.push(format!("{name}: {error}: {expression}")),
                Ok(found) if found.is_empty() && rule["type"] == "recording" => {
                    self.wrong.push(format!("{name} records nothing: {expression}"));
                }
                Ok(_) => {}
            }
            self.check_selectors(name, expression, prometheus).await;
            let file =
                Path::new(text(&rule["file"])).file_name().expect("a name").to_string_lossy().into_owned();
            let [rules, series, firing] = files.entry(file).or_default();
            *rules += 1;
            *series += found.map_or(0, |found| found.len());
            *firing += usize::from(rule["state"] == "firing");
        }
        let line = |(file, [rules, series, firing]): (String, [usize; 3])| {
            format!("{file:<52} {rules:>7}  {series:<10} {firing:>7} alerts fire")
        };
        files.into_iter().map(line).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboard_shows_data_and_every_rule_reads_existing_series() {
    let mut stage = Stage::start();
    let prometheus = prometheus(&stage).await;
    // Prometheus begins to scrape some seconds after its start.
    prometheus.wait_for("nexudus_bridge_ready == 1").await;
    let load = Load::start(&stage);
    let from = now();
    cause_faults(&mut stage).await;
    // The range must end at the last point of a graph.
    let (to, step) = (now(), STEP.as_secs_f64());
    let range = (to - ((to - from) / step).ceil() * step, to);
    let answers = load.end().await;
    for status in [200, 401, 404, 415, 503] {
        assert!(answers.contains_key(&status), "no answer has status {status}: {answers:?}");
    }

    let dashboard =
        fs::read(repository().join("deploy/grafana/dashboards/nexudus-bridge.json")).expect("readable");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let mut findings = Findings::default();
    let all = Variables::all(range);
    let panels = findings.panels(&dashboard, &prometheus, &all).await;
    let each = Variables::each(&dashboard, &prometheus, range).await;
    findings.panels(&dashboard, &prometheus, &each).await;
    for annotation in list(&dashboard["annotations"]["list"]).iter().filter(|one| one["expr"].is_string()) {
        let expression = all.put_in(text(&annotation["expr"]), Duration::from_secs(60));
        let found = prometheus.query_range(&expression, range, STEP).await;
        if found.as_ref().is_ok_and(|found| numbers(found).next().is_none()) || found.is_err() {
            findings.wrong.push(format!("{}: {found:?}: {expression}", annotation["name"]));
        }
    }
    let rules = findings.rules(&prometheus).await;

    say(&format!("answered: {answers:?}, in {:.0} s", range.1 - range.0));
    say(&format!("{:<52} {:>7}  {:<10} {:>14}", "panel", "queries", "series", "largest value"));
    panels.iter().chain(&rules).for_each(|line| say(line));
    say(&format!("{} queries, {} selectors", findings.queries, findings.selectors.len()));
    assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n"));
}
