//! Schemas: every sample matches the schema of its action, and a sample with a wrong type does not.

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::program::{err, out, run};
use crate::support::validator;

/// Runs a command that prints one JSON document on each line.
fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    out(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Returns each action's schema, a validator that checks formats too, and the record of the action's sample.
fn schemas_and_records() -> Vec<(Value, Validator, Value)> {
    let schemas = lines(&["schema", "all"]);
    let samples = lines(&["sample", "all", "--json"]);
    assert_eq!((schemas.len(), samples.len()), (89, 89));
    let pair = |(schema, sample): (Value, Value)| {
        assert_eq!(schema["title"], sample["action"]);
        jsonschema::draft202012::meta::validate(&schema).expect("a schema of 2020-12");
        let validator = validator(&schema);
        (schema, validator, sample["record"].clone())
    };
    schemas.into_iter().zip(samples).map(pair).collect()
}

/// Returns a value of every JSON type. The string has no format.
fn values() -> [(&'static str, Value); 7] {
    [
        ("null", Value::Null),
        ("boolean", json!(true)),
        ("integer", json!(7)),
        ("number", json!(7.5)),
        ("string", json!("seven")),
        ("array", json!(["seven"])),
        ("object", json!({"seven": 7})),
    ]
}

#[test]
fn every_sample_matches_its_schema_which_has_a_type_for_each_of_its_fields() {
    for (schema, validator, record) in schemas_and_records() {
        let action = &schema["title"];
        let errors: Vec<String> = validator
            .iter_errors(&record)
            .map(|error| format!("{} {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{action}: {errors:?}");
        for (field, value) in record.as_object().expect("a record") {
            let facts = &schema["properties"][field];
            assert!(facts.is_object(), "{action}: {field} is not in the schema");
            assert!(value.is_null() || facts["type"] != Value::Null, "{action}: {field} has no type");
        }
        let mut newer = record.clone();
        newer["AFieldThatNexudusAdds"] = json!({"of": ["any", "type"]});
        assert!(validator.is_valid(&newer), "{action}: a new field is refused");
        for field in ["Id", "UniqueId", "CreatedOn", "UpdatedOn"] {
            let mut without = record.clone();
            without.as_object_mut().expect("a record").remove(field);
            assert!(!validator.is_valid(&without), "{action}: accepted without {field}");
        }
    }
}

#[test]
fn a_field_of_another_type_than_documented_does_not_match() {
    let mut mutations = 0;
    for (schema, validator, record) in schemas_and_records() {
        for (field, facts) in schema["properties"].as_object().expect("fields") {
            let types: Vec<&str> = match &facts["type"] {
                Value::String(only) => vec![only],
                Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
                _ => continue, // the type is inferred from the name, which suggests none
            };
            let allowed = |kind| types.contains(&kind) || kind == "integer" && types.contains(&"number");
            for (_, value) in values().into_iter().filter(|(kind, _)| !allowed(*kind)) {
                let mut mutated = record.clone();
                mutated[field] = value.clone();
                assert!(!validator.is_valid(&mutated), "{}: {field} = {value} is accepted", schema["title"]);
                mutations += 1;
            }
            if facts["format"].is_string() || facts["items"].is_object() {
                let mut mutated = record.clone();
                mutated[field] = if facts["format"].is_string() { json!("seven") } else { json!(["seven"]) };
                assert!(!validator.is_valid(&mutated), "{}: the content of {field}", schema["title"]);
                mutations += 1;
            }
        }
    }
    assert!(mutations > 10_000, "{mutations}");
}

#[test]
fn one_schema_is_printed_for_people_and_has_a_stable_id() {
    let output = out(&run(&["schema", "6"]));
    let schema: Value = serde_json::from_str(&output).expect("one document");
    assert!(output.lines().count() > 50, "{output}");
    assert_eq!(schema["$id"], "urn:nexudus-bridge:schema:1:BookingCreate");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["FromTime"]["type"], "string");
    assert_eq!(schema["properties"]["FromTime"]["format"], "date-time");
    let slip = run(&["schema", "Customer CREATED"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(err(&slip).contains("did you mean CoworkerCreate?"), "{}", err(&slip));
}
