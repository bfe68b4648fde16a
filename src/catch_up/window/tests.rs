use std::time::Duration;

use super::Meaning::{Outside, Uncovered};
use super::*;
use crate::config::load::{Environment, load};
use crate::kafka::settings::check_property;
use crate::webhooks::observed::Observed;
use crate::webhooks::wanted::wanted;

/// A configuration whose source `default` is at location 7 and wants these actions; then more.
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

fn since(actions: &[&str], from: &str, until: Option<&str>) -> Window {
    Window::new(&config(actions, ""), &Subset::default(), &Since::At(at(from)).into(), until.map(at), None)
}

/// A window in which each action of `default` begins at its own moment, as its webhook tells; `-`: no such webhook.
fn last_trigger(begins: &[(&str, &str)], overlap: Duration) -> Window {
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
    let wanted = wanted(&config, nexudus, &[], &BTreeMap::new());
    let comparison = Comparison::new(&config, &nexudus.public_url, wanted, records.collect());
    Window::new(&config, &Subset::default(), &Since::LastTrigger(overlap).into(), None, Some(&comparison))
}

/// Judges a record for `default`: the names of the actions of its events, else `uncovered` or `outside`.
fn told(window: &Window, entity: &str, created: &str, updated: &str) -> String {
    let [created_on, updated_on] = [created, updated].map(|time| (time != "-").then(|| at(time)));
    let meanings = window.meanings(7, entities::named(entity).unwrap(), Times { created_on, updated_on });
    let names = meanings.iter().map(|(source, meaning)| match meaning {
        Meaning::Event(index) => source.actions.get(*index).name(),
        Uncovered => "uncovered",
        Outside => "outside",
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn creation_and_update_are_judged_each_on_its_own() {
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
        ("Business", "11", "11", "uncovered"), // there is no action for a created location
    ] {
        let window = since(&all, "10", Some("12"));
        assert_eq!(told(&window, entity, created, updated), expected, "{entity} {created} {updated}");
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
        let window = since(wanted, "10", None);
        assert_eq!(told(&window, entity, created, updated), expected, "{wanted:?} {created} {updated}");
    }
}

#[test]
fn the_first_change_is_the_earliest_event_and_the_beginning_where_a_time_is_missing() {
    let window = since(&["Booking*", "VisitorRegistered"], "10", Some("12"));
    for (entity, created, updated, expected) in [
        ("Booking", "10:30", "11", Some("10:30")),
        ("Booking", "08", "11", Some("11")),
        ("Booking", "10:30", "13", Some("10:30")),
        ("Booking", "11:00:00.5", "11:00:01", Some("11:00:00.5")),
        ("Booking", "-", "11", Some("10")), // may have been created in the window
        ("Booking", "11", "-", Some("10")),
        ("Booking", "08", "-", Some("10")),
        ("Booking", "08", "09", None),
        ("Booking", "08", "13", None),
        ("Visitor", "08", "11", None), // no action for it
        ("Visitor", "-", "11", Some("10")),
        ("Team", "11", "11", None), // no source wants it
    ] {
        let [created_on, updated_on] = [created, updated].map(|time| (time != "-").then(|| at(time)));
        let first =
            window.first_change(entities::named(entity).unwrap(), Times { created_on, updated_on }, None);
        assert_eq!(first, expected.map(at), "{entity} {created} {updated}");
    }
}

/// The minutes of a case between 09:00 and 14:00, by an xorshift generator: the same cases in each run.
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
    let events = |window: &Window, times: Times| -> Vec<Meaning> {
        let meanings = window.meanings(7, booking, times).into_iter().map(|(_, meaning)| meaning);
        meanings.filter(|meaning| matches!(meaning, Meaning::Event(_))).collect()
    };
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for case in 0..200 {
        let begins = minutes(&mut state, 2);
        let named = all.iter().zip(&begins);
        let named =
            named.map(|(action, begin)| (("default".to_owned(), (*action).to_owned()), *begin)).collect();
        let since = Beginnings { named, ..Beginnings::default() };
        let whole = Window::new(&config(&all, ""), &Subset::default(), &since, None, None);
        let record = |_| {
            let times = minutes(&mut state, 2);
            Times { created_on: times.iter().min().copied(), updated_on: times.iter().max().copied() }
        };
        let mut records: Vec<Times> = (0..12).map(record).collect();
        records.retain(|times| whole.first_change(booking, *times, None).is_some());
        records.sort_by_key(|times| whole.first_change(booking, *times, None));
        for (done, first) in records.iter().enumerate() {
            let resumed = whole.clone().not_before(whole.first_change(booking, *first, None).unwrap());
            for (number, times) in records.iter().enumerate() {
                let (before, after) = (events(&whole, *times), events(&resumed, *times));
                assert!(after.iter().all(|event| before.contains(event)), "{case} {times:?}");
                assert!(number < done || after == before, "{case}: {times:?} lost {before:?}, got {after:?}");
            }
        }
    }
}

#[test]
fn a_window_begins_with_a_whole_second_and_ends_at_until() {
    let window = since(&["Team*"], "10:00:00.75", Some("12"));
    assert_eq!(window.earliest(), Some(at("10")));
    assert_eq!((told(&window, "Team", "08", "10"), told(&window, "Team", "10", "10")), {
        ("TeamUpdated".to_owned(), "TeamCreated".to_owned())
    });
    assert_eq!(told(&window, "Team", "08", "12"), "TeamUpdated");
    let before_1970 = "1969-12-31T23:59:58.5Z".parse().unwrap();
    assert_eq!(whole_second(before_1970), Some("1969-12-31T23:59:58Z".parse().unwrap()));
}

#[test]
fn each_webhook_s_last_success_less_the_overlap_begins_its_action_s_window() {
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
        assert_eq!(told(&both, "Booking", created, updated), expected, "{created} {updated}");
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
        assert_eq!(told(&late, "Booking", created, updated), expected, "{created} {updated}");
    }

    let partly =
        last_trigger(&[("TeamUpdated", "+11"), ("TeamCreated", "-"), ("TeamDeleted", "12")], Duration::ZERO);
    assert_eq!(partly.unknown, ["default/TeamCreated"]);
    assert_eq!(partly.unreadable, ["TeamDeleted"]);
    assert_eq!(partly.earliest(), Some(at("11")), "when the webhook was created");
    assert_eq!(told(&partly, "Team", "11", "11"), "uncovered");
    assert_eq!(told(&partly, "Team", "10", "11"), "TeamUpdated");
    let far = last_trigger(&[("TeamUpdated", "12")], Duration::MAX);
    assert_eq!((far.unknown.len(), far.earliest()), (1, None), "before all time");
}

#[test]
fn several_sources_of_a_location_are_judged_each_for_itself() {
    let more = "[sources.twin]\nsecrets = [\"s\"]\nbusiness_id = 7\nactions = [\"TeamUpdated\"]\n\
                [sources.north]\nsecrets = [\"s\"]\nbusiness_id = 8\nactions = [\"Checkin*\"]\n\
                [sources.nowhere]\nsecrets = [\"s\"]\n";
    let config = config(&["BookingCreate", "TeamCreated"], more);
    let window = |sources: &[String], kinds: &[&'static Entity]| {
        let subset = Subset { sources: sources.to_vec(), entities: kinds.to_vec() };
        Window::new(&config, &subset, &Since::At(at("10")).into(), None, None)
    };
    let all = window(&[], &[]);
    let meanings = |window: &Window, business_id: i64, entity: &str| -> Vec<String> {
        let entity = entities::named(entity).unwrap();
        let meanings = window.meanings(
            business_id,
            entity,
            Times { created_on: Some(at("09")), updated_on: Some(at("11")) },
        );
        meanings.iter().map(|(source, meaning)| format!("{} {meaning:?}", source.name)).collect()
    };
    let twin = config.sources["twin"].actions.find("TeamUpdated").unwrap();
    assert_eq!(meanings(&all, 7, "Team"), ["default Uncovered".to_owned(), format!("twin Event({twin})")]);
    assert_eq!(meanings(&all, 8, "Team"), ["north Uncovered"], "others want it, this source does not");
    assert_eq!(meanings(&all, 9, "Team"), [""; 0]);
    assert_eq!(meanings(&all, 7, "Visitor"), ["default Outside", "twin Outside"], "nobody wants it");
    let asked = |window: &Window, entity: &str| window.asks_for(entities::named(entity).unwrap());
    assert!(asked(&all, "Team") && asked(&all, "Checkin") && !asked(&all, "Visitor"));

    let north = window(&["north".to_owned()], &[]);
    assert_eq!((meanings(&north, 7, "Team"), asked(&north, "Team")), (Vec::new(), false));
    assert_eq!(north.unreadable, ["CheckinDeleted"]);
    let teams = window(&[], &[entities::named("Team").unwrap()]);
    assert_eq!(teams.begin(entities::named("Booking").unwrap()), None);
    assert_eq!(teams.unreadable, [""; 0]);
    let extra = since(&["Brandnew", "TeamDeleted"], "10", None);
    assert_eq!(
        (extra.unreadable.clone(), extra.earliest()),
        (vec!["Brandnew".to_owned(), "TeamDeleted".to_owned()], None)
    );
}

#[test]
fn an_action_that_is_named_has_a_window_of_its_own_and_the_others_that_of_all_or_none() {
    let more = "[sources.north]\nsecrets = [\"s\"]\nbusiness_id = 8\nactions = [\"BookingUpdate\"]\n";
    let config = config(&["BookingCreate", "BookingUpdate"], more);
    let named = [(("default".to_owned(), "BookingCreate".to_owned()), at("11:00:00.5"))];
    let window = |all: Option<Since>| {
        Window::new(
            &config,
            &Subset::default(),
            &Beginnings { all, named: named.clone().into(), before_outages: None },
            None,
            None,
        )
    };
    let both = window(Some(Since::At(at("10"))));
    for (created, updated, expected) in [
        ("11", "12", "BookingCreate BookingUpdate"),
        ("10:30", "12", "BookingUpdate"),
        ("09", "09", "outside"),
    ] {
        assert_eq!(told(&both, "Booking", created, updated), expected, "{created} {updated}");
    }
    let alone = window(None);
    assert_eq!(
        (told(&alone, "Booking", "11", "12"), alone.earliest()),
        ("BookingCreate".into(), Some(at("11")))
    );
    assert_eq!(told(&alone, "Booking", "10", "12"), "uncovered");
    assert_eq!(alone.unknown, [""; 0]);
}

#[test]
fn the_printed_values_of_since_give_the_same_windows_again() {
    let lines = |window: &Window| window.beginnings().arguments();
    let same = since(&["Team*", "Visitor*"], "10:00:00.75", None);
    assert_eq!(lines(&same), ["2026-03-02T10:00:00Z"]);
    assert_eq!(lines(&same.not_before(at("11"))), ["2026-03-02T11:00:00Z"]);

    let begins = [("BookingCreate", "12"), ("BookingUpdate", "10"), ("TeamUpdated", "11")];
    let all = last_trigger(&begins, Duration::ZERO);
    assert_eq!(lines(&all).len(), 3);
    let later = lines(&all.clone().not_before(at("11")));
    assert_eq!(later, ["2026-03-02T11:00:00Z", "default/BookingCreate=2026-03-02T12:00:00Z"]);

    // An action with an unknown beginning has no window, even if all others share one beginning.
    let partly = last_trigger(&[("TeamUpdated", "11"), ("TeamCreated", "-")], Duration::ZERO);
    assert_eq!(lines(&partly), ["default/TeamUpdated=2026-03-02T11:00:00Z"]);
    for window in [all, partly] {
        let actions: Vec<&str> = begins.iter().map(|(action, _)| *action).chain(["TeamCreated"]).collect();
        let wanted: Vec<&str> = actions
            .iter()
            .copied()
            .filter(|it| window.sources[0].wanted.contains(&window.sources[0].actions.find(it).unwrap()))
            .collect();
        let again = Window::new(&config(&wanted, ""), &Subset::default(), &window.beginnings(), None, None);
        assert_eq!(again.since, window.since);
    }
}
