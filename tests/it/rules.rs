//! The rules for Prometheus and the dashboard for Grafana: each alert has tests and a section of the runbook, and every metric in
//! a query exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nexudus_bridge::action::Actions;
use nexudus_bridge::metrics::{Metrics, UNKNOWN};
use nexudus_bridge::outcome::Outcome;

/// Suffixes of a histogram's name in a query.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Address of the runbook in the rules; the chart and the release replace it.
const RUNBOOK: &str = "https://example.com/nexudus-bridge/docs/runbook.md";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files of a folder, in order, with their contents.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no file of {extension}");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("readable");
            (path, text)
        })
        .collect()
}

fn rules() -> Vec<(PathBuf, String)> {
    files("deploy/prometheus/rules", "yml")
}

/// Returns the text after `key` in every line that begins with `key`, or with a dash and `key`.
fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| line.trim_start().trim_start_matches("- ").strip_prefix(key))
        .map(str::trim)
}

/// Returns the names of all alerts.
fn alerts() -> BTreeSet<String> {
    let names: BTreeSet<String> = rules()
        .iter()
        .flat_map(|(_, text)| values(text, "alert:").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(names.len() > 20, "found {names:?}");
    names
}

/// Returns every name that begins with `prefix`.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    text.match_indices(prefix)
        .map(|(at, _)| {
            let of_a_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == ':';
            text[at..].chars().take_while(of_a_name).collect()
        })
        .collect()
}

fn promtool(arguments: &[&str], files: &[(PathBuf, String)]) {
    let output = Command::new("promtool")
        .args(arguments)
        .args(files.iter().map(|(path, _)| path))
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "promtool cannot be run ({error}); install it (Debian, Ubuntu: apt-get install prometheus)"
            )
        });
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}");
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() {
    promtool(&["check", "rules"], &rules());
    promtool(&["check", "config"], &files("deploy/prometheus", "yml"));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    promtool(&["test", "rules"], &files("deploy/prometheus/tests", "yml"));
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_must_not() {
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for (_, text) in files("deploy/prometheus/tests", "yml") {
        let mut alert = "";
        for line in text.lines().map(|line| line.trim_start().trim_start_matches("- ")) {
            if let Some(name) = line.strip_prefix("alertname:") {
                alert = name.trim();
            } else if let Some(expected) = line.strip_prefix("exp_alerts:") {
                let cases = if expected.trim() == "[]" { &mut quiet } else { &mut fires };
                cases.insert(alert.to_owned());
            }
        }
    }
    assert_eq!(fires, alerts(), "cases in which alerts fire");
    assert_eq!(quiet, alerts(), "cases in which they must not");
}

#[test]
fn each_alert_has_a_severity_texts_and_a_section_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<String> = values(&runbook, "### ").map(str::to_owned).collect();
    assert_eq!(headings, alerts(), "headings of docs/runbook.md and alerts");
    for (path, text) in rules() {
        for block in text.split("- alert:").skip(1) {
            let name = block.lines().next().expect("a line").trim();
            let one = |key: &str| {
                let mut found = values(block, key);
                let value = found.next().unwrap_or_else(|| panic!("{name} has no {key}"));
                assert!(found.next().is_none(), "{name} has {key} twice in {}", path.display());
                value
            };
            assert!(["critical", "warning", "info"].contains(&one("severity:")), "{name}");
            assert!(!one("summary:").is_empty() && !one("description:").is_empty(), "{name}");
            // GitHub's anchor of a heading without spaces is the heading in lower case.
            let url = format!("{RUNBOOK}#{}", name.to_lowercase());
            assert_eq!(one("runbook_url:"), url, "{name}");
            assert!(block.lines().nth(1).is_some_and(|line| line.trim().starts_with('#')), "{name}: why?");
        }
    }
}

#[test]
fn every_metric_in_the_rules_and_the_dashboard_exists() {
    let declared: String = files("src/metrics", "rs").into_iter().map(|(_, text)| text).collect();
    let is_declared = |name: &str| declared.contains(&format!("\"{name}\""));
    let mut recorded = BTreeSet::new();
    for (_, text) in rules() {
        recorded.extend(values(&text, "record:").map(str::to_owned));
    }
    let mut asked = BTreeSet::new();
    for (path, text) in rules().into_iter().chain(files("deploy/grafana/dashboards", "json")) {
        for name in names(&text, "nexudus_bridge:") {
            assert!(recorded.contains(&name), "{}: no rule records {name}", path.display());
        }
        for name in names(&text, "nexudus_bridge_") {
            let name = name.trim_start_matches("nexudus_bridge_").to_owned();
            let of_histogram = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(*end));
            let known = is_declared(&name) || of_histogram.is_some_and(is_declared);
            assert!(known, "{}: {name} is no metric of the bridge", path.display());
            asked.insert(name);
        }
    }
    assert!(asked.len() > 20, "found {asked:?}");
}

/// `increase()` does not count the first event of a series that begins with 1.
#[test]
fn each_outcome_that_an_alert_reads_is_listed_before_it_occurs() {
    let metrics = Metrics::new("0");
    let actions = Actions::default();
    let (known, unknown) = (metrics.source("north", &actions), metrics.source(UNKNOWN, &actions));
    let took = Duration::from_millis(1);
    for (source, action_index) in [(&known, Some(0)), (&known, None), (&unknown, None)] {
        metrics.answered(source, action_index, Outcome::ShuttingDown, took);
    }
    let scrape = metrics.render();
    let mut read = BTreeSet::new();
    for (path, text) in rules() {
        for selector in text.split("nexudus_bridge_deliveries_total{").skip(1) {
            let (selector, _) = selector.split_once('}').expect("the end of a selector");
            let (_, outcomes) = selector.split_once("outcome=~\"").unwrap_or_else(|| panic!("{selector}"));
            let (outcomes, _) = outcomes.split_once('"').expect("the end of a string");
            for outcome in outcomes.split('|') {
                let label = format!("outcome=\"{outcome}\"");
                let is_listed = scrape.lines().any(|line| {
                    line.starts_with("nexudus_bridge_deliveries_total{")
                        && line.contains(&label)
                        && line.ends_with(" 0")
                });
                assert!(is_listed, "{}: {outcome} is not exported before it occurs", path.display());
                read.insert(outcome.to_owned());
            }
        }
    }
    assert!(read.len() > 10, "found {read:?}");
}

#[test]
fn each_panel_of_the_dashboard_has_a_description_and_a_unit() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/nexudus-bridge.json")).expect("JSON");
    assert_eq!(dashboard["uid"], "nexudus-bridge");
    let has_text = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("a list") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: another panel has the same id");
        if panel["type"] == "row" {
            continue;
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(has_text(&panel["description"]) && has_text(&defaults["unit"]), "{title}");
        assert!(defaults["thresholds"]["steps"].is_array(), "{title}");
        for target in panel["targets"].as_array().expect("a list") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().expect("a query");
            for window in query.split('[').skip(1) {
                let fits = window.starts_with("$__rate_interval]") || window.starts_with("$__range]");
                assert!(fits, "{title}: {query}");
            }
        }
    }
    assert!(ids.len() > 20, "found {} panels", ids.len());
}

/// The alert must fire before the kernel ends the process.
#[test]
fn the_memory_alert_is_below_the_chart_s_limit() {
    let mebibytes = |text: &str, before: &str, after: &str| -> u64 {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?}"));
        let (number, _) = rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} behind {before:?}"));
        number.parse().unwrap_or_else(|error| panic!("{number:?}: {error}"))
    };
    let rules = read("deploy/prometheus/rules/bridge.yml");
    // The defaults of in_flight_bytes_limit, producer_queue_bytes_limit and redelivery_bytes_limit, then the expression's own.
    let alert = 32
        + 40
        + 8
        + mebibytes(&rules, "nexudus_bridge_redelivery_bytes_limit\n            + ", " * 1024 * 1024");
    let values = read("deploy/helm/nexudus-bridge/values.yaml");
    let limit = mebibytes(&values, "limits:\n    memory: ", "Mi\n");
    assert!(alert * 5 / 4 <= limit, "{alert} and {limit} MiB");
}

#[test]
fn the_chart_has_the_same_rules_and_dashboard() {
    let contents = |files: Vec<(PathBuf, String)>| -> Vec<(Option<std::ffi::OsString>, String)> {
        files.into_iter().map(|(path, text)| (path.file_name().map(Into::into), text)).collect()
    };
    let of_the_chart = files("deploy/helm/nexudus-bridge/files/rules", "yml");
    assert!(contents(of_the_chart) == contents(rules()), "copy deploy/prometheus/rules/*.yml into the chart");
    let of_the_chart = files("deploy/helm/nexudus-bridge/files/dashboards", "json");
    let ours = files("deploy/grafana/dashboards", "json");
    assert!(contents(of_the_chart) == contents(ours), "copy deploy/grafana/dashboards/*.json into the chart");
}
