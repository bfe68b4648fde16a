//! The guardian without a bridge: the test sets readiness and configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nexudus_bridge::config::Config;
use nexudus_bridge::metrics::Metrics;
use nexudus_bridge::webhooks::guardian::Guardian;
use nexudus_double::{Account, Effect, Fault, Matching, RetryAfter, demo};

use super::{WEBHOOKS, disable, keep_disabled, settings, tenant, wait_for, wait_for_looks};
use crate::support::bridge::{MAX_WAIT, config};
use crate::support::nexudus::Tenant;

struct Alone {
    guardian: Guardian,
    ready: Arc<AtomicBool>,
}

/// Returns a configuration for the tenant.
fn configured(tenant: &Tenant, more: &[(&str, &str)]) -> Config {
    let settings = settings(tenant, more);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    config("127.0.0.1:9", "n.", &settings)
}

fn start(config: &Config, ready: bool) -> Alone {
    let ready = Arc::new(AtomicBool::new(ready));
    let asked = Arc::clone(&ready);
    let is_ready = move || asked.load(Ordering::SeqCst);
    Alone { guardian: Guardian::start(config, Arc::new(Metrics::new("")), Arc::default(), is_ready), ready }
}

fn both(tenant: &Tenant) -> [i64; 2] {
    ["/BookingCreate", "/TeamUpdated"].map(|path| tenant.webhook(path))
}

/// Returns both webhooks, which Nexudus has disabled.
fn both_disabled(tenant: &Tenant) -> [i64; 2] {
    let ids = both(tenant);
    for id in ids {
        disable(tenant, id, "10");
    }
    ids
}

async fn wait_until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < MAX_WAIT, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_becomes_unready_while_a_write_waits_writes_nothing() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    disable(&tenant, booking, "10");
    // Each request waits, so the guardian lists the disabled webhook some time before it can write.
    let alone = start(&configured(&tenant, &[("nexudus.request_spacing", "200ms")]), true);
    let ready = Arc::clone(&alone.ready);
    tenant.nexudus.before_response(Matching::get(WEBHOOKS), move |_| ready.store(false, Ordering::SeqCst));
    wait_for_looks(&tenant, 4).await;
    assert!(tenant.nexudus.journal().writes().is_empty(), "a write while the bridge is not ready");
    alone.ready.store(true, Ordering::SeqCst);
    wait_for(&tenant, booking, |webhook| webhook.active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_guardians_that_have_read_a_record_write_the_same() {
    let tenant = tenant();
    let ids = both(&tenant);
    let before: Vec<_> = ids.iter().map(|id| tenant.nexudus.webhook(*id).expect("exists")).collect();
    both_disabled(&tenant);
    // The first write takes effect long after the other guardian has read and written the same record.
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Late(Duration::from_secs(4), Effect::NotDone));
    let config = configured(&tenant, &[]);
    let both = [start(&config, true), start(&config, true)];
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    wait_until("both write", || puts() >= 3).await;
    let done = || {
        tenant
            .nexudus
            .journal()
            .entries()
            .filter(|entry| entry.method == "PUT")
            .all(|put| put.status.is_some())
    };
    wait_until("every write is answered", done).await;
    wait_for_looks(&tenant, 6).await;
    for (id, before) in ids.into_iter().zip(before) {
        let after = tenant.nexudus.webhook(id).expect("exists");
        assert_eq!(
            (after.active, &after.name, &after.url, after.action),
            (true, &before.name, &before.url, before.action)
        );
    }
    assert_eq!(tenant.nexudus.webhooks().len(), 2);
    assert!(puts() <= 4, "each of them wrote each record once at most");
    drop(both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_a_change_of_nexudus_keeps_all_state() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    keep_disabled(&tenant, booking);
    let alone = start(&configured(&tenant, &[]), true);
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    let requests = |path: &str| tenant.nexudus.journal().entries().filter(|entry| entry.path == path).count();
    wait_until("the guardian writes four times", || puts() >= 4).await;
    let before = puts();
    let other = [("sources.south.secrets", "[\"s\"]"), ("kafka.confirm_timeout", "5s")];
    alone.guardian.adopt(&configured(&tenant, &other));
    // The next attempt is due after at least eight intervals, so a few looks may not write anything.
    wait_for_looks(&tenant, 3).await;
    assert_eq!(puts(), before, "the back-off was reset");
    assert_eq!((requests("/api/token"), requests("/api/utils/enums")), (1, 1));

    // With another account, the back-off begins anew.
    alone.guardian.adopt(&configured(&tenant, &[("nexudus.client_id", "another")]));
    wait_until("it is re-enabled at once", || puts() > before).await;
    assert_eq!((requests("/api/token"), requests("/api/utils/enums")), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_firewall_before_the_token_endpoint_do_not_end_the_guardian() {
    let tenant = tenant();
    tenant.nexudus.fault(Matching::post("/api/token").times(6), Fault::Html(403));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_for_looks(&tenant, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_the_wait_of_a_retry_after() {
    let tenant = tenant();
    let year = Fault::Throttled(409, RetryAfter::Seconds(31_536_000));
    tenant.nexudus.fault(Matching::get(WEBHOOKS), year);
    let config = configured(&tenant, &[]);
    let alone = start(&config, true);
    let throttled = || !tenant.nexudus.journal().answered(409).is_empty();
    wait_until("it is throttled", throttled).await;
    let before = tenant.nexudus.journal().len();
    alone.guardian.adopt(&config);
    wait_for_looks(&tenant, 1).await;
    assert!(tenant.nexudus.journal().len() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_waits_for_a_write_in_progress_and_prevents_the_next() {
    let tenant = tenant();
    let ids = both_disabled(&tenant);
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Late(Duration::from_secs(1), Effect::NotDone));
    let alone = start(&configured(&tenant, &[]), true);
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    wait_until("the first is written", || puts() == 1).await;
    alone.guardian.adopt(&configured(&tenant, &[("nexudus.guardian.reenable", "false")]));
    wait_for_looks(&tenant, 3).await;
    let active = ids.iter().filter(|id| tenant.nexudus.webhook(**id).is_some_and(|webhook| webhook.active));
    assert_eq!((active.count(), puts()), (1, 1), "only the write in progress is completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_list_of_actions_is_not_requested_at_each_look() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    disable(&tenant, booking, "10");
    tenant.nexudus.fault(Matching::get("/api/utils/enums").always(), Fault::Status(404, String::new()));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 4).await;
    assert_eq!(tenant.nexudus.journal().of("GET", "/api/utils/enums").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_write_it_continues_to_read_and_retries_with_back_off() {
    let tenant = tenant();
    let ids = both_disabled(&tenant);
    let may = ["WebHook-List", "WebHook-Read"];
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, demo::PASSWORD).with_roles(&may));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_until("it tries", || {
        tenant.nexudus.journal().answered(403).len() + tenant.nexudus.journal().answered(401).len() >= 2
    })
    .await;
    wait_for_looks(&tenant, 9).await;
    let writes = tenant.nexudus.journal().writes().len();
    assert!((2..=10).contains(&writes), "{writes} writes"); // two for each attempt: the second with a new token
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, demo::PASSWORD));
    for id in ids {
        wait_for(&tenant, id, |webhook| webhook.active).await;
    }
}
