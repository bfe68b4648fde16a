//! The kinds of records that the double keeps, an example of each kind, and times as Nexudus writes them.
//!
//! The kinds are those of the catalogue, and the resources (rooms and desks) that bookings belong to. No action is about
//! a resource.

use jiff::Timestamp;
use nexudus_bridge::action::catalogue::{ENTRIES, Entry};
use nexudus_bridge::nexudus::record::RawRecord;
use nexudus_bridge::sender::payloads::{payload, wire_body};

/// The kind that no action is about.
const RESOURCE: &str = "Resource";

/// Path of the resources in the API.
const RESOURCE_PATH: &str = "/api/spaces/resources";

/// An invented room.
const ROOM: &str = r#"[{"BusinessId":0,"Name":"Sala «Ñandú» – 2ª planta","ResourceTypeId":1999410001,
    "ResourceTypeName":"Meeting room","Description":"Café ☕️ incluido","Visible":true,"Archived":false,
    "Id":0,"UpdatedOn":null,"CreatedOn":null,"UniqueId":null,"UpdatedBy":"admin@example.com","IsNew":false,
    "ToStringText":"Sala «Ñandú» – 2ª planta"}]"#;

/// Kinds whose records have no field for their location: kind, field with the parent's `Id`, kind of the parent.
const PARENTS: [(&str, &str, &str); 4] = [
    ("Booking", "ResourceId", RESOURCE),
    ("CommunityMessage", "CommunityThreadId", "CommunityThread"),
    ("CoworkerMessage", "CoworkerId", "Coworker"),
    ("HelpDeskComment", "HelpDeskMessageId", "HelpDeskMessage"),
];

/// Returns the static name of a kind.
pub(super) fn kind_named(name: &str) -> Option<&'static str> {
    kinds().map(|(kind, _)| kind).find(|kind| *kind == name)
}

/// Returns the kind whose records the API has at a path in lower case.
pub(super) fn kind_at(path: &str) -> Option<&'static str> {
    kinds().find(|(_, known)| *known == path).map(|(kind, _)| kind)
}

fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENTRIES.iter().map(|entry| (entry.entity, entry.api_path)).chain([(RESOURCE, RESOURCE_PATH)])
}

/// Returns the action of a kind with one of these verbs.
pub(super) fn action_of(kind: &str, verbs: &[&str]) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.entity == kind && verbs.contains(&entry.verb))
}

/// Returns an example of a kind: the sample payload of its *created* action, if it has one, else of another action.
pub(super) fn example(kind: &str) -> Option<RawRecord> {
    let text = if kind == RESOURCE {
        ROOM
    } else {
        let created = action_of(kind, &["created", "registered"]);
        payload(created.or_else(|| ENTRIES.iter().find(|entry| entry.entity == kind))?.name)?
    };
    let [record]: [RawRecord; 1] = serde_json::from_slice(&wire_body(text)).ok()?;
    Some(record)
}

/// Returns the field that holds the parent's `Id`, and the parent's kind.
pub(super) fn parent_of(kind: &str) -> Option<(&'static str, &'static str)> {
    PARENTS.iter().find(|(known, ..)| *known == kind).map(|(_, field, parent)| (*field, *parent))
}

/// Returns a time in UTC with up to 7 fractional digits and no trailing zeros, as Nexudus writes it just after a save.
pub(super) fn time_text(time: Timestamp) -> String {
    let text = format!("{time:.7}");
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_example_with_the_field_for_its_parent() {
        for (kind, path) in kinds() {
            let record = example(kind).unwrap();
            if let Some((field, parent)) = parent_of(kind) {
                assert!(record.raw(field).is_some() && kind_named(parent).is_some(), "{kind}");
            }
            assert_eq!((kind_named(kind), kind_at(path)), (Some(kind), Some(kind)));
        }
        assert!(PARENTS.iter().all(|(kind, ..)| kind_named(kind).is_some()));
        assert_eq!((kind_named("Room"), kind_at("/api/spaces/rooms")), (None, None));
        assert!(example("Room").is_none());
    }

    #[test]
    fn times_have_up_to_seven_fractional_digits_and_no_trailing_zeros() {
        for (time, written) in [
            ("2026-03-02T09:15:27.411519876Z", "2026-03-02T09:15:27.4115198Z"),
            ("2026-03-02T09:15:27.05Z", "2026-03-02T09:15:27.05Z"),
            ("2026-03-02T09:15:20Z", "2026-03-02T09:15:20Z"),
        ] {
            assert_eq!(time_text(time.parse().unwrap()), written);
        }
    }
}
