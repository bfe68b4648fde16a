//! The guardian without a bridge around it: whether that is ready, and what its configuration is, the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nexudus_bridge::config::Config;
use nexudus_bridge::metrics::Metrics;
use nexudus_bridge::webhooks::guardian::Guardian;
use nexudus_double::{Account, Effect, Fault, Matching, RetryAfter, demo};

use super::{WEBHOOKS, settings, stays_off, switch_off, tenant, wait_for, wait_for_looks};
use crate::support::bridge::{MAX_WAIT, config};
use crate::support::nexudus::Tenant;

struct Alone {
    guardian: Guardian,
    ready: Arc<AtomicBool>,
}

/// A configuration that points at the tenant.
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

/// Both webhooks, which Nexudus has switched off.
fn both_off(tenant: &Tenant) -> [i64; 2] {
    let ids = both(tenant);
    for id in ids {
        switch_off(tenant, id, "10");
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
async fn a_bridge_that_stops_being_ready_while_a_write_waits_for_its_turn_has_nothing_written() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    switch_off(&tenant, booking, "10");
    // Each request waits, so the webhook is seen to be off some time before it can be written.
    let alone = start(&configured(&tenant, &[("nexudus.request_spacing", "200ms")]), true);
    let ready = Arc::clone(&alone.ready);
    tenant.nexudus.meanwhile(Matching::get(WEBHOOKS), move |_| ready.store(false, Ordering::SeqCst));
    wait_for_looks(&tenant, 4).await;
    assert!(tenant.nexudus.journal().writes().is_empty(), "it is written to while the bridge is not ready");
    alone.ready.store(true, Ordering::SeqCst);
    wait_for(&tenant, booking, |webhook| webhook.active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_have_both_read_a_record_write_the_same() {
    let tenant = tenant();
    let ids = both(&tenant);
    let before: Vec<_> = ids.iter().map(|id| tenant.nexudus.webhook(*id).expect("there")).collect();
    both_off(&tenant);
    // The first write is done late, long after the other guardian has read and written the same record.
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
        let after = tenant.nexudus.webhook(id).expect("there");
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
async fn a_reload_that_leaves_nexudus_as_it_is_forgets_nothing() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    stays_off(&tenant, booking);
    let alone = start(&configured(&tenant, &[]), true);
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    let requests = |path: &str| tenant.nexudus.journal().entries().filter(|entry| entry.path == path).count();
    wait_until("it is switched on in vain", || puts() >= 4).await;
    let before = puts();
    let other = [("sources.south.secrets", "[\"s\"]"), ("kafka.confirm_timeout", "5s")];
    alone.guardian.adopt(&configured(&tenant, &other));
    // The next time is due after eight intervals or more; after a few looks nothing may have been written.
    wait_for_looks(&tenant, 3).await;
    assert_eq!(puts(), before, "as if it had been the first time");
    assert_eq!((requests("/api/token"), requests("/api/utils/enums")), (1, 1));

    // Another account is another matter.
    alone.guardian.adopt(&configured(&tenant, &[("nexudus.client_id", "another")]));
    wait_until("it is switched on at once", || puts() > before).await;
    assert_eq!((requests("/api/token"), requests("/api/utils/enums")), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_firewall_before_the_token_endpoint_do_not_end_it() {
    let tenant = tenant();
    tenant.nexudus.fault(Matching::post("/api/token").times(6), Fault::Html(403));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_for_looks(&tenant, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_the_wait_that_nexudus_has_asked_for() {
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
async fn a_reload_waits_for_a_write_under_way_and_stops_the_next() {
    let tenant = tenant();
    let ids = both_off(&tenant);
    tenant.nexudus.fault(Matching::put(WEBHOOKS), Fault::Late(Duration::from_secs(1), Effect::NotDone));
    let alone = start(&configured(&tenant, &[]), true);
    let puts = || tenant.nexudus.journal().of("PUT", WEBHOOKS).len();
    wait_until("the first is written", || puts() == 1).await;
    alone.guardian.adopt(&configured(&tenant, &[("nexudus.guardian.reenable", "false")]));
    wait_for_looks(&tenant, 3).await;
    let active = ids.iter().filter(|id| tenant.nexudus.webhook(**id).is_some_and(|webhook| webhook.active));
    assert_eq!((active.count(), puts()), (1, 1), "what was under way was done, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_that_cannot_be_read_are_not_asked_for_at_each_look() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    switch_off(&tenant, booking, "10");
    tenant.nexudus.fault(Matching::get("/api/utils/enums").always(), Fault::Status(404, String::new()));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 4).await;
    assert_eq!(tenant.nexudus.journal().of("GET", "/api/utils/enums").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_write_it_goes_on_looking_and_tries_seldom() {
    let tenant = tenant();
    let ids = both_off(&tenant);
    let may = ["WebHook-List", "WebHook-Read"];
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, demo::PASSWORD).with_roles(&may));
    let _alone = start(&configured(&tenant, &[]), true);
    wait_until("it tries", || {
        tenant.nexudus.journal().answered(403).len() + tenant.nexudus.journal().answered(401).len() >= 2
    })
    .await;
    wait_for_looks(&tenant, 9).await;
    let writes = tenant.nexudus.journal().writes().len();
    assert!((2..=10).contains(&writes), "{writes} writes"); // two an attempt, for the second token
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, demo::PASSWORD));
    for id in ids {
        wait_for(&tenant, id, |webhook| webhook.active).await;
    }
}
