//! No sequence of faults leads to a DELETE, a write to a record of others, or a request above the rate limits.

use std::sync::Arc;
use std::time::Duration;

use nexudus_bridge::config::load::{Environment, load};
use nexudus_bridge::kafka::settings::check_property;
use nexudus_bridge::metrics::Metrics;
use nexudus_bridge::webhooks::Account;
use nexudus_bridge::webhooks::apply::Scope;
use nexudus_bridge::webhooks::guardian::Guardian;
use nexudus_double::{Effect, Fault, Limits, Matching, Nexudus, Options, Request, RetryAfter, demo};
use serde_json::Value;

use crate::support::bridge::SECRET;
use crate::support::nexudus::{PUBLIC, SOURCES};

/// Number of sequences of faults, which run at the same time.
const SEQUENCES: u64 = 24;

/// Maximum time of a sequence, after which it is aborted.
const ROUND: Duration = Duration::from_secs(30);

/// Time-out of a request; long, so that the double on a busy machine has read a request before the next one.
const TIMEOUT: Duration = Duration::from_secs(3);

const SPACING: Duration = Duration::from_millis(5);
const WRITES_PER_MINUTE: usize = 25;
const REQUESTS_PER_MINUTE: usize = 120;

fn some_fault(chance: &mut fastrand::Rng) -> Fault {
    let effect = if chance.bool() { Effect::Done } else { Effect::NotDone };
    match chance.u8(0..9) {
        0 => Fault::Status(500, r#"{"Message":"An error has occurred."}"#.to_owned()),
        1 => Fault::Status(400, r#"{"Message":"no","WasSuccessful":false}"#.to_owned()),
        2 => Fault::Status(401, String::new()),
        3 => Fault::Throttled(if chance.bool() { 409 } else { 429 }, RetryAfter::Seconds(chance.u64(0..2))),
        4 => Fault::Refused("no".to_owned()),
        5 => Fault::Html(200),
        6 => Fault::Late(TIMEOUT + Duration::from_secs(1), effect),
        7 => Fault::Cut(effect),
        _ => Fault::HalfBody,
    }
}

fn some_matching(chance: &mut fastrand::Rng) -> Matching {
    let matching = match chance.u8(0..6) {
        0 => Matching::any(),
        1 => Matching::post("/api/sys/webhooks"),
        2 => Matching::put("/api/sys/webhooks"),
        3 => Matching::get("/api/sys/webhooks*"),
        4 => Matching::post("/api/token"),
        _ => Matching::get("/api/utils/enums"),
    };
    matching.after(chance.u32(0..6)).times(chance.u32(1..4))
}

/// Starts a tenant with some webhooks of the bridge, some disabled and some twice, and similar webhooks of others.
fn tenant(chance: &mut fastrand::Rng) -> Nexudus {
    let nexudus = Nexudus::start(Options { limits: Limits::NONE, ..Options::default() }).expect("free ports");
    nexudus.populate(Some(SECRET));
    for action in ["BookingCreate", "BookingUpdate", "BookingDelete", "TeamUpdated", "TeamDeleted"] {
        for url in [
            PUBLIC,
            "https://hooks.example.com.evil.org",
            "http://hooks.example.com",
            "https://x.example.com",
        ] {
            if chance.bool() {
                let url = format!("{url}/webhooks/{action}?token={}", chance.u8(..));
                nexudus.add_webhook(demo::LOCATIONS[0], action, &url, chance.bool()).expect("known");
            }
        }
    }
    nexudus
}

fn ours(url: &str) -> bool {
    url.starts_with(&format!("{PUBLIC}/webhooks/"))
}

async fn run_sequence(seed: u64) -> String {
    let mut chance = fastrand::Rng::with_seed(seed);
    let nexudus = tenant(&mut chance);
    nexudus.adjust(|behaviour| behaviour.reenabling_resets_errors = chance.bool());
    let text = format!(
        "[nexudus]\nbase_url = {:?}\nusername = {:?}\npassword = {:?}\npublic_url = {PUBLIC:?}\n\
         request_timeout = \"{}s\"\nrequest_spacing = \"5ms\"\nwrites_per_minute = {WRITES_PER_MINUTE}\n\
         requests_per_minute = {REQUESTS_PER_MINUTE}\nguardian = {{ interval = \"100ms\" }}\n{SOURCES}",
        nexudus.base_url(),
        demo::EMAIL,
        demo::PASSWORD,
        TIMEOUT.as_secs(),
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let config = load(Some(file.path()), &Environment::new(), check_property).expect("right");
    let before = nexudus.webhooks();
    for _ in 0..chance.u32(1..10) {
        nexudus.fault(some_matching(&mut chance), some_fault(&mut chance));
    }
    // The bridge's webhooks are disabled again and again, so that a run always has something to write.
    let world = nexudus.world();
    nexudus.before_response(Matching::get("/api/sys/webhooks").always(), move |_| {
        for webhook in world.webhooks().iter().filter(|webhook| webhook.active && ours(&webhook.url)) {
            world.change_webhook(webhook.id, &[("Active", "false"), ("ErrorCount", "10")]).expect("exists");
        }
    });
    let metrics = Arc::new(Metrics::new(""));
    let guarding = seed.is_multiple_of(3);
    let work = async {
        if guarding {
            let _guardian = Guardian::start(&config, Arc::clone(&metrics), Arc::default(), || true);
            std::future::pending::<()>().await;
        }
        let account = Account::new(&config, Arc::clone(&metrics)).expect("configured");
        loop {
            if let Ok(look) = account.look().await {
                let scope = if seed.is_multiple_of(2) { Scope::All } else { Scope::Enable };
                account.apply(&look.comparison.pairs, scope, &|_| {}).await;
            }
        }
    };
    let within = if guarding { ROUND / 4 } else { ROUND };
    tokio::time::timeout(within, work).await.expect_err("the work never ends");

    let journal = nexudus.journal();
    let log = || journal.entries().map(Request::line).collect::<Vec<_>>().join("\n");
    assert!(journal.writes().iter().all(|request| request.method != "DELETE"), "seed {seed}: {}", log());
    assert!(journal.most_in(Duration::from_secs(60)) <= REQUESTS_PER_MINUTE, "seed {seed}: {}", log());
    assert!(journal.most_writes_in(Duration::from_secs(60)) <= WRITES_PER_MINUTE, "seed {seed}: {}", log());
    assert!(journal.shortest_gap().is_none_or(|gap| gap >= SPACING), "seed {seed}: {}", log());
    for write in journal.writes() {
        let body: Value = serde_json::from_str(&write.body).expect("JSON");
        assert!(ours(body["URL"].as_str().expect("a URL")), "seed {seed}: {}", write.body);
        let record = before.iter().find(|webhook| Some(webhook.id) == body["Id"].as_i64());
        assert!(record.is_none_or(|webhook| ours(&webhook.url)), "seed {seed}: {}", write.body);
        assert!(!(guarding && write.method == "POST"), "seed {seed}: a guardian creates nothing");
    }
    // No new duplicates: a lost answer causes no second record.
    let count = |webhooks: &[nexudus_double::Webhook], action| {
        webhooks.iter().filter(|webhook| ours(&webhook.url) && webhook.url.contains(action)).count()
    };
    let after = nexudus.webhooks();
    for action in ["/BookingUpdate", "/BookingDelete", "/TeamUpdated", "/north/BookingCreate"] {
        assert!(count(&after, action) <= count(&before, action).max(1), "seed {seed} {action}: {}", log());
    }
    format!("seed {seed}: {} requests, {} writes", journal.len(), journal.writes().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sequence_of_faults_leads_to_a_forbidden_request() {
    let base = fastrand::u64(..1_000_000) * 12;
    let tasks: Vec<_> = (0..SEQUENCES).map(|number| tokio::spawn(run_sequence(base + number))).collect();
    for task in tasks {
        crate::support::say(&task.await.expect("the assertions hold"));
    }
}
