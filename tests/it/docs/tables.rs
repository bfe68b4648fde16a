//! The generated tables of commands, outcomes, actions, metrics and alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
use nexudus_bridge::action::catalogue::{ENTRIES, Entry};
use nexudus_bridge::action::{Actions, Kind};
use nexudus_bridge::cli;
use nexudus_bridge::config::load::load;
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::metrics::{BrokerSample, Metrics, WebhookSeries};
use nexudus_bridge::outcome::{Outcome, QuarantineReason};
use nexudus_bridge::sender::payloads::payload;

use super::page::repository;

/// Returns every command with its usage, arguments, options and examples.
pub(super) fn commands() -> String {
    let mut command = cli::command();
    command.build();
    let mut text = String::from("| command | purpose |\n| --- | --- |\n");
    let mut sections = String::new();
    let mut leaves = leaves(&command, "");
    let declared = cli::Cli::command(); // adding examples changes the order
    let order: Vec<&str> = declared.get_subcommands().map(Command::get_name).collect();
    leaves.sort_by_key(|(path, _)| order.iter().position(|name| path.split(' ').next() == Some(name)));
    for (path, command) in leaves {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(text, "| [`{path}`](#{}) | {about} |", path.replace(' ', "-")).expect("written");
        sections.push_str(&section(&path, &command));
    }
    text + &sections
}

/// Returns the commands without subcommands, by their path.
fn leaves(command: &Command, path: &str) -> Vec<(String, Command)> {
    let mut found = Vec::new();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path}{}", sub.get_name());
        match sub.has_subcommands() {
            true => found.extend(leaves(sub, &format!("{path} "))),
            false => found.push((path, sub.clone())),
        }
    }
    found
}

fn section(path: &str, command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = about.trim_end_matches('.').replace("\n\n", ".\n\n");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let after = command.get_after_long_help().or(command.get_after_help());
    let after = after.map(|after| format!("\n\n{}", after.to_string().trim())).unwrap_or_default();
    let mut text = format!("\n## {path}\n\n{about}.\n\n```text\n{usage}{after}\n```\n");
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| {
            !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str())
        })
        .filter(|argument| !argument.is_hide_set())
        .collect();
    if !own.is_empty() {
        text.push_str("\n| argument | meaning |\n| --- | --- |\n");
    }
    for argument in own {
        writeln!(text, "| `{}` | {} |", shape(argument).replace('|', "\\|"), meaning(argument))
            .expect("written");
    }
    text
}

/// Returns an argument as it is written on a command line.
fn shape(argument: &Arg) -> String {
    let values: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(|n| n.to_string()).collect();
    let values = values.join(" ");
    let takes_values = argument.get_num_args().is_some_and(|number| number.takes_values());
    let repeats = argument.get_num_args().is_some_and(|number| number.max_values() > 1)
        || matches!(argument.get_action(), clap::ArgAction::Append);
    let name = match (argument.get_long(), takes_values) {
        (Some(long), true) => format!("--{long} {values}"),
        (Some(long), false) => format!("--{long}"),
        (None, _) => values,
    };
    if repeats { format!("{name}…") } else { name }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.').replace("\n\n", ". ");
    let mut text = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    if let Some((help, default)) = text.strip_suffix(']').and_then(|text| text.split_once(" [default: ")) {
        text = format!("{help}. Default: {default}");
    }
    if argument.get_num_args().is_some_and(|number| number.takes_values()) {
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() {
            write!(text, ". Values: {}", values.join(", ")).expect("written");
        }
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        if !defaults.is_empty() {
            write!(text, ". Default: {}", defaults.join(", ")).expect("written");
        }
    }
    text
}

/// Returns every outcome of a delivery, with its answer.
pub(super) fn outcomes() -> String {
    let mut outcomes = Outcome::ALL;
    outcomes.sort_by_key(|outcome| outcome.status());
    let mut text = String::from(
        "| status | outcome | condition | `title` | `Retry-After` | remedy |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for outcome in outcomes {
        let retry_after =
            outcome.retry_after_seconds().map(|seconds| format!("{seconds} s")).unwrap_or_default();
        writeln!(
            text,
            "| {} | `{}` | {} | {} | {retry_after} | {} |",
            outcome.status(),
            outcome.label(),
            condition(outcome),
            outcome.title(),
            outcome.advice()
        )
        .expect("written");
    }
    text
}

/// Returns the condition of an outcome. A new outcome does not compile without one.
fn condition(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Confirmed => "Kafka has confirmed every record",
        Outcome::Quarantined => {
            "signed, but not publishable; Kafka has confirmed the body on the quarantine topic"
        }
        Outcome::Empty => "signed, an empty array",
        Outcome::Incomplete => "the body ended early, or its chunks are malformed",
        Outcome::Upgrade => "the request asks for another protocol, such as WebSocket",
        Outcome::MissingSignature => "no signature, and the source enforces one",
        Outcome::InvalidSignature => "the signature is malformed or wrong",
        Outcome::InvalidToken => "`?token=` is missing or wrong",
        Outcome::UnknownSource => "no source of this name",
        Outcome::UnknownAction => "no action of this name, and no valid signature where it is enforced",
        Outcome::Method => "another method than POST",
        Outcome::TooSlow => "the body took longer than `ingress.body_timeout`",
        Outcome::TooLarge => "the body is larger than `ingress.max_body_bytes`",
        Outcome::Encoded => "the body has a content encoding such as gzip",
        Outcome::Timeout => {
            "a broker is connected and did not confirm in time; the events may be on the topic"
        }
        Outcome::QueueFull => "the queue of the Kafka producer is full",
        Outcome::Overloaded => "`ingress.max_in_flight` or `ingress.max_in_flight_bytes` is reached",
        Outcome::Broker => "no broker is connected, or Kafka refused for now: no such topic, missing rights",
        Outcome::ShuttingDown => "the bridge is stopping",
    }
}

/// Returns every reason for which a delivery is kept on the quarantine topic.
pub(super) fn quarantine_reasons() -> String {
    let mut text = String::from("| reason | meaning |\n| --- | --- |\n");
    for reason in QuarantineReason::ALL {
        let label = reason.label();
        let meaning = reason.explanation().replace(&format!(" ({label})"), "");
        writeln!(text, "| `{label}` | {meaning} |").expect("written");
    }
    text
}

fn kind(entry: &Entry) -> &'static str {
    match (entry.kind, entry.verb) {
        (Kind::Signal, _) => "signal",
        (Kind::Change, "deleted") => "delete",
        (Kind::Change, _) => "change",
    }
}

/// Returns the entity and kind of each action by `ce_type`, as JSON with a line for each action.
pub(super) fn consumer_actions() -> String {
    let lines: BTreeSet<String> = ENTRIES
        .iter()
        .map(|entry| {
            let (name, entity, kind) = (entry.name, entry.entity, kind(entry));
            format!(r#"  "com.nexudus.{name}": {{"entity": "{entity}", "kind": "{kind}"}}"#)
        })
        .collect();
    format!("{{\n{}\n}}\n", Vec::from_iter(lines).join(",\n"))
}

/// Returns every action of the catalogue, by entity.
pub(super) fn actions() -> String {
    let mut entities: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for entry in &ENTRIES {
        entities.entry(entry.entity).or_default().push(entry);
    }
    let mut text = String::from(
        "| entity | action | number | kind | topic | key | sample | schema |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (entity, entries) in entities {
        for entry in entries {
            let kind = kind(entry);
            let sample: serde_json::Value =
                serde_json::from_str(payload(entry.name).expect("a sample")).expect("JSON");
            let key = ["Id", "UniqueId"].into_iter().find(|key| !sample[0][*key].is_null()).expect("a key");
            let name = entry.name;
            writeln!(
                text,
                "| {entity} | `{name}` | {} | {kind} | `nexudus.{name}` | `{key}` | \
                 [sample](../src/sender/payloads/{name}.json) | [schema](../src/action/schema/{entity}.json) |",
                entry.id
            )
            .expect("written");
        }
    }
    text
}

/// Returns every metric of the bridge: name, type, labels and help.
pub(super) fn metrics() -> String {
    let mut text = String::from(
        "| name (prefix `nexudus_bridge_`) | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for (name, Metric { kind, labels, help }) in exported() {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).expect("written");
    }
    text
}

#[derive(Default)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// Returns the metrics of [`scrape`], by name.
fn exported() -> BTreeMap<String, Metric> {
    let scrape = scrape();
    let mut found: BTreeMap<String, Metric> = BTreeMap::new();
    let own = |line: &'static str| move |text: &str| text.strip_prefix(line).map(str::to_owned);
    let (help, kind) = (own("# HELP nexudus_bridge_"), own("# TYPE nexudus_bridge_"));
    let mut name = String::new();
    for line in scrape.lines() {
        if let Some(rest) = help(line) {
            let (found_name, text) = rest.split_once(' ').expect("a help text");
            name = found_name.to_owned();
            found.entry(name.clone()).or_default().help = text.to_owned();
        } else if let Some(rest) = kind(line) {
            let (_, kind) = rest.split_once(' ').expect("a type");
            found.entry(name.clone()).or_default().kind = kind.to_owned();
        } else if let (true, Some((_, rest))) = (line.starts_with("nexudus_bridge_"), line.split_once('{')) {
            let (labels, _) = rest.rsplit_once('}').expect("the end of the labels");
            let names = labels.split("\",").filter_map(|label| label.split_once('='));
            let names = names.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            found.entry(name.clone()).or_default().labels.extend(names);
        }
    }
    found
}

/// Returns a scrape in which each metric has a series.
fn scrape() -> String {
    let metrics = Metrics::new("0");
    let source = metrics.source("north", &Actions::default());
    metrics.answered(&source, Some(0), Outcome::Confirmed, Duration::ZERO);
    metrics.confirmed(&source, Some(0), 1);
    metrics.certificate_expires(0);
    metrics.broker_throttled("kafka-1:9092", Duration::ZERO);
    metrics.set_brokers(&[BrokerSample {
        broker: "kafka-1:9092",
        is_up: true,
        rtt: [0.0; 2],
        requests: [0, 1],
    }]);
    let secret = ("NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS".to_owned(), "[\"s\"]".to_owned());
    let config = load(None, &[secret].into(), check_property).expect("a valid configuration");
    metrics.limits(&config, [0.0; 2]);
    let control = &metrics.control;
    let labels = ["north", "BookingCreate", "1"].map(str::to_owned);
    let webhook = WebhookSeries { labels, active: true, failures: 0, last_trigger: Some(0.0) };
    control.set_webhooks(&[webhook], [("north", 0)].into_iter());
    control.set_outages([(["north", "BookingCreate"].map(str::to_owned), 0.0)].into_iter());
    control.set_interval(Duration::ZERO);
    control.reenabled("north", "BookingCreate");
    control.request("list", "ok");
    metrics.render()
}

/// Returns the alerts with their severity and summary.
pub(super) fn alerts() -> String {
    let mut text = String::from("| alert | severity | summary |\n| --- | --- | --- |\n");
    let folder = repository().join("deploy/prometheus/rules");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for path in files {
        for block in read(&path).split("- alert:").skip(1) {
            let name = block.lines().next().expect("a name").trim();
            let value = |key: &str| {
                let line = block.lines().find_map(|line| line.trim().strip_prefix(key));
                plain(line.unwrap_or_else(|| panic!("{name} has no {key}")).trim())
            };
            let anchor = name.to_lowercase();
            writeln!(
                text,
                "| [`{name}`](runbook.md#{anchor}) | {} | {} |",
                value("severity:"),
                value("summary:")
            )
            .expect("written");
        }
    }
    text
}

/// Returns a text of a rule without its template: a label as its name, a value as `value`, and no optional part.
fn plain(template: &str) -> String {
    let mut text = String::new();
    let mut is_optional = false;
    for (index, part) in template.trim_matches(['"', '\'']).split("{{").enumerate() {
        let (expression, rest) = if index == 0 { ("", part) } else { part.split_once("}}").expect("closed") };
        let expression = expression.trim();
        is_optional = (is_optional || expression.starts_with("with ")) && expression != "end";
        if is_optional {
            continue;
        }
        let label = expression.strip_prefix("$labels.").and_then(|label| label.split(' ').next());
        let value = expression.starts_with("$value").then_some("value");
        if let Some(name) = label.or(value) {
            write!(text, "`{name}`").expect("written");
        }
        text.push_str(rest);
    }
    text
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names that the code declares: texts of one word that are followed by a help text.
fn declared(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        names.extend(declared_in(&read(&entry)));
    }
    names
}

fn declared_in(code: &str) -> BTreeSet<String> {
    let (code, _) = code.split_once("#[cfg(test)]\nmod tests").unwrap_or((code, ""));
    let texts: Vec<&str> = code.split('"').skip(1).step_by(2).collect();
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !text.is_empty();
    let is_help = |text: &str| text.ends_with('.') && text.contains(' ');
    let pairs = texts.windows(2).filter(|pair| is_name(pair[0]) && is_help(pair[1]));
    pairs.map(|pair| pair[0].to_owned()).collect()
}

#[test]
fn every_metric_that_the_code_declares_is_in_the_table() {
    let mut names = declared(&repository().join("src/metrics"));
    names.retain(|name| !name.starts_with("process_"));
    let exported: BTreeSet<String> = exported().into_keys().collect();
    assert_eq!(names, exported);
    assert!(names.len() > 30, "found {names:?}");
}

#[test]
fn every_metric_has_a_help_text_and_a_type() {
    for (name, Metric { kind, help, .. }) in exported() {
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name}: {kind:?}");
        assert!(help.ends_with('.'), "{name}: {help:?}");
    }
}
