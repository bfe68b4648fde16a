use super::*;
use crate::catch_up::entities;
use crate::catch_up::since::Since;
use crate::config::load::{Environment, load};
use crate::kafka::settings::check_property;

/// A moment on a day of March.
fn on(day: u32) -> Timestamp {
    format!("2026-03-{day:02}T00:00:00Z").parse().unwrap()
}

/// From the 10th on, for bookings and visitors.
fn window() -> Window {
    let toml = "[nexudus]\ntoken = \"t\"\npublic_url = \"https://h.example.com\"\n[sources.default]\nsecrets = [\"s\"]\n\
                business_id = 7\nactions = [\"Booking*\", \"Visitor*\"]\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let config = load(Some(file.path()), &Environment::new(), check_property).unwrap().config;
    Window::new(&config, (&[], &[]), &Since::At(on(10)).into(), None, None)
}

/// A record that was created and changed on these days; 0: the list does not say.
fn candidate((created, updated): (u32, u32)) -> Candidate {
    let moment = |day: u32| (day > 0).then(|| on(day));
    Candidate {
        entity: entities::named("Booking").unwrap(),
        id: 1,
        updated_on: moment(updated),
        created_on: moment(created),
        business_id: None,
    }
}

#[test]
fn a_later_run_finds_a_record_from_its_change_on_and_sees_it_as_new_from_its_creation_on() {
    for (created, updated, expected) in [
        (11, 15, 11), // is new
        (10, 15, 10),
        (9, 15, 15), // is not, and need not become it
        (0, 15, 10), // may be
        (11, 0, 11),
        (9, 0, 10), // the list does not say when it changed
        (0, 0, 10),
        (15, 12, 12),
    ] {
        let found = begin(&candidate((created, updated)), &window());
        assert_eq!(found, Some(on(expected)), "{created} {updated}");
    }
    let fraction = Some("2026-03-15T10:00:00.75Z".parse().unwrap());
    let found = begin(&Candidate { updated_on: fraction, ..candidate((9, 15)) }, &window());
    assert_eq!(found, Some("2026-03-15T10:00:00Z".parse().unwrap()), "as windows begin");
    let team = Candidate { entity: entities::named("Team").unwrap(), ..candidate((0, 0)) };
    assert_eq!(begin(&team, &window()), None, "nobody wants it");
}

#[test]
fn a_run_goes_on_where_all_that_is_left_is_found_and_nothing_that_was_new_comes_as_changed() {
    type Days = (u32, u32);
    let cases: &[(&[Days], &[usize], Option<u32>)] = &[
        (&[], &[], None),
        (&[(1, 11), (1, 12)], &[], None),
        (&[(1, 11), (1, 12), (1, 13)], &[1, 2], Some(12)),
        (&[(1, 11), (12, 12), (12, 13)], &[2], Some(12)),
        // The third was published as new. It is found again from the 12th on, so it has to be seen as new again.
        (&[(1, 11), (1, 12), (11, 13), (12, 14)], &[3], Some(11)),
        // One leads to the other: found from the 13th on, new since the 12th; found from there on, new since the 11th.
        (&[(1, 11), (11, 12), (12, 14), (13, 15)], &[3], Some(11)),
        // It was new, but a run from the 14th on does not find it.
        (&[(11, 13), (1, 14)], &[1], Some(14)),
        // One that failed in the middle.
        (&[(1, 11), (1, 12), (1, 13)], &[1], Some(12)),
        // The list does not say when one of them changed, so each run reads it, and must see it as this one did.
        (&[(0, 0), (1, 12), (1, 13)], &[2], Some(10)),
        (&[(11, 0), (1, 12), (1, 13)], &[2], Some(11)),
        // Nor whether one that is found again is new.
        (&[(1, 12), (1, 13), (0, 14)], &[1], Some(10)),
        (&[(0, 12), (1, 13)], &[1], Some(13)),
        (&[(0, 0), (1, 12)], &[0], Some(10)),
    ];
    for (days, left, expected) in cases {
        let all: Vec<Candidate> = days.iter().copied().map(candidate).collect();
        let left: Vec<&Candidate> = left.iter().map(|&at| &all[at]).collect();
        assert_eq!(go_on(&left, &all, &window()), expected.map(on), "{days:?}");
    }
    // The next run begins with the whole second, so it finds the first one again, and must see that it was new.
    let times = [("10:00:00", "12:00:00.2"), ("09:00:00", "12:00:00.7")];
    let all = times.map(|times| {
        let [created, updated] =
            [times.0, times.1].map(|time| format!("2026-03-12T{time}Z").parse::<Timestamp>().unwrap());
        Candidate { created_on: Some(created), updated_on: Some(updated), ..candidate((0, 0)) }
    });
    let left = Candidate { created_on: Some(on(9)), ..all[1].clone() };
    let all = [all[0].clone(), left.clone()];
    assert_eq!(go_on(&[&left], &all, &window()), Some("2026-03-12T10:00:00Z".parse().unwrap()));
}
