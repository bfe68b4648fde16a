//! A small network to begin with: for the tour, and for tests that need some records.

use super::state::World;
use super::token::Account;

/// The e-mail address of the demo's administrator.
pub const EMAIL: &str = "admin@example.com";

/// The administrator's password, known to everybody.
pub const PASSWORD: &str = "nexudus-double";

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
