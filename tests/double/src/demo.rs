//! A small network for the tour, and for tests that need some records; and random events at its locations.

use jiff::SignedDuration;

use crate::record::{self, quoted};
use crate::records::Unknown;
use crate::state::{Happened, World};
use crate::token::Account;

pub use crate::token::{EMAIL, PASSWORD};

/// The top of the network.
pub const NETWORK: i64 = 1_999_000_000;

/// The locations below it.
pub const LOCATIONS: [i64; 2] = [1_999_000_001, 1_999_000_002];

/// Their names.
const NAMES: [&str; 2] = ["Espacio Ñandú", "Example North"];

/// Entities that each location has a record of, those that others belong to first.
const ENTITIES: [&str; 9] = [
    "Resource",
    "Coworker",
    "Booking",
    "CoworkerContract",
    "Team",
    "Visitor",
    "Tariff",
    "CommunityThread",
    "HelpDeskMessage",
];

/// The demo's administrator.
pub fn administrator() -> Account {
    Account::administrator(EMAIL, PASSWORD)
}

impl World {
    /// Adds the demo's network: three businesses, nine records at each of the two locations, and their shared secret if
    /// there is one. Silently; there are no webhooks yet.
    pub fn populate(&self, secret: Option<&str>) {
        self.add_business(NETWORK, "Example Spaces", None);
        for (business_id, name) in LOCATIONS.into_iter().zip(NAMES) {
            self.add_location(business_id, name);
            self.set_secret(business_id, secret);
        }
    }

    /// Adds a location to the demo's network, with records of its own.
    pub fn add_location(&self, business_id: i64, name: &str) {
        self.add_business(business_id, name, Some(NETWORK));
        for entity in ENTITIES {
            let example = self.example(entity, business_id).expect("it is a kind of record");
            self.add(entity, business_id, example).expect("it is a kind of record");
        }
    }
}

/// The most records of a kind that are made at a location; then the oldest goes instead.
const MOST: usize = 30;

/// Names of visitors.
const GUESTS: [&str; 6] =
    ["Zoë Ünsal-Exemple", "Łukasz Przykład", "Пример Примеров", "王示例", "Ana Exemplo 😀", "Sam Sample"];

/// What people write into bookings.
const NOTES: [&str; 4] =
    ["Teeküche bitte mit 🍵", "Needs the projector", "Réunion d’équipe", "Sin proyector, por favor"];

/// What people are.
const POSITIONS: [&str; 4] = ["Diseñador", "Geschäftsführerin", "Développeuse", "Accountant"];

impl World {
    /// Lets something happen at a location, by chance: mostly a booking is made or changed, often a visitor is registered
    /// or a coworker changes, sometimes somebody checks in, seldom a booking is deleted. What is not there to
    /// be changed or deleted is made.
    ///
    /// # Errors
    /// [`Unknown`], in practice never.
    pub fn something_happens(&self, business_id: i64) -> Result<Happened, Unknown> {
        let later = |hours: SignedDuration| quoted(&record::time_to_the_second(self.now() + hours));
        match fastrand::u32(0..100) {
            0..32 => {
                let begin = SignedDuration::from_hours(fastrand::i64(1..72));
                let end = begin + SignedDuration::from_hours(1);
                let times = [("FromTime", later(begin)), ("ToTime", later(end))];
                self.made("Booking", business_id, &times)
            }
            32..58 => {
                let notes = quoted(one_of(&NOTES));
                self.changed("Booking", business_id, ("Notes", notes))
            }
            58..73 => {
                let position = quoted(one_of(&POSITIONS));
                self.changed("Coworker", business_id, ("Position", position))
            }
            73..87 => {
                let name = quoted(one_of(&GUESTS));
                let arrival = later(SignedDuration::from_hours(fastrand::i64(1..48)));
                let fields =
                    [("FullName", name.clone()), ("ToStringText", name), ("ExpectedArrival", arrival)];
                self.made("Visitor", business_id, &fields)
            }
            87..96 => {
                let now = later(SignedDuration::ZERO);
                self.made("Checkin", business_id, &[("FromTime", now)])
            }
            _ => self.ended("Booking", business_id),
        }
    }

    fn made(&self, entity: &str, business_id: i64, fields: &[(&str, String)]) -> Result<Happened, Unknown> {
        if self.lock().ids_at(entity, business_id).len() >= MOST {
            return self.ended(entity, business_id);
        }
        let mut record = self.example(entity, business_id)?;
        fields.iter().for_each(|(field, json)| record.set(field, json.as_str()));
        self.create(entity, business_id, record)
    }

    fn changed(
        &self,
        entity: &str,
        business_id: i64,
        (field, json): (&str, String),
    ) -> Result<Happened, Unknown> {
        let ids = self.lock().ids_at(entity, business_id);
        match fastrand::choice(&ids) {
            Some(id) => self.update(entity, *id, &[(field, &json)]),
            None => self.made(entity, business_id, &[]),
        }
    }

    /// The oldest goes.
    fn ended(&self, entity: &str, business_id: i64) -> Result<Happened, Unknown> {
        let oldest = self.lock().ids_at(entity, business_id).first().copied();
        match oldest {
            Some(oldest) => self.delete(entity, oldest),
            None => self.made(entity, business_id, &[]),
        }
    }
}

fn one_of<'a>(texts: &[&'a str]) -> &'a str {
    texts[fastrand::usize(..texts.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nexudus;
    use crate::state::Options;
    use std::collections::BTreeSet;

    #[test]
    fn a_day_has_several_kinds_of_events_at_its_location_only_and_the_network_does_not_grow_without_end() {
        let nexudus = Nexudus::start(Options::default()).unwrap();
        nexudus.populate(None);
        let [here, there] = LOCATIONS;
        let elsewhere = nexudus.lock().ids_at("Booking", there);
        let mut actions = BTreeSet::new();
        for _ in 0..2000 {
            actions.extend(nexudus.something_happens(here).unwrap().action);
        }
        for action in [
            "BookingCreate",
            "BookingUpdate",
            "BookingDelete",
            "CoworkerUpdate",
            "VisitorRegistered",
            "CheckinCreated",
        ] {
            assert!(actions.contains(action), "{action} in {actions:?}");
        }
        let state = nexudus.lock();
        assert_eq!(state.ids_at("Booking", there), elsewhere);
        for entity in ["Booking", "Visitor", "Checkin"] {
            let count = state.ids_at(entity, here).len();
            assert!((1..=MOST).contains(&count), "{count} {entity}");
        }
    }

    #[test]
    fn a_booking_is_of_a_room_at_its_location() {
        let nexudus = Nexudus::start(Options::default()).unwrap();
        nexudus.populate(None);
        for business_id in LOCATIONS {
            let booking = nexudus.example("Booking", business_id).unwrap();
            let room = nexudus.record("Resource", booking.number("ResourceId").unwrap()).unwrap();
            assert_eq!(room.number("BusinessId"), Some(business_id));
        }
    }
}
