use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::config::load::{Environment, load};
use crate::metrics::Metrics;
use nexudus_double::{Limits, Matching, Nexudus, Options, World, demo};

const BOOKINGS: Collection = Collection { entity: "Booking", path: "/api/spaces/bookings" };

/// Number of records on a page of the double.
const PAGE: usize = 5;

/// A change to the list after a page was read.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Deletes the record at this position, counted modulo the number of records.
    Delete(usize),
    /// Adds a record, which gets the largest `Id`.
    Add,
}

impl Change {
    fn apply(self, world: &World) {
        let ids = world.ids("Booking");
        match self {
            Self::Delete(position) if !ids.is_empty() => {
                world.remove("Booking", ids[position % ids.len()]).unwrap();
            }
            Self::Delete(_) => {}
            Self::Add => {
                let record = world.example("Booking", demo::LOCATIONS[0]).unwrap();
                world.add("Booking", demo::LOCATIONS[0], record).unwrap();
            }
        }
    }
}

fn nexudus() -> Nexudus {
    let nexudus = Nexudus::start(Options { limits: Limits::NONE, ..Options::default() }).unwrap();
    nexudus.adjust(|behaviour| behaviour.largest_page = PAGE);
    nexudus
}

fn client(nexudus: &Nexudus) -> ApiClient {
    let toml = format!(
        "[nexudus]\nbase_url = {:?}\nusername = {:?}\npassword = {:?}\npublic_url = \"https://h.example.com\"\n\
         requests_per_minute = 100000\nwrites_per_minute = 100000\nrequest_spacing = \"0s\"\n\
         [sources.default]\nsecrets = [\"s\"]\n",
        nexudus.base_url(),
        demo::EMAIL,
        demo::PASSWORD
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let config = load(Some(file.path()), &Environment::new(), |_, _| Ok(())).unwrap();
    ApiClient::new(&config.nexudus.unwrap(), Arc::new(Metrics::new(""))).unwrap()
}

/// Lists `count` records, and applies one element of `changes` after each page. Returns the records that existed during the
/// whole read, and the result.
async fn list(
    (nexudus, client): (&Nexudus, &ApiClient),
    count: usize,
    changes: Vec<Vec<Change>>,
) -> (BTreeSet<i64>, Result<BTreeSet<i64>, ApiError>) {
    nexudus.ids("Booking").into_iter().for_each(|id| drop(nexudus.remove("Booking", id).unwrap()));
    (0..count).for_each(|_| Change::Add.apply(nexudus));
    let before = nexudus.ids("Booking");
    let changes = Mutex::new(VecDeque::from(changes));
    nexudus.before_response(Matching::get(BOOKINGS.path).always(), move |world| {
        let changes = changes.lock().unwrap().pop_front();
        changes.into_iter().flatten().for_each(|change| change.apply(world));
    });
    let listed = client.list(BOOKINGS, &[], |_| ()).await;
    nexudus.heal();
    let after: BTreeSet<i64> = nexudus.ids("Booking").into_iter().collect();
    let stayed = before.into_iter().filter(|id| after.contains(id)).collect();
    (stayed, listed.map(|records| records.into_keys().collect()))
}

#[tokio::test]
async fn a_deletion_that_an_addition_hides_from_the_total_drops_no_record() {
    let nexudus = nexudus();
    let client = client(&nexudus);
    let (stayed, listed) = list((&nexudus, &client), 8, vec![vec![Change::Delete(0), Change::Add]]).await;
    assert_eq!(stayed.len(), 7);
    let listed = listed.unwrap();
    assert!(stayed.is_subset(&listed), "{stayed:?} {listed:?}");
}

#[tokio::test]
async fn one_page_is_read_once_and_several_twice_if_no_record_is_deleted() {
    let nexudus = nexudus();
    let client = client(&nexudus);
    for (count, pages) in [(0, 1), (5, 1), (6, 4), (15, 6)] {
        nexudus.clear_journal();
        let (stayed, listed) = list((&nexudus, &client), count, Vec::new()).await;
        assert_eq!(listed, Ok(stayed), "{count}");
        assert_eq!(nexudus.journal().of("GET", BOOKINGS.path).len(), pages, "{count}");
    }
    // Additions alone make no further pass.
    nexudus.clear_journal();
    let (stayed, listed) = list((&nexudus, &client), 6, vec![vec![Change::Add]; 4]).await;
    assert!(stayed.is_subset(&listed.unwrap()));
    assert_eq!(nexudus.journal().of("GET", BOOKINGS.path).len(), 4);
}

#[test]
fn no_record_that_existed_during_the_whole_read_is_missing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nexudus = nexudus();
    let client = client(&nexudus);
    let change = prop_oneof![any::<usize>().prop_map(Change::Delete), Just(Change::Add)];
    let changes = prop::collection::vec(prop::collection::vec(change, 0..3), 0..10);
    let accepted = AtomicUsize::new(0);
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 100, failure_persistence: None, ..Config::default() },
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let result = runner.run(&(1..30_usize, changes), |(count, changes)| {
        let (stayed, listed) = runtime.block_on(list((&nexudus, &client), count, changes));
        match listed {
            Ok(listed) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                prop_assert!(stayed.is_subset(&listed), "missing: {:?}", stayed.difference(&listed));
            }
            Err(error) => prop_assert_eq!(error.kind, ErrorKind::Shifting("Booking")),
        }
        Ok(())
    });
    result.unwrap();
    assert!(accepted.into_inner() > 60, "most lists are accepted");
}
