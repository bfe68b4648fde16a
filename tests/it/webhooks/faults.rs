//! Nexudus throttles, does not answer, or answers with errors: each command does as much as possible, and reports the rest.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nexudus_double::{Effect, Fault, Limits, Matching, Options, RetryAfter, demo};
use serde_json::Value;

use crate::support::bridge::MAX_WAIT;
use crate::support::kafka::pause;
use crate::support::nexudus::{PUBLIC, SOURCES, Tenant};
use crate::support::program::{err, program};

const WEBHOOKS: &str = "/api/sys/webhooks";

#[test]
fn throttling_is_obeyed_with_every_status_and_form() {
    for (status, retry_after, least) in [
        (409, RetryAfter::Seconds(2), 2),
        (429, RetryAfter::DateIn(2), 1),
        (409, RetryAfter::Absent, 0),
        (429, RetryAfter::Text("soon".to_owned()), 0),
    ] {
        let tenant = Tenant::with(SOURCES);
        tenant.nexudus.fault(Matching::post(WEBHOOKS), Fault::Throttled(status, retry_after.clone()));
        let begun = Instant::now();
        tenant.prints(&["webhooks", "apply"], 0);
        assert!(begun.elapsed() >= Duration::from_secs(least), "{retry_after:?}");
        let journal = tenant.asked();
        assert_eq!((journal.writes().len(), tenant.nexudus.webhooks().len()), (6, 5), "{retry_after:?}");
    }
}

#[test]
fn the_default_rate_limits_are_those_of_nexudus() {
    let tenant = Tenant::with_options(SOURCES, Options { limits: Limits::DOCUMENTED, ..Options::default() });
    let paceless: Vec<String> = tenant
        .section("")
        .lines()
        .filter(|line| !line.contains("_per_") && !line.contains("spacing"))
        .map(str::to_owned)
        .collect();
    tenant.configure(&format!("{}\n{SOURCES}", paceless.join("\n")));
    tenant.prints(&["webhooks", "apply"], 0);
    let journal = tenant.asked();
    assert!(journal.answered(409).is_empty());
    assert!(journal.shortest_gap().expect("several") >= Duration::from_millis(100));
}

#[test]
fn an_unavailable_nexudus_is_reported_and_the_rest_is_not_tried() {
    let tenant = Tenant::with(SOURCES);
    tenant.configure(&format!("{}{SOURCES}", tenant.section("request_timeout = \"2s\"")));
    tenant.nexudus.fault(Matching::post(WEBHOOKS).after(2).always(), Fault::Cut(Effect::NotDone));
    let output = tenant.run(&["webhooks", "apply"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = err(&output);
    assert_eq!(printed.matches("failed:").count(), 3, "{printed}");
    let not_tried = format!("not tried, since {} is not available", tenant.named());
    assert_eq!(printed.matches(&not_tried).count(), 2, "{printed}");
    assert_eq!(tenant.asked().writes().len(), 2 + 5, "five attempts for one record");
    tenant.nexudus.heal();
    tenant.prints(&["webhooks", "apply"], 0);
    assert_eq!(tenant.nexudus.webhooks().len(), 5);
}

#[test]
fn a_missing_answer_ends_at_the_configured_time_out() {
    let tenant = Tenant::with(SOURCES);
    tenant.configure(&format!("{}{SOURCES}", tenant.section("request_timeout = \"500ms\"")));
    tenant.nexudus.fault(Matching::get(WEBHOOKS), Fault::Late(Duration::from_secs(60), Effect::NotDone));
    tenant.prints(&["webhooks", "plan"], 0);
    assert_eq!(tenant.asked().of("GET", WEBHOOKS).len(), 2);
}

#[test]
fn a_change_of_a_record_by_a_person_during_a_run_is_kept() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let id = tenant.webhook("/TeamUpdated");
    tenant.nexudus.change_webhook(id, &[("Active", "false")]).expect("exists");
    // The first PUT has no effect, and somebody renames the record before the second one.
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Cut(Effect::NotDone));
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::put(WEBHOOKS), move |_| {
        world.change_webhook(id, &[("Name", "\"renamed\"")]).expect("exists");
    });
    tenant.prints(&["webhooks", "enable"], 0);
    let webhook = tenant.nexudus.webhook(id).expect("exists");
    assert_eq!((webhook.active, webhook.name.as_str()), (true, "renamed"));

    // A record with another URL does not belong to the bridge any more.
    tenant.nexudus.change_webhook(id, &[("Active", "false")]).expect("exists");
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::get(WEBHOOKS), move |_| {
        world.change_webhook(id, &[("URL", "\"https://elsewhere.example.com\"")]).expect("exists");
    });
    let result = tenant.json(&["webhooks", "enable"], 1);
    assert_eq!(
        result["failed"][0]["error"],
        "the record has changed since it was listed, run the command again"
    );
    assert!(!tenant.nexudus.webhook(id).expect("exists").active);
}

/// The effect of an update without `Action` is not documented.
#[test]
fn an_update_never_leaves_out_the_action() {
    const NONE: &str = "the record from Nexudus has no action, and an update without an action could clear it: choose the \
                        action in Nexudus, or run `webhooks apply`";
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    let id = tenant.webhook("/TeamUpdated");
    tenant.nexudus.change_webhook(id, &[("Active", "false")]).expect("exists");
    let bare = {
        let webhook = tenant.nexudus.webhook(id).expect("exists");
        let mut record: Value = serde_json::from_str(&webhook.json).expect("JSON");
        record.as_object_mut().expect("an object").remove("Action").expect("exists");
        record.to_string()
    };
    let single = format!("{WEBHOOKS}/{id}");
    tenant.nexudus.fault(Matching::get(&single), Fault::Status(200, bare));
    assert_eq!(tenant.json(&["webhooks", "enable"], 1)["failed"][0]["error"], NONE);
    tenant.nexudus.change_webhook(id, &[("Action", "null")]).expect("exists");
    assert_eq!(tenant.json(&["webhooks", "enable"], 1)["failed"][0]["error"], NONE);
    assert!(tenant.asked().writes().is_empty());

    tenant.prints(&["webhooks", "apply"], 0);
    let webhook = tenant.nexudus.webhook(id).expect("exists");
    assert_eq!((webhook.action, webhook.active), (58, true));
}

#[test]
fn a_create_that_takes_effect_after_its_time_out_is_not_repeated() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let tenant = Tenant::with(SOURCES);
    tenant.configure(&format!("{}{SOURCES}", tenant.section("request_timeout = \"3s\"")));
    tenant.nexudus.fault(Matching::post(WEBHOOKS), Fault::Late(Duration::from_secs(60), Effect::NotDone));
    std::thread::scope(|scope| {
        // Nexudus is slow: it creates the record long after the client's time-out.
        scope.spawn(|| {
            let begun = Instant::now();
            while tenant.nexudus.journal().writes().is_empty() {
                assert!(begun.elapsed() < MAX_WAIT, "nothing is written");
                pause(Duration::from_millis(20));
            }
            pause(TIMEOUT + Duration::from_secs(2));
            let url = format!("{PUBLIC}/webhooks/north/BookingCreate?token=t0ken");
            tenant.nexudus.add_webhook(demo::LOCATIONS[1], "BookingCreate", &url, true).expect("known");
        });
        tenant.prints(&["webhooks", "apply", "--source", "north"], 0);
    });
    assert_eq!(tenant.nexudus.webhooks().len(), 1);
}

/// A gateway or a connection can fail while Nexudus still processes the request.
#[test]
fn a_create_that_takes_effect_after_an_unclear_answer_is_not_repeated() {
    let later = Effect::Later(Duration::from_secs(2));
    std::thread::scope(|scope| {
        for fault in [Fault::Gateway(502, later), Fault::Gateway(504, later), Fault::Cut(later)] {
            scope.spawn(move || {
                let tenant = Tenant::with(SOURCES);
                tenant.configure(&format!("{}{SOURCES}", tenant.section("request_timeout = \"8s\"")));
                tenant.nexudus.fault(Matching::post(WEBHOOKS), fault.clone());
                tenant.prints(&["webhooks", "apply", "--source", "north"], 0);
                let journal = tenant.asked();
                assert_eq!((tenant.nexudus.webhooks().len(), journal.writes().len()), (1, 1), "{fault:?}");
                let create = journal.writes()[0].instant;
                let look = journal.entries().find(|entry| entry.instant > create).expect("a look");
                let gap = look.instant - create;
                assert!(gap >= Duration::from_secs(8), "{fault:?}: {gap:?}");
            });
        }
    });
}

/// For a loopback address, a proxy would connect to itself.
#[test]
fn no_request_for_a_loopback_address_goes_to_the_proxy_of_the_environment() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    proxy.set_nonblocking(true).expect("set");
    let address = format!("http://{}", proxy.local_addr().expect("bound"));
    let tenant = Tenant::with(SOURCES);
    let mut plan = program();
    plan.args(["webhooks", "plan", "--config"]).arg(tenant.file());
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        plan.env(name, &address);
    }
    let output = plan.env_remove("no_proxy").env_remove("NO_PROXY").output().expect("the program can be run");
    assert!(proxy.accept().is_err(), "a request was sent to the proxy");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn a_list_whose_records_shift_between_pages_is_read_again() {
    let tenant = Tenant::with(SOURCES);
    tenant.apply();
    // More than one page of other records before those of the bridge.
    let first = tenant.nexudus.webhooks()[0].business_id;
    let others: Vec<i64> = (0..1100)
        .map(|n| {
            tenant
                .nexudus
                .add_webhook(first, "TeamUpdated", &format!("https://x.example.com/{n}"), true)
                .expect("known")
        })
        .collect();
    let world = tenant.nexudus.world();
    let mine = tenant.webhook("/TeamUpdated");
    let first_page = Matching::get(WEBHOOKS).containing("page=1");
    tenant.nexudus.before_response(first_page, move |_| {
        world.remove_webhook(others[0]);
    });
    let plan = tenant.json(&["webhooks", "plan"], 0);
    assert_eq!((&plan["unchanged"], &plan["others"]), (&5.into(), &1099.into()));
    assert!(tenant.asked().of("GET", WEBHOOKS).len() >= 4 && mine > 0);
}
