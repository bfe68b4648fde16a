use std::collections::BTreeMap;

use super::*;
use crate::config::load::{Environment, load};
use crate::kafka::settings::check_property;
use crate::webhooks::observed::Observed;
use crate::webhooks::wanted::wanted;

/// Returns a configuration whose source `default` is at location 7 and wants these actions; `more` is appended.
fn config(actions: &[&str], more: &str) -> Config {
    let toml = format!(
        "[nexudus]\ntoken = \"t\"\npublic_url = \"https://h.example.com\"\n[sources.default]\nsecrets = [\"s\"]\n\
         business_id = 7\nactions = {actions:?}\nextra_actions = [\"Brandnew\"]\n{more}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    load(Some(file.path()), &Environment::new(), check_property).unwrap()
}

/// A moment on one day: `10`, or `10:30`, or `10:30:00.5`.
fn at(text: &str) -> Timestamp {
    let full = match text.len() {
        2 => format!("2026-03-02T{text}:00:00Z"),
        5 => format!("2026-03-02T{text}:00Z"),
        _ => format!("2026-03-02T{text}Z"),
    };
    full.parse().unwrap()
}

fn all_since(since: Since) -> Beginnings {
    Beginnings { all: Some(since), ..Beginnings::default() }
}

fn since(actions: &[&str], from: &str, until: Option<&str>) -> TimeRanges {
    let since = all_since(Since::At(at(from)));
    TimeRanges::new(&config(actions, ""), &Subset::default(), &since, until.map(at), None)
}

/// Returns ranges that begin at the last success of each action's webhook. `+` before a time stands for the creation of the webhook,
/// and `-` for no webhook.
fn last_trigger(begins: &[(&str, &str)], overlap: Duration) -> TimeRanges {
    let actions: Vec<&str> = begins.iter().map(|(action, _)| *action).collect();
    let config = config(&actions, "");
    let nexudus = config.nexudus.as_ref().unwrap();
    let records =
        begins.iter().filter(|(_, begin)| *begin != "-").enumerate().map(|(id, (action, begin))| {
            let (last, created) = match begin.strip_prefix('+') {
                Some(created) => (None, created),
                None => (Some(at(begin).to_string()), "00"),
            };
            Observed {
                id: id as i64,
                business_id: Some(7),
                action_id: None,
                url: format!("https://h.example.com/webhooks/{action}").into(),
                active: false,
                error_count: 10,
                last_error: None,
                last_trigger: last,
                created_on: Some(at(created).to_string()),
            }
        });
    let wanted = wanted(&config, &nexudus.public_url, &BTreeMap::new());
    let comparison = Comparison::new(&config, &nexudus.public_url, wanted, records.collect());
    let since = all_since(Since::LastTrigger(overlap));
    TimeRanges::new(&config, &Subset::default(), &since, None, Some(&comparison))
}

/// Returns the times of a record; `-` stands for a missing time.
fn times(created: &str, updated: &str) -> Times {
    let [created_on, updated_on] = [created, updated].map(|time| (time != "-").then(|| at(time)));
    Times { created_on, updated_on }
}

/// Judges a record of the location 7. Returns the names of the actions of its events, else the reason why it has none.
fn judged(ranges: &TimeRanges, entity: &str, created: &str, updated: &str) -> String {
    match ranges.judge(7, entities::named(entity).unwrap(), times(created, updated)) {
        Judgement::Events(events) => {
            let names: Vec<_> =
                events.iter().map(|(source, index)| source.actions.get(*index).name()).collect();
            names.join(" ")
        }
        Judgement::Elsewhere => "elsewhere".to_owned(),
        Judgement::Uncovered => "uncovered".to_owned(),
        Judgement::Outside => "outside".to_owned(),
    }
}

#[test]
fn creation_and_update_are_judged_independently() {
    let all = ["Booking*", "VisitorRegistered", "HelDeskMessageCreated", "BusinessUpdate"];
    for (entity, created, updated, expected) in [
        ("Booking", "10", "10", "BookingCreate"),
        ("Booking", "10:30", "11", "BookingCreate BookingUpdate"),
        ("Booking", "10:30", "10:30:02", "BookingCreate"), // one save
        ("Booking", "10:30", "10:30:02.1", "BookingCreate BookingUpdate"),
        ("Booking", "09:59:59.9", "10", "outside"),
        ("Booking", "09:59:59.9", "10:00:02", "BookingUpdate"),
        ("Booking", "08", "12", "BookingUpdate"),
        ("Booking", "-", "11", "BookingUpdate"),
        ("Booking", "11", "-", "BookingCreate"),
        ("Booking", "-", "-", "outside"),
        ("Booking", "08", "09:59:59.9999999", "outside"),
        ("Booking", "08", "12:00:00.1", "outside"),
        ("Booking", "11", "13", "BookingCreate"),
        ("Booking", "12:00:01", "13", "outside"),
        ("Booking", "11", "09", "BookingCreate"), // updated before it was created
        ("Visitor", "11", "11", "VisitorRegistered"),
        ("Visitor", "11", "11:30", "VisitorRegistered"),
        ("Visitor", "08", "11", "uncovered"),
        ("Visitor", "08", "13", "outside"),
        ("HelpDeskMessage", "11", "11", "HelDeskMessageCreated"),
        ("HelpDeskMessage", "08", "11", "uncovered"),
        ("Business", "08", "11", "BusinessUpdate"),
        ("Business", "11", "11", "uncovered"), // no action is about a created location
    ] {
        let ranges = since(&all, "10", Some("12"));
        assert_eq!(judged(&ranges, entity, created, updated), expected, "{entity} {created} {updated}");
    }
}

#[test]
fn a_change_whose_action_is_not_wanted_is_uncovered() {
    for (wanted, entity, created, updated, expected) in [
        (&["BookingUpdate"][..], "Booking", "11", "11", "uncovered"),
        (&["BookingUpdate"], "Booking", "11", "13", "BookingUpdate"),
        (&["BookingUpdate"], "Booking", "08", "11", "BookingUpdate"),
        (&["BookingCreate"], "Booking", "11", "12", "BookingCreate"),
        (&["BookingCreate"], "Booking", "08", "11", "uncovered"),
        (&["BookingCreate"], "Booking", "08", "09", "outside"),
        // Deletions and signals are not published for a change.
        (&["BookingDelete", "BookingCreate"], "Booking", "08", "11", "uncovered"),
    ] {
        let ranges = since(wanted, "10", None);
        assert_eq!(judged(&ranges, entity, created, updated), expected, "{wanted:?} {created} {updated}");
    }
}

fn first_change(ranges: &TimeRanges, entity: &Entity, times: Times) -> Option<Timestamp> {
    ranges.possible(entity, times, None).map(|(_, time)| time).min()
}

#[test]
fn the_first_change_is_the_earliest_event_or_the_beginning_if_a_time_is_missing() {
    let ranges = since(&["Booking*", "VisitorRegistered"], "10", Some("12"));
    for (entity, created, updated, expected) in [
        ("Booking", "10:30", "11", Some("10:30")),
        ("Booking", "08", "11", Some("11")),
        ("Booking", "10:30", "13", Some("10:30")),
        ("Booking", "11:00:00.5", "11:00:01", Some("11:00:00.5")),
        ("Booking", "-", "11", Some("10")), // may have been created in the range
        ("Booking", "11", "-", Some("10")),
        ("Booking", "08", "-", Some("10")),
        ("Booking", "08", "09", None),
        ("Booking", "08", "13", None),
        ("Visitor", "08", "11", None), // no action for it
        ("Visitor", "-", "11", Some("10")),
        ("Team", "11", "11", None), // no source wants it
    ] {
        let first = first_change(&ranges, entities::named(entity).unwrap(), times(created, updated));
        assert_eq!(first, expected.map(at), "{entity} {created} {updated}");
    }
}

/// Returns random minutes between 09:00 and 14:00, by an xorshift generator, so that each run has the same cases.
fn minutes(state: &mut u64, count: usize) -> Vec<Timestamp> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        at("09") + SignedDuration::from_mins(i64::try_from(*state % 300).unwrap())
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_resumed_run_publishes_every_event_that_is_left_and_none_under_another_action() {
    let all = ["BookingCreate", "BookingUpdate"];
    let booking = entities::named("Booking").unwrap();
    let events = |ranges: &TimeRanges, times: Times| -> Vec<usize> {
        match ranges.judge(7, booking, times) {
            Judgement::Events(events) => events.into_iter().map(|(_, action_index)| action_index).collect(),
            _ => Vec::new(),
        }
    };
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for case in 0..200 {
        let begins = minutes(&mut state, 2);
        let named = all.iter().zip(&begins);
        let named =
            named.map(|(action, begin)| (("default".to_owned(), (*action).to_owned()), *begin)).collect();
        let since = Beginnings { named, ..Beginnings::default() };
        let whole = TimeRanges::new(&config(&all, ""), &Subset::default(), &since, None, None);
        let record = |_| {
            let times = minutes(&mut state, 2);
            Times { created_on: times.iter().min().copied(), updated_on: times.iter().max().copied() }
        };
        let mut records: Vec<Times> = (0..12).map(record).collect();
        records.retain(|times| first_change(&whole, booking, *times).is_some());
        records.sort_by_key(|times| first_change(&whole, booking, *times));
        for (done, first) in records.iter().enumerate() {
            let resumed = whole.clone().not_before(first_change(&whole, booking, *first).unwrap());
            for (number, times) in records.iter().enumerate() {
                let (before, after) = (events(&whole, *times), events(&resumed, *times));
                assert!(after.iter().all(|event| before.contains(event)), "{case} {times:?}");
                assert!(number < done || after == before, "{case}: {times:?} lost {before:?}, got {after:?}");
            }
        }
    }
}

#[test]
fn a_range_begins_with_a_whole_second_and_ends_at_until() {
    let ranges = since(&["Team*"], "10:00:00.75", Some("12"));
    assert_eq!(ranges.earliest(), Some(at("10")));
    assert_eq!((judged(&ranges, "Team", "08", "10"), judged(&ranges, "Team", "10", "10")), {
        ("TeamUpdated".to_owned(), "TeamCreated".to_owned())
    });
    assert_eq!(judged(&ranges, "Team", "08", "12"), "TeamUpdated");
}

#[test]
fn each_webhook_s_last_success_less_the_overlap_begins_its_action_s_range() {
    let hour = Duration::from_secs(3600);
    let both = last_trigger(&[("BookingCreate", "12"), ("BookingUpdate", "11")], hour);
    for (created, updated, expected) in [
        ("11", "11", "BookingCreate"),
        ("11", "12", "BookingCreate BookingUpdate"),
        ("10:30", "12", "BookingUpdate"), // its creation was delivered
        ("10:30", "10:30", "outside"),    // so was this one, and it was never updated
        ("09", "10", "BookingUpdate"),
        ("09", "09:59", "outside"),
    ] {
        assert_eq!(judged(&both, "Booking", created, updated), expected, "{created} {updated}");
    }
    assert_eq!(
        (both.begin(entities::named("booking").unwrap()), both.earliest()),
        (Some(at("10")), Some(at("10")))
    );

    let late = last_trigger(&[("BookingCreate", "10"), ("BookingUpdate", "13")], hour);
    for (created, updated, expected) in [
        ("09", "14", "BookingCreate BookingUpdate"),
        ("09", "11", "BookingCreate"),
        ("08", "12", "BookingUpdate"),
        ("08", "11", "outside"), // that update was delivered
    ] {
        assert_eq!(judged(&late, "Booking", created, updated), expected, "{created} {updated}");
    }

    let partly =
        last_trigger(&[("TeamUpdated", "+11"), ("TeamCreated", "-"), ("TeamDeleted", "12")], Duration::ZERO);
    assert_eq!(partly.unknown, ["default/TeamCreated"]);
    assert_eq!(partly.unreadable, ["TeamDeleted"]);
    assert_eq!(partly.earliest(), Some(at("11")), "when the webhook was created");
    assert_eq!(judged(&partly, "Team", "11", "11"), "uncovered");
    assert_eq!(judged(&partly, "Team", "10", "11"), "TeamUpdated");
    let far = last_trigger(&[("TeamUpdated", "12")], Duration::MAX);
    assert_eq!(far.earliest(), Some(Timestamp::MIN), "before all time");
}

#[test]
fn several_sources_of_a_location_are_judged_independently() {
    let more = "[sources.twin]\nsecrets = [\"s\"]\nbusiness_id = 7\nactions = [\"TeamUpdated\"]\n\
                [sources.north]\nsecrets = [\"s\"]\nbusiness_id = 8\nactions = [\"Checkin*\"]\n\
                [sources.nowhere]\nsecrets = [\"s\"]\n";
    let config = config(&["BookingCreate", "TeamCreated"], more);
    let ranges = |sources: &[String], kinds: &[&'static Entity]| {
        let subset = Subset { sources: sources.to_vec(), entities: kinds.to_vec() };
        TimeRanges::new(&config, &subset, &all_since(Since::At(at("10"))), None, None)
    };
    let judged = |ranges: &TimeRanges, business_id: i64, entity: &str| {
        let judgement = ranges.judge(business_id, entities::named(entity).unwrap(), times("09", "11"));
        let Judgement::Events(events) = judgement else { return format!("{judgement:?}") };
        let names = events.iter().map(|(source, index)| format!("{} {index}", source.name));
        names.collect::<Vec<_>>().join(", ")
    };
    let all = ranges(&[], &[]);
    let twin = config.sources["twin"].actions.find("TeamUpdated").unwrap();
    assert_eq!(judged(&all, 7, "Team"), format!("twin {twin}"), "the source default does not want it");
    assert_eq!(judged(&all, 8, "Team"), "Uncovered", "others want it, this source does not");
    assert_eq!(judged(&all, 9, "Team"), "Elsewhere");
    assert_eq!(judged(&all, 7, "Visitor"), "Outside", "no source has an action for it");
    let check = |ranges: &TimeRanges, entity: &str| {
        let entities = vec![entities::named(entity).unwrap()];
        ranges.check(&Beginnings::default(), &Subset { entities, ..Subset::default() }).is_ok()
    };
    assert!(check(&all, "Team") && check(&all, "Checkin") && !check(&all, "Visitor"));

    let north = ranges(&["north".to_owned()], &[]);
    assert_eq!((judged(&north, 7, "Team"), check(&north, "Team")), ("Elsewhere".to_owned(), false));
    assert_eq!(north.unreadable, ["CheckinDeleted"]);
    let teams = ranges(&[], &[entities::named("Team").unwrap()]);
    assert_eq!(teams.begin(entities::named("Booking").unwrap()), None);
    assert_eq!(teams.unreadable, [""; 0]);
    let extra = since(&["Brandnew", "TeamDeleted"], "10", None);
    assert_eq!(
        (extra.unreadable.clone(), extra.earliest()),
        (vec!["Brandnew".to_owned(), "TeamDeleted".to_owned()], None)
    );
}

#[test]
fn a_named_action_has_a_range_of_its_own_and_others_have_the_common_one_or_none() {
    let more = "[sources.north]\nsecrets = [\"s\"]\nbusiness_id = 8\nactions = [\"BookingUpdate\"]\n";
    let config = config(&["BookingCreate", "BookingUpdate"], more);
    let named = [(("default".to_owned(), "BookingCreate".to_owned()), at("11:00:00.5"))];
    let ranges = |all: Option<Since>| {
        TimeRanges::new(
            &config,
            &Subset::default(),
            &Beginnings { all, named: named.clone().into(), before_outages: None },
            None,
            None,
        )
    };
    let both = ranges(Some(Since::At(at("10"))));
    for (created, updated, expected) in [
        ("11", "12", "BookingCreate BookingUpdate"),
        ("10:30", "12", "BookingUpdate"),
        ("09", "09", "outside"),
    ] {
        assert_eq!(judged(&both, "Booking", created, updated), expected, "{created} {updated}");
    }
    let alone = ranges(None);
    assert_eq!(
        (judged(&alone, "Booking", "11", "12"), alone.earliest()),
        ("BookingCreate".into(), Some(at("11")))
    );
    assert_eq!(judged(&alone, "Booking", "10", "12"), "uncovered");
    assert_eq!(alone.unknown, [""; 0]);
}

#[test]
fn the_printed_values_of_since_give_the_same_ranges_again() {
    let lines = |ranges: &TimeRanges| ranges.beginnings().arguments();
    let same = since(&["Team*", "Visitor*"], "10:00:00.75", None);
    assert_eq!(lines(&same), ["2026-03-02T10:00:00Z"]);
    assert_eq!(lines(&same.not_before(at("11"))), ["2026-03-02T11:00:00Z"]);

    let begins = [("BookingCreate", "12"), ("BookingUpdate", "10"), ("TeamUpdated", "11")];
    let all = last_trigger(&begins, Duration::ZERO);
    assert_eq!(lines(&all).len(), 3);
    let later = lines(&all.clone().not_before(at("11")));
    assert_eq!(later, ["2026-03-02T11:00:00Z", "default/BookingCreate=2026-03-02T12:00:00Z"]);

    // An action with an unknown beginning has no range, even if all others share one beginning.
    let partly = last_trigger(&[("TeamUpdated", "11"), ("TeamCreated", "-")], Duration::ZERO);
    assert_eq!(lines(&partly), ["default/TeamUpdated=2026-03-02T11:00:00Z"]);
    for ranges in [all, partly] {
        let actions: Vec<&str> = begins.iter().map(|(action, _)| *action).chain(["TeamCreated"]).collect();
        let wanted: Vec<&str> = actions
            .iter()
            .copied()
            .filter(|it| ranges.sources[0].wanted.contains(&ranges.sources[0].actions.find(it).unwrap()))
            .collect();
        let again =
            TimeRanges::new(&config(&wanted, ""), &Subset::default(), &ranges.beginnings(), None, None);
        let begins = |ranges: &TimeRanges| -> Vec<_> {
            ranges.ranges.iter().map(|range| (range.entry.name, range.begin)).collect()
        };
        assert_eq!(begins(&again), begins(&ranges));
    }
}
