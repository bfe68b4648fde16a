//! The documentation: generated parts match the code, links have targets, and examples work as written.

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

/// Program and folder of the tables of each example consumer.
const CONSUMERS: [[&str; 2]; 5] = [
    ["python/consumer.py", "python"],
    ["go/main.go", "go"],
    ["java/src/main/java/NexudusConsumer.java", "java/src/main/resources"],
    ["typescript/consumer.ts", "typescript"],
    ["rust/src/main.rs", "rust"],
];

/// Each example is complete on its own, so each has a copy of the same SQL.
#[test]
fn the_example_consumers_have_the_same_tables_and_at_most_150_lines() {
    let consumers = page::repository().join("examples/consumers");
    let read = |path: &str| std::fs::read_to_string(consumers.join(path)).expect("readable");
    for [program, tables] in CONSUMERS {
        assert_eq!(read(&format!("{tables}/schema.sql")), read("python/schema.sql"), "{tables}");
        let text = read(program);
        assert!(text.lines().count() <= 150, "{program} has {} lines", text.lines().count());
        assert!(text.contains("INSERT INTO changes (ce_id, entity, id, ce_time, json)"), "{program}");
    }
}
