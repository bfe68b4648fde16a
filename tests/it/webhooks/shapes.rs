//! The JSON of each command: the names and types of every field, as documented.

use nexudus_double::{Fault, Matching, demo};
use serde_json::{Map, Value, json};

use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};

const WEBHOOKS: &str = "/api/sys/webhooks";

/// A tenant in which one webhook is missing, two differ, one is not wanted, and one belongs to others. Its Nexudus has one more action.
struct Untidy {
    tenant: Tenant,
    team: i64,
    north: i64,
    unwanted: i64,
}

fn untidy() -> Untidy {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let nexudus = &tenant.nexudus;
    let (team, north) = (tenant.webhook("/TeamUpdated"), tenant.webhook("/north/BookingCreate"));
    nexudus
        .change_webhook(team, &[("Active", "false"), ("Action", "57"), ("ErrorCount", "10")])
        .expect("exists");
    let before = format!("\"{PUBLIC}/webhooks/north/BookingCreate?token=before\"");
    nexudus.change_webhook(north, &[("URL", &before)]).expect("exists");
    nexudus.remove_webhook(tenant.webhook("/BookingDelete"));
    let add = |url: &str| nexudus.add_webhook(demo::LOCATIONS[0], "TeamCreated", url, true).expect("known");
    let unwanted = add(&format!("{PUBLIC}/webhooks/TeamCreated?token=hush"));
    add("https://elsewhere.example.com/webhooks/TeamCreated");
    nexudus.adjust(|behaviour| behaviour.extra_actions = vec![(92, "DeskFreed".to_owned())]);
    Untidy { tenant, team, north, unwanted }
}

/// Returns the plan for the tenant.
fn planned(untidy: &Untidy) -> Value {
    let Untidy { team, north, unwanted, .. } = untidy;
    let [first, second] = demo::LOCATIONS;
    let url = |path: &str| format!("{PUBLIC}/webhooks/{path}");
    let hidden = url("north/BookingCreate?token=***");
    json!({
        "changes": [
            {
                "op": "create", "source": "default", "action": "BookingDelete", "action_id": 8, "business_id": first,
                "webhook_id": null, "url": url("BookingDelete"), "fields": {}, "another_token": false,
            },
            {
                "op": "update", "source": "default", "action": "TeamUpdated", "action_id": 58, "business_id": first,
                "webhook_id": team, "url": url("TeamUpdated"),
                "fields": {"Action": [57, 58], "Active": [false, true]}, "another_token": false,
            },
            {
                "op": "update", "source": "north", "action": "BookingCreate", "action_id": 6, "business_id": second,
                "webhook_id": north, "url": hidden, "fields": {"URL": [hidden, hidden]}, "another_token": true,
            },
        ],
        "duplicates": [],
        "unchanged": 2,
        "unwanted": [{
            "source": "default", "action": "TeamCreated", "business_id": first, "webhook_id": unwanted,
            "url": url("TeamCreated?token=***"), "reason": "the action is not configured",
        }],
        "others": 1,
        "unknown_actions": [{"id": 92, "name": "DeskFreed"}],
    })
}

#[test]
fn the_json_of_plan_and_apply_has_the_documented_names() {
    let untidy = untidy();
    let tenant = &untidy.tenant;
    let mut expected = planned(&untidy);
    assert_eq!(tenant.json(&["webhooks", "plan"], 0), expected);
    tenant.nexudus.fault(Matching::put(WEBHOOKS).containing("north"), Fault::Refused("no".to_owned()));
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let made = tenant.webhook("/BookingDelete");
    expected["created"] = json!([{"source": "default", "action": "BookingDelete", "webhook_id": made}]);
    expected["updated"] = json!([{"source": "default", "action": "TeamUpdated", "webhook_id": untidy.team}]);
    expected["failed"] = json!([{
        "source": "north", "action": "BookingCreate", "webhook_id": untidy.north,
        "error": format!("{} refuses with 200: no", tenant.named()),
    }]);
    assert_eq!(applied, expected);
}

#[test]
fn the_json_of_status_has_the_documented_names() {
    let Untidy { tenant, team, unwanted, .. } = untidy();
    let status = tenant.json(&["webhooks", "status", "--source", "default"], 0);
    let rows = status["webhooks"].as_array().expect("a list");
    let url = |action: &str| format!("{PUBLIC}/webhooks/{action}");
    assert_eq!(
        rows[1],
        json!({
            "source": "default", "action": "BookingDelete", "business_id": demo::LOCATIONS[0], "webhook_id": null,
            "state": "missing", "active": null, "error_count": null, "last_error": null, "last_trigger": null,
            "url": url("BookingDelete"),
        })
    );
    assert_eq!(
        rows[0],
        json!({
            "source": "default", "action": "TeamUpdated", "business_id": demo::LOCATIONS[0], "webhook_id": team,
            "state": "disabled", "active": false, "error_count": 10, "last_error": null, "last_trigger": null,
            "url": url("TeamUpdated"),
        })
    );
    assert_eq!(
        rows[2],
        json!({
            "source": "default", "action": "TeamCreated", "business_id": demo::LOCATIONS[0], "webhook_id": unwanted,
            "state": "unwanted", "active": true, "error_count": 0, "last_error": null, "last_trigger": null,
            "url": url("TeamCreated?token=***"),
        })
    );
    assert_eq!(rows.len(), 5);
    assert_eq!(
        (&status["others"], &status["unknown_actions"], status.as_object().map(Map::len)),
        (&json!(1), &json!([{"id": 92, "name": "DeskFreed"}]), Some(3))
    );
    let table = tenant.prints(&["webhooks", "status"], 0);
    let heading: Vec<&str> = table.lines().nth(1).expect("a heading").split_whitespace().collect();
    assert_eq!(heading, ["SOURCE", "ACTION", "ID", "STATE", "ERRORS", "LAST_TRIGGER", "LAST_ERROR"]);
}

#[test]
fn a_create_sends_exactly_the_documented_fields() {
    let tenant = Tenant::with(SOURCES);
    tenant.prints(&["webhooks", "apply", "--source", "north"], 0);
    let journal = tenant.asked();
    let [create] = journal.writes()[..] else { panic!("{:?}", journal.writes()) };
    let body: Value = serde_json::from_str(&create.body).expect("JSON");
    assert_eq!(
        body,
        json!({
            "BusinessId": demo::LOCATIONS[1],
            "Name": "nexudus-bridge north BookingCreate",
            "Action": 6,
            "URL": format!("{PUBLIC}/webhooks/north/BookingCreate?token=t0ken"),
            "Description": "Kept by nexudus-bridge for its source north: events of BookingCreate go to Kafka.",
            "Active": true,
        })
    );
}
