//! The documentation: generated parts match the code, links lead somewhere, and examples work as written.

mod examples;
mod generated;
mod links;
mod page;
mod reference;
mod settings;
mod tables;

/// The README is a front page; `docs/` has everything else.
#[test]
fn the_readme_has_at_most_ten_kilobytes() {
    let bytes = page::Page::read(&page::repository().join("README.md")).text.len();
    assert!(bytes <= 10_000, "README.md has {bytes} bytes");
}
