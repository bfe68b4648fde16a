//! The guardian of a running bridge exports the state of the webhooks, and re-enables those that Nexudus disabled. It changes
//! nothing else.

mod alone;
mod disabled_by;
mod outages;

use std::time::Duration;

use nexudus_bridge::app::Ended;
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_double::{Fault, Matching, Webhook, demo};

use crate::support::bridge::{MAX_WAIT, TestBridge};
use crate::support::nexudus::{PUBLIC, Tenant};
use crate::support::program::{Running, field};

const WEBHOOKS: &str = "/api/sys/webhooks";

const SOURCE: &str = "[sources.default]\nsecrets = [\"test-secret\"]\nbusiness_id = 1999000001\n\
                      actions = [\"BookingCreate\", \"TeamUpdated\"]\n";

/// Returns the settings of a guardian for this tenant, and `more`.
fn settings<'a>(tenant: &Tenant, more: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    let mut all: Vec<(&str, String)> = [
        ("nexudus.username", demo::EMAIL),
        ("nexudus.password", demo::PASSWORD),
        ("nexudus.public_url", PUBLIC),
        ("nexudus.requests_per_minute", "100000"),
        ("nexudus.writes_per_minute", "100000"),
        ("nexudus.requests_per_hour", "1000000"),
        ("nexudus.request_spacing", "0s"),
        ("nexudus.guardian.interval", "200ms"),
        ("sources.default.business_id", "1999000001"),
        ("sources.default.actions", "[\"BookingCreate\", \"TeamUpdated\"]"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    all.push(("nexudus.base_url", tenant.nexudus.base_url()));
    all.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    all
}

/// Starts a bridge on an embedded broker, with a guardian of a tenant's webhooks.
pub(crate) async fn guarded(tenant: &Tenant, more: &[(&str, &str)]) -> TestBridge {
    let settings = settings(tenant, more);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    TestBridge::on_embedded(&["BookingCreate", "TeamUpdated"], &settings).await
}

/// Starts a tenant with both webhooks.
pub(crate) fn tenant() -> Tenant {
    let tenant = Tenant::with(SOURCE);
    tenant.apply();
    tenant
}

fn series(name: &str, action: &str, id: i64) -> String {
    format!("nexudus_bridge_{name}{{action=\"{action}\",source=\"default\",webhook_id=\"{id}\"}}")
}

/// Disables a webhook, with this number of failures.
pub(crate) fn disable(tenant: &Tenant, id: i64, errors: &str) {
    let off =
        [("Active", "false"), ("ErrorCount", errors), ("LastError", "\"503 from https://h/x?token=hush\"")];
    tenant.nexudus.change_webhook(id, &off).expect("exists");
}

/// Disables a webhook with ten failures, and keeps it disabled after each write.
fn keep_disabled(tenant: &Tenant, id: i64) {
    disable(tenant, id, "10");
    let world = tenant.nexudus.world();
    tenant.nexudus.before_response(Matching::put(WEBHOOKS).always(), move |_| {
        world.change_webhook(id, &[("Active", "false")]).expect("exists");
    });
}

/// Waits until `wanted` is true for a webhook.
async fn wait_for(tenant: &Tenant, id: i64, wanted: impl Fn(&Webhook) -> bool) {
    let begun = std::time::Instant::now();
    while !tenant.nexudus.webhook(id).is_some_and(|webhook| wanted(&webhook)) {
        assert!(begun.elapsed() < MAX_WAIT, "{:?}", tenant.nexudus.webhook(id));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for this number of looks of the guardian.
async fn wait_for_looks(tenant: &Tenant, looks: usize) {
    let count = || tenant.nexudus.journal().of("GET", WEBHOOKS).len();
    let (begun, before) = (std::time::Instant::now(), count());
    while count() < before + looks {
        assert!(begun.elapsed() < MAX_WAIT, "the guardian does not look");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_show_each_webhook_and_the_series_of_a_deleted_one_are_removed() {
    let tenant = tenant();
    let (booking, team) = (tenant.webhook("/BookingCreate"), tenant.webhook("/TeamUpdated"));
    let more = [("ErrorCount", "4"), ("LastTrigger", "\"2026-01-02T03:04:05.5Z\"")];
    tenant.nexudus.change_webhook(team, &more).expect("exists");
    let others =
        [format!("{PUBLIC}/webhooks/BookingDelete"), "https://elsewhere.example.com/hook".to_owned()].map(
            |url| tenant.nexudus.add_webhook(1_999_000_001, "BookingDelete", &url, true).expect("an action"),
        );
    let bridge = guarded(&tenant, &[]).await;
    bridge.wait_for_metric(&series("webhook_active", "BookingCreate", booking), 1.0).await;
    bridge.wait_for_metric(&series("webhook_consecutive_failures", "TeamUpdated", team), 4.0).await;
    let time = bridge.metric(&series("webhook_last_trigger_timestamp_seconds", "TeamUpdated", team)).await;
    assert_eq!(time, 1_767_323_045.5);
    assert_eq!(bridge.metric("nexudus_bridge_webhooks_missing{source=\"default\"}").await, 0.0);
    assert!(bridge.metric("nexudus_bridge_guardian_last_success_timestamp_seconds").await > 1.7e9);
    let requests = |operation| {
        format!("nexudus_bridge_nexudus_requests_total{{operation=\"{operation}\",outcome=\"ok\"}}")
    };
    assert_eq!(
        (bridge.metric(&requests("token")).await, bridge.metric(&requests("enums")).await),
        (1.0, 1.0)
    );
    assert!(bridge.metric(&requests("list")).await >= 1.0);

    tenant.nexudus.remove_webhook(booking);
    bridge.wait_for_metric("nexudus_bridge_webhooks_missing{source=\"default\"}", 1.0).await;
    let text = String::from_utf8(bridge.admin("/metrics").await.body).expect("text");
    assert!(!text.contains(&format!("webhook_id=\"{booking}\"")), "{text}");
    assert!(text.contains(&series("webhook_active", "TeamUpdated", team)));
    for other in others {
        assert!(!text.contains(&other.to_string()), "{other} is not wanted: {text}");
    }
    wait_for_looks(&tenant, 3).await;
    assert!(tenant.nexudus.journal().writes().is_empty(), "it creates nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_nexudus_disabled_are_reenabled_and_those_that_a_person_disabled_are_not() {
    let tenant = tenant();
    let (booking, team) = (tenant.webhook("/BookingCreate"), tenant.webhook("/TeamUpdated"));
    disable(&tenant, team, "0");
    disable(&tenant, booking, "10");
    tenant.nexudus.change_webhook(booking, &[("Action", "7"), ("Name", "\"mine\"")]).expect("exists");
    let mut bridge = guarded(&tenant, &[("ingress.shutdown_delay", "0s")]).await;
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    let webhook = tenant.nexudus.webhook(booking).expect("exists");
    assert_eq!((webhook.action, webhook.name.as_str()), (7, "mine"), "it changes nothing else");
    let counted = "nexudus_bridge_webhook_reenabled_total{action=\"BookingCreate\",source=\"default\"}";
    bridge.wait_for_metric(counted, 1.0).await;
    wait_for_looks(&tenant, 3).await;
    assert!(!tenant.nexudus.webhook(team).expect("exists").active);

    // A delivery that succeeds after Nexudus has disabled the webhook resets the count of failures.
    tenant.nexudus.change_webhook(booking, &[("ErrorCount", "9")]).expect("exists");
    wait_for_looks(&tenant, 2).await;
    disable(&tenant, booking, "0");
    wait_for(&tenant, booking, |webhook| webhook.active).await;

    bridge.stopper().stop();
    assert_eq!(bridge.ended().await, Ended::Drained);
    let only_looks = guarded(&tenant, &[("nexudus.guardian.reenable", "false")]).await;
    disable(&tenant, booking, "11");
    only_looks.wait_for_metric(&series("webhook_active", "BookingCreate", booking), 0.0).await;
    tenant.asked();
    wait_for_looks(&tenant, 3).await;
    assert!(tenant.nexudus.journal().writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_reenables_nothing_while_it_is_not_ready_and_at_once_when_it_becomes_ready() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    // With a long interval, an early write shows that the guardian acts when the bridge becomes ready.
    let bridge = guarded(&tenant, &[("nexudus.guardian.interval", "1h")]).await;
    bridge.wait_for_metric(&series("webhook_active", "BookingCreate", booking), 1.0).await;
    assert_eq!(bridge.metric("nexudus_bridge_guardian_interval_seconds").await, 3600.0);
    bridge.broker().down();
    bridge.wait_until_ready_is(503).await;
    disable(&tenant, booking, "10");
    tenant.asked();
    tokio::time::sleep(Duration::from_secs(1)).await; // longer than the guardian's check of readiness
    bridge.broker().up();
    bridge.wait_until_ready_is(200).await;
    wait_for(&tenant, booking, |webhook| webhook.active).await;

    let watchful = guarded(&tenant, &[]).await;
    watchful.broker().down();
    watchful.wait_until_ready_is(503).await;
    bridge.broker().down();
    bridge.wait_until_ready_is(503).await;
    disable(&tenant, booking, "10");
    tenant.asked();
    wait_for_looks(&tenant, 5).await;
    assert!(
        tenant.nexudus.journal().writes().is_empty(),
        "the bridge is not ready, so nothing is re-enabled"
    );
    watchful.wait_for_metric(&series("webhook_active", "BookingCreate", booking), 0.0).await;
    watchful.broker().up();
    wait_for(&tenant, booking, |webhook| webhook.active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_without_a_success_is_reenabled_with_back_off() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    keep_disabled(&tenant, booking);
    let _bridge = guarded(&tenant, &[]).await;
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    let begun = std::time::Instant::now();
    while puts() < 5 {
        assert!(begun.elapsed() < MAX_WAIT, "{} in vain", puts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let journal = tenant.nexudus.journal();
    let times: Vec<_> = journal.of("PUT", WEBHOOKS).iter().map(|entry| entry.instant).collect();
    for (number, pair) in times.windows(2).enumerate() {
        let least = Duration::from_millis(200) * 2_u32.pow(u32::try_from(number).expect("few"));
        assert!(pair[1] - pair[0] >= least, "distance {number}: {:?}", pair[1] - pair[0]);
    }
    // A success ends the back-off: the next attempt follows at once, and not after sixteen looks.
    let before = puts();
    tenant.nexudus.change_webhook(booking, &[("LastTrigger", "\"2026-01-02T03:04:05Z\"")]).expect("exists");
    wait_for_looks(&tenant, 3).await;
    assert!(puts() > before, "the success did not end the back-off");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_nexudus_affects_neither_readiness_nor_ingress() {
    let tenant = tenant();
    let bridge = guarded(&tenant, &[("nexudus.request_timeout", "1s")]).await;
    bridge.wait_until_ready_is(200).await;
    wait_for_looks(&tenant, 1).await; // with a token that lasts
    tenant.nexudus.fault(Matching::any().always(), Fault::Html(503));
    let failed = "nexudus_bridge_nexudus_requests_total{operation=\"list\",outcome=\"unavailable\"}";
    bridge.wait_until_admin("/metrics", |reply| String::from_utf8_lossy(&reply.body).contains(failed)).await;
    assert_eq!(bridge.deliver("BookingCreate", r#"{"Id":1}"#).await.status, 200);
    assert_eq!(bridge.admin("/readyz").await.status, 200);
    tenant.nexudus.heal();
    let booking = tenant.webhook("/BookingCreate");
    disable(&tenant, booking, "10");
    wait_for(&tenant, booking, |webhook| webhook.active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_interval_of_zero_no_webhook_is_read_and_the_ingress_accepts_every_action() {
    let tenant = tenant();
    let settings = [("nexudus.guardian.interval", "0s"), ("sources.default.actions", "[\"BookingCreate\"]")];
    let bridge = guarded(&tenant, &settings).await;
    bridge.wait_until_ready_is(200).await;
    assert_eq!(bridge.deliver("TeamUpdated", r#"{"Id":1}"#).await.status, 200);
    assert!(tenant.nexudus.journal().is_empty());
    let text = String::from_utf8(bridge.admin("/metrics").await.body).expect("text");
    assert!(!text.contains("guardian") && !text.contains("webhook"), "{text}");
}

#[test]
fn the_log_names_changes_and_new_actions_once_and_a_reload_takes_over_the_section() {
    let tenant = tenant();
    tenant.nexudus.adjust(|behaviour| behaviour.extra_actions = vec![(91, "DeskBooked".to_owned())]);
    let booking = tenant.webhook("/BookingCreate");
    disable(&tenant, booking, "10");
    let broker = EmbeddedBroker::start(None, vec![("nexudus.quarantine".to_owned(), 1)])
        .expect("an embedded broker starts");
    let rest = format!(
        "[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[topics]\ncreate = false\n\
         [kafka]\nbootstrap_servers = {:?}\n{SOURCE}",
        broker.bootstrap_servers()
    );
    let password = tenant.folder().join("password");
    std::fs::write(&password, "wrong-password").expect("written");
    let who = format!("username = {:?}\npassword_file = {password:?}", demo::EMAIL);
    tenant.configure(&format!("{}{rest}", tenant.section_as(&who, "guardian = { interval = \"200ms\" }")));
    let running = Running::serve(&tenant.file());
    let line = running.line_with("the webhooks in Nexudus cannot be read: ");
    let refused = format!("{} refuses the credentials", tenant.named());
    assert!(line.contains("WARN") && line.contains(&refused), "{line}");
    std::fs::write(&password, demo::PASSWORD).expect("written"); // a change of the file needs no signal
    let line = running.line_with("Nexudus has an action that is not in the catalogue");
    assert_eq!((field(&line, "action_id"), field(&line, "action")), ("91", "\"DeskBooked\""), "{line}");
    let line = running.line_with(
        "a webhook that Nexudus had disabled is enabled again; this command reads the missed events back",
    );
    let webhook = tenant.nexudus.webhook(booking).expect("exists");
    let created =
        serde_json::from_str::<serde_json::Value>(&webhook.json).expect("JSON")["CreatedOn"].clone();
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    assert_eq!(
        time(field(&line, "last_trigger")),
        time(created.as_str().expect("text")),
        "without a success, the outage begins at the creation: {line}"
    );
    assert!(line.contains("command=nexudus-bridge catch-up --since default/BookingCreate=20"), "{line}");
    assert!(line.contains("last_error=\"503 from https://h/x?token=***\""), "{line}");
    assert_eq!(
        (field(&line, "webhook_id"), field(&line, "failures")),
        (booking.to_string().as_str(), "10"),
        "{line}"
    );
    assert_eq!(tenant.nexudus.journal().token_requests().len(), 2, "wrong credentials are tried once");

    let words = "URL: https://h/x?token=hush is not valid".to_owned();
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Refused(words));
    tenant.nexudus.change_webhook(booking, &[("LastTrigger", "\"2026-01-02T03:04:05Z\"")]).expect("exists");
    disable(&tenant, booking, "10");
    let line = running.line_with("a webhook cannot be re-enabled");
    assert!(line.contains("https://h/x?token=*** is not valid"), "{line}");
    running.signal("TERM");
    let (status, rest) = running.ended(MAX_WAIT);
    assert!(status.success(), "{rest}");
    assert!(
        !rest.contains("DeskBooked") && !rest.contains("on again") && !rest.contains("wrong-password"),
        "{rest}"
    );
}
