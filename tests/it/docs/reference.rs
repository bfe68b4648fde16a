//! Facts of the reference pages that are written by hand: routes, headers of messages, and properties of librdkafka.

use std::collections::BTreeSet;

use nexudus_bridge::config::load::{self, Environment, Mistakes};
use nexudus_bridge::kafka::settings::check_property;
use serde_json::Value;

use super::page::{Page, repository};
use crate::support::program::{out, program};

fn page(path: &str) -> String {
    Page::read(&repository().join(path)).text
}

/// Returns the first texts in quotes after each `start`.
fn after<'a>(text: &'a str, start: &'a str) -> BTreeSet<&'a str> {
    let found: BTreeSet<&str> = text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!found.is_empty(), "no {start}");
    found
}

/// Returns the code spans in the first column of the tables of a section.
fn first_column<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().expect("a section");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_route_is_in_the_http_api() {
    let page = page("docs/http-api.md");
    let code = self::page("src/http/mod.rs");
    for route in after(&code, ".route(\"") {
        let is_listed = ["GET", "POST"].iter().any(|method| page.contains(&format!("`{method} {route}`")));
        assert!(is_listed, "docs/http-api.md has no {route}");
    }
}

#[test]
fn every_header_of_a_message_is_in_the_table() {
    let asyncapi = program().arg("asyncapi").output().expect("the program can be run");
    let document: Value = serde_json::from_str(&out(&asyncapi)).expect("JSON");
    let mut headers = BTreeSet::new();
    collect_headers(&document, &mut headers);
    assert!(headers.len() > 8, "found {headers:?}");
    let page = page("docs/events.md");
    for header in &headers {
        assert!(page.contains(&format!("`{header}`")), "docs/events.md has no header {header}");
    }
    for header in first_column(&page, "\n| header | value |").iter().filter(|name| name.starts_with("ce_")) {
        assert!(headers.contains(*header), "messages have no header {header}");
    }
}

fn collect_headers(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if (name == "headers" || name == "Headers")
                    && let Some(properties) = value["properties"].as_object()
                {
                    found.extend(properties.keys().cloned());
                }
                collect_headers(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_headers(item, found)),
        _ => {}
    }
}

#[test]
fn every_property_that_the_bridge_sets_is_in_the_table() {
    let page = page("docs/configuration.md");
    let listed = first_column(&page, "\n## librdkafka properties");
    let code = self::page("src/kafka/settings.rs");
    let ours = after(&code, ".set(\"");
    for property in ours.iter().filter(|property| **property != "bootstrap.servers") {
        assert!(listed.contains(property), "docs/configuration.md has no {property}");
    }
    assert!(ours.len() > 15, "found {ours:?}");
}

#[test]
fn every_property_that_the_table_calls_refused_is_refused() {
    let page = page("docs/configuration.md");
    let (_, table) = page.split_once("| property | refused | reason |").expect("the table");
    let table = table.split("\n\n").next().expect("a table");
    let mut refused = 0;
    for property in first_column(&format!("\n#{table}"), "\n#") {
        let name = property.replace('*', "x");
        let values = ["0", "none", "false", "true", "OAUTHBEARER", "ssl"];
        assert!(values.iter().any(|value| is_refused(&name, value)), "{name} is not refused");
        refused += 1;
    }
    assert!(refused > 15, "found {refused} properties");
    assert!(!is_refused("compression.type", "lz4"), "a property that is not in the table");
}

/// Returns true if the configuration refuses a property. `[kafka.oauth]` is set if the property requires it.
fn is_refused(property: &str, value: &str) -> bool {
    let mut variables = vec![("SOURCES__DEFAULT__SECRETS", "[\"secret\"]".to_owned())];
    if property == "security.protocol" {
        variables.extend([
            ("KAFKA__OAUTH__TOKEN_ENDPOINT", "https://idp.example.com/token".to_owned()),
            ("KAFKA__OAUTH__CLIENT_ID", "bridge".to_owned()),
            ("KAFKA__OAUTH__CLIENT_SECRET", "secret".to_owned()),
        ]);
    }
    let environment: Environment =
        variables.into_iter().map(|(key, value)| (format!("NEXUDUS_BRIDGE__{key}"), value)).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("[kafka.properties]\n{property:?} = {value:?}\n")).expect("written");
    match load::load(Some(file.path()), &environment, check_property) {
        Ok(_) => false,
        // A mistake that librdkafka reports is not a refusal by the bridge.
        Err(Mistakes(mistakes)) => mistakes.iter().any(|mistake| {
            mistake.contains(property.trim_end_matches('x')) && !mistake.contains("by librdkafka")
        }),
    }
}
