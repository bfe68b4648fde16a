//! The five-minute tour of `docs/getting-started.md`, from the first plan through an outage to the recovery. The bridge, the embedded
//! broker and the double run as in the tour, and the commands are those of the real program.

use std::process::Output;
use std::time::{Duration, Instant};

use nexudus_double::tour::{Args, Tour};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::bridge::{MAX_WAIT, http_client};
use crate::support::kafka::{free_port, pause};
use crate::support::program::{PROGRAM, err, header, isolated, out};

use nexudus_bridge::app::Ended;

/// A tour on free ports.
struct Running {
    banner: String,
    nexudus_port: u16,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Ended>,
}

impl Running {
    fn start() -> Self {
        let [port, kafka_port, admin_port, nexudus_port] = std::array::from_fn(|_| free_port());
        let args = Args { port, kafka_port, admin_port, nexudus_port, rate: 20.0 };
        let config = args.configuration().expect("the tour's settings are valid");
        let tour = Tour::start(&args, config).expect("the ports are free");
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(tour.run(async { drop(stopped.await) }, std::future::pending()));
        Self { banner: args.banner(), nexudus_port, stop, run }
    }

    /// Runs a command in a shell, after the export line of the banner.
    fn run(&self, command: &str) -> Output {
        let export = self.banner.lines().find(|line| line.starts_with("  export ")).expect("a line to copy");
        let script = format!("{export}\nexec {PROGRAM} {command}");
        isolated("sh").args(["-c", &script]).output().expect("a shell can be run")
    }

    #[track_caller]
    fn prints(&self, command: &str, code: i32) -> String {
        let output = self.run(command);
        assert_eq!(output.status.code(), Some(code), "{command}: {}{}", out(&output), err(&output));
        out(&output)
    }

    #[track_caller]
    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.prints(command, 0)).expect("JSON")
    }

    /// Waits until `wanted` is true for all events, and returns them.
    #[track_caller]
    fn events(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + 2 * MAX_WAIT;
        for count in (1..).map(|step| step * 50) {
            let lines = self.prints(&format!("tail --from beginning --json --count {count}"), 0);
            let events: Vec<Value> =
                lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
            if wanted(&events) {
                return events;
            }
            assert!(
                Instant::now() < deadline,
                "the condition does not hold: {count} events, the last is {:?}",
                events.last()
            );
        }
        unreachable!("numbers have no end")
    }

    /// Sends the request of a lever, as in the banner.
    async fn pull(&self, lever: &str) -> String {
        let url = format!("http://127.0.0.1:{}/double/{lever}", self.nexudus_port);
        let command = format!("curl -X POST {url} ");
        assert!(self.banner.contains(&command), "{command} in {}", self.banner);
        let answer = http_client().post(url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("text")
    }

    /// Waits until `wanted` is true for the webhooks, and returns them.
    fn webhooks(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + 2 * MAX_WAIT;
        loop {
            let webhooks =
                self.json("webhooks status --json")["webhooks"].as_array().expect("a list").clone();
            if wanted(&webhooks) {
                return webhooks;
            }
            let odd: Vec<&Value> = webhooks.iter().filter(|webhook| webhook["state"] != "ok").collect();
            assert!(Instant::now() < deadline, "still {odd:?}");
            pause(Duration::from_millis(200));
        }
    }

    async fn end(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(MAX_WAIT, self.run).await.expect("the tour ends");
        assert_eq!(ended.expect("no panic"), Ended::Drained);
    }
}

fn count(webhooks: &[Value], state: &str) -> usize {
    webhooks.iter().filter(|webhook| webhook["state"] == state).count()
}

fn is_marked(event: &Value) -> bool {
    header(event, "ce_nexuduscatchup").is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_applies_webhooks_loses_and_recovers_them_in_an_outage_and_catches_up() {
    let tour = Running::start();
    assert!(tour.prints("webhooks plan --detailed-exitcode", 3).contains("Plan: 89 to create, 0 to change"));
    assert!(tour.prints("webhooks apply --yes", 0).contains("Applied: 89 created, 0 changed, 0 failed."));
    assert!(tour.prints("webhooks plan", 0).contains("No changes. 89 webhooks"));
    let before = tour.events(|_| true);
    assert!(before.iter().all(|event| !is_marked(event)), "nothing is caught up yet");

    assert!(tour.pull("kafka/stop").await.contains("webhooks status"));
    // Webhooks of frequent actions have then failed ten times in a row.
    let off = tour.webhooks(|webhooks| count(webhooks, "disabled") >= 2);
    for webhook in off.iter().filter(|webhook| webhook["state"] == "disabled") {
        assert!(webhook["error_count"].as_i64().expect("a number") >= 10, "{webhook}");
        assert!(webhook["last_error"].as_str().expect("text").contains("503"), "{webhook}");
    }

    assert!(tour.pull("kafka/start").await.contains("catch-up --since last-outage"));
    tour.webhooks(|webhooks| count(webhooks, "disabled") == 0);
    let busy = |webhook: &Value| webhook["action"] == "BookingUpdate" && webhook["state"] == "ok";
    tour.webhooks(|webhooks| webhooks.iter().any(busy));

    // The outage has lost no event on the topics.
    tour.events(|after| before.iter().all(|event| after.contains(event)));

    let summary = tour.json("catch-up --since last-outage --json");
    let published = summary["published"].as_array().expect("a list");
    let of = |kind: &Value| usize::try_from(kind["events"].as_u64().expect("a number")).expect("few");
    let records: usize = published.iter().map(of).sum();
    assert!(published.iter().any(|kind| kind["action"] == "BookingCreate"), "{summary}");
    assert_eq!(summary["unplaced"], serde_json::json!({}), "{summary}");
    tour.events(|events| events.iter().filter(|event| is_marked(event)).count() == records);
    tour.end().await;
}

#[test]
fn the_ports_and_the_rate_of_the_tour_are_in_its_settings_and_its_banner() {
    let args = Args { port: 1, kafka_port: 2, admin_port: 3, nexudus_port: 4, rate: 1.0 };
    let config = args.configuration().expect("the tour's settings are valid");
    assert_eq!((config.ingress.listen.port(), config.admin.listen.port()), (1, 3));
    assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:2");
    let nexudus = config.nexudus.expect("the section exists");
    assert_eq!(nexudus.base_url.as_str(), "http://127.0.0.1:4/");
    for port in 1..=4 {
        assert!(args.banner().contains(&format!("127.0.0.1:{port}")), "{port} in {}", args.banner());
    }
}
