//! The arguments of `catch-up`, and the messages about mistakes in them.

use serde_json::json;

use super::{BEFORE, HERE, NORTH, SINCE, SOURCES, Setup, sorted};
use crate::support::program::{err, out, run};

#[test]
fn kinds_sources_and_the_end_of_the_window_can_be_chosen() {
    let setup = Setup::new();
    let last = "2025-03-05T12:00:00Z";
    let here = setup.put("Booking", HERE, BEFORE, SINCE);
    let north = setup.put("Booking", NORTH, BEFORE, SINCE);
    let team = setup.put("Team", HERE, BEFORE, last);
    setup.put("Team", HERE, BEFORE, "2025-03-05T12:00:01Z");
    // Created in the range and updated after it.
    let new = setup.put("Team", HERE, SINCE, "2025-03-06T00:00:00Z");
    let summary = setup.json(&["--entity", "team", "--until", last], 0);
    assert_eq!(summary["unreadable"], json!(["TeamDeleted"]));
    let teams = sorted([format!("TeamCreated {new}"), format!("TeamUpdated {team}")]);
    assert_eq!(setup.published(), teams);
    let journal = setup.tenant.asked();
    assert!(!journal.entries().any(|entry| entry.path.starts_with("/api/spaces/bookings")));

    let summary = setup.json(&["--source", "north"], 0);
    assert_eq!((&summary["elsewhere"], &summary["published"][0]["source"]), (&json!(1), &json!("north")));
    let both = ["--entity", "Booking", "--entity", "Visitor", "--source", "default", "--source", "north"];
    let summary = setup.json(&[&both[..], &["--dry-run"]].concat(), 0);
    assert_eq!(summary["published"].as_array().map(Vec::len), Some(2));
    assert_eq!(setup.published(), sorted([teams, vec![format!("BookingUpdate {north}")]].concat()));
    assert!(!setup.published().contains(&format!("BookingUpdate {here}")));
}

#[test]
fn actions_outside_the_catalogue_are_listed_as_unreadable() {
    let sources = SOURCES.replacen("\"Visitor*\"]", "\"DeskBooked\"]\nextra_actions = [\"DeskBooked\"]", 1);
    let setup = Setup::with(&sources, &["BookingUpdate"]);
    let summary = setup.json(&[], 0);
    assert_eq!(summary["unreadable"], json!(["BookingDelete", "DeskBooked", "TeamDeleted"]));
    assert_eq!(setup.json(&["--entity", "Team"], 0)["unreadable"], json!(["TeamDeleted"]));
}

#[test]
fn mistakes_are_exit_code_2_with_the_expected_values() {
    let setup = Setup::new();
    let since = ["--since", SINCE];
    for (arguments, message) in [
        (&[][..], "--since <T>"),
        (&["--since", "yesterday"], "or how long ago (90m, 2days), last-outage or last-trigger"),
        (&[&since[..], &["--until", "x"]].concat(), "expected a time (2026-01-02T03:04:05Z)"),
        (&[&since[..], &["--until", "2025-03-01"]].concat(), "is before the beginning, 2025-03-02T10:00:00Z"),
        (&[&since[..], &["--entity", "Bookings"]].concat(), "expected one of BlogPost, Booking, Business"),
        (&[&since[..], &["--entity", "Resource"]].concat(), "expected one of BlogPost, Booking, Business"),
        (
            &[&since[..], &["--entity", "Checkin"]].concat(),
            "no chosen source receives CheckinCreated or CheckinUpdated, the actions of Checkin records",
        ),
        (
            &[&since[..], &["--entity", "Team", "--source", "north"]].concat(),
            "no chosen source receives TeamCreated or TeamUpdated",
        ),
        (&[&since[..], &["--source", "south"]].concat(), "expected one of default, north"),
        (&[&since[..], &["--max-records", "many"]].concat(), "--max-records <N>"),
        (
            &[&since[..], &since[..]].concat(),
            "--since has two values for the same actions; expected at most one T for all",
        ),
        (
            &["--since", "default/TeamUpdated=2h", "--since", "default/teamupdated=3h"],
            "--since has two values for the same actions",
        ),
        (&["--since", "TeamUpdated=2h"], "expected SOURCE/ACTION before the ="),
        (&["--since", "default/TeamUpdated=once"], "expected a time (2026-01-02T03:04:05Z)"),
        (&["--since", "north/TeamUpdated=2h"], "--since north/TeamUpdated: no chosen source of this name"),
        (&["--since", "default/TeamDeleted=2h"], "or the action is not about created or updated records"),
        (
            &["--since", "default/TeamUpdated=2h", "--entity", "Booking"],
            "--since default/TeamUpdated: no chosen source of this name",
        ),
        (&["--since", "last-trigger", "--overlap", "long"], "--overlap <DURATION>"),
        (&["--since", "2999-03-02"], "--since 2999-03-02T00:00:00Z is in the future; it is now 20"),
        (&[&since[..], &["--since", "default/TeamUpdated=2999-03-02"]].concat(), "is in the future"),
    ] {
        let output = setup.run(arguments);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{}", err(&output));
        assert!(err(&output).contains(message), "{arguments:?}: {}", err(&output));
    }
    for (toml, message) in [
        ("[sources.default]\nsecrets = [\"s\"]\n".to_owned(), "[nexudus] is not configured"),
        (
            format!("{}[sources.default]\nsecrets = [\"s\"]\n", setup.tenant.section("")),
            "business_id = 1999000001  # Espacio Ñandú",
        ),
    ] {
        setup.tenant.configure(&toml);
        let output = setup.run(&since);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains(message), "{}", err(&output));
    }
    assert!(setup.messages().is_empty());
}

#[test]
fn the_help_lists_what_can_and_cannot_be_read() {
    let output = run(&["catch-up", "--help"]);
    let help = out(&output).split_whitespace().collect::<Vec<_>>().join(" "); // lines are wrapped
    for words in [
        "last-trigger",
        "ce_nexuduscatchup",
        "[default: 24h]",
        "[default: 10000]",
        "Deletions and signals",
        "same ids",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}
