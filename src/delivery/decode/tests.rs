use super::*;

fn read(body: &str) -> Content {
    decode(&Bytes::copy_from_slice(body.as_bytes()), "Id", MAX_RECORDS)
}

fn records(body: &str) -> Vec<Record> {
    match read(body) {
        Content::Records(records) => records,
        other => panic!("{body:?} gave {other:?}"),
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn records_are_slices_of_the_body_byte_for_byte() {
    let digits = "9".repeat(300);
    for record in [
        r#"{}"#,
        r#"{"Id":1,"b":2,"a":1,"a":3}"#,
        r#"{"Price":0.09000,"Zero":-0.0,"Big":1E+400}"#,
        r#"{ "Id" :	1 , "Text" : "a\u2028\/\ud800b" }"#,
        r#"{"emoji":"👩‍👩‍👧","escaped":"\ud83d\ude00","nested":{"Id":[1,{"Id":2}]}}"#,
        &format!(r#"{{"Number":{digits}}}"#),
        "{\"lone \\udc00 surrogate in a name\":1}",
    ] {
        for (before, after) in [("[", "]"), ("", ""), (" \r\n[ ", "\n]\t"), ("\u{FEFF}[", "]")] {
            let body = format!("{before}{record}{after}");
            let found = records(&body);
            assert_eq!(
                found.iter().map(|record| text(&record.value)).collect::<Vec<_>>(),
                [record],
                "{body:?}"
            );
        }
        let found = records(&format!("[{record} , {record}]"));
        assert!(found.len() == 2 && found.iter().all(|found| text(&found.value) == record));
    }
}

#[test]
fn records_may_be_nested_deeper_than_any_stack() {
    let depth = 1_000_000;
    let body = format!(r#"[{{"Id":7,"deep":{}{}}}]"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(text(records(&body)[0].key.as_ref().unwrap()), "7");
}

#[test]
fn more_records_than_one_delivery_may_have_are_counted_and_not_kept() {
    let body = |count: usize, last: &str| format!("[{}{last}]", "{\"Id\":1},".repeat(count - 1));
    assert_eq!(records(&body(MAX_RECORDS, "{}")).len(), MAX_RECORDS);
    for (last, reason) in [
        ("{}", QuarantineReason::TooManyRecords),
        ("{},7", QuarantineReason::NotRecords),
        ("{},", QuarantineReason::NotJson),
    ] {
        let found = read(&body(MAX_RECORDS + 1, last));
        assert_eq!(found, Content::Unreadable(reason), "{last}");
    }
    assert_eq!(records(&body(7, "{}")).len(), 7);
}

#[test]
fn the_least_and_the_greatest_time_of_net_are_no_time() {
    for time in [
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00.0000000",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.9999999",
        "9999-12-31T23:59:59Z",
    ] {
        let body = format!(r#"{{"Id":1,"UpdatedOn":"{time}"}}"#);
        assert_eq!(records(&body)[0].updated_on, None, "{time}");
    }
    for time in ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59Z"] {
        let body = format!(r#"{{"Id":1,"UpdatedOn":"{time}"}}"#);
        assert_eq!(records(&body)[0].updated_on.as_deref(), Some(time.as_bytes()));
    }
}

#[test]
fn what_is_not_records_has_its_reason() {
    use QuarantineReason::{NotJson, NotRecords};
    for (body, reason) in [
        ("", NotJson),
        (" ", NotJson),
        ("[", NotJson),
        ("[{}", NotJson),
        ("[{},]", NotJson),
        ("[{}{}]", NotJson),
        ("[{}]]", NotJson),
        ("[{}] x", NotJson),
        ("{'Id':1}", NotJson),
        (r#"{"Id":01}"#, NotJson),
        (r#"[{"Id":1},nul]"#, NotJson),
        ("hello", NotJson),
        ("[1]", NotRecords),
        (r#"[{"Id":1},2]"#, NotRecords),
        ("[null]", NotRecords),
        ("[[]]", NotRecords),
        ("null", NotRecords),
        ("12", NotRecords),
        (r#""text""#, NotRecords),
    ] {
        assert_eq!(read(body), Content::Unreadable(reason), "{body:?}");
    }
    let latin = decode(&Bytes::from_static(b"[{\"Id\":\"Jos\xE9\"}]"), "Id", MAX_RECORDS);
    assert_eq!(latin, Content::Unreadable(NotJson));
    assert_eq!(read("[]"), Content::Empty);
    assert_eq!(read("\u{FEFF} [ ] \n"), Content::Empty);
}

#[test]
fn the_key_is_the_field_s_text_else_the_unique_id_else_none() {
    for (record, key) in [
        (r#"{"Id":1999000001}"#, Some("1999000001")),
        (r#"{"Id":-0.50}"#, Some("-0.50")),
        (r#"{"Id":"a\u00e9"}"#, Some("aé")),
        (r#"{"Id":"ü"}"#, Some("ü")),
        (r#"{"Id":1,"Id":2}"#, Some("2")),
        (r#"{"I\u0064":3}"#, Some("3")),
        (r#"{"Id":null,"UniqueId":"u"}"#, Some("u")),
        (r#"{"Id":"","UniqueId":"u"}"#, Some("u")),
        (r#"{"Id":true,"UniqueId":"u"}"#, Some("u")),
        (r#"{"Id":{"Id":1},"UniqueId":"u"}"#, Some("u")),
        (r#"{"x":{"Id":1}}"#, None),
        (r#"{"id":1}"#, None),
        ("{}", None),
    ] {
        assert_eq!(records(record)[0].key.as_ref().map(text), key, "{record}");
    }
    let other = decode(
        &Bytes::from_static(br#"[{"Id":1,"CoworkerId":2,"UniqueId":"u"}]"#),
        "CoworkerId",
        MAX_RECORDS,
    );
    assert!(matches!(other, Content::Records(records) if text(records[0].key.as_ref().unwrap()) == "2"));
    let unique = decode(&Bytes::from_static(br#"[{"Id":1,"UniqueId":"u"}]"#), "UniqueId", MAX_RECORDS);
    assert!(matches!(unique, Content::Records(records) if text(records[0].key.as_ref().unwrap()) == "u"));
}

#[test]
fn the_time_keeps_its_fraction_and_is_in_utc() {
    for (written, expected) in [
        ("2024-03-31T09:05:07Z", Some("2024-03-31T09:05:07Z")),
        ("2024-03-31T09:05:07.1Z", Some("2024-03-31T09:05:07.1Z")),
        ("2024-03-31T09:05:07.1234567Z", Some("2024-03-31T09:05:07.1234567Z")),
        ("2024-03-31T09:05:07.1234567", Some("2024-03-31T09:05:07.1234567Z")),
        ("2024-03-31T09:05:07.5+02:00", Some("2024-03-31T07:05:07.5Z")),
        ("2024-02-30T09:05:07Z", None),
        ("2024-03-31T25:05:07Z", None),
        ("2024-03-31 09:05:07Z", None),
        ("2024-03-31", None),
        ("31/03/2024", None),
        ("2024-03-31T09:05:07.Z", None),
        ("2024-03-31T09:05:07Zé", None),
        ("", None),
    ] {
        let record = format!(r#"{{"UpdatedOn":"{written}"}}"#);
        assert_eq!(records(&record)[0].updated_on.as_ref().map(text), expected, "{written}");
    }
    assert_eq!(records(r#"{"UpdatedOn":null}"#)[0].updated_on, None);
    assert_eq!(records(r#"{"UpdatedOn":1}"#)[0].updated_on, None);
}
