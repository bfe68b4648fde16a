//! `[topics.layout]`: the topic of each action, by globs over names. Several actions can share a topic.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::action::{Action, Actions};

/// A glob, or a name without wildcards.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The text is not a glob.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text).case_insensitive(true).build();
        let matcher = glob.as_ref().map(Glob::compile_matcher);
        let matcher =
            matcher.map_err(|_| "is not a pattern, expected a name in which * stands for anything")?;
        Ok(Self { text: text.to_owned(), matcher })
    }

    pub(super) fn is_match(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// Returns the rank of the pattern among those that match the same name: names before globs, then by the number of characters
    /// that are not wildcards.
    pub(super) fn specificity(&self) -> (bool, usize) {
        let mut depth = 0_usize;
        let mut literals = 0;
        for character in self.text.chars() {
            match character {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                '*' | '?' => {}
                _ => literals += usize::from(depth == 0),
            }
        }
        (!is_glob(&self.text), literals)
    }
}

pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Maps actions to topic names without the prefix. An action that no rule matches has a topic of its own.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The rules, the most specific first.
    rules: Vec<Rule>,
}

/// `"GLOB" = "NAME"`.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The glob, as configured.
    key: String,
    pattern: Pattern,
    template: String,
}

const ACTION: &str = "{action}";
const ENTITY: &str = "{entity}";

impl Rule {
    /// Reads a rule. `prefix` is the prefix of all topic names.
    ///
    /// # Errors
    /// The key is not a glob, or the value is not the name of a topic.
    pub(super) fn new(key: &str, template: &str, prefix: &str) -> Result<Self, String> {
        let pattern = match Action::known(key) {
            Some(entry) => entry.name, // the key is the number of an action; globs match its name
            None => key,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let literal = template.replace(ACTION, "").replace(ENTITY, "");
        let wrong = if template.is_empty() {
            "is empty, expected the name of a topic such as \"{entity}\""
        } else if literal.contains(['{', '}']) {
            "has a placeholder that does not exist, expected {action} or {entity}"
        } else if !literal.bytes().all(allowed) {
            "cannot name a topic, expected letters, digits, '.', '_', '-', {action} and {entity}"
        } else if !prefix.is_empty() && template.starts_with(prefix) {
            "begins with topics.prefix, which every topic gets, expected the name without it"
        } else {
            let pattern = Pattern::new(pattern)?;
            return Ok(Self { key: key.to_owned(), pattern, template: template.to_owned() });
        };
        Err(format!("= {template:?} {wrong}"))
    }

    /// Returns the topic of an action without the prefix; `None` if the rule does not apply. Actions of `extra_actions` have no
    /// entity, so a rule with `{entity}` never applies to them.
    fn topic(&self, action: &Action) -> Option<String> {
        if !self.pattern.is_match(action.name()) {
            return None;
        }
        let named = self.template.replace(ACTION, action.name());
        match (action.entity(), named.contains(ENTITY)) {
            (_, false) => Some(named),
            (Some(entity), true) => Some(named.replace(ENTITY, entity)),
            (None, true) => None,
        }
    }
}

impl Layout {
    pub(super) fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.pattern.specificity()));
        Self { rules }
    }

    /// Returns whether each action has a topic of its own name.
    pub fn is_default(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the topic of an action without the prefix.
    pub fn topic(&self, action: &Action) -> String {
        let by_rule = self.rules.iter().find_map(|rule| rule.topic(action));
        by_rule.unwrap_or_else(|| action.name().to_owned())
    }

    pub(super) fn has_rule(&self, action: &Action) -> bool {
        self.rules.iter().any(|rule| rule.topic(action).is_some())
    }

    /// Returns the mistakes of rules that contradict each other or apply to no action.
    pub(super) fn mistakes(&self, actions: &BTreeMap<&str, &Action>) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut used = BTreeSet::new();
        let mut contradicting = BTreeSet::new();
        for action in actions.values() {
            let applies = |rule: &&Rule| rule.topic(action).is_some();
            let Some(first) = self.rules.iter().find(applies) else { continue };
            let rank = first.pattern.specificity();
            let equals = self.rules.iter().filter(applies).filter(|rule| rule.pattern.specificity() == rank);
            for rule in equals {
                used.insert(&rule.key);
                if rule.topic(action) != first.topic(action) && contradicting.insert([&first.key, &rule.key])
                {
                    mistakes.push(format!(
                        ".layout: {:?} and {:?} both match {} and neither is more specific, expected a rule for {} alone",
                        first.key, rule.key, action.name(), action.name()
                    ));
                }
            }
        }
        for rule in self.rules.iter().filter(|rule| !used.contains(&rule.key)) {
            mistakes.push(format!(".layout.{:?} {}", rule.key, rule.why_unused(actions)));
        }
        mistakes
    }
}

impl Rule {
    fn why_unused(&self, actions: &BTreeMap<&str, &Action>) -> String {
        let matching: Vec<&&Action> =
            actions.values().filter(|action| self.pattern.is_match(action.name())).collect();
        if matching.is_empty() {
            let nearest = Actions::default();
            let nearest = nearest.nearest(&self.key).filter(|_| !is_glob(&self.key));
            let meant = nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default();
            return format!("matches no action{meant}; `nexudus-bridge actions` lists them");
        }
        if matching.iter().all(|action| self.topic(action).is_none()) {
            return "matches only extra_actions, which have no entity, expected a name without {entity}"
                .into();
        }
        "never applies: more specific rules match each of its actions; remove it".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(rules: &[(&str, &str)]) -> Layout {
        Layout::new(rules.iter().map(|(key, name)| Rule::new(key, name, "nexudus.").unwrap()).collect())
    }

    fn topics(rules: &[(&str, &str)], names: &[&str]) -> Vec<String> {
        let actions = Actions::with_extras(["SomethingNew"]).unwrap();
        let topic = |name: &&str| layout(rules).topic(actions.get(actions.find(name).unwrap()));
        names.iter().map(topic).collect()
    }

    fn mistakes(rules: &[(&str, &str)]) -> Vec<String> {
        let actions = Actions::with_extras(["SomethingNew"]).unwrap();
        layout(rules).mistakes(&actions.iter().map(|action| (action.name(), action)).collect())
    }

    #[test]
    fn the_most_specific_rule_decides_and_an_action_without_a_rule_has_its_own_topic() {
        let names = ["BookingCreate", "BookingDelete", "CoworkerCheckin", "TeamCreated", "SomethingNew"];
        for (rules, expected) in [
            (&[][..], names),
            (&[("*", "{entity}")], ["Booking", "Booking", "Coworker", "Team", "SomethingNew"]),
            (
                &[("*", "{entity}"), ("Booking*", "bookings"), ("8", "deleted.{action}")],
                ["bookings", "deleted.BookingDelete", "Coworker", "Team", "SomethingNew"],
            ),
            (&[("coworkercheck*", "visits"), ("*", "all")], ["all", "all", "visits", "all", "all"]),
            (
                &[("{Team,Booking}*", "{entity}-events")],
                ["Booking-events", "Booking-events", "CoworkerCheckin", "Team-events", "SomethingNew"],
            ),
        ] {
            assert_eq!(topics(rules, &names), expected, "{rules:?}");
            assert_eq!(mistakes(rules), [""; 0], "{rules:?}");
        }
    }

    #[test]
    fn a_rule_with_entity_does_not_apply_to_actions_without_an_entity() {
        let rules = [("Something*", "{entity}"), ("*", "rest")];
        assert_eq!(topics(&rules, &["SomethingNew"]), ["rest"]);
        assert!(mistakes(&rules)[0].contains("expected a name without {entity}"));
    }

    #[test]
    fn rules_that_contradict_each_other_or_apply_to_nothing_are_mistakes() {
        for (rules, expected) in [
            (
                &[("*Create", "created"), ("Tariff*", "plans"), ("*", "{entity}")][..],
                r#".layout: "*Create" and "Tariff*" both match TariffCreate and neither is more specific, expected a rule for TariffCreate alone"#,
            ),
            (
                &[("BookngCreate", "x")],
                r#".layout."BookngCreate" matches no action, did you mean BookingCreate?"#,
            ),
            (
                &[("Dinner*", "x")],
                r#".layout."Dinner*" matches no action; `nexudus-bridge actions` lists them"#,
            ),
            (
                &[("Team*", "teams"), ("Team?*", "team")],
                r#".layout: "Team*" and "Team?*" both match TeamCreated"#,
            ),
            (
                &[("TeamCreated", "a"), ("TeamUpdated", "a"), ("TeamDeleted", "a"), ("Team*", "b")],
                r#".layout."Team*" never applies: more specific rules match each of its actions; remove it"#,
            ),
        ] {
            let found = mistakes(rules);
            assert!(found.iter().any(|mistake| mistake.starts_with(expected)), "{rules:?}: {found:?}");
        }
        assert_eq!(mistakes(&[("*Create", "x"), ("Tariff*", "x")]), [""; 0], "the same topic by both");
    }

    #[test]
    fn a_value_that_is_no_topic_name_is_refused_with_the_expected_form() {
        for (template, expected) in [
            ("", "is empty, expected"),
            ("{record}", "expected {action} or {entity}"),
            ("a{", "expected {action} or {entity}"),
            ("a b", "expected letters, digits"),
            ("a/{action}", "expected letters, digits"),
            ("nexudus.{entity}", "expected the name without it"),
        ] {
            let refusal = Rule::new("*", template, "nexudus.").unwrap_err();
            assert!(
                refusal.starts_with(&format!("= {template:?}")) && refusal.contains(expected),
                "{refusal}"
            );
        }
        assert!(Rule::new("*", "nexudus.{entity}", "").is_ok());
        assert!(Rule::new("[", "x", "").unwrap_err().contains("is not a pattern"));
    }

    #[test]
    fn a_name_comes_before_globs_and_a_glob_with_more_literal_characters_before_others() {
        let ascending = ["*", "?*", "*{Create,Update}", "B*", "Booking*", "BookingCreat?", "BookingCreate"];
        let patterns = ascending.map(|text| Pattern::new(text).unwrap());
        assert!(patterns.is_sorted_by_key(Pattern::specificity));
        assert!(patterns[..6].iter().all(|glob| glob.specificity() < patterns[6].specificity()));
        assert!(patterns.iter().all(|pattern| pattern.is_match("bookingCREATE")));
        assert!(Pattern::new("*BookingCreate*").unwrap().specificity() < patterns[6].specificity());
    }

    #[test]
    fn a_text_that_is_not_a_glob_is_refused() {
        assert!(Pattern::new("[").unwrap_err().contains("is not a pattern"));
    }
}
