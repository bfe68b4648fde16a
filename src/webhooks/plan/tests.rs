use super::*;
use crate::config::load::{Environment, load};
use crate::kafka::settings::check_property;
use crate::webhooks::wanted::wanted;

const TOML: &str = r#"
[nexudus]
token = "t"
public_url = "https://hooks.example.com/b"
[sources.default]
secrets = ["s"]
business_id = 7
actions = ["TeamCreated", "TeamUpdated"]
[sources.north]
secrets = ["s"]
business_id = 8
url_tokens = ["new one", "old"]
actions = ["TeamCreated", "Brandnew"]
extra_actions = ["Brandnew"]
"#;

fn config() -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOML).unwrap();
    load(Some(file.path()), &Environment::new(), check_property).unwrap()
}

fn compared(records: Vec<Observed>) -> Comparison {
    let config = config();
    let nexudus = config.nexudus.as_ref().unwrap();
    let wanted = wanted(&config, &nexudus.public_url, &BTreeMap::from([("brandnew".to_owned(), 101)]));
    Comparison::new(&config, &nexudus.public_url, wanted, records)
}

fn record(id: i64, business_id: i64, action_id: i64, url: &str) -> Observed {
    Observed {
        id,
        business_id: Some(business_id),
        action_id: Some(action_id),
        url: url.into(),
        active: true,
        error_count: 0,
        last_error: None,
        last_trigger: None,
        created_on: None,
    }
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let changes = comparison.changes().into_iter().map(|change| change.to_string());
    changes.chain(comparison.unwanted.iter().map(ToString::to_string)).collect()
}

const BASE: &str = "https://hooks.example.com/b/webhooks";

fn all() -> Vec<Observed> {
    vec![
        record(1, 7, 57, &format!("{BASE}/TeamCreated")),
        record(2, 7, 58, &format!("{BASE}/TeamUpdated")),
        record(3, 8, 57, &format!("{BASE}/north/TeamCreated?token=new+one")),
        record(4, 8, 101, &format!("{BASE}/north/Brandnew?token=new+one")),
    ]
}

#[test]
fn an_empty_account_gets_a_record_for_every_action_of_every_source() {
    let comparison = compared(Vec::new());
    assert_eq!(
        lines(&comparison),
        [
            format!("+ default TeamCreated {BASE}/TeamCreated"),
            format!("+ default TeamUpdated {BASE}/TeamUpdated"),
            format!("+ north TeamCreated {BASE}/north/TeamCreated?token=***"),
            format!("+ north Brandnew {BASE}/north/Brandnew?token=***"),
        ]
    );
    let numbers: Vec<_> =
        comparison.changes().iter().map(|change| (change.business_id, change.action_id)).collect();
    assert_eq!(numbers, [(7, Some(57)), (7, Some(58)), (8, Some(57)), (8, Some(101))]);
    assert!(comparison.pairs[2].wanted.url.expose().ends_with("?token=new+one"));
}

#[test]
fn records_without_a_difference_are_not_changed() {
    let comparison = compared(all());
    assert!(lines(&comparison).is_empty());
    assert_eq!((comparison.pairs.len(), comparison.others), (4, 0));
}

#[test]
fn only_managed_fields_are_changed() {
    let mut records = all();
    records[0].active = false;
    records[1].action_id = Some(3);
    records[2].url = format!("{BASE}/north/57?token=old").into();
    records[3].url = "HTTPS://hooks.example.com/b/webhooks/north/brandNEW".into();
    assert_eq!(
        lines(&compared(records)),
        [
            "~ default TeamCreated 1 Active: false -> true".to_owned(),
            "~ default TeamUpdated 2 Action: 3 -> 58".to_owned(),
            format!(
                "~ north TeamCreated 3 URL: {BASE}/north/57?token=*** -> {BASE}/north/57?token=*** (another token)"
            ),
            "~ north Brandnew 4 URL: HTTPS://hooks.example.com/b/webhooks/north/brandNEW -> https://hooks.example.com/b/webhooks/north/brandNEW?token=***".to_owned(),
        ]
    );
}

#[test]
fn urls_are_compared_as_the_ingress_reads_them() {
    let mut records = all();
    records[0].url = format!("{BASE}/Team%43reated").into();
    records[1].url = "https://hooks.example.com/%62/WEBHOOKS/Default/teamupdated".into();
    records[2].url = format!("{BASE}/North/TeamCreated?token=new%20one").into();
    assert_eq!(lines(&compared(records)), [""; 0]);
}

#[test]
fn a_fragment_is_removed_and_the_token_is_not_behind_it() {
    let mut records = all();
    records[0].url = format!("{BASE}/TeamCreated#top").into();
    records[2].url = format!("{BASE}/north/TeamCreated#top").into();
    records[3].url = format!("{BASE}/north/Brandnew#top?token=new+one").into();
    let comparison = compared(records);
    assert_eq!(
        lines(&comparison),
        [
            format!("~ default TeamCreated 1 URL: {BASE}/TeamCreated#top -> {BASE}/TeamCreated"),
            format!(
                "~ north TeamCreated 3 URL: {BASE}/north/TeamCreated#top -> {BASE}/north/TeamCreated?token=***"
            ),
            format!(
                "~ north Brandnew 4 URL: {BASE}/north/Brandnew#top?token=*** -> {BASE}/north/Brandnew?token=***"
            ),
        ]
    );
    let pair = &comparison.pairs[2];
    let new = differences(&pair.wanted, pair.found.as_ref().unwrap())["URL"][1].clone();
    assert_eq!(new, format!("{BASE}/north/TeamCreated?token=new+one"));
}

#[test]
fn a_change_of_the_token_is_reported_without_the_token() {
    let url = |query: &str| {
        let mut records = all();
        records[2].url = format!("{BASE}/north/TeamCreated{query}").into();
        let changes = compared(records).changes();
        changes
            .first()
            .map(|change| (change.another_token, change.to_string(), serde_json::to_string(change).unwrap()))
    };
    let wanted = format!("{BASE}/north/TeamCreated?token=***");
    for (query, shown, another) in [
        ("?token=old", "?token=***", true),
        ("?a=b&token=old", "?a=b&token=***", true),
        ("?%74oken=old", "?%74oken=***", true),
        ("?Token=old", "?Token=***", false), // the ingress takes the name in lower case only
        ("", "", false),
    ] {
        let (flag, text, json) = url(query).unwrap();
        let note = if another { " (another token)" } else { "" };
        assert_eq!(
            text,
            format!("~ north TeamCreated 3 URL: {BASE}/north/TeamCreated{shown} -> {wanted}{note}")
        );
        assert_eq!(flag, another, "{query}");
        assert!(json.contains(&format!("\"another_token\":{another}")), "{json}");
        assert!(!json.contains("old") && !json.contains("new"), "{json}");
    }
    assert_eq!(url("?%74oken=new+one"), None);
}

#[test]
fn unwanted_webhooks_are_listed_and_those_of_others_are_counted() {
    let mut records = all();
    records.push(record(20, 7, 57, &format!("{BASE}/default/TeamCreated")));
    records.push(record(21, 9, 57, &format!("{BASE}/TeamCreated")));
    records.push(record(22, 7, 59, &format!("{BASE}/TeamDeleted?token=secret")));
    records.push(record(23, 7, 59, &format!("{BASE}/south/TeamDeleted")));
    records.push(record(24, 7, 1, &format!("{BASE}/Nonsense")));
    records.push(record(25, 7, 57, "https://elsewhere.example.com/webhooks/TeamCreated"));
    records.push(record(26, 7, 57, "not a URL"));
    let comparison = compared(records);
    assert_eq!(
        lines(&comparison),
        [
            format!("? default TeamCreated 20 {BASE}/default/TeamCreated: a second webhook of the action"),
            format!("? default TeamCreated 21 {BASE}/TeamCreated: another location"),
            format!("? default TeamDeleted 22 {BASE}/TeamDeleted?token=***: the action is not configured"),
            format!("? south TeamDeleted 23 {BASE}/south/TeamDeleted: no such source"),
            format!("? default Nonsense 24 {BASE}/Nonsense: no such action"),
        ]
    );
    assert_eq!(comparison.others, 2);
    let north = comparison.only(&["north".to_owned()]);
    assert_eq!((north.pairs.len(), north.unwanted.len(), north.others), (2, 0, 2));
}

#[test]
fn of_two_records_of_one_action_the_active_one_is_used() {
    let mut records = all();
    records[0].active = false;
    records.push(record(30, 7, 57, &format!("{BASE}/TeamCreated")));
    let comparison = compared(records);
    assert_eq!(
        lines(&comparison),
        [format!("? default TeamCreated 1 {BASE}/TeamCreated: a second webhook of the action")]
    );
    assert_eq!(comparison.pairs[0].found.as_ref().unwrap().id, 30);
    assert_eq!(comparison.duplicated().count(), 0, "an inactive record delivers nothing");
}

#[test]
fn several_active_records_of_one_action_are_duplicates() {
    let mut records = all();
    records.push(record(31, 7, 57, &format!("{BASE}/default/57?a=b")));
    records.push(record(30, 7, 57, &format!("{BASE}/TeamCreated")));
    let comparison = compared(records);
    let duplicated: Vec<&Pair> = comparison.duplicated().collect();
    let [pair] = duplicated[..] else { panic!("{duplicated:?}") };
    assert_eq!((pair.wanted.action(), pair.webhook_ids().collect()), ("TeamCreated", vec![1, 30, 31]));
    assert_eq!(
        pair.remedy().as_deref(),
        Some(
            "webhooks 1, 30, 31 are all active, so each event is delivered 3 times; \
             delete or disable all but one in Nexudus"
        )
    );
}

#[test]
fn of_two_disabled_records_the_one_that_nexudus_disabled_is_used() {
    let chosen = |others: &[(i64, i64, Option<&str>)]| {
        let off = |&(id, error_count, last_trigger): &(i64, i64, Option<&str>)| Observed {
            active: false,
            error_count,
            last_trigger: last_trigger.map(str::to_owned),
            ..record(id, 7, 57, &format!("{BASE}/TeamCreated"))
        };
        compared(others.iter().map(off).collect()).pairs[0].found.as_ref().unwrap().id
    };
    let early = Some("2026-01-02T03:04:05+01:00");
    let late = Some("2026-01-02T02:30:00.5Z");
    // The record that Nexudus disabled, however recent the last success of the record that a person disabled.
    assert_eq!(chosen(&[(1, 0, late), (2, 10, None)]), 2);
    assert_eq!(chosen(&[(1, 9, late), (2, 10, None)]), 2);
    // Both disabled by Nexudus: the one with the latest success, compared as times and not as texts.
    assert_eq!(chosen(&[(1, 10, early), (2, 11, late)]), 2);
    assert_eq!(chosen(&[(1, 10, None), (2, 10, late)]), 2);
    assert_eq!(chosen(&[(1, 0, None), (2, 0, late)]), 2);
    // Both are equal: the smallest id.
    assert_eq!(chosen(&[(2, 10, late), (1, 10, late)]), 1);
    assert_eq!(chosen(&[(2, 0, None), (1, 0, None)]), 1);
}

#[test]
fn no_token_is_in_the_json_of_a_change() {
    let mut records = all();
    records[2].url = format!("{BASE}/north/TeamCreated?token=old-secret").into();
    let json = serde_json::to_string(&compared(records).changes()).unwrap();
    assert!(!json.contains("old-secret") && !json.contains("new"), "{json}");
    assert!(
        json.contains(r#""op":"update","source":"north","action":"TeamCreated","action_id":57"#),
        "{json}"
    );
}

#[test]
fn no_debug_output_holds_a_token() {
    let mut records = all();
    records.push(record(9, 8, 57, &format!("{BASE}/north/TeamCreated?token=old-secret")));
    let comparison = compared(records);
    assert_eq!(comparison.unwanted.len(), 1);
    let Pair { wanted, found, .. } = &comparison.pairs[2];
    let cases = [
        ("Wanted", format!("{wanted:?}")),
        ("Observed", format!("{found:#?}")),
        ("Pair", format!("{:?}", comparison.pairs[2])),
        ("Unwanted", format!("{:?}", comparison.unwanted)),
        ("Comparison", format!("{comparison:?}")),
    ];
    for (name, text) in cases {
        let holds = |part: &str| text.contains(part);
        assert!(holds("?token=***"), "{name} shows no URL");
        assert!(!holds("new+one") && !holds("new one") && !holds("old-secret"), "{name} shows a token");
    }
}
