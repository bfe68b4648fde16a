//! The kinds of records, as data beside the catalogue: the field that holds the location of each.
//!
//! Nexudus documents the filter `from_{Entity}_UpdatedOn` for lists of webhooks. For other lists the name is inferred, and the
//! bridge filters the records again. The location fields are those of Nexudus's API pages on each entity. A record without a
//! location has the location of the record that it is a part of. A check-in or a contract is not a part of its customer, tariff
//! or product: their locations can differ.

use crate::action::catalogue::{ENTRIES, Entry};
use crate::nexudus::record::RawRecord;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity {
    /// Its name in the API's filters.
    pub name: &'static str,
    /// The fields with the location, in the order of preference: its number, or a list with one number.
    location: &'static [&'static str],
    /// The field with the `Id` of the record that it is a part of, and the kind of that record.
    parent: Option<(&'static str, &'static str)>,
}

#[rustfmt::skip]
static ENTITIES: [Entity; 28] = [
    entity("BlogPost", &["BusinessId"]),
    entity("Booking", &[]).part_of("ResourceId", "Resource"),
    entity("Business", &["Id"]),
    entity("CalendarEvent", &["BusinessId"]),
    entity("Checkin", &["BusinessId"]),
    entity("CommunityGroup", &["BusinessId"]),
    entity("CommunityMessage", &[]).part_of("CommunityThreadId", "CommunityThread"),
    entity("CommunityThread", &["BusinessId"]).part_of("CommunityGroupId", "CommunityGroup"),
    entity("Coworker", &["InvoicingBusinessId", "Businesses"]),
    entity("CoworkerContract", &["IssuedById"]),
    entity("CoworkerDelivery", &["BusinessId"]),
    entity("CoworkerInvoice", &["BusinessId"]),
    entity("CoworkerLedgerEntry", &["BusinessId"]).part_of("CoworkerInvoiceId", "CoworkerInvoice"),
    entity("CoworkerMessage", &[]).part_of("CoworkerId", "Coworker"),
    entity("CoworkerPaymentMethod", &["BusinessId"]),
    entity("CoworkerProduct", &["BusinessId"]),
    entity("EventAttendee", &["BusinessId"]).part_of("CalendarEventId", "CalendarEvent"),
    entity("FloorPlan", &["BusinessId"]),
    entity("FloorPlanDesk", &["FloorPlanBusinessId"]).part_of("FloorPlanId", "FloorPlan"),
    entity("GlobalChatMessage", &["BusinessId"]),
    entity("HelpDeskComment", &[]).part_of("HelpDeskMessageId", "HelpDeskMessage"),
    entity("HelpDeskMessage", &["BusinessId"]),
    entity("NewsLetterSubscriber", &["BusinessId"]),
    entity("Product", &["BusinessId"]),
    entity("Proposal", &["IssuedById"]),
    entity("Tariff", &["BusinessId"]),
    entity("Team", &["BusinessId"]),
    entity("Visitor", &["BusinessId"]),
];

/// Rooms and desks, which bookings are a part of. They have no action.
static RESOURCE: Entity = entity("Resource", &["BusinessId"]);

/// The path of the API that lists rooms and desks.
const RESOURCES: &str = "/api/spaces/resources";

const fn entity(name: &'static str, location: &'static [&'static str]) -> Entity {
    Entity { name, location, parent: None }
}

/// Returns every kind of record with an action.
pub fn all() -> impl Iterator<Item = &'static Entity> {
    ENTITIES.iter()
}

/// Returns a kind by its name, in any case, or the kind `Resource`.
pub fn named(name: &str) -> Option<&'static Entity> {
    all().chain([&RESOURCE]).find(|entity| entity.name.eq_ignore_ascii_case(name))
}

impl Entity {
    const fn part_of(self, field: &'static str, kind: &'static str) -> Self {
        Self { parent: Some((field, kind)), ..self }
    }

    /// The path of the API that lists the records.
    pub fn path(&self) -> &'static str {
        ENTRIES.iter().find(|entry| entry.entity == self.name).map_or(RESOURCES, |entry| entry.api_path)
    }

    /// The actions of new and changed records.
    pub fn actions(&self) -> impl Iterator<Item = &'static Entry> {
        ENTRIES.iter().filter(|entry| entry.entity == self.name && entry.is_readable())
    }

    /// The field with the `Id` of the record that it is a part of, and the kind of that record.
    pub fn parent(&self) -> Option<(&'static str, &'static Entity)> {
        self.parent.and_then(|(field, kind)| Some((field, named(kind)?)))
    }

    /// Returns the location in a record's own fields.
    pub fn own_location(&self, record: &RawRecord) -> Option<i64> {
        let only = |list: Vec<i64>| if let [only] = list[..] { Some(only) } else { None };
        self.location
            .iter()
            .find_map(|field| record.integer(field).or_else(|| record.integers(field).and_then(only)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::action::Kind;

    #[test]
    fn the_kinds_are_those_of_the_catalogue() {
        let known: BTreeSet<_> = all().map(|entity| entity.name).collect();
        let catalogue: BTreeSet<_> = ENTRIES.iter().map(|entry| entry.entity).collect();
        assert_eq!(known, catalogue);
        assert_eq!(named("resource").unwrap().path(), RESOURCES);
    }

    #[test]
    fn each_kind_has_an_action_that_can_be_read_back_and_every_parent_is_known() {
        let entries: Vec<&Entry> = all().flat_map(Entity::actions).collect();
        assert!(entries.iter().all(|entry| entry.kind == Kind::Change));
        assert_eq!((entries.len(), ENTRIES.iter().filter(|entry| entry.is_readable()).count()), (46, 46));
        for entity in all() {
            assert!((1..=2).contains(&entity.actions().count()), "{}", entity.name);
            // A chain of parents ends after two steps, so it has no circle.
            let parent = |entity: &'static Entity| entity.parent().map(|(_, parent)| parent);
            assert_eq!(parent(entity).is_some(), entity.parent.is_some(), "{}", entity.name);
            assert_eq!(parent(entity).and_then(parent).and_then(parent), None, "{}", entity.name);
        }
        assert_eq!(named("visitor").unwrap().actions().next().unwrap().name, "VisitorRegistered");
    }
}
