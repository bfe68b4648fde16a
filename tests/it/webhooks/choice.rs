//! The scope of a run: the named sources, and only wanted records.

use nexudus_double::demo;
use serde_json::{Value, json};

use crate::guardian::{guarded, tenant};
use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};

fn sources(list: &Value) -> Vec<&str> {
    let mut sources: Vec<&str> =
        list.as_array().expect("a list").iter().map(|it| it["source"].as_str().expect("text")).collect();
    sources.dedup();
    sources
}

#[test]
fn a_run_with_several_named_sources_is_about_these_sources_only() {
    let south = "[sources.south]\nsecrets = [\"test-secret\"]\nbusiness_id = 1999000002\nactions = [\"TeamUpdated\"]\n";
    let tenant = Tenant::with(&format!("{SOURCES}{south}"));
    // These webhooks are not wanted.
    for path in ["TeamDeleted", "north/TeamDeleted", "south/TeamDeleted"] {
        let url = format!("{PUBLIC}/webhooks/{path}");
        tenant.nexudus.add_webhook(demo::LOCATIONS[0], "TeamDeleted", &url, true).expect("known");
    }
    let two = ["--source", "north", "--source", "south"];
    let run = |command, code| tenant.json(&[&["webhooks", command], &two[..]].concat(), code);
    let plan = run("plan", 0);
    assert_eq!(sources(&plan["changes"]), ["north", "south"]);
    assert_eq!(sources(&plan["unwanted"]), ["north", "south"]);
    assert_eq!(sources(&run("apply", 0)["created"]), ["north", "south"]);
    assert_eq!(tenant.nexudus.webhooks().len(), 3 + 2);
    let status = run("status", 0);
    let rows: Vec<Value> = status["webhooks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| json!([row["source"], row["action"], row["state"]]))
        .collect();
    let expected = json!([
        ["north", "TeamDeleted", "unwanted"],
        ["south", "TeamDeleted", "unwanted"],
        ["north", "BookingCreate", "ok"],
        ["south", "TeamUpdated", "ok"],
    ]);
    assert_eq!(json!(rows), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_exist_for_wanted_records_only() {
    let tenant = tenant();
    let add = |action: &str, url: &str| {
        tenant.nexudus.add_webhook(demo::LOCATIONS[0], action, url, true).expect("known")
    };
    let left_out = [
        add("TeamDeleted", &format!("{PUBLIC}/webhooks/TeamDeleted")),
        add("TeamUpdated", &format!("{PUBLIC}/webhooks/TeamUpdated")), // a second webhook of the action
        add("TeamUpdated", "https://elsewhere.example.com/webhooks/TeamUpdated"),
    ];
    let bridge = guarded(&tenant, &[]).await;
    let wanted = ["BookingCreate", "TeamUpdated"].map(|action| {
        let id = tenant.webhook(&format!("/webhooks/{action}"));
        format!("nexudus_bridge_webhook_active{{action=\"{action}\",source=\"default\",webhook_id=\"{id}\"}}")
    });
    for series in &wanted {
        bridge.wait_for_metric(series, 1.0).await;
    }
    let text = String::from_utf8(bridge.admin("/metrics").await.body).expect("text");
    let shown = text.lines().filter(|line| line.starts_with("nexudus_bridge_webhook_active{"));
    assert_eq!(shown.count(), wanted.len(), "{text}");
    for id in left_out {
        assert!(!text.contains(&format!("webhook_id=\"{id}\"")), "{text}");
    }
}
