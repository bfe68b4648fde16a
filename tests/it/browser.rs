//! The console page in a real browser, on screens of several sizes, with the keyboard and for screen readers.

use std::collections::BTreeSet;

use nexudus_double::{Fault, Matching};
use serde_json::{Value, json};

use crate::guardian::{disable, guarded, tenant};
use crate::support::bridge::TestBridge;
use crate::support::browser::Browser;

/// `WebDriver`'s name for the Tab key.
const TAB: &str = "\u{E004}";

async fn opened(bridge: &TestBridge) -> Browser {
    let browser = Browser::start().await;
    browser.screen(1200, "light").await;
    browser.open(&format!("http://{}/", bridge.admin)).await;
    browser.wait_for("state-text", |text| text == "Ready").await;
    browser.wait_for("stream", |text| text == "live").await;
    browser
}

/// Sends deliveries of several actions, some refused, one quarantined.
async fn traffic(bridge: &TestBridge) {
    let actions = ["BookingCreate", "CoworkerUpdate", "CoworkerCheckin"];
    for id in 0..24 {
        let body = format!(r#"[{{"Id":{},"FullName":"Somebody Private"}}]"#, 1_400_250_117 + id * 37);
        let path = if id % 4 == 3 { "north/BookingCreate" } else { actions[id % 3] };
        bridge.deliver(path, body).await.events("confirmed");
    }
    bridge.post("BookingCreate", &[], "{}").await.problem(401, "missing_signature");
    bridge.deliver("CoworkerUpdate", "[\"not a record\"]").await.events("quarantined");
}

async fn bridge() -> TestBridge {
    let actions = ["BookingCreate", "CoworkerUpdate", "CoworkerCheckin"];
    let settings = [("sources.north.secrets", r#"["test-secret"]"#), ("kafka.confirm_timeout", "2s")];
    let bridge = TestBridge::on_embedded(&actions, &settings).await;
    bridge.wait_until_ready_is(200).await;
    bridge
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_traffic_a_lost_broker_and_its_return() {
    let bridge = bridge().await;
    let browser = opened(&bridge).await;
    let none = browser.text("actions-none").await;
    assert!(none.contains("No delivery yet") && none.contains("nexudus-bridge send"), "{none}");

    traffic(&bridge).await;
    let events = browser.wait_for("events", |text| text.matches("nexudus.BookingCreate").count() > 5).await;
    assert!(events.contains("1400250117") && !events.contains("Private"), "{events}");
    let actions = browser.wait_for("actions", |text| text.contains("signature missing")).await;
    for shown in ["CoworkerCheckin", "north", "1 × kept on the quarantine topic"] {
        assert!(actions.contains(shown), "{shown} in {actions}");
    }
    let setbacks = browser.text("setbacks").await;
    assert!(
        setbacks.contains("Signature missing (401)") && setbacks.contains("Set the shared secret"),
        "{setbacks}"
    );
    browser.wait_for("brokers", |text| text.contains("connected")).await;

    bridge.broker().down();
    let state = browser.wait_for("state", |text| text.contains("Not ready")).await;
    assert!(state.contains("Kafka"), "{state}");
    let announcement = browser.wait_for("announcement", |text| text.contains("Not ready")).await;
    assert!(announcement.contains("Kafka"), "a screen reader announces the reason: {announcement}");
    bridge.deliver("BookingCreate", r#"{"Id":1}"#).await;
    browser.wait_for("setbacks", |text| text.contains("(503)") && text.contains("brokers run")).await;
    browser.wait_for("brokers", |text| text.contains("not connected")).await;
    browser.picture("down").await;
    bridge.broker().up();
    browser.wait_for("state-text", |text| text == "Ready").await;
    assert_eq!(browser.errors().await, [""; 0], "no error in the browser's console");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_outside_are_shown_as_text_and_the_stream_can_be_paused_and_filtered() {
    let bridge = bridge().await;
    let browser = opened(&bridge).await;
    let hostile = r#"<img src=x onerror="document.title='caught'"><script>document.title='caught'</script>"#;
    bridge.deliver("BookingCreate", json!([{"Id": hostile}]).to_string()).await.events("confirmed");
    browser.wait_for("events", |text| text.contains("<img src=x onerror")).await;
    assert_ne!(browser.run("return document.title").await, "caught");
    assert_eq!(browser.run("return document.querySelectorAll('img').length").await, 0);

    browser.run("document.getElementById('pause').click()").await;
    bridge.deliver("CoworkerUpdate", r#"{"Id":77}"#).await.events("confirmed");
    browser.wait_for("stream", |text| text == "paused, 1 waiting").await;
    assert!(!browser.text("events").await.contains("CoworkerUpdate"));
    browser.run("document.getElementById('pause').click()").await;
    browser.wait_for("events", |text| text.contains("CoworkerUpdate")).await;

    browser.run("document.getElementById('filter').focus()").await;
    browser.press("coworker").await;
    browser
        .wait_for("events", |text| text.contains("CoworkerUpdate") && !text.contains("BookingCreate"))
        .await;
    browser
        .wait_for("actions", |text| text.contains("CoworkerUpdate") && !text.contains("BookingCreate"))
        .await;
    assert_eq!(browser.errors().await, [""; 0], "no error in the browser's console");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_with_small_screens_keyboards_screen_readers_and_both_colour_schemes() {
    let bridge = bridge().await;
    let browser = opened(&bridge).await;
    traffic(&bridge).await;
    browser.wait_for("events", |text| text.contains("(not_records)")).await;
    browser.wait_for("actions", |text| text.contains("kept on the quarantine topic")).await;
    browser.wait_for("brokers", |text| text.contains(" ms")).await;
    let mut backs = BTreeSet::new();
    for (width, scheme) in [(1200, "dark"), (1200, "light"), (320, "dark"), (320, "light")] {
        browser.screen(width, scheme).await;
        let wide = browser.run("return document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().is_some_and(|wide| wide <= width.into()), "{wide} wide on a screen of {width}");
        let back = browser.run("return getComputedStyle(document.body).backgroundColor").await;
        backs.insert(back.to_string());
        let faint = browser.run(FAINT_TEXTS).await;
        assert_eq!(faint, json!([]), "too little contrast in {scheme}");
        browser.picture(&format!("{width}-{scheme}")).await;
    }
    assert_eq!(backs.len(), 2, "one background for each scheme: {backs:?}");

    assert_eq!(browser.run(ACCESSIBILITY_MISTAKES).await, json!([]));
    let reachable: BTreeSet<String> = names(&browser.run(REACHABLE).await);
    let mut reached = BTreeSet::new();
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)").await;
    for _ in 0..reachable.len() {
        browser.press(TAB).await;
        let (name, outlined) = focus(&browser).await;
        assert!(outlined, "{name} does not show that it has the focus");
        reached.insert(name);
    }
    assert_eq!(reached, reachable, "the Tab key reaches every element");
    assert_eq!(browser.errors().await, [""; 0], "no error in the browser's console");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_that_the_bridge_does_not_answer() {
    let mut bridge = bridge().await;
    let browser = opened(&bridge).await;
    bridge.stopper().stop();
    bridge.ended().await;
    let state = browser.wait_for("state", |text| text.contains("No answer from the bridge")).await;
    assert!(state.contains("shows the state at"), "{state}");
    browser.picture("stale").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_the_webhooks_in_nexudus_the_worst_first() {
    let tenant = tenant();
    let (booking, team) = (tenant.webhook("/BookingCreate"), tenant.webhook("/TeamUpdated"));
    tenant.nexudus.fault(Matching::any().always(), Fault::Html(503));
    let bridge = guarded(&tenant, &[]).await;
    let browser = opened(&bridge).await;
    let none = browser.wait_for("webhooks-box", |text| text.contains("Nexudus has not answered yet")).await;
    assert!(none.contains("not read since the bridge started"), "{none}");

    disable(&tenant, team, "0"); // by a person, so the guardian does not re-enable it
    let failing = [("ErrorCount", "6"), ("LastTrigger", "\"2026-01-02T03:04:05Z\"")];
    tenant.nexudus.change_webhook(booking, &failing).expect("exists");
    tenant.nexudus.heal();
    browser
        .wait_for("webhooks-off", |text| text.starts_with("1 of 2 is disabled") && text.contains("catch-up"))
        .await;
    let table = browser.text("webhooks").await;
    let (off, on) = (table.find("TeamUpdated").expect("shown"), table.find("BookingCreate").expect("shown"));
    assert!(off < on && table[off..on].contains("disabled") && table[on..].contains("6"), "{table}");
    assert!(table[off..on].contains("never") && table[on..].contains("2026"), "{table}");
    assert!(browser.text("webhooks-read").await.starts_with("last read"));
    disable(&tenant, booking, "10");
    let command = "nexudus-bridge catch-up --since default/BookingCreate=2026-01-01T03:04:05Z";
    browser
        .wait_for("webhooks-outages", |text| text.contains("Events are missing") && text.contains(command))
        .await;
    for (width, scheme) in [(1200, "light"), (320, "dark")] {
        browser.screen(width, scheme).await;
        let wide = browser.run("return document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().is_some_and(|wide| wide <= width.into()), "{wide} wide on a screen of {width}");
        assert_eq!(browser.run(FAINT_TEXTS).await, json!([]), "too little contrast in {scheme}");
        browser.picture(&format!("webhooks-{width}-{scheme}")).await;
    }
    assert_eq!(browser.run(ACCESSIBILITY_MISTAKES).await, json!([]));

    browser.run("document.getElementById('filter').focus()").await;
    browser.press("booking").await;
    browser
        .wait_for("webhooks", |text| text.contains("BookingCreate") && !text.contains("TeamUpdated"))
        .await;
    tenant.nexudus.remove_webhook(booking);
    browser.wait_for("webhooks-missing", |text| text.starts_with("Missing: 1 of source default")).await;
    browser.wait_for("webhooks-none", |text| text == "Nothing matches the filter.").await;
    assert_eq!(browser.errors().await, [""; 0], "no error in the browser's console");
    browser.close().await;
}

/// Returns the element that has the focus, and true if the focus is visible.
async fn focus(browser: &Browser) -> (String, bool) {
    let focus = browser
        .run("const e = document.activeElement, s = getComputedStyle(e); return [e.id || e.getAttribute('href') || e.tagName, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]")
        .await;
    (focus[0].as_str().expect("a name").to_owned(), focus[1] == true)
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().expect("a list").iter().map(|name| name.as_str().expect("a text").to_owned()).collect()
}

/// A script that returns the ids of all elements that can have the focus.
const REACHABLE: &str = r"
    const all = document.querySelectorAll('a[href], button, input, summary, [tabindex=\'0\']');
    return [...all].filter(e => e.checkVisibility()).map(e => e.id || e.getAttribute('href') || e.tagName)";

/// A script with basic checks for screen readers. It returns the list of mistakes.
const ACCESSIBILITY_MISTAKES: &str = r"
    const wrongs = [], all = selector => [...document.querySelectorAll(selector)];
    const expect = (holds, what) => { if (!holds) wrongs.push(what); };
    expect(document.documentElement.lang === 'en', 'language');
    expect(all('h1').length === 1, 'one h1');
    for (const landmark of ['header', 'main', 'footer', 'search']) expect(all(landmark).length === 1, 'one ' + landmark);
    for (const section of all('section')) {
        const title = document.getElementById(section.getAttribute('aria-labelledby'));
        expect(title && title.tagName === 'H2' && title.textContent.trim(), 'a heading for each section');
    }
    for (const control of all('button, input')) {
        const name = control.textContent.trim() || control.getAttribute('aria-label') || control.labels?.[0]?.textContent.trim();
        expect(name, 'a name for ' + control.outerHTML);
    }
    for (const table of all('table')) {
        expect(table.caption?.textContent.trim(), 'a caption for ' + table.id);
        for (const th of table.querySelectorAll('th')) expect(th.scope, 'a scope for ' + th.textContent);
        for (const row of table.tBodies[0].rows) expect(row.querySelector('th'), 'a header in each row of ' + table.id);
    }
    for (const image of all('svg')) expect(image.getAttribute('aria-hidden') === 'true' || image.getAttribute('aria-label'), 'a name for a picture');
    const ids = all('[id]').map(e => e.id);
    expect(new Set(ids).size === ids.length, 'ids of one element each');
    for (const e of all('[aria-labelledby]')) expect(document.getElementById(e.getAttribute('aria-labelledby')), 'a label that is there');
    expect(document.getElementById('announcement').getAttribute('aria-live') === 'polite', 'a live region');
    return wrongs";

/// A script that returns texts with less contrast than WCAG's AA requires, 4.5 to 1.
const FAINT_TEXTS: &str = r"
    const parts = colour => colour.match(/[\d.]+/g).map(Number);
    const light = colour => parts(colour).slice(0, 3).map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = e => { const back = getComputedStyle(e).backgroundColor; return !e.parentElement || (parts(back)[3] ?? 1) > 0.99 ? back : behind(e.parentElement); };
    const faint = new Set();
    for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || !e.checkVisibility() || e.closest('script, style')) continue;
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.add(e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40));
    }
    return [...faint]";
