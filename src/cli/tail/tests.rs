use super::*;
use crate::config::load::{Environment, load};
use crate::tail::patterns;

fn message(topic: &str, value: &[u8], headers: &[(&str, &str)]) -> Message {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), Some(value.as_bytes().to_vec()));
    Message {
        topic: topic.to_owned(),
        partition: 2,
        offset: 17,
        timestamp: Some("2026-01-02T03:04:05.678Z".parse().unwrap()),
        key: Some(b"42".to_vec()),
        headers: headers.iter().map(header).collect(),
        value: Some(value.to_vec()),
    }
}

fn line(width: Option<usize>, message: &Message) -> String {
    anstream::adapter::strip_str(&super::line(message, "nexudus.", width)).to_string()
}

fn chosen(given: &[&str], layout: &str) -> Chosen {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[sources.default]\nsecrets = [\"s\"]\n{layout}")).unwrap();
    let config = load(Some(file.path()), &Environment::new(), |_, _| Ok(())).unwrap();
    let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
    Chosen::new(&given, &config.topics, &[&config.sources["default"].actions]).unwrap()
}

#[test]
fn on_a_shared_topic_events_are_chosen_by_their_action_or_by_the_name_of_the_topic() {
    let layout = "[topics.layout]\n\"*\" = \"{entity}\"\n";
    let event =
        |topic: &str, action: &str| message(topic, b"{}", &[("ce_type", &format!("com.nexudus.{action}"))]);
    let created = event("nexudus.Booking", "BookingCreate");
    let kept = event("nexudus.quarantine", "BookingCreate");
    for (given, has_topic, has_created, has_quarantine, has_kept) in [
        (&[][..], true, true, true, true),
        (&["bookingcreate"], true, true, false, true),
        (&["BookingDelete"], true, false, false, false),
        (&["booking"], true, true, false, false),
        (&["Team*"], false, false, false, false),
        (&["quarantine"], false, false, true, true),
    ] {
        let chosen = chosen(given, layout);
        assert_eq!(
            (chosen.has_topic("nexudus.Booking"), chosen.has(&created)),
            (has_topic, has_created),
            "{given:?}"
        );
        assert_eq!(
            (chosen.has_topic("nexudus.quarantine"), chosen.has(&kept)),
            (has_quarantine, has_kept),
            "{given:?}"
        );
    }
    assert!(line(None, &created).contains("  BookingCreate  42  Booking 2@17  {}"));
    assert!(line(None, &kept).contains("  quarantine  42  2@17  {}"));
}

#[test]
fn topics_are_chosen_by_the_part_behind_the_prefix() {
    let chosen = |given: &[&str], topic: &str| chosen(given, "").has_topic(topic);
    for (given, topic, expected) in [
        (&[][..], "nexudus.BookingCreate", true),
        (&[], "nexudus.quarantine", true),
        (&[], "other.BookingCreate", false),
        (&["bookingcreate"], "nexudus.BookingCreate", true),
        (&["6"], "nexudus.BookingCreate", true),
        (&["booking*", "Quarantine"], "nexudus.BookingDelete", true),
        (&["booking*", "Quarantine"], "nexudus.quarantine", true),
        (&["booking*"], "nexudus.CoworkerCreate", false),
        (&["{Coworker,Team}Create*"], "nexudus.TeamCreated", true),
    ] {
        assert_eq!(chosen(given, topic), expected, "{given:?} {topic}");
    }
    assert_eq!(without_prefix("__consumer_offsets", ""), None);
    let error = patterns(&["[".to_owned()]).unwrap_err();
    assert!(error.contains("\"[\" is not a pattern"), "{error}");
}

#[test]
fn an_unknown_name_gets_a_hint() {
    let actions = Actions::with_extras(["SomethingNew"]).unwrap();
    let chosen = chosen(&[], "[topics.layout]\n\"Coworker*\" = \"people\"\n");
    let hint = |name| chosen.hint(name, &[&actions]);
    for name in ["BookingCreate", "6", "quarantine", "SOMETHINGNEW", "Zzz*", "People"] {
        assert_eq!(hint(name), None, "{name}");
    }
    assert!(hint("BookingCreat").unwrap().ends_with("did you mean BookingCreate?"));
    assert!(hint("zzzzz").is_some());
}

#[test]
fn a_line_has_time_action_key_position_id_and_value_and_is_complete_in_a_pipe() {
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let message = message("nexudus.BookingCreate", "{\"N\":\"é\"}".as_bytes(), &[("ce_id", id)]);
    for (width, id) in [(Some(200), "01234567…"), (None, id)] {
        assert_eq!(
            line(width, &message),
            format!("2026-01-02T03:04:05.678Z  BookingCreate  42  2@17  id {id}  {{\"N\":\"é\"}}")
        );
    }
}

#[test]
fn a_line_is_not_wider_than_the_terminal_unless_there_is_no_room_for_a_value() {
    let message = message("nexudus.X", "[\"日本語日本語日本語日本語\"]".as_bytes(), &[]);
    let full = line(None, &message);
    for width in 0..100 {
        let line = line(Some(width), &message);
        let columns = measure_text_width(&line);
        let head = columns <= measure_text_width("2026-01-02T03:04:05.678Z  X  42  2@17");
        assert!(columns <= width || head, "{width}: {line}");
        assert!(line == full || head || line.ends_with('…'), "{width}: {line}");
    }
}

#[test]
fn quarantined_events_are_marked_and_nothing_moves_the_cursor() {
    let headers = [
        ("quarantine-reason", "unknown_action"),
        ("nexudus-action", "X\x1b[2J"),
        ("nexudus-signature", "invalid"),
    ];
    let message = message("nexudus.quarantine", b"\x1b]0;title\x07\n", &headers);
    let line = line(None, &message);
    assert!(line.contains("unknown_action (X\u{FFFD}[2J)  signature invalid"), "{line}");
    assert!(!line.contains(['\x1b', '\x07', '\n']), "{line:?}");
}

#[test]
fn ids_are_shortened_to_the_part_that_distinguishes_them() {
    assert_eq!(short("01890a5d-ac96-774b-bcce-b302099a8057"), "…099a8057");
    assert_eq!(short("own"), "own");
}

#[test]
fn events_are_chosen_by_source_and_key() {
    let event = message("nexudus.X", b"{}", &[("ce_source", "/nexudus/north")]);
    let foreign = message("nexudus.X", b"{}", &[]);
    for (source, key, taken, foreign_taken) in [
        (&[][..], &[][..], true, true),
        (&["north"], &[], true, false),
        (&["south", "north"], &[], true, false),
        (&["south"], &[], false, false),
        (&[], &["42"], true, true),
        (&[], &["4"], false, false),
        (&["north"], &["7", "42"], true, false),
        (&["north"], &["7"], false, false),
    ] {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let filter = Filter { sources: owned(source), keys: owned(key) };
        assert_eq!((filter.accepts(&event), filter.accepts(&foreign)), (taken, foreign_taken), "{filter:?}");
    }
}
