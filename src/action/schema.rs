//! JSON Schemas of the records, one for each action.
//!
//! The files in `schema/` are the source: one for each entity with its own fields, and `common.json` with the fields that
//! every record has. [`of`] assembles the schema of an action. Each field has `x-source`:
//!
//! | `x-source` | type and nullability come from |
//! | --- | --- |
//! | `documented` | the pages of Nexudus's REST API, of 2020 or of today |
//! | `sample` | the invented samples, which have the fields that those pages list; null is allowed |
//! | `inferred` | the name of the field, since the samples have only null; null is allowed. It can be wrong |
//!
//! Nexudus documents copies of a linked record's fields as strings, whatever the type of the original. If the sample has another type,
//! the schema of such a field has both types. A schema allows further fields, because Nexudus adds fields. The bridge does not
//! validate records.

use serde_json::{Map, Value, json};

use super::catalogue::Entry;

/// The dialect of the schemas.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The fields of every record.
const COMMON: &str = include_str!("schema/common.json");

/// The file of each of these entities, by name.
macro_rules! entities {
    ($($entity:ident),* $(,)?) => {
        &[$((stringify!($entity), include_str!(concat!("schema/", stringify!($entity), ".json")))),*]
    };
}

static ENTITIES: &[(&str, &str)] = entities![
    BlogPost,
    Booking,
    Business,
    CalendarEvent,
    Checkin,
    CommunityGroup,
    CommunityMessage,
    CommunityThread,
    Coworker,
    CoworkerContract,
    CoworkerDelivery,
    CoworkerInvoice,
    CoworkerLedgerEntry,
    CoworkerMessage,
    CoworkerPaymentMethod,
    CoworkerProduct,
    EventAttendee,
    FloorPlan,
    FloorPlanDesk,
    GlobalChatMessage,
    HelpDeskComment,
    HelpDeskMessage,
    NewsLetterSubscriber,
    Product,
    Proposal,
    Tariff,
    Team,
    Visitor,
];

/// Returns the `$id` of an action's schema. Its number changes only when a schema refuses records that it accepted before.
pub fn id(action: &str) -> String {
    format!("urn:nexudus-bridge:schema:1:{action}")
}

/// Returns the schema of an action's record, the value of its Kafka message.
pub fn of(entry: &Entry) -> Value {
    let mut schema = record(entry.entity);
    schema["$schema"] = DIALECT.into();
    schema["$id"] = id(entry.name).into();
    schema["title"] = entry.name.into();
    schema
}

/// Returns the schema of an entity's records, without a dialect and an `$id`. It uses only keywords of all dialects.
pub fn record(entity: &str) -> Value {
    let file = ENTITIES.iter().find(|(name, _)| *name == entity).map_or("{}", |(_, file)| *file);
    let mut entity = object(file);
    let mut properties = object(COMMON);
    if let Some(Value::Object(own)) = entity.remove("properties") {
        properties.extend(own);
    }
    json!({
        "$comment": "x-source of a field: documented (by Nexudus's REST API), sample (type as in the invented sample) or inferred (from the name)",
        "description": entity.remove("description"),
        "type": "object",
        "required": ["Id", "UniqueId", "CreatedOn", "UpdatedOn"],
        "properties": properties,
        "additionalProperties": true,
    })
}

fn object(file: &str) -> Map<String, Value> {
    serde_json::from_str(file).expect("the files in schema/ are JSON objects")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::catalogue::ENTRIES;

    #[test]
    fn every_entity_of_the_catalogue_has_a_file_and_every_field_states_its_source() {
        let mut entities: Vec<&str> = ENTRIES.iter().map(|entry| entry.entity).collect();
        entities.sort_unstable();
        entities.dedup();
        assert_eq!(ENTITIES.iter().map(|(entity, _)| *entity).collect::<Vec<_>>(), entities);
        for entry in &ENTRIES {
            let schema = of(entry);
            assert!(schema["description"].is_string(), "{}", entry.name);
            for (field, facts) in schema["properties"].as_object().unwrap() {
                let source = facts["x-source"].as_str();
                assert!(
                    matches!(source, Some("documented" | "sample" | "inferred")),
                    "{}.{field}",
                    entry.name
                );
                assert!(source != Some("documented") || !facts["type"].is_null(), "{}.{field}", entry.name);
            }
        }
    }
}
