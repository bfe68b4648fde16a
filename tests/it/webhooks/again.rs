//! `apply` and `enable` list the webhooks again at the end. A webhook that differs then counts as failed, whatever the reason.

use nexudus_double::{Fault, Matching};
use serde_json::{Value, json};

use crate::support::nexudus::{SOURCES, Tenant};

const WEBHOOKS: &str = "/api/sys/webhooks";

const OFF: [(&str, &str); 1] = [("Active", "false")];

fn tenant() -> Tenant {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    tenant
}

fn failure(action: &str, id: i64, error: &str) -> Value {
    json!({"source": "default", "action": action, "webhook_id": id, "error": error})
}

#[test]
fn an_update_that_nexudus_accepts_but_does_not_keep_counts_as_failed() {
    let tenant = tenant();
    let id = tenant.webhook("/TeamUpdated");
    tenant.nexudus.change_webhook(id, &[("Action", "57")]).expect("exists");
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::put(WEBHOOKS), move |_| {
        world.change_webhook(id, &[("Action", "57")]).expect("exists");
    });
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let expected = failure("TeamUpdated", id, "Nexudus accepted the write, but the record differs in Action");
    assert_eq!((&applied["updated"], &applied["failed"]), (&json!([]), &json!([expected])));
}

#[test]
fn an_enabled_webhook_that_is_disabled_again_counts_as_failed() {
    let tenant = tenant();
    let id = tenant.webhook("/TeamUpdated");
    tenant.nexudus.change_webhook(id, &OFF).expect("exists");
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::put(WEBHOOKS), move |_| {
        world.change_webhook(id, &OFF).expect("exists");
    });
    let expected = failure("TeamUpdated", id, "Nexudus accepted the write, but the record differs in Active");
    assert_eq!(tenant.json(&["webhooks", "enable"], 1), json!({"enabled": [], "failed": [expected]}));
}

#[test]
fn a_written_webhook_that_cannot_be_read_again_counts_as_failed() {
    let tenant = tenant();
    let (team, north) = (tenant.webhook("/TeamUpdated"), tenant.webhook("/north/BookingCreate"));
    tenant.nexudus.change_webhook(team, &OFF).expect("exists");
    tenant.nexudus.remove_webhook(north);
    let refusal = r#"{"Message":"no more","WasSuccessful":false}"#.to_owned();
    tenant.nexudus.fault(Matching::get(WEBHOOKS).after(1).always(), Fault::Status(400, refusal));
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let named = tenant.named();
    let error = &format!("written, but it could not be read again: {named} refuses with 400: no more");
    let made = json!({
        "source": "north", "action": "BookingCreate",
        "webhook_id": tenant.webhook("/north/BookingCreate"), "error": error,
    });
    assert_eq!(applied["failed"], json!([failure("TeamUpdated", team, error), made]));
    assert_eq!((&applied["created"], &applied["updated"]), (&json!([]), &json!([])));
}

#[test]
fn a_webhook_that_is_changed_during_an_apply_counts_as_failed() {
    let tenant = tenant();
    let [delete, team] = ["/BookingDelete", "/TeamUpdated"].map(|path| tenant.webhook(path));
    let disturbed = || {
        tenant.nexudus.remove_webhook(tenant.webhook("/north/BookingCreate"));
        let world = tenant.nexudus.world();
        tenant.nexudus.before_response(Matching::post(WEBHOOKS), move |_| {
            world.change_webhook(team, &[("Active", "false"), ("Action", "57")]).expect("exists");
            world.remove_webhook(delete);
        });
    };
    disturbed();
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let expected = [
        failure("BookingDelete", delete, "deleted by somebody during this run"),
        failure(
            "TeamUpdated",
            team,
            "changed by somebody, or by Nexudus, during this run: it differs in Action, Active",
        ),
    ];
    assert_eq!(applied["failed"], json!(expected));
    assert_eq!(applied["created"].as_array().map(Vec::len), Some(1));

    // Only the pairs of the run are reported.
    tenant.apply();
    disturbed();
    let applied = tenant.json(&["webhooks", "apply", "--source", "north"], 0);
    assert_eq!(applied["failed"], json!([]));
}

#[test]
fn a_webhook_that_is_disabled_during_an_enable_counts_as_failed() {
    let tenant = tenant();
    let [create, update, team] =
        ["/webhooks/BookingCreate", "/BookingUpdate", "/TeamUpdated"].map(|path| tenant.webhook(path));
    let disturbed = || {
        tenant.nexudus.change_webhook(create, &[("Active", "true")]).expect("exists");
        tenant.nexudus.change_webhook(team, &OFF).expect("exists");
        let world = tenant.nexudus.world();
        tenant.nexudus.before_response(Matching::put(WEBHOOKS), move |_| {
            world.change_webhook(create, &OFF).expect("exists");
            // A field that `enable` does not manage.
            world.change_webhook(update, &[("Action", "57")]).expect("exists");
        });
    };
    disturbed();
    let enabled = tenant.json(&["webhooks", "enable"], 1);
    let expected = failure(
        "BookingCreate",
        create,
        "changed by somebody, or by Nexudus, during this run: it differs in Active",
    );
    assert_eq!(enabled["failed"], json!([expected]));
    assert_eq!(enabled["enabled"][0]["webhook_id"], team);
    disturbed();
    assert_eq!(tenant.json(&["webhooks", "enable", "TeamUpdated"], 0)["failed"], json!([]));
}

#[test]
fn after_a_refusal_the_webhooks_are_listed_again_but_not_if_nothing_was_written() {
    let tenant = tenant();
    tenant.prints(&["webhooks", "apply"], 0);
    assert_eq!(tenant.asked().of("GET", WEBHOOKS).len(), 1);

    let [team, delete] = ["/TeamUpdated", "/BookingDelete"].map(|path| tenant.webhook(path));
    tenant.nexudus.change_webhook(team, &OFF).expect("exists");
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::get(&format!("{WEBHOOKS}/{team}")), move |_| {
        world.change_webhook(delete, &OFF).expect("exists");
    });
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Refused("no".to_owned()));
    let applied = tenant.json(&["webhooks", "apply"], 1);
    let actions: Vec<_> =
        applied["failed"].as_array().expect("a list").iter().map(|it| it["action"].as_str()).collect();
    assert_eq!(actions, ["BookingDelete", "TeamUpdated"].map(Some));
}
