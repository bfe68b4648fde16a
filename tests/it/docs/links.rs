//! The target of every relative link is a file of the repository, and of every anchor a heading.

use std::path::Path;

use super::page::{Page, pages, repository};

/// Returns the links of a page without a target.
fn broken(page: &Page) -> Vec<String> {
    let leads_somewhere = |link: &String| {
        if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
            return true;
        }
        let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
        let folder = page.path.parent().expect("a file is in a folder");
        if file.is_empty() {
            return anchor.is_some_and(|anchor| page.anchors().contains(anchor));
        }
        let target = folder.join(file);
        target.exists() && anchor.is_none_or(|anchor| has_anchor(&target, anchor))
    };
    page.links().into_iter().filter(|link| !leads_somewhere(link)).collect()
}

fn has_anchor(target: &Path, anchor: &str) -> bool {
    target.extension().is_some_and(|extension| extension == "md")
        && Page::read(target).anchors().contains(anchor)
}

#[test]
fn every_relative_link_and_anchor_of_the_documentation_exists() {
    let mut found = Vec::new();
    let mut checked = 0;
    for page in pages() {
        checked += page.links().len();
        found.extend(broken(&page).into_iter().map(|link| format!("{}: {link}", page.name())));
    }
    assert!(found.is_empty(), "links without a target:\n{}", found.join("\n"));
    assert!(checked > 100, "found {checked} links");
}

#[test]
fn a_link_to_a_missing_file_or_heading_is_detected() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("other.md"), "# `a.key` and more\n## Twice\n## Twice\n")
        .expect("written");
    let good = "[a](other.md) [b](other.md#akey-and-more) [c](other.md#twice-1) [d](#here) [e](https://example.com)\n\n# Here\n";
    let bad = ["missing.md", "other.md#gone", "other.md#twice-2", "#there", "picture.png"];
    let links: String = bad.iter().map(|link| format!("[x]({link}) ")).collect();
    let page =
        Page { path: folder.path().join("page.md"), text: format!("{good}\n{links}\n`[x](code.md)`\n") };
    assert_eq!(broken(&page), bad);
    assert_eq!(page.name(), page.path.display().to_string(), "not in {}", repository().display());
}
