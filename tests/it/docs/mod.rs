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

/// Each example is complete by itself, so each has a copy of the tables that their README describes.
#[test]
fn the_example_consumers_have_the_same_tables() {
    let consumers = page::repository().join("examples/consumers");
    let schemas = ["python", "go", "java/src/main/resources", "typescript", "rust"].map(|directory| {
        std::fs::read_to_string(consumers.join(directory).join("schema.sql")).expect("readable")
    });
    for schema in &schemas[1..] {
        assert_eq!(*schema, schemas[0]);
    }
}
