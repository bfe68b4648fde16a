//! The dashboard and the rules show something: each query finds what a bridge under load and faults has said of itself.
//!
//! A real Prometheus scrapes the real bridge on a real broker, every second and not every 15, for less than a minute. Then
//! every query of the dashboard is asked, its variables replaced as Grafana would, and every expression of the rules, as it
//! is but for times that would take too long ([`RULES_SOONER`]). A query that is refused, an empty panel, a metric or a
//! label's value that nobody has: each is named at the end.

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
use stage::{Load, Stage, life};
use variables::Variables;

/// How often the test's Prometheus scrapes and evaluates; `prometheus.yml` says 15 s.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);

/// The distance of a graph's points. Grafana takes it from the graph's width.
const STEP: Duration = Duration::from_secs(2);

/// What the copies of the rules say instead, so that they have something to say within a minute.
const RULES_SOONER: [(&str, &str); 3] =
    [("interval: 1m", "interval: 1s"), ("interval: 5m", "interval: 1s"), ("offset 1m", "offset 5s")];

/// Panels that may show 0 all the time. Nothing here removes a topic, uses up a quota or blocks the log, and a producer is not
/// replaced in every run. The client reports the size of the producer's queue every 5 seconds only.
const ZERO: [&str; 5] = [
    "Topics missing",
    "Producers replaced",
    "How full is the producer's queue?",
    "Which brokers throttle the producer?",
    "Dropped log lines",
];

/// Our Prometheus, with what `deploy/prometheus` says but for the address and the times.
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

/// Replaces each, which has to be there.
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

/// The numbers of all series; what is no number a panel does not draw.
fn numbers(series: &[Value]) -> impl Iterator<Item = f64> {
    let points = series.iter().flat_map(|series| {
        let point = std::iter::once(&series["value"]).filter(|value| value.is_array());
        point.chain(series["values"].as_array().into_iter().flatten())
    });
    points.map(|point| text(&point[1]).parse::<f64>().expect("a number")).filter(|number| number.is_finite())
}

/// What is wrong, and how much was asked.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    queries: usize,
    selectors: BTreeMap<String, bool>,
}

impl Findings {
    /// Each selector of an expression has found a series, each name in a list of names too.
    async fn reads(&mut self, place: &str, expression: &str, prometheus: &Prometheus) {
        let read = selectors(expression);
        if read.is_empty() {
            self.wrong.push(format!("{place}: reads no metric: {expression}"));
        }
        for selector in read.iter().flat_map(Selector::alternatives) {
            let written = selector.written();
            if self.selectors.contains_key(&written) {
                continue;
            }
            let found = prometheus.series(&written).await.is_ok_and(|series| !series.is_empty());
            if !found {
                self.wrong.push(format!("{place}: nobody has {written}"));
            }
            self.selectors.insert(written, found);
        }
    }

    /// The dashboard's queries; a line for each panel.
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
                self.reads(title, &expression, prometheus).await;
            }
            if largest <= 0.0 && !ZERO.contains(&title) {
                self.wrong.push(format!("{title} shows nothing but 0"));
            }
            let panel = format!("{title:<52} {:>7}  {:<10} {largest:>14.3}", series.len(), series.join(" "));
            lines.push(panel);
        }
        lines
    }

    /// The rules as Prometheus has them; a line for each file.
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
            self.reads(name, expression, prometheus).await;
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
async fn every_panel_of_the_dashboard_shows_something_and_every_rule_reads_what_is_there() {
    let mut stage = Stage::start();
    let prometheus = prometheus(&stage).await;
    // It begins to scrape some seconds after its start.
    prometheus.wait_for("nexudus_bridge_ready == 1").await;
    let load = Load::start(&stage);
    let from = now();
    life(&mut stage).await;
    // The last point of a graph lies at its end.
    let (to, step) = (now(), STEP.as_secs_f64());
    let range = (to - ((to - from) / step).ceil() * step, to);
    let answers = load.end().await;
    for status in [200, 401, 404, 415, 503] {
        assert!(answers.contains_key(&status), "nothing was answered {status}: {answers:?}");
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
