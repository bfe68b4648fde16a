//! The kinds of records that the double keeps: those of the catalogue, and the rooms and desks that bookings belong to,
//! of which no action tells.

use nexudus_bridge::action::catalogue::{ENTRIES, Entry};
use nexudus_bridge::sender::payloads::payload;

/// A kind without an action.
const RESOURCE: &str = "Resource";

/// Where the API keeps them.
const RESOURCE_PATH: &str = "/api/spaces/resources";

/// An invented room.
const ROOM: &str = r#"{"BusinessId":0,"Name":"Sala «Ñandú» – 2ª planta","ResourceTypeId":1999410001,
    "ResourceTypeName":"Meeting room","Description":"Café ☕️ incluido","Visible":true,"Archived":false,
    "Id":0,"UpdatedOn":null,"CreatedOn":null,"UniqueId":null,"UpdatedBy":"admin@example.com","IsNew":false,
    "ToStringText":"Sala «Ñandú» – 2ª planta"}"#;

/// Kinds whose records do not name their location: the field that names the record of another kind that does.
const PARENTS: [(&str, &str, &str); 4] = [
    ("Booking", "ResourceId", RESOURCE),
    ("CommunityMessage", "CommunityThreadId", "CommunityThread"),
    ("CoworkerMessage", "CoworkerId", "Coworker"),
    ("HelpDeskComment", "HelpDeskMessageId", "HelpDeskMessage"),
];

/// A kind's name as the catalogue writes it.
pub(super) fn named(name: &str) -> Option<&'static str> {
    if name == RESOURCE {
        return Some(RESOURCE);
    }
    ENTRIES.iter().find(|entry| entry.entity == name).map(|entry| entry.entity)
}

/// The kind whose records are at this path, which is in lower case.
pub(super) fn at(path: &str) -> Option<&'static str> {
    if path == RESOURCE_PATH {
        return Some(RESOURCE);
    }
    ENTRIES.iter().find(|entry| entry.api_path == path).map(|entry| entry.entity)
}

/// The action that tells that one of these things happened to a record of this kind.
pub(super) fn action_of(kind: &str, verbs: &[&str]) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.entity == kind && verbs.contains(&entry.verb))
}

/// The text of a record to begin with.
pub(super) fn example(kind: &str) -> Option<&'static str> {
    if kind == RESOURCE {
        return Some(ROOM);
    }
    let entry = action_of(kind, &["created", "registered"])
        .or_else(|| ENTRIES.iter().find(|entry| entry.entity == kind))?;
    payload(entry.name)
}

/// The field that names the record to which one of this kind belongs, and that record's kind.
pub(super) fn parent_of(kind: &str) -> Option<(&'static str, &'static str)> {
    PARENTS.iter().find(|(known, ..)| *known == kind).map(|(_, field, parent)| (*field, *parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn every_kind_has_an_example_and_those_that_belong_to_another_have_the_field_for_it() {
        for kind in ENTRIES.iter().map(|entry| entry.entity).chain([RESOURCE]) {
            let record = Record::parse(example(kind).unwrap()).unwrap();
            if let Some((field, parent)) = parent_of(kind) {
                assert!(record.get(field).is_some() && named(parent).is_some(), "{kind}");
            }
        }
        assert_eq!(PARENTS.map(|(kind, ..)| named(kind)), PARENTS.map(|(kind, ..)| Some(kind)));
        assert_eq!((named("Room"), at("/api/spaces/rooms"), example("Room")), (None, None, None));
    }
}
