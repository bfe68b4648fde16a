//! `dev --nexudus`: the tour of the README by the real program, from the first plan through an outage to the recovery.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bridge::{PATIENCE, http_client};
use crate::support::kafka::{free_port, pause};
use crate::support::nexudus::Tenant;
use crate::support::program::{Running, err, header, out, program, run};

/// A `dev --nexudus` on ports of its own.
struct Tour {
    dev: Running,
    banner: Vec<String>,
    ports: [String; 4],
}

/// As often and as hasty as a test wants it.
const HASTE: [&str; 2] = ["--nexudus-rate", "20"];

impl Tour {
    fn start(file: Option<&Path>) -> Self {
        let ports: [String; 4] = std::array::from_fn(|_| free_port().to_string());
        let mut command = program();
        command.args(["dev", "--nexudus", "--port", &ports[0], "--kafka-port", &ports[1]]);
        command.args(["--admin-port", &ports[2], "--nexudus-port", &ports[3]]).args(HASTE);
        command.env("NEXUDUS_BRIDGE__KAFKA__CONFIRM_TIMEOUT", "500ms");
        if let Some(file) = file {
            command.arg("--config").arg(file);
        }
        let dev = Running::start(&mut command);
        let banner = dev.lines_until("Ctrl-C ends it.");
        Self { dev, banner, ports }
    }

    /// Runs a command in a shell, behind the line that the banner says is to be typed first.
    fn run(&self, command: &str) -> Output {
        let export = self.banner.iter().find(|line| line.starts_with("  export ")).expect("one to copy");
        let mut shell = Command::new("sh");
        let own = program(); // what it takes from the environment, the shell takes too
        own.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(shell.env(name, value)),
            None => drop(shell.env_remove(name)),
        });
        let script = format!("{export}\nexec {} {command}", env!("CARGO_BIN_EXE_nexudus-bridge"));
        shell.args(["-c", &script]).current_dir(std::env::temp_dir()).output().expect("a shell can be run")
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

    /// All events, from the beginning on to where they are as wanted.
    #[track_caller]
    fn events(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + 2 * PATIENCE;
        for count in (1..).map(|step| step * 50) {
            let lines = self.prints(&format!("tail --from beginning --json --count {count}"), 0);
            let events: Vec<Value> =
                lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
            if wanted(&events) {
                return events;
            }
            assert!(
                Instant::now() < deadline,
                "not as wanted: {count} events, the last is {:?}",
                events.last()
            );
        }
        unreachable!("numbers have no end")
    }

    /// Does what the banner says.
    async fn pull(&self, lever: &str) -> String {
        let url = format!("http://127.0.0.1:{}/double/{lever}", self.ports[3]);
        let told = format!("curl -X POST {url} ");
        assert!(self.banner.iter().any(|line| line.contains(&told)), "{told} in {:?}", self.banner);
        let answer = http_client().post(url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("text")
    }

    /// The webhooks, once they are as wanted.
    fn webhooks(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + 2 * PATIENCE;
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

    fn end(self) {
        self.dev.signal("TERM");
        let (status, log) = self.dev.ended(PATIENCE);
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

fn count(webhooks: &[Value], state: &str) -> usize {
    webhooks.iter().filter(|webhook| webhook["state"] == state).count()
}

fn is_marked(event: &Value) -> bool {
    header(event, "ce_nexuduscatchup").is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_applied_switched_off_by_an_outage_and_on_again_by_the_guardian_and_the_rest_is_caught_up()
 {
    let tour = Tour::start(None);
    assert!(tour.prints("webhooks plan --detailed-exitcode", 3).contains("Plan: 89 to create, 0 to change"));
    assert!(tour.prints("webhooks apply --yes", 0).contains("Applied: 89 created, 0 changed, 0 failed."));
    assert!(tour.prints("webhooks plan", 0).contains("No changes. 89 webhooks"));
    let before = tour.events(|_| true);
    assert!(before.iter().all(|event| !is_marked(event)), "nothing is caught up yet");

    assert!(tour.pull("kafka/stop").await.contains("webhooks status"));
    // By then the events of an action that is not seldom have failed ten times.
    let off = tour.webhooks(|webhooks| count(webhooks, "disabled") >= 2);
    for webhook in off.iter().filter(|webhook| webhook["state"] == "disabled") {
        assert!(webhook["error_count"].as_i64().expect("a number") >= 10, "{webhook}");
        assert!(webhook["last_error"].as_str().expect("text").contains("503"), "{webhook}");
    }

    assert!(tour.pull("kafka/start").await.contains("catch-up --since last-trigger"));
    tour.webhooks(|webhooks| count(webhooks, "disabled") == 0);
    let log = tour.dev.lines_until("is on again").join("\n");
    assert!(log.contains("Kafka is away"), "{log}");
    let busy = |webhook: &Value| webhook["action"] == "BookingUpdate" && webhook["state"] == "ok";
    tour.webhooks(|webhooks| webhooks.iter().any(busy));

    // Kafka has kept what it held.
    tour.events(|after| before.iter().all(|event| after.contains(event)));

    let summary = tour.json("catch-up --since last-trigger --json");
    let published = summary["published"].as_array().expect("a list");
    let of = |kind: &Value| usize::try_from(kind["events"].as_u64().expect("a number")).expect("few");
    let records: usize = published.iter().map(of).sum();
    assert!(published.iter().any(|kind| kind["action"] == "BookingCreate"), "{summary}");
    assert_eq!(summary["unplaced"], serde_json::json!({}), "{summary}");
    tour.events(|events| events.iter().filter(|event| is_marked(event)).count() == records);
    tour.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_ones_own_get_their_webhooks_in_the_double_and_their_events_are_signed_with_their_secrets()
{
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own sources.toml");
    let toml = "[ingress]\nlisten = \"127.0.0.1:0\"\n[sources.north]\nsecrets = [\"sécret\"]\nbusiness_id = 77\n\
                url_tokens = [\"t0ken\"]\nactions = [\"Booking*\"]\n[sources.south]\nsecrets = [\"other\"]\n";
    std::fs::write(&file, toml).expect("written");
    let tour = Tour::start(Some(&file));
    let plan = tour.prints("webhooks plan", 0);
    let url = format!(
        "+ north BookingCreate http://127.0.0.1:{}/webhooks/north/BookingCreate?token=***",
        tour.ports[0]
    );
    assert!(plan.contains(&url) && plan.contains("Plan: 3 to create"), "{plan}");
    tour.prints("webhooks apply", 0);
    let events = tour.events(|_| true);
    assert!(events.iter().all(|event| header(event, "nexudus-signature").is_null()), "{events:?}");
    assert!(
        events.iter().all(|event| event["topic"].as_str().is_some_and(|topic| topic.contains("Booking")))
    );
    let state = format!("http://127.0.0.1:{}/console/state", tour.ports[2]);
    let state = http_client().get(state).send().await.expect("an answer").text().await.expect("text");
    let settings = &serde_json::from_str::<Value>(&state).expect("JSON")["settings"];
    let origin = |key: &str| {
        let setting = settings.as_array().expect("a list").iter().find(|setting| setting["key"] == key);
        setting.unwrap_or_else(|| panic!("no {key} in {settings}"))["origin"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    for key in ["nexudus.base_url", "nexudus.password", "nexudus.public_url", "nexudus.guardian.interval"] {
        assert_eq!(origin(key), "dev --nexudus", "{key}");
    }
    assert_eq!(origin("nexudus.request_timeout"), "default");
    assert!(origin("sources.north.business_id").contains("own sources.toml"));
    assert!(origin("kafka.confirm_timeout").contains("CONFIRM_TIMEOUT"), "what the user set stays");
    tour.end();
}

#[test]
fn a_configuration_for_a_real_nexudus_is_not_used_for_the_tour_nor_the_other_way_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    let real = "[ingress]\nlisten = \"127.0.0.1:0\"\n[nexudus]\ntoken = \"t\"\npublic_url = \"https://h.example.com\"\n\
                [sources.default]\nsecrets = [\"x\"]\n";
    std::fs::write(&file, real).expect("written");
    let file = file.display().to_string();
    let free = free_port().to_string();
    for (arguments, code, told) in [
        (vec!["--nexudus", "--config", &file], 2, "[nexudus] is configured"),
        (vec!["--nexudus", "--port", "0"], 2, "expected fixed ports"),
        (vec!["--nexudus-port", &free], 2, "--nexudus"),
        (vec!["--nexudus", "--nexudus-rate", "0"], 2, "expected 0.01 to 100"),
    ] {
        let output = run(&[&["dev"], arguments.as_slice()].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", err(&output));
        assert!(err(&output).contains(told), "{arguments:?} {}", err(&output));
    }
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let output = run(&["dev", "--nexudus", "--nexudus-port", &port]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains(&format!("127.0.0.1:{port}")), "{}", err(&output));
}

#[test]
fn commands_for_nexudus_want_its_address_and_do_not_look_for_a_double() {
    use nexudus_bridge::double::{Nexudus, Options};
    // Where the port is taken, another test or `dev` may have a double there.
    let double = Nexudus::start(Options { port: 8081, ..Options::default() }).ok();
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["catch-up", "--since", "1h"][..], &["webhooks", "plan"], &["webhooks", "apply"]] {
        let output = program().args(arguments).current_dir(folder.path()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}{}", out(&output), err(&output));
        assert!(err(&output).contains("type the export line that it prints"), "{}", err(&output));
    }
    assert!(double.is_none_or(|double| double.journal().is_empty()));
}

#[test]
fn dev_and_demo_leave_the_account_of_a_configuration_alone() {
    let tenant = Tenant::with("");
    tenant.configure(&format!(
        "{}[ingress]\nlisten = \"127.0.0.1:0\"\n[sources.default]\nsecrets = [\"x\"]\nbusiness_id = 1999000001\n",
        tenant.section("guardian = { interval = \"100ms\" }")
    ));
    tenant.prints(&["demo"], 0);
    let ports: [String; 2] = std::array::from_fn(|_| free_port().to_string());
    let mut command = program();
    command
        .args(["dev", "--kafka-port", &ports[0], "--admin-port", &ports[1], "--config"])
        .arg(tenant.file());
    let dev = Running::start(&mut command);
    dev.line_with("the bridge is listening");
    let begun = Instant::now();
    while !run(&["health", "--url", &format!("http://127.0.0.1:{}", ports[1])]).status.success() {
        assert!(begun.elapsed() < PATIENCE, "it is not ready");
        pause(Duration::from_millis(50));
    }
    dev.signal("TERM");
    let (status, log) = dev.ended(PATIENCE);
    assert!(status.success(), "{log}");
    assert!(tenant.asked().is_empty(), "nobody has asked Nexudus anything");
}
