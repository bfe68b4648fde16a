//! Who disabled a webhook: Nexudus does so at the tenth failure in a row, everything else was a person.

use std::time::Duration;

use super::{guarded, stays_off, switch_off, tenant, wait_for, wait_for_looks};
use crate::support::nexudus::Tenant;

const REENABLED: &str = "nexudus_bridge_webhook_reenabled_total{action=\"BookingCreate\",source=\"default\"}";

fn is_active(tenant: &Tenant, id: i64) -> bool {
    tenant.nexudus.webhook(id).expect("there").active
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_with_less_than_ten_failures_was_disabled_by_a_person_and_stays_so() {
    let tenant = tenant();
    let [booking, team] = ["/BookingCreate", "/TeamUpdated"].map(|path| tenant.webhook(path));
    switch_off(&tenant, booking, "9"); // already so at the first look
    switch_off(&tenant, team, "10");
    let _bridge = guarded(&tenant, &[]).await;
    wait_for(&tenant, team, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 3).await;
    assert!(!is_active(&tenant, booking));
    for (before, after) in [("1", "1"), ("8", "8"), ("8", "9"), ("8", "0")] {
        tenant.nexudus.change_webhook(booking, &[("Active", "true"), ("ErrorCount", before)]).expect("there");
        wait_for_looks(&tenant, 3).await; // one of them began and ended with it active
        switch_off(&tenant, booking, after);
        wait_for_looks(&tenant, 3).await;
        assert!(!is_active(&tenant, booking), "{before} failures while active, {after} once disabled");
    }
    // The tenth failure itself may have been seen by nobody: a delivery that succeeds late ends the count.
    for (second, (before, after)) in
        [("9", "9"), ("9", "0"), ("8", "10"), ("10", "0")].into_iter().enumerate()
    {
        tenant.nexudus.change_webhook(booking, &[("Active", "true"), ("ErrorCount", before)]).expect("there");
        wait_for_looks(&tenant, 3).await;
        let success = format!("\"2026-01-02T03:04:0{second}Z\""); // it ends the back-off
        tenant.nexudus.change_webhook(booking, &[("LastTrigger", &success)]).expect("there");
        switch_off(&tenant, booking, after);
        wait_for(&tenant, booking, |webhook| webhook.active).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_counts_as_reenabled_once_a_look_shows_it() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    stays_off(&tenant, booking); // the API reports success and changes nothing
    let bridge = guarded(&tenant, &[]).await;
    let writes = || tenant.nexudus.journal().of("PUT", super::WEBHOOKS).len();
    let begun = std::time::Instant::now();
    while writes() < 3 {
        assert!(begun.elapsed() < crate::support::bridge::MAX_WAIT, "{} writes", writes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let metrics = String::from_utf8(bridge.admin("/metrics").await.body).expect("text");
    assert!(!metrics.contains("webhook_reenabled_total{"), "{metrics}");
    tenant.nexudus.heal();
    wait_for(&tenant, booking, |webhook| webhook.active).await;
    bridge.wait_for_metric(REENABLED, 1.0).await;
}
