//! The kinds of records, as data beside the catalogue: the field that holds the location of each.
//!
//! Nexudus documents the filter `from_{Entity}_UpdatedOn` for lists of webhooks; for the others the name is inferred. The bridge
//! filters the records again, so nothing depends on it. Location fields are those of
//! Nexudus's API pages on each entity; where a record has none, or leaves it empty, the record that it is a part of has it. A
//! customer, a tariff or a product is no such whole: theirs can be another location than that of a check-in or a contract.

use crate::action::catalogue::{ENTRIES, Entry};

/// The field that holds the location of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationField {
    /// In this field.
    Field(&'static str),
    /// In the first field; else in the second, a list, if it names one only.
    FieldOrOnly(&'static str, &'static str),
    /// The record is the location.
    Itself,
    /// In the record of another kind whose `Id` this field holds.
    Of(&'static str, &'static str),
    /// In the first field; else as with [`LocationField::Of`] the other two.
    FieldOrOf(&'static str, &'static str, &'static str),
}

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity {
    /// Its name, as the API's filters have it.
    pub name: &'static str,
    /// The field with the location.
    pub location: LocationField,
}

use LocationField::{Field, FieldOrOf, FieldOrOnly, Itself, Of};

#[rustfmt::skip]
static ENTITIES: [Entity; 27] = [
    entity("BlogPost", Field("BusinessId")),
    entity("Booking", Of("ResourceId", "Resource")),
    entity("Business", Itself),
    entity("CalendarEvent", Field("BusinessId")),
    entity("Checkin", Field("BusinessId")),
    entity("CommunityGroup", Field("BusinessId")),
    entity("CommunityMessage", Of("CommunityThreadId", "CommunityThread")),
    entity("CommunityThread", FieldOrOf("BusinessId", "CommunityGroupId", "CommunityGroup")),
    entity("Coworker", FieldOrOnly("InvoicingBusinessId", "Businesses")),
    entity("CoworkerContract", Field("IssuedById")),
    entity("CoworkerDelivery", Field("BusinessId")),
    entity("CoworkerInvoice", Field("BusinessId")),
    entity("CoworkerLedgerEntry", FieldOrOf("BusinessId", "CoworkerInvoiceId", "CoworkerInvoice")),
    entity("CoworkerMessage", Of("CoworkerId", "Coworker")),
    entity("CoworkerPaymentMethod", Field("BusinessId")),
    entity("CoworkerProduct", Field("BusinessId")),
    entity("EventAttendee", FieldOrOf("BusinessId", "CalendarEventId", "CalendarEvent")),
    entity("FloorPlan", Field("BusinessId")),
    entity("FloorPlanDesk", FieldOrOf("FloorPlanBusinessId", "FloorPlanId", "FloorPlan")),
    entity("GlobalChatMessage", Field("BusinessId")),
    entity("HelpDeskComment", Of("HelpDeskMessageId", "HelpDeskMessage")),
    entity("HelpDeskMessage", Field("BusinessId")),
    entity("NewsLetterSubscriber", Field("BusinessId")),
    entity("Product", Field("BusinessId")),
    entity("Proposal", Field("IssuedById")),
    entity("Tariff", Field("BusinessId")),
    entity("Team", Field("BusinessId")),
];

/// Kinds without an action, to which other kinds belong.
static PARENTS: [Entity; 1] = [entity("Resource", Field("BusinessId"))];

/// Visitors, whose first action is called *registered*.
static VISITOR: Entity = entity("Visitor", Field("BusinessId"));

const fn entity(name: &'static str, location: LocationField) -> Entity {
    Entity { name, location }
}

/// Every kind of record with an action.
pub fn all() -> impl Iterator<Item = &'static Entity> {
    ENTITIES.iter().chain([&VISITOR])
}

/// A kind by its name, in any case; also of those that others belong to.
pub fn named(name: &str) -> Option<&'static Entity> {
    all().chain(&PARENTS).find(|entity| entity.name.eq_ignore_ascii_case(name))
}

/// Path of the API for rooms and desks, which have no action.
const RESOURCES: &str = "/api/spaces/resources";

impl Entity {
    /// The path of the API that lists the records.
    pub fn path(&self) -> &'static str {
        ENTRIES.iter().find(|entry| entry.entity == self.name).map_or(RESOURCES, |entry| entry.api_path)
    }

    /// The action of a new record, if there is one.
    pub fn created(&self) -> Option<&'static Entry> {
        self.action("created").or_else(|| self.action("registered"))
    }

    /// The action of a changed record, if there is one.
    pub fn updated(&self) -> Option<&'static Entry> {
        self.action("updated")
    }

    /// Returns true if this is the action of a new or changed record.
    pub fn is_changed_by(&self, action: &Entry) -> bool {
        [self.created(), self.updated()].contains(&Some(action))
    }

    /// The field that names the record that such a record is a part of, and that record's kind.
    pub fn parent(&self) -> Option<(&'static str, &'static Entity)> {
        match self.location {
            LocationField::Of(field, kind) | LocationField::FieldOrOf(_, field, kind) => {
                Some((field, named(kind)?))
            }
            LocationField::Field(_) | LocationField::FieldOrOnly(..) | LocationField::Itself => None,
        }
    }

    fn action(&self, verb: &str) -> Option<&'static Entry> {
        ENTRIES.iter().find(|entry| entry.entity == self.name && entry.verb == verb)
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
    fn what_can_be_read_back_are_changes_and_every_parent_is_known() {
        let entries = all().flat_map(|entity| [entity.created(), entity.updated()]).flatten();
        let entries: Vec<&Entry> = entries.collect();
        assert!(entries.iter().all(|entry| entry.kind == Kind::Change));
        let verbs = ["created", "registered", "updated"];
        let changes = ENTRIES.iter().filter(|entry| verbs.contains(&entry.verb));
        assert_eq!((entries.len(), changes.count()), (46, 46));
        for entity in all() {
            if let Of(_, kind) | FieldOrOf(_, _, kind) = entity.location {
                let (_, parent) = entity.parent().unwrap();
                assert_eq!(parent.name, kind);
                // A part of a part may be; of one another, not.
                let above = parent.parent().and_then(|(_, above)| above.parent());
                assert!(above.is_none(), "{}", entity.name);
            }
        }
        assert_eq!(named("visitor").unwrap().created().unwrap().name, "VisitorRegistered");
        assert_eq!(named("Business").unwrap().created(), None);
    }
}
