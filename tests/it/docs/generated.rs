//! Generated parts of the pages: the text between `<!-- generated: NAME -->` and `<!-- end -->`.

use std::collections::BTreeSet;
use std::fs;

use super::page::{Page, pages, repository};
use super::{CONSUMERS, settings, tables};

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test it -- docs::generated";

/// Each generated part: its page, its name and the text.
fn parts() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("docs/configuration.md", "settings", settings::table()),
        ("docs/cli.md", "commands", tables::commands()),
        ("docs/http-api.md", "outcomes", tables::outcomes()),
        ("docs/http-api.md", "quarantine reasons", tables::quarantine_reasons()),
        ("docs/events.md", "actions", tables::actions()),
        ("docs/observability.md", "metrics", tables::metrics()),
        ("docs/observability.md", "alerts", tables::alerts()),
    ]
}

fn begin(name: &str) -> String {
    format!("<!-- generated: {name} -->\n")
}

const END: &str = "<!-- end -->";

/// Returns the page's text with the part replaced; `None` if the page has no such markers.
fn replaced(page: &str, name: &str, part: &str) -> Option<String> {
    let (before, rest) = page.split_once(&begin(name))?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{}\n{}\n\n{END}{after}", begin(name), part.trim()))
}

#[test]
fn generated_parts_match_the_code() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    for (path, name, part) in parts() {
        let page = Page::read(&repository().join(path));
        let expected = replaced(&page.text, name, &part)
            .unwrap_or_else(|| panic!("{path} has no {:?} followed by {END:?}", begin(name)));
        if update {
            fs::write(&page.path, expected).expect("written");
        } else {
            assert!(page.text == expected, "{path}: the part {name:?} is stale, run `{UPDATE}`");
        }
    }
}

/// Each example consumer has a copy of entity and kind by `ce_type`.
#[test]
fn the_actions_of_the_example_consumers_match_the_catalogue() {
    let actions = tables::consumer_actions();
    for [_, folder] in CONSUMERS {
        let path = repository().join("examples/consumers").join(folder).join("actions.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &actions).expect("written");
        } else {
            let text = fs::read_to_string(&path).unwrap_or_default();
            assert!(text == actions, "{} is stale, run `{UPDATE}`", path.display());
        }
    }
}

#[test]
fn every_generated_part_has_a_generator() {
    let marked: BTreeSet<(String, String)> = pages()
        .iter()
        .flat_map(|page| {
            let names =
                page.text.split("<!-- generated: ").skip(1).filter_map(|rest| rest.split_once(" -->"));
            names.map(|(name, _)| (page.name(), name.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    let known = parts().iter().map(|(path, name, _)| ((*path).to_owned(), (*name).to_owned())).collect();
    assert_eq!(marked, known);
}

#[test]
fn a_stale_part_and_a_missing_marker_are_detected() {
    let page = "before\n<!-- generated: x -->\n\nold\n\n<!-- end -->\nafter\n";
    assert_eq!(replaced(page, "x", "old\n").as_deref(), Some(page));
    assert_ne!(replaced(page, "x", "new\n").as_deref(), Some(page));
    assert_eq!(replaced(page, "y", "old\n"), None);
}
