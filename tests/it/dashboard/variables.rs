//! The variables of the dashboard's queries, replaced as Grafana does.

use std::time::Duration;

use serde_json::Value;

use super::{SCRAPED_EVERY, STEP, list, text};
use crate::support::prometheus::{Prometheus, Seconds};

/// The values that Grafana inserts for variables.
pub(super) struct Variables {
    pub(super) range: (Seconds, Seconds),
    values: Vec<(String, String)>,
}

impl Variables {
    /// Returns the values if "All" is chosen in each list.
    pub(super) fn all(range: (Seconds, Seconds)) -> Self {
        let names = ["namespace", "job", "instance", "source", "action"];
        let values = names.map(|name| (name.to_owned(), ".*".to_owned()));
        Self { range, values: values.to_vec() }
    }

    /// Returns the values if each offered value is chosen: `(a|b)`, escaped for a regular expression within a string.
    pub(super) async fn each(dashboard: &Value, prometheus: &Prometheus, range: (Seconds, Seconds)) -> Self {
        let mut these = Self::all(range);
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|one| one["type"] == "query") {
            let name = text(&variable["name"]);
            assert_eq!((text(&variable["allValue"]), &variable["multi"]), (".*", &true.into()), "{name}");
            let query = text(&variable["query"]["query"]);
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                inside.and_then(|inside| inside.rsplit_once(',')).expect("label_values(…,…)");
            let found = prometheus.series(&these.put_in(selector, STEP)).await.expect("a right query");
            let escaped = |value: &str| {
                let special =
                    |c: char| if r"\.*+?()[]{}|^$/".contains(c) { format!(r"\\{c}") } else { c.to_string() };
                value.chars().map(special).collect::<String>()
            };
            let mut values: Vec<String> =
                found.iter().map(|series| escaped(text(&series[label.trim()]))).collect();
            values.sort();
            values.dedup();
            assert!(!values.is_empty(), "no value is offered for {name}: {query}");
            let chosen = format!("({})", values.join("|"));
            these.values.iter_mut().find(|(known, _)| known == name).expect("known").1 = chosen;
        }
        these
    }

    pub(super) fn put_in(&self, expression: &str, step: Duration) -> String {
        let window = (4 * SCRAPED_EVERY).max(step + SCRAPED_EVERY).as_secs();
        let (from, to) = self.range;
        let mut text = expression.replace("$__rate_interval", &format!("{window}s"));
        text = text.replace("$__range", &format!("{}s", (to - from).round()));
        for (name, value) in &self.values {
            text = text.replace(&format!("${name}"), value);
        }
        assert!(!text.contains('$'), "a variable without a value: {text}");
        text
    }
}
