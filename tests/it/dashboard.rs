//! The dashboard and the rules show something: each query finds what a bridge under load and faults has said of itself.
//!
//! A real Prometheus scrapes the real bridge on a real broker, every second and not every 15, for less than a minute. Every query of the
//! dashboard is then asked with its variables replaced as Grafana would, every expression of the rules as it is but for
//! times that would take too long ([`RULES_SOONER`]). A query that is refused, an empty panel, a metric or a label's value
//! that nobody has ever seen: each is named at the end. What is excepted is what only metrics of `rules::LATER` can show.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use crate::rules::LATER;
use crate::support::bridge::{SECRET, http_client, sign};
use crate::support::compose::repository;
use crate::support::kafka::{OwnBroker, free_port};
use crate::support::program::Running;
use crate::support::prometheus::{Prometheus, Seconds};
use crate::support::promql::{Selector, selectors};
use crate::support::proxy::Proxy;
use crate::support::say;
use crate::tls::{certificate, client};

/// How often the test's Prometheus scrapes and evaluates; `prometheus.yml` says 15 s.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);

/// The distance of a graph's points. Grafana takes it from the graph's width.
const STEP: Duration = Duration::from_secs(2);

/// What the copies of the rules say instead, so that they have something to say within a minute.
const RULES_SOONER: [(&str, &str); 3] =
    [("interval: 1m", "interval: 1s"), ("interval: 5m", "interval: 1s"), ("offset 1m", "offset 5s")];

/// Panels that may show 0 all the time: nothing here makes a topic go or a producer useless for sure, and how full the
/// producer's queue is the client says every 5 seconds only.
const ZERO: [&str; 3] = ["Topics missing", "Producers replaced", "How full is the producer's queue?"];

/// Deliveries at once, so that an outage fills them.
const MAX_IN_FLIGHT: usize = 8;

/// A delivery of the load begins this long after the last one.
const PACE: Duration = Duration::from_millis(40);

/// The real bridge, with TLS, on a broker behind a proxy.
struct Stage {
    _broker: OwnBroker,
    network: Proxy,
    folder: tempfile::TempDir,
    /// None while it is started again.
    bridge: Option<Running>,
    ingress: u16,
    admin: u16,
    client: reqwest::Client,
}

impl Stage {
    fn start() -> Self {
        let network = Proxy::start(([127, 0, 0, 1], free_port()).into());
        let broker = OwnBroker::start_behind(network.address(), &[]);
        network.retarget(broker.behind_proxy());
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = certificate(2040);
        fs::write(folder.path().join("tls.crt"), &chain).expect("written");
        fs::write(folder.path().join("tls.key"), &key).expect("written");
        let (ingress, admin) = (free_port(), free_port());
        let file = folder.path().join("bridge.toml");
        fs::write(&file, settings(folder.path(), ingress, admin, &network)).expect("written");
        let bridge = Running::serve(&file);
        bridge.line_with("topics were created");
        // Not kept alive: what is sent while the bridge starts again must not wait for a connection that is gone.
        let client = client(&chain).http1_only().pool_max_idle_per_host(0).build().expect("a client");
        Self { _broker: broker, network, folder, bridge: Some(bridge), ingress, admin, client }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("bridge.toml")
    }

    /// Posts a record and hangs up before the answer.
    async fn hang_up(&self, body: &str) {
        let url = format!("https://localhost:{}/webhooks/BookingCreate", self.ingress);
        let request = self.client.post(url).header("X-Nexudus-Hook-Signature", sign(body.as_bytes()));
        // Answered after all: then it was overloaded.
        request.body(body.to_owned()).timeout(Duration::from_millis(300)).send().await.ok();
    }

    /// How many retries were answered with an earlier attempt's confirmation.
    async fn suppressed(&self) -> f64 {
        let metrics = http_client().get(format!("http://127.0.0.1:{}/metrics", self.admin)).send().await;
        let metrics = metrics.expect("answered").text().await.expect("text");
        let series =
            metrics.lines().filter(|line| line.starts_with("nexudus_bridge_redeliveries_suppressed_total"));
        let values = series.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
        values.map(|value| value.expect("a number")).sum()
    }

    /// Ends the process and starts it again at the same addresses.
    fn restart(&mut self) {
        drop(self.bridge.take());
        let bridge = Running::serve(&self.file());
        bridge.line_with("the bridge is listening");
        self.bridge = Some(bridge);
    }

    fn reload(&self, settings: &str, answer: &str) {
        fs::write(self.file(), settings).expect("written");
        let bridge = self.bridge.as_ref().expect("it runs");
        bridge.signal("HUP");
        bridge.line_with(answer);
    }
}

fn settings(folder: &Path, ingress: u16, admin: u16, network: &Proxy) -> String {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.join(name).display().to_string());
    format!(
        "[ingress]\nlisten = \"127.0.0.1:{ingress}\"\nmax_in_flight = {MAX_IN_FLIGHT}\ntls_cert = {certificate:?}\n\
         tls_key = {key:?}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[kafka]\nbootstrap_servers = \"{}\"\n\
         confirm_timeout = \"1s\"\n[topics]\npartitions = 1\n[sources.default]\nsecrets = [{SECRET:?}]\n\
         [sources.north]\nsecrets = [{SECRET:?}]\n[sources.careful]\nsignature = \"warn\"\nsecrets = [{SECRET:?}]\n",
        network.address()
    )
}

/// Deliveries of every kind in turn, at a steady pace, until told to end.
struct Load {
    ended: Arc<AtomicBool>,
    sending: JoinHandle<BTreeMap<u16, usize>>,
}

impl Load {
    fn start(stage: &Stage) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (client, port, told) = (stage.client.clone(), stage.ingress, Arc::clone(&ended));
        let sending = tokio::spawn(async move {
            let mut deliveries = JoinSet::new();
            for number in 0_usize.. {
                if told.load(Ordering::Acquire) {
                    break;
                }
                let request = KINDS[number % KINDS.len()](&client, port, number);
                // None: the bridge is away. That is for Nexudus to try again.
                deliveries.spawn(async { request.send().await.ok().map(|reply| reply.status().as_u16()) });
                tokio::time::sleep(PACE).await;
            }
            let mut answers = BTreeMap::new();
            for status in deliveries.join_all().await.into_iter().flatten() {
                *answers.entry(status).or_default() += 1;
            }
            answers
        });
        Self { ended, sending }
    }

    /// How often each status was answered.
    async fn end(self) -> BTreeMap<u16, usize> {
        self.ended.store(true, Ordering::Release);
        self.sending.await.expect("it does not panic")
    }
}

type Kind = fn(&reqwest::Client, u16, usize) -> reqwest::RequestBuilder;

/// What is sent in turn.
const KINDS: [Kind; 10] = [
    |client, port, number| signed(client, port, "BookingCreate", record(number)),
    |client, port, number| signed(client, port, "north/CoworkerUpdate", record(number)),
    |client, port, number| signed(client, port, "default/BookingUpdate", record(number)),
    |client, port, number| unsigned(client, port, "BookingCreate", record(number)),
    |client, port, number| wrong(client, port, "north/BookingCreate", record(number)),
    |client, port, number| wrong(client, port, "careful/BookingCreate", record(number)),
    |client, port, number| signed(client, port, "north/BookingCreate", format!("not json {number}")),
    |client, port, number| signed(client, port, "BokingCreate", record(number)),
    |client, port, number| signed(client, port, "nowhere/BookingCreate", record(number)),
    |client, port, number| {
        signed(client, port, "BookingCreate", record(number)).header("Content-Encoding", "gzip")
    },
];

fn record(number: usize) -> String {
    format!(r#"{{"Id":{number},"FullName":"José Ñandú","UpdatedOn":"2026-01-02T03:04:05Z"}}"#)
}

fn unsigned(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    client.post(format!("https://localhost:{port}/webhooks/{path}")).body(body)
}

fn signed(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    let signature = sign(body.as_bytes());
    unsigned(client, port, path, body).header("X-Nexudus-Hook-Signature", signature)
}

fn wrong(client: &reqwest::Client, port: u16, path: &str, body: String) -> reqwest::RequestBuilder {
    unsigned(client, port, path, body).header("X-Nexudus-Hook-Signature", sign(b"another body"))
}

/// Our Prometheus, with what `deploy/prometheus` says but for the address and the times.
async fn prometheus(stage: &Stage) -> Prometheus {
    let ours = repository().join("deploy/prometheus");
    let folder = stage.folder.path().join("prometheus");
    fs::create_dir_all(folder.join("rules")).expect("made");
    let text = fs::read_to_string(ours.join("prometheus.yml")).expect("readable");
    let admin = format!("127.0.0.1:{}", stage.admin);
    let text = replaced(&text, &[("15s", "1s"), ("bridge:9464", &admin)]);
    fs::write(folder.join("prometheus.yml"), text).expect("written");
    let mut all = String::new();
    for entry in fs::read_dir(ours.join("rules")).expect("the rules") {
        let entry = entry.expect("an entry");
        all.push_str(&fs::read_to_string(entry.path()).expect("readable"));
        let text = fs::read_to_string(entry.path()).expect("readable");
        let sooner = RULES_SOONER.iter().fold(text, |text, (said, sooner)| text.replace(said, sooner));
        fs::write(folder.join("rules").join(entry.file_name()), sooner).expect("written");
    }
    replaced(&all, &RULES_SOONER);
    Prometheus::start(&folder.join("prometheus.yml")).await
}

/// Replaces each, which has to be there.
fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (said, instead)| {
        assert!(text.contains(said), "no {said} any more");
        text.replace(said, instead)
    })
}

/// Everything that a panel is about happens to the bridge.
async fn life(stage: &mut Stage) {
    let calm = || tokio::time::sleep(4 * SCRAPED_EVERY);
    calm().await;
    stage.restart();
    calm().await;
    // Nobody answers; then nobody is there.
    stage.network.stall();
    tokio::time::sleep(3 * SCRAPED_EVERY).await;
    stage.network.cut();
    tokio::time::sleep(3 * SCRAPED_EVERY).await;
    stage.network.restore();
    calm().await;
    // Confirmed, and nobody there to be answered: the retry is. On a busy machine the client may hang up too early or late.
    let mut attempts = 0;
    while stage.suppressed().await == 0.0 {
        attempts += 1;
        assert!(attempts < 10, "no retry was recognised");
        let body = format!(r#"{{"Id":{}}}"#, 1_000_000 + attempts);
        stage.network.hold_answers();
        stage.hang_up(&body).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.network.restore();
        tokio::time::sleep(2 * SCRAPED_EVERY).await;
        let again = signed(&stage.client, stage.ingress, "BookingCreate", body).send().await;
        assert_eq!(again.expect("answered").status(), 200, "the retry");
    }
    let right = fs::read_to_string(stage.file()).expect("readable");
    stage.reload("[sources.default]\nsecret = 1\n", "not reloaded");
    stage.reload(&right, "sources and secrets were taken over");
    calm().await;
}

fn now() -> Seconds {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// What Grafana puts in the place of variables.
struct Variables {
    range: (Seconds, Seconds),
    values: Vec<(String, String)>,
}

impl Variables {
    /// With "All" chosen wherever there is a choice.
    fn all(range: (Seconds, Seconds)) -> Self {
        let values = ["instance", "source", "action"].map(|name| (name.to_owned(), ".*".to_owned()));
        Self { range, values: values.to_vec() }
    }

    /// With every value chosen that is offered: `(a|b)`, its signs escaped for a regular expression within a string.
    async fn each(dashboard: &Value, prometheus: &Prometheus, range: (Seconds, Seconds)) -> Self {
        let mut these = Self::all(range);
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|one| one["type"] == "query") {
            let name = text(&variable["name"]);
            assert_eq!((text(&variable["allValue"]), &variable["multi"]), (".*", &true.into()), "{name}");
            let query = text(&variable["query"]["query"]);
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                inside.and_then(|inside| inside.rsplit_once(',')).expect("label_values(…,…)");
            let found = prometheus.series(&these.put_in(selector, STEP)).await.expect("a right query");
            let escaped = |value: &str| {
                let special =
                    |c: char| if r"\.*+?()[]{}|^$/".contains(c) { format!(r"\\{c}") } else { c.to_string() };
                value.chars().map(special).collect::<String>()
            };
            let mut values: Vec<String> =
                found.iter().map(|series| escaped(text(&series[label.trim()]))).collect();
            values.sort();
            values.dedup();
            assert!(!values.is_empty(), "nothing to choose for {name}: {query}");
            let chosen = format!("({})", values.join("|"));
            these.values.iter_mut().find(|(known, _)| known == name).expect("known").1 = chosen;
        }
        these
    }

    fn put_in(&self, expression: &str, step: Duration) -> String {
        let window = (4 * SCRAPED_EVERY).max(step + SCRAPED_EVERY).as_secs();
        let (from, to) = self.range;
        let mut text = expression.replace("$__rate_interval", &format!("{window}s"));
        text = text.replace("$__range", &format!("{}s", (to - from).round()));
        for (name, value) in &self.values {
            text = text.replace(&format!("${name}"), value);
        }
        assert!(!text.contains('$'), "a variable that nobody fills in: {text}");
        text
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a text: {value}"))
}

/// The numbers of all series; what is no number a panel does not draw.
fn numbers(series: &[Value]) -> impl Iterator<Item = f64> {
    let points = series.iter().flat_map(|series| {
        let point = std::iter::once(&series["value"]).filter(|value| value.is_array());
        point.chain(series["values"].as_array().into_iter().flatten())
    });
    points.map(|point| text(&point[1]).parse::<f64>().expect("a number")).filter(|number| number.is_finite())
}

fn is_later(selector: &Selector) -> bool {
    selector.metric.strip_prefix("nexudus_bridge_").is_some_and(|name| LATER.contains(&name))
}

/// What is wrong, and how much was asked.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    queries: usize,
    selectors: BTreeMap<String, bool>,
}

impl Findings {
    /// Each selector of an expression has found a series, each name in a list of names too.
    async fn reads(&mut self, place: &str, expression: &str, prometheus: &Prometheus) {
        let read = selectors(expression);
        if read.is_empty() {
            self.wrong.push(format!("{place}: reads no metric: {expression}"));
        }
        for selector in read.iter().filter(|one| !is_later(one)).flat_map(Selector::alternatives) {
            let written = selector.written();
            if self.selectors.contains_key(&written) {
                continue;
            }
            let found = prometheus.series(&written).await.is_ok_and(|series| !series.is_empty());
            if !found {
                self.wrong.push(format!("{place}: nobody has {written}"));
            }
            self.selectors.insert(written, found);
        }
    }

    /// The dashboard's queries; a line for each panel.
    async fn panels(
        &mut self,
        dashboard: &Value,
        prometheus: &Prometheus,
        variables: &Variables,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
            let title = text(&panel["title"]);
            let (mut series, mut largest) = (Vec::new(), 0.0_f64);
            for target in list(&panel["targets"]) {
                let expression = variables.put_in(text(&target["expr"]), STEP);
                let found = if target["instant"] == true {
                    prometheus.query(&expression, Some(variables.range.1)).await
                } else {
                    prometheus.query_range(&expression, variables.range, STEP).await
                };
                self.queries += 1;
                let later = selectors(&expression).iter().all(is_later);
                match found {
                    Err(error) => self.wrong.push(format!("{title}: {error}: {expression}")),
                    Ok(found) if numbers(&found).next().is_none() && !later => {
                        self.wrong.push(format!("{title} is empty: {expression}"));
                    }
                    Ok(found) => {
                        largest = numbers(&found).fold(largest, f64::max);
                        series.push(if later { "later".to_owned() } else { found.len().to_string() });
                    }
                }
                self.reads(title, &expression, prometheus).await;
            }
            let shows = largest > 0.0 || ZERO.contains(&title) || series.iter().all(|count| count == "later");
            if !shows {
                self.wrong.push(format!("{title} shows nothing but 0"));
            }
            let panel = format!("{title:<52} {:>7}  {:<10} {largest:>14.3}", series.len(), series.join(" "));
            lines.push(panel);
        }
        lines
    }

    /// The rules as Prometheus has them; a line for each file.
    async fn rules(&mut self, prometheus: &Prometheus) -> Vec<String> {
        let mut files = BTreeMap::<String, [usize; 3]>::new();
        for rule in prometheus.rules().await {
            let (name, expression) = (text(&rule["name"]), text(&rule["query"]));
            if rule["health"] != "ok" || rule["lastError"].as_str().is_some_and(|error| !error.is_empty()) {
                self.wrong.push(format!("{name}: {} {}", rule["health"], rule["lastError"]));
            }
            let found = prometheus.query(expression, None).await;
            self.queries += 1;
            match &found {
                Err(error) => self.wrong.push(format!("{name}: {error}: {expression}")),
                Ok(found) if found.is_empty() && rule["type"] == "recording" => {
                    self.wrong.push(format!("{name} records nothing: {expression}"));
                }
                Ok(_) => {}
            }
            self.reads(name, expression, prometheus).await;
            let file =
                Path::new(text(&rule["file"])).file_name().expect("a name").to_string_lossy().into_owned();
            let [rules, series, firing] = files.entry(file).or_default();
            *rules += 1;
            *series += found.map_or(0, |found| found.len());
            *firing += usize::from(rule["state"] == "firing");
        }
        let line = |(file, [rules, series, firing]): (String, [usize; 3])| {
            format!("{file:<52} {rules:>7}  {series:<10} {firing:>7} alerts fire")
        };
        files.into_iter().map(line).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboard_shows_something_and_every_rule_reads_what_is_there() {
    let mut stage = Stage::start();
    let prometheus = prometheus(&stage).await;
    // It begins to scrape some seconds after its start.
    prometheus.wait_for("nexudus_bridge_ready == 1").await;
    let load = Load::start(&stage);
    let from = now();
    life(&mut stage).await;
    // The last point of a graph lies at its end.
    let (to, step) = (now(), STEP.as_secs_f64());
    let range = (to - ((to - from) / step).ceil() * step, to);
    let answers = load.end().await;
    for status in [200, 401, 404, 415, 503] {
        assert!(answers.contains_key(&status), "nothing was answered {status}: {answers:?}");
    }

    let dashboard =
        fs::read(repository().join("deploy/grafana/dashboards/nexudus-bridge.json")).expect("readable");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let mut findings = Findings::default();
    let all = Variables::all(range);
    let panels = findings.panels(&dashboard, &prometheus, &all).await;
    let each = Variables::each(&dashboard, &prometheus, range).await;
    findings.panels(&dashboard, &prometheus, &each).await;
    for annotation in list(&dashboard["annotations"]["list"]).iter().filter(|one| one["expr"].is_string()) {
        let expression = all.put_in(text(&annotation["expr"]), Duration::from_secs(60));
        let found = prometheus.query_range(&expression, range, STEP).await;
        if found.as_ref().is_ok_and(|found| numbers(found).next().is_none()) || found.is_err() {
            findings.wrong.push(format!("{}: {found:?}: {expression}", annotation["name"]));
        }
    }
    let rules = findings.rules(&prometheus).await;

    say(&format!("answered: {answers:?}, in {:.0} s", range.1 - range.0));
    say(&format!("{:<52} {:>7}  {:<10} {:>14}", "panel", "queries", "series", "largest value"));
    panels.iter().chain(&rules).for_each(|line| say(line));
    say(&format!("{} queries, {} selectors", findings.queries, findings.selectors.len()));
    assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n"));
}
