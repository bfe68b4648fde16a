//! `webhooks plan|apply|status|enable` make the webhooks in Nexudus match the configuration, and change nothing else.

mod again;
mod choice;
mod credentials;
mod duplicates;
mod faults;
mod never;
mod shapes;
mod terminal;

use nexudus_double::{Effect, Fault, Matching, RawRecord, demo};
use serde_json::json;

use crate::support::nexudus::{PUBLIC, SOURCES, Tenant, WANTED};
use crate::support::program::{err, out};

const WEBHOOKS: &str = "/api/sys/webhooks";

#[test]
fn a_plan_lists_new_webhooks_and_writes_nothing() {
    let tenant = Tenant::with(SOURCES);
    let plan = tenant.prints(&["webhooks", "plan"], 0);
    let expected: Vec<String> = WANTED
        .iter()
        .map(|(source, action)| match *source {
            "default" => format!("+ default {action} {PUBLIC}/webhooks/{action}"),
            _ => format!("+ north {action} {PUBLIC}/webhooks/north/{action}?token=***"),
        })
        .chain(["Plan: 5 to create, 0 to change, 0 unchanged.".to_owned()])
        .collect();
    assert_eq!(plan.lines().collect::<Vec<_>>(), expected);
    tenant.prints(&["webhooks", "plan", "--detailed-exitcode"], 3);
    let document = tenant.json(&["webhooks", "plan", "--source", "north"], 0);
    let change = json!({
        "op": "create", "source": "north", "action": "BookingCreate", "action_id": 6,
        "business_id": demo::LOCATIONS[1], "webhook_id": null,
        "url": format!("{PUBLIC}/webhooks/north/BookingCreate?token=***"), "fields": {}, "another_token": false,
    });
    let rest = json!({"changes": [change], "duplicates": [], "unchanged": 0, "unwanted": [], "others": 0, "unknown_actions": []});
    assert_eq!(document, rest);
    assert!(tenant.asked().writes().is_empty() && tenant.nexudus.webhooks().is_empty());
}

#[test]
fn an_apply_creates_active_webhooks_and_the_second_one_writes_nothing() {
    let tenant = Tenant::with(SOURCES);
    let output = tenant.run(&["webhooks", "apply"]);
    assert!(output.status.success(), "{}", err(&output));
    let printed = err(&output);
    assert!(printed.contains("Settings > Integrations > Webhooks"), "{printed}");
    let webhooks = tenant.nexudus.webhooks();
    assert_eq!(webhooks.len(), 5);
    let north = webhooks.iter().find(|webhook| webhook.business_id == demo::LOCATIONS[1]).expect("made");
    assert_eq!(north.url, format!("{PUBLIC}/webhooks/north/BookingCreate?token=t0ken"));
    assert_eq!((north.action, north.active, north.name.is_empty()), (6, true, false));
    assert!(!format!("{webhooks:?}").contains("test-secret"), "the record has no field for the secret");

    tenant.asked();
    let output = tenant.run(&["webhooks", "apply"]);
    assert!(output.status.success(), "{}", err(&output));
    let again = out(&output);
    assert!(again.ends_with("No changes. 5 webhooks match the configuration.\n"), "{again}");
    assert!(tenant.asked().writes().is_empty());
    // Without a new source no secret has to be entered.
    assert_eq!(err(&output), "");
    tenant.nexudus.change_webhook(webhooks[0].id, &[("Active", "false")]).expect("exists");
    let output = tenant.run(&["webhooks", "apply"]);
    assert!(out(&output).ends_with("Applied: 0 created, 1 changed, 0 failed.\n"), "{}", out(&output));
    assert_eq!(err(&output), "");
    tenant.prints(&["webhooks", "plan", "--detailed-exitcode"], 0);
    let applied = tenant.json(&["webhooks", "apply"], 0);
    assert_eq!(
        (&applied["created"], &applied["updated"], &applied["failed"]),
        (&json!([]), &json!([]), &json!([]))
    );
}

#[test]
fn an_update_changes_managed_fields_and_keeps_every_other_byte() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let (team, north) = (tenant.webhook("/TeamUpdated"), tenant.webhook("/north/BookingCreate"));
    let own = [("Name", "\"Unser \\u00dc\""), ("NewInTheApi", "{\"a\":1.50,\"b\":[1.0]}")];
    tenant.nexudus.change_webhook(team, &own).expect("exists");
    tenant
        .nexudus
        .change_webhook(team, &[("Active", "false"), ("Action", "57"), ("ErrorCount", "4")])
        .expect("exists");
    let with_before = format!("\"{PUBLIC}/webhooks/north/BookingCreate?token=before\"");
    tenant.nexudus.change_webhook(north, &[("URL", &with_before)]).expect("exists");
    let record = || -> RawRecord {
        let webhook = tenant.nexudus.webhook(team).expect("exists");
        serde_json::from_str(&webhook.json).expect("a record")
    };
    let before = record();
    let plan = tenant.prints(&["webhooks", "plan"], 0);
    assert!(
        plan.contains(&format!("~ default TeamUpdated {team} Action: 57 -> 58, Active: false -> true\n")),
        "{plan}"
    );
    assert!(
        plan.contains("(another token)") && !plan.contains("t0ken") && !plan.contains("=before"),
        "{plan}"
    );
    assert!(plan.ends_with("Plan: 0 to create, 2 to change, 3 unchanged.\n"), "{plan}");
    tenant.asked();
    let applied = tenant.json(&["webhooks", "apply"], 0);
    assert_eq!(applied["updated"].as_array().expect("a list").len(), 2);
    let after = record();
    assert_eq!((after.integer("Action"), after.get("Active")), (Some(58), Some(true)));
    let kept = |record: &RawRecord| -> Vec<(String, String)> {
        let moved = ["Action", "Active", "UpdatedOn", "UpdatedBy", "IsNew", "ToStringText"];
        let fields = record.fields().filter(|(name, _)| !moved.contains(name));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(kept(&after), kept(&before));
    let journal = tenant.asked();
    let writes: Vec<String> = journal.writes().iter().map(|entry| entry.line()).collect();
    assert_eq!(
        writes,
        [format!("PUT {WEBHOOKS}"), format!("PUT {WEBHOOKS}")],
        "the path is that of the collection"
    );
    assert!(tenant.nexudus.webhook(north).expect("exists").url.ends_with("?token=t0ken"));
}

#[test]
fn unwanted_webhooks_are_listed_and_never_changed() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let location = demo::LOCATIONS[0];
    let add =
        |action: &str, url: &str| tenant.nexudus.add_webhook(location, action, url, false).expect("known");
    let mine = [
        add("TeamCreated", &format!("{PUBLIC}/webhooks/TeamCreated?token=hush")),
        add("TeamUpdated", &format!("{PUBLIC}/webhooks/TeamUpdated")),
        add("TeamUpdated", &format!("{PUBLIC}/webhooks/gone/TeamUpdated")),
    ];
    add("TeamUpdated", "https://elsewhere.example.com/webhooks/TeamUpdated");
    let before = tenant.nexudus.webhooks();
    let plan = tenant.json(&["webhooks", "plan"], 0);
    let reasons: Vec<_> =
        plan["unwanted"].as_array().expect("a list").iter().map(|it| it["reason"].as_str()).collect();
    let expected =
        ["the action is not configured", "a second webhook of the action", "no such source"].map(Some);
    assert_eq!((reasons, &plan["others"]), (expected.to_vec(), &json!(1)));
    tenant.asked();
    let printed = tenant.prints(&["webhooks", "apply"], 0);
    assert!(
        printed
            .contains(&format!("? default TeamCreated {} {PUBLIC}/webhooks/TeamCreated?token=***", mine[0])),
        "{printed}"
    );
    tenant.prints(&["webhooks", "enable"], 0);
    assert!(tenant.asked().writes().is_empty());
    assert_eq!(tenant.nexudus.webhooks(), before);
}

#[test]
fn a_refusal_has_the_text_of_the_api_and_affects_no_other_webhook() {
    let tenant = Tenant::with(SOURCES);
    let refusal = Fault::Refused("URL: token=t0ken is not \u{1b}[31mliked".to_owned());
    tenant.nexudus.fault(Matching::post(WEBHOOKS).containing("north"), refusal);
    let status = r#"{"Message":"Name: is a required field","WasSuccessful":false}"#.to_owned();
    tenant.nexudus.fault(Matching::post(WEBHOOKS).containing("BookingUpdate"), Fault::Status(400, status));
    let applied = tenant.json(&["webhooks", "apply"], 1);
    assert_eq!(applied["created"].as_array().expect("a list").len(), 3);
    let errors: Vec<_> =
        applied["failed"].as_array().expect("a list").iter().map(|it| it["error"].as_str()).collect();
    let expected = [
        " refuses with 400: Name: is a required field",
        " refuses with 200: URL: token=*** is not  [31mliked",
    ]
    .map(|words| tenant.named() + words);
    assert_eq!(errors, expected.each_ref().map(|words| Some(words.as_str())));
    let again = tenant.prints(&["webhooks", "apply"], 0);
    assert!(again.contains("Applied: 2 created, 0 changed, 0 failed."), "{again}");
}

#[test]
fn a_create_that_nexudus_accepts_but_does_not_keep_counts_as_failed() {
    let tenant = Tenant::with(SOURCES);
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::post(WEBHOOKS).containing("north"), move |_| {
        let made = world.webhooks().into_iter().find(|webhook| webhook.action == 8).expect("made");
        world.change_webhook(made.id, &[("Active", "false")]).expect("exists");
    });
    let applied = tenant.json(&["webhooks", "apply"], 1);
    assert_eq!(applied["failed"][0]["error"], "Nexudus accepted the write, but the record differs in Active");
    assert_eq!(
        (&applied["failed"][0]["action"], applied["created"].as_array().map(Vec::len)),
        (&json!("BookingDelete"), Some(4))
    );
}

#[test]
fn the_status_shows_the_state_of_each_webhook_and_hides_tokens() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    tenant.prints(&["webhooks", "status", "--detailed-exitcode"], 0);
    let [create, update, delete] =
        ["Create", "Update", "Delete"].map(|end| tenant.webhook(&format!("/webhooks/Booking{end}")));
    tenant
        .nexudus
        .change_webhook(create, &[("ErrorCount", "3"), ("LastError", "\"503 from https://h/x?token=hush\"")])
        .expect("exists");
    tenant
        .nexudus
        .change_webhook(
            update,
            &[("Active", "false"), ("ErrorCount", "10"), ("LastTrigger", "\"2026-01-02T03:04:05Z\"")],
        )
        .expect("exists");
    tenant.nexudus.remove_webhook(delete);
    let url = format!("{PUBLIC}/webhooks/TeamDeleted");
    let extra = tenant.nexudus.add_webhook(demo::LOCATIONS[0], "TeamDeleted", &url, true).expect("known");
    let status = tenant.json(&["webhooks", "status", "--detailed-exitcode"], 3);
    let states: Vec<(String, String)> = status["webhooks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| [&row["action"], &row["state"]].map(|text| text.as_str().expect("text").to_owned()).into())
        .collect();
    let expected = [
        ("BookingUpdate", "disabled"),
        ("BookingDelete", "missing"),
        ("BookingCreate", "failing"),
        ("TeamDeleted", "unwanted"),
        ("TeamUpdated", "ok"),
        ("BookingCreate", "ok"),
    ];
    assert_eq!(states, expected.map(|(action, state)| (action.to_owned(), state.to_owned())));
    let first = json!({
        "source": "default", "action": "BookingCreate", "business_id": demo::LOCATIONS[0], "webhook_id": create,
        "state": "failing", "active": true, "error_count": 3, "last_error": "503 from https://h/x?token=***",
        "last_trigger": null, "url": format!("{PUBLIC}/webhooks/BookingCreate"),
    });
    assert_eq!(status["webhooks"][2], first);
    let table = tenant.prints(&["webhooks", "status"], 0);
    let summary =
        "2 ok, 1 disabled, 1 missing, 1 failing, 1 unwanted; 0 of others.\nSOURCE   ACTION         ";
    assert!(table.starts_with(summary), "{table}");
    assert!(
        table.contains("STATE     ERRORS") && table.contains("disabled      10  2026-01-02T03:04:05Z"),
        "{table}"
    );
    assert!(!table.contains("hush") && table.contains(&extra.to_string()), "{table}");

    let only = tenant.prints(&["webhooks", "status", "--state", "disabled,missing"], 0);
    let actions: Vec<_> = only.lines().skip(2).map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(actions, ["BookingUpdate", "BookingDelete"].map(Some), "{only}");
    assert!(only.starts_with("2 ok, 1 disabled, "), "the summary is about all: {only}");
    tenant.prints(&["webhooks", "status", "--state", "ok", "--detailed-exitcode"], 0);
    tenant.prints(&["webhooks", "status", "--state", "failing", "--detailed-exitcode"], 3);
    let wrong = tenant.run(&["webhooks", "status", "--state", "off"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("disabled, missing, failing, duplicate, unwanted, ok"), "{}", err(&wrong));
}

#[test]
fn the_note_on_the_shared_secret_is_printed_for_new_sources_with_a_secret() {
    let [first, second] = demo::LOCATIONS;
    let source = |name: &str, location: i64, more: &str| {
        format!("[sources.{name}]\nbusiness_id = {location}\nactions = [\"Team*\"]\n{more}\n")
    };
    let signed = |name: &str, location: i64| source(name, location, "secrets = [\"test-secret\"]");
    let tenant = Tenant::with(&signed("north", first));
    let apply = |sources: &str, public: &str| {
        tenant.configure(&format!("{}{sources}", tenant.section("").replace(PUBLIC, public)));
        let output = tenant.run(&["webhooks", "apply"]);
        assert!(output.status.success(), "{}", err(&output));
        assert!(out(&output).contains("Applied: 3 created"), "{}", out(&output));
        err(&output)
    };
    let note = "Settings > Integrations > Webhooks";
    let printed = apply(&signed("north", first), PUBLIC);
    assert!(printed.contains(note) && printed.contains("(north)"), "{printed}");
    let printed = apply(&format!("{}{}", signed("north", first), signed("south", second)), PUBLIC);
    assert!(printed.contains("(south)"), "only the new one: {printed}");
    tenant.nexudus.remove_webhook(tenant.webhook("/north/TeamUpdated"));
    tenant.nexudus.remove_webhook(tenant.webhook("/north/TeamCreated"));
    tenant.nexudus.remove_webhook(tenant.webhook("/south/TeamCreated"));
    let printed = apply(&format!("{}{}", signed("north", first), signed("south", second)), PUBLIC);
    assert!(!printed.contains(note), "both had webhooks: {printed}");
    let printed = apply(&source("open", first, "signature = \"off\""), PUBLIC);
    assert!(!printed.contains(note), "nothing is signed: {printed}");
    let printed = apply(&signed("double", first), "http://127.0.0.1:8080");
    assert!(!printed.contains(note), "only a double reaches loopback: {printed}");
}

#[test]
fn enable_enables_disabled_webhooks_and_changes_nothing_else() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let (create, team) = (tenant.webhook("/webhooks/BookingCreate"), tenant.webhook("/TeamUpdated"));
    for id in [create, team] {
        tenant
            .nexudus
            .change_webhook(id, &[("Active", "false"), ("Action", "57"), ("ErrorCount", "10")])
            .expect("exists");
    }
    let enabled = tenant.json(&["webhooks", "enable", "58"], 0);
    assert_eq!(
        enabled,
        json!({"enabled": [{"source": "default", "action": "TeamUpdated", "webhook_id": team}], "failed": []})
    );
    let webhook = tenant.nexudus.webhook(team).expect("exists");
    assert_eq!(
        (webhook.active, webhook.action, tenant.nexudus.webhook(create).expect("exists").active),
        (true, 57, false)
    );
    let printed = tenant.prints(&["webhooks", "enable"], 0);
    assert_eq!(printed, format!("enabled default BookingCreate {create}\nEnabled: 1, 0 failed.\n"));
    for (action, expected) in [
        (
            "BookngCreate",
            "no webhook of the action \"BookngCreate\" is configured; did you mean BookingCreate?",
        ),
        // The nearest name has no webhook either.
        ("TeamCreatd", "is configured; `webhooks status` lists them"),
        ("TeamCreated", "is configured; `webhooks status` lists them"),
        ("Xyz", "is configured; `webhooks status` lists them"),
    ] {
        let output = tenant.run(&["webhooks", "enable", action]);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
}

#[test]
fn mistakes_in_the_configuration_are_exit_code_2_with_the_remedy() {
    let tenant = Tenant::with(SOURCES);
    let section = tenant.section("");
    let source = "[sources.default]\nsecrets = [\"s\"]\n";
    for (toml, message) in [
        (source.to_owned(), "[nexudus] is not configured"),
        (format!("[nexudus]\ntoken = \"t\"\n{source}"), "nexudus is not complete, expected public_url"),
        (format!("{section}{source}"), "no source has a business_id"),
        (format!("{section}{source}"), "business_id = 1999000001  # Espacio Ñandú"),
        (format!("{section}{source}business_id = 5\n"), "sources.default.business_id = 5 is not a location"),
        (format!("{section}{source}business_id = 5\n"), "business_id = 1999000002  # Example North"),
        (format!("{section}{source}actions = [\"BookngCreate\"]\n"), "did you mean BookingCreate?"),
    ] {
        tenant.configure(&toml);
        for command in ["plan", "apply", "status", "enable"] {
            let output = tenant.run(&["webhooks", command]);
            assert_eq!(output.status.code(), Some(2), "{}", err(&output));
            assert!(err(&output).contains(message), "{}", err(&output));
        }
    }
    tenant.configure(&format!("{section}{SOURCES}"));
    let output = tenant.run(&["webhooks", "plan", "--source", "south"]);
    assert!(
        output.status.code() == Some(2) && err(&output).contains("expected one of default, north"),
        "{}",
        err(&output)
    );
}

#[test]
fn actions_that_are_new_in_nexudus_are_reported_and_extra_actions_get_their_number() {
    let tenant = Tenant::with(SOURCES);
    tenant.nexudus.adjust(|behaviour| {
        behaviour.extra_actions = vec![(91, "DeskBooked".to_owned()), (92, "DeskFreed".to_owned())];
    });
    let extra = SOURCES.replacen("\"TeamUpdated\"]", "\"DeskBooked\"]\nextra_actions = [\"DeskBooked\"]", 1);
    tenant.configure(&format!("{}{extra}", tenant.section("")));
    let plan = tenant.json(&["webhooks", "plan"], 0);
    assert_eq!(plan["unknown_actions"], json!([{"id": 92, "name": "DeskFreed"}]));
    let printed = tenant.prints(&["webhooks", "status"], 0);
    assert!(
        printed
            .contains("not in the catalogue: 92 DeskFreed; to take it, add extra_actions = [\"DeskFreed\"]"),
        "{printed}"
    );
    tenant.apply();
    assert_eq!(tenant.nexudus.webhook(tenant.webhook("/DeskBooked")).expect("exists").action, 91);

    // The legacy enum has only 62 actions. The missing ones are not removed.
    tenant.nexudus.adjust(|behaviour| behaviour.legacy_enum = true);
    let plan = tenant.json(&["webhooks", "plan"], 0);
    assert_eq!((&plan["changes"], &plan["unchanged"]), (&json!([]), &json!(5)));

    // If the enum cannot be read, the actions of the catalogue are planned.
    let enums = Matching::get("/api/utils/enums").always();
    tenant.nexudus.fault(enums, Fault::Status(404, "\"Not found\"".to_owned()));
    let output = tenant.run(&["webhooks", "plan"]);
    assert!(
        output.status.success() && err(&output).contains("list of actions cannot be read"),
        "{}",
        err(&output)
    );
    tenant.nexudus.remove_webhook(tenant.webhook("/DeskBooked"));
    let applied = tenant.json(&["webhooks", "apply"], 1);
    assert_eq!(applied["failed"][0]["error"], "Nexudus gives no number for this action");
}

#[test]
fn without_the_role_to_list_locations_they_are_not_checked() {
    let tenant = Tenant::with(SOURCES);
    let roles = ["WebHook-List", "WebHook-Read", "WebHook-Create", "WebHook-Edit"];
    let account = nexudus_double::Account::administrator(demo::EMAIL, demo::PASSWORD).with_roles(&roles);
    tenant.nexudus.set_account(account);
    tenant.prints(&["webhooks", "apply"], 0);
    assert_eq!(tenant.nexudus.webhooks().len(), 5);
}

#[test]
fn a_create_whose_answer_was_lost_is_not_repeated() {
    for fault in [
        Fault::Cut(Effect::Done),
        Fault::HalfBody,
        Fault::Cut(Effect::NotDone),
        Fault::Html(502),
        Fault::Status(500, r#"{"Message":"An error has occurred."}"#.to_owned()),
    ] {
        let tenant = Tenant::with(SOURCES);
        tenant.configure(&format!("{}{SOURCES}", tenant.section("request_timeout = \"3s\"")));
        tenant.nexudus.fault(Matching::post(WEBHOOKS).containing("north"), fault.clone());
        tenant.prints(&["webhooks", "apply"], 0);
        assert_eq!(tenant.nexudus.webhooks().len(), 5, "{fault:?}");
    }
}
