//! Finds the selectors in an expression of `PromQL`, by its tokens.
//!
//! Prometheus's API returns a parsed form only since version 3, and distributions have older versions. This parser is for valid
//! expressions only; Prometheus checks that they are valid.

/// A metric with its matchers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// The text between the braces; empty without braces.
    pub(crate) matchers: String,
}

impl Selector {
    /// Returns the selector as `PromQL`.
    pub(crate) fn written(&self) -> String {
        format!("{}{{{}}}", self.metric, self.matchers)
    }

    /// Returns one selector for each name that its regular expressions list: `{reason=~"a|b"}` becomes `{reason=~"a"}` and
    /// `{reason=~"b"}`.
    pub(crate) fn alternatives(&self) -> Vec<Self> {
        let mut found = vec![self.clone()];
        for (before, rest) in self.matchers.match_indices("=~\"").map(|(at, sign)| {
            let after = at + sign.len();
            (after, &self.matchers[after..])
        }) {
            let listed = &rest[..rest.find('"').expect("a string has an end")];
            if !listed.contains('|') || listed.contains(['.', '*', '+', '(']) {
                continue;
            }
            let end = before + listed.len();
            found.extend(listed.split('|').map(|one| Self {
                metric: self.metric.clone(),
                matchers: format!("{}{one}{}", &self.matchers[..before], &self.matchers[end..]),
            }));
        }
        found
    }
}

/// Keywords, which are no metrics.
const KEYWORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Keywords that are followed by labels in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Returns all selectors of an expression, in their order.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            1 + rest[1..].find('"').expect("a string has an end") + 1
        } else if first == '[' {
            rest.find(']').expect("a window has an end") + 1
        } else if first == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if first.is_ascii_digit() {
            // Numbers and durations: 0.9, 1e3, 7d.
            word(rest)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let name = &rest[..word(rest)];
            let behind = rest[name.len()..].trim_start();
            if BEFORE_LABELS.contains(&name) && behind.starts_with('(') {
                rest.len() - behind.len() + behind.find(')').expect("a list has an end") + 1
            } else if KEYWORDS.contains(&name) || behind.starts_with('(') || aggregates(behind) {
                name.len()
            } else {
                let matchers = behind.strip_prefix('{').map(|inside| &inside[..closing(inside)]);
                let matchers = matchers.unwrap_or_default();
                found.push(Selector { metric: name.to_owned(), matchers: matchers.to_owned() });
                let braces = if behind.starts_with('{') { matchers.len() + 2 } else { 0 };
                rest.len() - behind.len() + braces
            }
        } else {
            first.len_utf8()
        };
        rest = rest[length..].trim_start();
    }
    found
}

/// Returns whether `behind` follows the name of an aggregation: `sum by (job) (…)`.
fn aggregates(behind: &str) -> bool {
    let name = &behind[..word(behind)];
    matches!(name, "by" | "without") && behind[name.len()..].trim_start().starts_with('(')
}

/// Returns the length of the word at the beginning.
fn word(text: &str) -> usize {
    let of_a_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    text.find(|c| !of_a_word(c)).unwrap_or(text.len())
}

/// Returns the position of the closing brace. A brace in a string does not close.
fn closing(text: &str) -> usize {
    let mut quoted = false;
    let found = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '}' && !quoted
    });
    found.expect("braces are closed").0
}

#[test]
fn selectors_are_what_an_expression_reads() {
    let text = r#"sum by (job, le) (rate(a:b_total{x=~"p|q",y!="}"}[5m])) > 2 * 3600 # of c
        and on (job) time() - max_over_time(up[2w]) offset 7d >= bool 1e3 unless ignoring(z) group_left() d"#;
    let found: Vec<String> = selectors(text).iter().map(Selector::written).collect();
    assert_eq!(found, [r#"a:b_total{x=~"p|q",y!="}"}"#, "up{}", "d{}"]);
    let alternatives: Vec<String> = selectors(text)[0].alternatives().iter().map(Selector::written).collect();
    assert_eq!(alternatives[1..], [r#"a:b_total{x=~"p",y!="}"}"#, r#"a:b_total{x=~"q",y!="}"}"#]);
}
