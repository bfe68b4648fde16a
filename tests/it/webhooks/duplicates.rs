//! A second active webhook of the same source and action delivers each event twice. A run that leaves a duplicate fails.

use std::sync::Arc;

use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::metrics::Metrics;
use nexudus_bridge::webhooks::Account;
use nexudus_bridge::webhooks::apply::Scope;
use nexudus_double::{Matching, demo};
use serde_json::json;

use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};

const WEBHOOKS: &str = "/api/sys/webhooks";

/// Returns the ids of all webhooks of an action of the source `default`.
fn ids(tenant: &Tenant, action: &str) -> Vec<i64> {
    let url = format!("{PUBLIC}/webhooks/{action}");
    tenant.nexudus.webhooks().iter().filter(|webhook| webhook.url == url).map(|webhook| webhook.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_simultaneous_applies_at_least_one_fails_and_names_the_duplicates() {
    let tenant = Tenant::with(SOURCES);
    let config = load(Some(&tenant.file()), &Environment::new(), check_property).expect("right");
    let account = || Account::new(&config, Arc::new(Metrics::new(""))).expect("configured");
    let (first, second) = (account(), account());
    // Both read the list before one of them writes.
    let looks = [first.look().await.expect("listed"), second.look().await.expect("listed")];
    let (first, second) = tokio::join!(
        first.apply(&looks[0].comparison.pairs, Scope::All, &|_| {}),
        second.apply(&looks[1].comparison.pairs, Scope::All, &|_| {}),
    );
    assert_eq!(tenant.nexudus.webhooks().len(), 10);
    let failed: Vec<_> = first.failed.iter().chain(&second.failed).collect();
    for action in ["BookingCreate", "BookingUpdate", "BookingDelete", "TeamUpdated"] {
        let ids = ids(&tenant, action);
        let named = failed.iter().any(|failure| {
            failure.source == "default"
                && failure.action == action
                && ids.iter().all(|id| failure.error.contains(&id.to_string()))
        });
        assert!(named, "{action} {ids:?}: {failed:?}");
    }
    for applied in [&first, &second] {
        let written = applied.created.iter().map(|done| (&done.source, &done.action));
        let failed: Vec<_> =
            applied.failed.iter().map(|failure| (&failure.source, &failure.action)).collect();
        assert!(written.into_iter().all(|pair| !failed.contains(&pair)), "{applied:?}");
    }
}

#[test]
fn a_duplicate_is_a_pending_change_until_somebody_deletes_or_disables_it() {
    let tenant = Tenant::with(SOURCES);
    // Somebody else creates the same webhook during the run.
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::post(WEBHOOKS).containing("TeamUpdated"), move |_| {
        let url = format!("{PUBLIC}/webhooks/TeamUpdated");
        world.add_webhook(demo::LOCATIONS[0], "TeamUpdated", &url, true).expect("known");
    });
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let [one, two] = ids(&tenant, "TeamUpdated")[..] else { panic!("{:?}", tenant.nexudus.webhooks()) };
    let error = format!(
        "webhooks {one}, {two} are all active, so each event is delivered 2 times; \
         delete or disable all but one in Nexudus"
    );
    let failure = json!({"source": "default", "action": "TeamUpdated", "webhook_id": one, "error": error});
    assert_eq!(applied["failed"], json!([failure]));
    assert_eq!(applied["created"].as_array().map(Vec::len), Some(4));

    let plan = tenant.prints(&["webhooks", "plan", "--detailed-exitcode"], 3);
    assert!(plan.contains(&format!("! default TeamUpdated: {error}\n")), "{plan}");
    assert!(
        plan.ends_with(
            "Plan: 0 to create, 0 to change, 5 unchanged; 1 with duplicates that `apply` does not delete.\n"
        ),
        "{plan}"
    );
    let document = tenant.json(&["webhooks", "plan", "--source", "default"], 0);
    let duplicates = json!([{"source": "default", "action": "TeamUpdated", "webhook_ids": [one, two]}]);
    assert_eq!(document["duplicates"], duplicates);
    assert_eq!(tenant.json(&["webhooks", "plan", "--source", "north"], 0)["duplicates"], json!([]));
    let status = tenant.prints(&["webhooks", "status", "--detailed-exitcode"], 3);
    assert!(status.starts_with("5 ok, 1 duplicate; 0 of others.\n"), "{status}");

    // Another run writes nothing and fails again. A run for another source succeeds.
    tenant.asked();
    assert_eq!(tenant.json(&["webhooks", "apply"], 1)["failed"], json!([failure]));
    tenant.prints(&["webhooks", "apply", "--source", "north"], 0);
    tenant.prints(&["webhooks", "enable"], 0);
    assert!(tenant.asked().writes().is_empty());
    tenant.nexudus.change_webhook(two, &[("Active", "false")]).expect("exists");
    tenant.prints(&["webhooks", "plan", "--detailed-exitcode"], 0);
    tenant.prints(&["webhooks", "apply"], 0);
}
