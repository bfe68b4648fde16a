//! The actor that disabled a webhook: Nexudus after the tenth failure in a row, a person in every other case.

use std::time::Duration;

use super::{disable, guarded, keep_disabled, tenant, wait_for, wait_for_looks};
use crate::support::nexudus::Tenant;

const REENABLED: &str = "nexudus_bridge_webhook_reenabled_total{action=\"BookingCreate\",source=\"default\"}";

fn is_active(tenant: &Tenant, id: i64) -> bool {
    tenant.nexudus.webhook(id).expect("exists").active
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_disabled_with_less_than_ten_failures_stays_disabled() {
    let tenant = tenant();
    let [booking, team] = ["/BookingCreate", "/TeamUpdated"].map(|path| tenant.webhook(path));
    disable(&tenant, booking, "9"); // disabled before the first look
    disable(&tenant, team, "10");
    let _bridge = guarded(&tenant, &[]).await;
    wait_for(&tenant, team, |webhook| webhook.active).await;
    wait_for_looks(&tenant, 3).await;
    assert!(!is_active(&tenant, booking));
    for (before, after) in [("1", "1"), ("8", "8"), ("8", "9"), ("8", "0")] {
        tenant
            .nexudus
            .change_webhook(booking, &[("Active", "true"), ("ErrorCount", before)])
            .expect("exists");
        wait_for_looks(&tenant, 3).await; // at least one whole look shows it active
        disable(&tenant, booking, after);
        wait_for_looks(&tenant, 3).await;
        assert!(!is_active(&tenant, booking), "{before} failures while active, {after} once disabled");
    }
    // No look may show the tenth failure: a delivery that succeeds late resets the count.
    for (second, (before, after)) in
        [("9", "9"), ("9", "0"), ("8", "10"), ("10", "0")].into_iter().enumerate()
    {
        tenant
            .nexudus
            .change_webhook(booking, &[("Active", "true"), ("ErrorCount", before)])
            .expect("exists");
        wait_for_looks(&tenant, 3).await;
        let success = format!("\"2026-01-02T03:04:0{second}Z\""); // it ends the back-off
        tenant.nexudus.change_webhook(booking, &[("LastTrigger", &success)]).expect("exists");
        disable(&tenant, booking, after);
        wait_for(&tenant, booking, |webhook| webhook.active).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_counts_as_reenabled_after_a_look_shows_it_active() {
    let tenant = tenant();
    let booking = tenant.webhook("/BookingCreate");
    keep_disabled(&tenant, booking); // the API reports success and changes nothing
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
