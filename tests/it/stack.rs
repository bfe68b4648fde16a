//! `docker-compose.yml` works: what it and the files that it mounts say, said to the real programs.
//!
//! No container is started. The broker, the bridge and Prometheus run on this machine, with every word of the files as it is but
//! for addresses and folders: [`Here::new`] lists these. What holds for the file as it stands is in `compose.rs`;
//! `deploy/compose/test` runs the consumers too.

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

/// How long a program may take until it is healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);

/// What a container has and the compose file does not say: the ports on which images listen by themselves.
struct Images {
    ingress: String,
    prometheus: String,
}

/// Where things are here that the files of the compose file name otherwise.
struct Here {
    /// What the files say, and what is true here; the first row that fits a place wins.
    table: Vec<(&'static str, String)>,
    used: RefCell<BTreeSet<&'static str>>,
    images: Images,
    folder: tempfile::TempDir,
}

impl Here {
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

    /// A text of the files as it is here.
    fn text(&self, text: &str) -> String {
        let mut translated = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let row = self.table.iter().find(|(original, _)| rest.starts_with(original));
            let length = row.map_or(first.len_utf8(), |(original, _)| original.len());
            translated.push_str(row.map_or(&rest[..length], |(_, here)| here));
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

    /// A command of the compose file that is one of Kafka's scripts, as arguments of Java.
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

    /// Every row of the table is still in some file.
    fn all_used(&self) {
        let all: BTreeSet<&str> = self.table.iter().map(|(original, _)| *original).collect();
        assert_eq!(*self.used.borrow(), all, "what the files say, and what is translated");
    }
}

/// The broker, as the image starts it: `KAFKA_A_B` is the property `a.b`, and the storage is made with `CLUSTER_ID`.
fn start_kafka(here: &Here, service: &Service) -> Guarded {
    let not_properties = ["CLUSTER_ID", "KAFKA_HEAP_OPTS"];
    let environment = here.environment(service);
    let properties = environment.iter().filter(|(name, _)| !not_properties.contains(&name.as_str()));
    let lines = properties.map(|(name, value)| {
        let property = name.strip_prefix("KAFKA_").expect("the image knows no others").to_lowercase();
        assert!(!property.contains("__"), "{name}: the image makes other signs of these");
        format!("{}={value}\n", property.replace('_', "."))
    });
    let file = here.folder.path().join("server.properties");
    fs::write(&file, lines.collect::<String>()).expect("written");
    let file = file.display().to_string();
    let translated = |arguments: &[&str]| {
        let command: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        here.java(service, &command)
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

/// A copy of the folder that Prometheus has mounted, with the names of here.
fn copy_for_prometheus(here: &Here, service: &Service) {
    let mounts = service.mounts();
    let [(folder, "/etc/prometheus")] = &mounts[..] else { panic!("{mounts:?}") };
    for below in ["", "rules"] {
        let to = here.folder.path().join("prometheus").join(below);
        fs::create_dir_all(&to).expect("made");
        for file in files(&folder.join(below)) {
            let text = here.text(&fs::read_to_string(&file).expect("readable"));
            fs::write(to.join(file.file_name().expect("it has a name")), text).expect("written");
        }
    }
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_compose_file_work_with_the_real_programs() {
    let (here, compose) = (Here::new(), Compose::read());
    let service = |name: &str| compose.service(name);

    let mut kafka = start_kafka(&here, service("kafka"));
    let check = here.texts(service("kafka").health_command());
    wait_until_healthy(Command::new(&check[0]).args(&check[1..]), || kafka.is_still_running());

    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).expect("readable");
    assert!(dockerfile.ends_with("CMD [\"serve\"]\n"), "the bridge's service has no command of its own");
    let bridge = Running::start(here.bridge(service("bridge")).arg("serve"));
    bridge.line_with("the bridge is listening");
    assert!(dockerfile.contains("CMD [\"/usr/local/bin/nexudus-bridge\", \"health\"]"), "the health check");
    wait_until_healthy(here.bridge(service("bridge")).arg("health"), || {});
    let admin = here.text("http://bridge:9464");
    let console = http_client().get(format!("{admin}/")).send().await.expect("answered");
    assert_eq!(console.status(), 200, "the console is on");

    copy_for_prometheus(&here, service("prometheus"));
    let mut arguments = here.texts(service("prometheus").command.as_ref().expect("it has one"));
    arguments.push(format!("--web.listen-address={}", here.images.prometheus));
    let health = service("prometheus").health_command();
    assert_eq!(health[..3], ["promtool", "check", "ready"]);
    let url = here.text(health[3].strip_prefix("--url=").expect("an address"));
    let prometheus = Prometheus::ready(Prometheus::program(|_| arguments), url).await;

    let sent = here.texts(service("send").command.as_ref().expect("it says what to send"));
    let summary = out(&succeeds(program().envs(here.environment(service("send"))).args(sent)));
    let posted = summary.split_whitespace().next().expect("a number").parse::<usize>().expect("how many");
    assert!(posted > 200 && summary.contains(&format!("; {posted} events confirmed")), "{summary}");

    prometheus_has_everything(&prometheus, posted).await;
    here.all_used();
}

/// The target is up and is this bridge, and every rule of every file is loaded and works.
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
