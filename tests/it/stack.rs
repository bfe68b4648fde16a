//! `docker-compose.yml` and the files that it mounts work with the real programs.
//!
//! No container is started. The broker, the bridge and Prometheus run on this machine, with the files as they are. Only addresses and
//! folders are replaced: [`Host::new`] lists these. `compose.rs` checks the file without running it; `deploy/compose/test` also runs
//! the consumers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bridge::{MAX_WAIT, http_client};
use crate::support::compose::{Compose, Service, repository};
use crate::support::guarded::Guarded;
use crate::support::kafka::{free_port, java, pause};
use crate::support::program::{Running, err, out, program};
use crate::support::prometheus::Prometheus;

/// Maximum time until a program is healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);

/// The addresses that correspond to ports on which images listen without a setting in the compose file.
struct Images {
    ingress: String,
    prometheus: String,
}

/// This machine, with replacements for the addresses and folders in the files.
struct Host {
    /// Texts of the files, each with its replacement. Of several matching rows the first is used.
    table: Vec<(&'static str, String)>,
    used: RefCell<BTreeSet<&'static str>>,
    images: Images,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let [controller, inner, outer, ingress, admin, prometheus] =
            [(); 6].map(|()| format!("127.0.0.1:{}", free_port()));
        let table = vec![
            ("CONTROLLER://:9093", format!("CONTROLLER://{controller}")),
            ("INSIDE://:19092", format!("INSIDE://{inner}")),
            ("OUTSIDE://:9092", format!("OUTSIDE://{outer}")),
            ("OUTSIDE://127.0.0.1:9092", format!("OUTSIDE://{outer}")),
            ("kafka:9093", controller),
            ("/dev/tcp/kafka/19092", inner.replace("127.0.0.1:", "/dev/tcp/127.0.0.1/")),
            ("kafka:19092", inner),
            ("bridge:8080", ingress.clone()),
            ("bridge:9464", admin.clone()),
            ("0.0.0.0:9464", admin),
            ("127.0.0.1:9090", prometheus.clone()),
            ("/var/lib/kafka/data", inside("kafka-data")),
            ("/etc/prometheus", inside("prometheus")),
            ("path=/prometheus", format!("path={}", inside("prometheus-data"))),
        ];
        Self { table, used: RefCell::default(), images: Images { ingress, prometheus }, folder }
    }

    /// Returns a text of the files with all replacements.
    fn text(&self, text: &str) -> String {
        let mut translated = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let row = self.table.iter().find(|(original, _)| rest.starts_with(original));
            let length = row.map_or(first.len_utf8(), |(original, _)| original.len());
            translated.push_str(row.map_or(&rest[..length], |(_, replacement)| replacement));
            self.used.borrow_mut().extend(row.map(|(original, _)| original));
            rest = &rest[length..];
        }
        translated
    }

    fn texts(&self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.text(text)).collect()
    }

    fn environment(&self, service: &Service) -> BTreeMap<String, String> {
        service.environment().into_iter().map(|(name, value)| (name, self.text(&value))).collect()
    }

    /// Returns a command of the compose file, one of Kafka's scripts, as arguments of Java.
    fn java(&self, service: &Service, command: &[String]) -> (&'static Path, Vec<String>) {
        let (java, class_path) = java().unwrap_or_else(|reason| panic!("{reason}"));
        let mut arguments =
            vec!["-XX:-UsePerfData".to_owned(), "-cp".to_owned(), class_path.to_string_lossy().into_owned()];
        let heap = &service.environment()["KAFKA_HEAP_OPTS"];
        arguments.extend(heap.split_whitespace().map(str::to_owned));
        arguments.extend(self.texts(command));
        (java, arguments)
    }

    fn bridge(&self, service: &Service) -> Command {
        let mut command = program();
        command.envs(self.environment(service));
        command.env("NEXUDUS_BRIDGE__INGRESS__LISTEN", &self.images.ingress);
        command
    }

    /// Asserts that every row of the table occurs in some file.
    fn all_used(&self) {
        let all: BTreeSet<&str> = self.table.iter().map(|(original, _)| *original).collect();
        assert_eq!(*self.used.borrow(), all, "texts in the files, and rows of the table");
    }
}

/// Starts the broker as the image does: `KAFKA_A_B` is the property `a.b`, and the storage is formatted with `CLUSTER_ID`.
fn start_kafka(host: &Host, service: &Service) -> Guarded {
    let not_properties = ["CLUSTER_ID", "KAFKA_HEAP_OPTS"];
    let environment = host.environment(service);
    let properties = environment.iter().filter(|(name, _)| !not_properties.contains(&name.as_str()));
    let lines = properties.map(|(name, value)| {
        let property = name.strip_prefix("KAFKA_").expect("the image uses no other variables").to_lowercase();
        assert!(!property.contains("__"), "{name}: the image makes other signs of these");
        format!("{}={value}\n", property.replace('_', "."))
    });
    let file = host.folder.path().join("server.properties");
    fs::write(&file, lines.collect::<String>()).expect("written");
    let file = file.display().to_string();
    let translated = |arguments: &[&str]| {
        let command: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        host.java(service, &command)
    };
    let (java, format) =
        translated(&["kafka.tools.StorageTool", "format", "-t", &environment["CLUSTER_ID"], "-c", &file]);
    succeeds(Command::new(java).args(format));
    let (java, start) = translated(&["kafka.Kafka", &file]);
    Guarded::start(java, |_| start)
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}{}", out(&output), err(&output));
    output
}

/// Runs a health check until it succeeds.
fn wait_until_healthy(check: &mut Command, mut running: impl FnMut()) {
    let begun = Instant::now();
    while !check.output().expect("it can be run").status.success() {
        running();
        assert!(begun.elapsed() < HEALTHY_WITHIN, "{check:?} does not succeed");
        pause(Duration::from_millis(200));
    }
}

/// Copies the folder that Prometheus mounts, with all replacements.
fn copy_for_prometheus(host: &Host, service: &Service) {
    let mounts = service.mounts();
    let [(folder, "/etc/prometheus")] = &mounts[..] else { panic!("{mounts:?}") };
    for below in ["", "rules"] {
        let to = host.folder.path().join("prometheus").join(below);
        fs::create_dir_all(&to).expect("made");
        for file in files(&folder.join(below)) {
            let text = host.text(&fs::read_to_string(&file).expect("readable"));
            fs::write(to.join(file.file_name().expect("it has a name")), text).expect("written");
        }
    }
}

/// Returns the files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_compose_file_work_with_the_real_programs() {
    let (host, compose) = (Host::new(), Compose::read());
    let service = |name: &str| compose.service(name);

    let mut kafka = start_kafka(&host, service("kafka"));
    let check = host.texts(service("kafka").health_command());
    wait_until_healthy(Command::new(&check[0]).args(&check[1..]), || kafka.is_still_running());

    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).expect("readable");
    assert!(dockerfile.ends_with("CMD [\"serve\"]\n"), "the bridge's service has no command of its own");
    let bridge = Running::start(host.bridge(service("bridge")).arg("serve"));
    bridge.line_with("the bridge is listening");
    assert!(dockerfile.contains("CMD [\"/usr/local/bin/nexudus-bridge\", \"health\"]"), "the health check");
    wait_until_healthy(host.bridge(service("bridge")).arg("health"), || {});
    let admin = host.text("http://bridge:9464");
    let console = http_client().get(format!("{admin}/")).send().await.expect("answered");
    assert_eq!(console.status(), 200, "the console is on");

    copy_for_prometheus(&host, service("prometheus"));
    let mut arguments = host.texts(service("prometheus").command.as_ref().expect("it has one"));
    arguments.push(format!("--web.listen-address={}", host.images.prometheus));
    let health = service("prometheus").health_command();
    assert_eq!(health[..3], ["promtool", "check", "ready"]);
    let url = host.text(health[3].strip_prefix("--url=").expect("an address"));
    let prometheus = Prometheus::ready(Prometheus::program(|_| arguments), url).await;

    let sent = host.texts(service("send").command.as_ref().expect("it has a command"));
    let summary = out(&succeeds(program().envs(host.environment(service("send"))).args(sent)));
    let posted = summary.split_whitespace().next().expect("a number").parse::<usize>().expect("how many");
    assert!(posted > 200 && summary.contains(&format!("; {posted} events confirmed")), "{summary}");

    prometheus_has_everything(&prometheus, posted).await;
    host.all_used();
}

/// Asserts that the target is this bridge, and that every rule of every file is loaded and works.
async fn prometheus_has_everything(prometheus: &Prometheus, posted: usize) {
    let counted = "sum(nexudus_bridge_events_confirmed_total and on (job, instance) up == 1)";
    let begun = Instant::now();
    loop {
        let series = prometheus.query(counted, None).await.expect("a right query");
        let value = series.first().and_then(|series| series["value"][1].as_str()).unwrap_or_default();
        let rules = prometheus.rules().await;
        let soon = |rule: &Value| rule["interval"].as_f64().is_some_and(|seconds| seconds <= 15.0);
        let evaluated = rules.iter().filter(|rule| soon(rule)).all(|rule| rule["health"] == "ok");
        if value == posted.to_string() && evaluated {
            break;
        }
        assert!(begun.elapsed() < 2 * MAX_WAIT, "of {posted} Prometheus has {value:?}; {rules:#?}");
        pause(Duration::from_millis(500));
    }
    let rules = prometheus.rules().await;
    let mut loaded = BTreeMap::<&str, usize>::new();
    for rule in &rules {
        assert!(rule["health"] != "err" && rule["lastError"].as_str().is_none_or(str::is_empty), "{rule:#}");
        let file = Path::new(rule["file"].as_str().expect("a path")).file_name().expect("a name");
        *loaded.entry(file.to_str().expect("text")).or_default() += 1;
    }
    let ours = files(&repository().join("deploy/prometheus/rules"));
    assert_eq!(loaded.len(), ours.len(), "{loaded:?}");
    for file in ours {
        let text = fs::read_to_string(&file).expect("readable");
        let written = text.matches("- alert:").count() + text.matches("- record:").count();
        assert_eq!(loaded[file.file_name().and_then(|name| name.to_str()).expect("text")], written);
    }
}
