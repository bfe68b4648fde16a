use super::*;
use crate::config::tests::{MINIMAL, from_file, mistakes as mistakes_of};

fn mistakes(text: &str) -> Vec<String> {
    mistakes_of(&format!("{MINIMAL}{text}"), &[])
}

/// Asserts that a configuration has only this mistake, with its origin.
#[track_caller]
fn refused(text: &str, expected: &str) {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{text}: {found:#?}");
    assert!(found[0].starts_with(expected) && found[0].contains("bridge.toml)"), "{text}: {}", found[0]);
}

fn names(text: &str, variables: &[(&str, &str)]) -> Vec<(String, usize)> {
    let config = from_file(&format!("{MINIMAL}{text}"), variables).unwrap();
    config.topics.list(&config.sources).into_iter().map(|topic| (topic.name, topic.actions.len())).collect()
}

#[test]
fn each_action_has_a_topic_of_its_own_by_default_and_each_entity_with_one_rule() {
    assert_eq!(names("", &[]).len(), 89);
    let by_entity = names("[topics.layout]\n\"*\" = \"{entity}\"\n", &[]);
    assert_eq!(by_entity.iter().map(|(_, actions)| actions).sum::<usize>(), 89);
    assert_eq!((by_entity.len(), &by_entity[2]), (28, &("nexudus.Business".to_owned(), 1)));
    assert!(by_entity.contains(&("nexudus.Booking".to_owned(), 3)), "{by_entity:?}");
}

#[test]
fn a_variable_with_json_replaces_the_layout_of_the_file() {
    let file = "[topics.layout]\n\"*\" = \"{entity}\"\n";
    let variables = [
        ("NEXUDUS_BRIDGE__TOPICS__LAYOUT", r#"{"*": "all", "Booking*": "bookings"}"#),
        (
            "NEXUDUS_BRIDGE__TOPICS__OVERRIDES",
            r#"{"all": {"partitions": 6, "config": {"retention.ms": "9"}}}"#,
        ),
    ];
    assert_eq!(names(file, &variables), [("nexudus.all".to_owned(), 86), ("nexudus.bookings".to_owned(), 3)]);
    let config = from_file(&format!("{MINIMAL}{file}"), &variables).unwrap();
    let settings = config.topics.settings_of("all");
    assert_eq!((settings.partitions, &*settings.config["retention.ms"]), (6, "9"));
    let shown: Vec<String> = config
        .settings
        .iter()
        .filter(|s| s.key.contains("topics.layout"))
        .map(|s| format!("{} = {} # {}", s.key, s.value, s.origin))
        .collect();
    assert_eq!(
        shown,
        [
            r#"topics.layout."*" = "all" # NEXUDUS_BRIDGE__TOPICS__LAYOUT"#,
            r#"topics.layout."Booking*" = "bookings" # NEXUDUS_BRIDGE__TOPICS__LAYOUT"#
        ]
    );
    let one = [("NEXUDUS_BRIDGE__TOPICS__LAYOUT__BOOKINGCREATE", "new_bookings")];
    assert!(names("", &one).contains(&("nexudus.new_bookings".to_owned(), 1)));
    for wrong in ["{entity}", "[1]", "{\"*\": 1}"] {
        let found = mistakes_of(MINIMAL, &[("NEXUDUS_BRIDGE__TOPICS__LAYOUT", wrong)]);
        assert!(
            found[0].starts_with("topics.layout") && found[0].contains("NEXUDUS_BRIDGE__TOPICS__LAYOUT)"),
            "{found:?}"
        );
    }
}

#[test]
fn a_layout_with_colliding_names_is_refused_with_the_key_and_the_remedy() {
    let extra = |name: &str| format!("[sources.north]\nsecrets = [\"s\"]\nextra_actions = [{name:?}]\n");
    for (text, expected) in [
        (
            "[topics.layout]\n\"*\" = \"{entity}\"\n\"Booking*\" = \"Quarantine\"\n".to_owned(),
            "topics.layout gives BookingCreate the topic \"nexudus.Quarantine\", which is the quarantine topic",
        ),
        (
            "[topics.layout]\nBookingCreate = \"a.b\"\nBookingUpdate = \"a_b\"\n".to_owned(),
            "topics.layout gives BookingUpdate the topic \"nexudus.a_b\", which collides with \"nexudus.a.b\"",
        ),
        (
            extra("Booking.Create")
                + "[sources.south]\nsecrets = [\"s\"]\nextra_actions = [\"Booking_Create\"]\n",
            "topics.layout gives Booking_Create the topic",
        ),
        (
            extra("Booking") + "[topics.layout]\n\"*\" = \"{entity}\"\n",
            "topics.layout gives BookingCreate the topic \"nexudus.Booking\", which Booking of extra_actions has already",
        ),
        (
            format!("[topics.layout]\nBookingCreate = \"{}\"\n", "x".repeat(242)),
            "topics.layout gives BookingCreate the topic",
        ),
        (
            "[topics]\nprefix = \"\"\n[topics.layout]\nBookingCreate = \"__x\"\n".to_owned(),
            "topics.layout gives BookingCreate the topic \"__x\", which begins like",
        ),
        (
            "[topics]\nprefix = \".\"\n[topics.layout]\nBookingCreate = \".\"\n".to_owned(),
            "topics.layout.BookingCreate = \".\" begins with topics.prefix",
        ),
        (
            "[topics]\nprefix = \"\"\n[topics.layout]\nBookingCreate = \"..\"\n".to_owned(),
            "topics.layout gives BookingCreate the topic \"..\", which Kafka refuses",
        ),
        (
            "[topics.layout]\n\"*\" = \"{kind}\"\n".to_owned(),
            "topics.layout.\"*\" = \"{kind}\" has a placeholder that does not exist, expected {action} or {entity}",
        ),
        ("[topics.layout]\n\"*\" = 1\n".to_owned(), "topics.layout.\"*\" is not a text"),
        (
            "[topics.layout]\nBookngCreate = \"x\"\n".to_owned(),
            "topics.layout.\"BookngCreate\" matches no action, did you mean BookingCreate?",
        ),
        ("[topics]\nlayout = 1\n".to_owned(), "topics.layout is not a section"),
    ] {
        refused(&text, expected);
    }
    names(&(extra("Booking") + "[topics.layout]\n\"*\" = \"{entity}\"\nBooking = \"Booking\"\n"), &[]);
}

#[test]
fn a_layout_without_any_source_is_not_a_second_mistake() {
    let found = mistakes_of("[topics]\ntombstones = true\n[topics.layout]\n\"*\" = \"{entity}\"\n", &[]);
    assert!(found.len() == 1 && found[0].starts_with("no source is configured"), "{found:?}");
}

#[test]
fn a_compacted_topic_has_records_of_one_entity_only() {
    let compact = "[topics.config]\n\"cleanup.policy\" = \"delete, compact\"\n";
    names(&format!("{compact}[topics.layout]\n\"*\" = \"{{entity}}\"\n"), &[]);
    refused(
        &format!("{compact}[topics.layout]\n\"*\" = \"all\"\n"),
        "topics: topic \"nexudus.all\" has cleanup.policy = compact and has records of several entities (",
    );
    names(
        &format!(
            "{compact}[topics.layout]\n\"*\" = \"all\"\n[topics.overrides.all.config]\n\"cleanup.policy\" = \"delete\"\n"
        ),
        &[],
    );
}

#[test]
fn an_override_changes_the_topics_that_it_matches_and_the_most_specific_one_wins() {
    let text = r#"
        [topics]
        partitions = 3
        config = { "retention.ms" = "1", "segment.ms" = "1" }
        [topics.layout]
        "*" = "{entity}"
        [topics.overrides."Coworker*"]
        partitions = 6
        config = { "retention.ms" = "2" }
        [topics.overrides.Coworker]
        partitions = 12
        replication_factor = 2
        [topics.overrides.quarantine]
        partitions = 1
        [topics.overrides."*"]
        replication_factor = 5
    "#;
    let config = from_file(&format!("{MINIMAL}{text}"), &[]).unwrap();
    let settings = |name| {
        let TopicSettings { partitions, replication_factor, config } = config.topics.settings_of(name);
        (partitions, replication_factor, config["retention.ms"].clone() + &config["segment.ms"])
    };
    assert_eq!(settings("Coworker"), (12, 2, "21".to_owned()));
    assert_eq!(settings("CoworkerInvoice"), (6, 5, "21".to_owned()));
    assert_eq!(settings("Team"), (3, 5, "11".to_owned()));
    assert_eq!(settings("quarantine"), (1, -1, "11".to_owned()), "globs leave the quarantine topic alone");
}

#[test]
fn overrides_that_apply_to_nothing_or_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[topics.overrides.BookngCreate]\npartitions = 1\n",
            "topics.overrides.\"BookngCreate\" matches no topic, did you mean BookingCreate?",
        ),
        (
            "[topics.overrides.\"nexudus.Booking*\"]\npartitions = 1\n",
            "topics.overrides.\"nexudus.Booking*\" matches no topic (names are without the prefix)",
        ),
        (
            "[topics.overrides.\"*Create\"]\npartitions = 1\n[topics.overrides.\"Tariff*\"]\npartitions = 2\n",
            "topics.overrides: \"*Create\" and \"Tariff*\" both match TariffCreate",
        ),
        (
            "[topics.overrides.\"*\"]\npartitions = 0\n",
            "topics.overrides.\"*\".partitions = 0 makes no topic",
        ),
        (
            "[topics.overrides.\"*\"]\nreplication = 1\n",
            "topics.overrides.\"*\".replication is not a setting, did you mean replication_factor?",
        ),
        ("[topics.overrides.\"[\"]\npartitions = 1\n", "topics.overrides.\"[\" is not a pattern"),
        (
            "[topics.overrides.quarantine.config]\n\"retention.ms\" = \"1\"\n",
            "topics.overrides.quarantine.config cannot be set for the quarantine topic, expected [topics.quarantine_config]",
        ),
        ("[topics.overrides]\npartitions = 1\n", "topics.overrides.partitions is not a section"),
    ] {
        refused(text, expected);
    }
}

const BY_ENTITY: &str = "[topics.layout]\n\"*\" = \"{entity}\"\n";

#[test]
fn tombstones_follow_deletes_on_topics_with_the_writes_of_their_entity() {
    let text = "[topics]\ntombstones = true\n[topics.layout]\n\"Booking*\" = \"{entity}\"\n";
    let config = from_file(&format!("{MINIMAL}{text}"), &[]).unwrap();
    let with_tombstones = |topics: &Topics| {
        let all = ENTRIES.iter().map(Action::Known);
        all.filter(|action| topics.has_tombstones(action))
            .map(|action| action.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(with_tombstones(&config.topics), ["BookingDelete"]);
    let all = from_file(&format!("{MINIMAL}[topics]\ntombstones = true\n{BY_ENTITY}"), &[]).unwrap();
    let deletes = ENTRIES.iter().filter(|entry| entry.verb == "deleted").count();
    assert_eq!(with_tombstones(&all.topics).len(), deletes);
    let off = from_file(&format!("{MINIMAL}{BY_ENTITY}"), &[]).unwrap();
    assert!(with_tombstones(&off.topics).is_empty());
}

#[test]
fn tombstones_that_would_remove_other_records_or_nothing_are_refused() {
    let tombstones = "[topics]\ntombstones = true\n";
    refused(tombstones, "topics.tombstones = true has no effect: no topic has the deletes of an entity");
    refused(
        &format!("{tombstones}[topics.layout]\n\"*Delete*\" = \"deleted\"\n"),
        "topics.tombstones = true has no effect",
    );
    refused(
        &format!("{tombstones}[topics.layout]\n\"{{Booking,Team}}*\" = \"x\"\n"),
        "topics: topic \"nexudus.x\" gets tombstones and has records of several entities (Booking, Team)",
    );
}

#[test]
fn compaction_that_removes_signals_and_tombstones_without_compaction_are_warned_of() {
    let warnings = |text: &str| from_file(&format!("{MINIMAL}{text}"), &[]).unwrap().warnings;
    let compact = "[topics.config]\n\"cleanup.policy\" = \"compact\"\n";
    let tombstones = "[topics]\ntombstones = true\n";
    let found = warnings(&format!("{tombstones}{BY_ENTITY}"));
    assert!(
        found.len() == 1 && found[0].contains("no topic with tombstones has cleanup.policy"),
        "{found:?}"
    );
    let found = warnings(&format!("{tombstones}{compact}{BY_ENTITY}"));
    assert!(
        found.len() == 1 && found[0].contains("removes a signal") && found[0].contains(" on nexudus."),
        "{found:?}"
    );
    let kept = format!(
        "{tombstones}{BY_ENTITY}\"CoworkerCheck*\" = \"visits\"\n[topics.overrides.Booking.config]\n\"cleanup.policy\" = \"compact\"\n"
    );
    assert!(warnings(&kept).is_empty());
}
