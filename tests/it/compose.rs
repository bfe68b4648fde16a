//! `docker-compose.yml` sets versions, health checks, rights, ports, mounts and variables explicitly. `stack.rs` tests that its
//! services work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use nexudus_bridge::action::Actions;

use crate::support::compose::{self, Compose, repository, variables};
use crate::support::kafka::VERSION;

#[test]
fn every_image_has_its_full_version_and_kafka_has_that_of_the_tests() {
    let compose = Compose::read();
    let built: BTreeSet<&str> =
        compose.services.values().filter(|one| one.build.is_some()).map(|one| one.image.as_str()).collect();
    for (name, service) in &compose.services {
        let (image, tag) = service.image.split_once(':').unwrap_or_else(|| panic!("{name} has no tag"));
        if built.contains(service.image.as_str()) {
            continue;
        }
        let numbers: Vec<&str> = tag.trim_start_matches('v').split('.').collect();
        let full = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
        assert!(full, "{name}: {image}:{tag}");
        assert!(image != "apache/kafka" || tag == VERSION, "{name}: the tests have Kafka {VERSION}");
    }
}

#[test]
fn services_have_a_health_check_or_a_reason_no_more_rights_than_they_need_and_ports_on_loopback_only() {
    let compose = Compose::read();
    let rotated = json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}});
    let mut ports = 0;
    for (name, service) in &compose.services {
        let checked = service.healthcheck.as_ref().is_some_and(|check| !check.test.is_empty());
        assert!(
            checked != service.no_healthcheck.is_some(),
            "{name}: a health check, or the reason without one"
        );
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        assert!(service.read_only || name == "kafka", "{name}: its image is writable");
        assert!(service.init, "{name}: SIGTERM is lost while the program starts");
        assert!(service.mem_limit.is_some(), "{name}: no memory limit");
        assert_eq!(service.logging, rotated, "{name}: its log grows without bound");
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
            ports += 1;
        }
        for needed in service.depends_on.keys() {
            assert!(compose.services.contains_key(needed), "{name} needs {needed}");
        }
    }
    assert_eq!(ports, 5);
}

/// The volumes that the image of Kafka declares. Docker creates an anonymous volume for each one without a mount. After a container
/// was recreated, `down --volumes` does not remove that volume.
const KAFKA_VOLUMES: [&str; 3] = ["/etc/kafka/secrets", "/mnt/shared/config", "/var/lib/kafka/data"];

#[test]
fn no_container_of_kafka_makes_an_anonymous_volume() {
    let compose = Compose::read();
    for (name, service) in &compose.services {
        if !service.image.starts_with("apache/kafka:") {
            continue;
        }
        let volumes = service.volumes.iter().map(|volume| volume.split(':').nth(1).expect("a folder inside"));
        let mounted: BTreeSet<&str> = volumes.chain(service.tmpfs.iter().map(String::as_str)).collect();
        for folder in KAFKA_VOLUMES {
            assert!(mounted.contains(folder), "{name}: {folder} is an anonymous volume");
        }
    }
}

#[test]
fn health_checks_start_no_jvm_and_no_program_that_a_distroless_image_lacks() {
    let compose = Compose::read();
    let kafka = compose.service("kafka").health_command();
    assert!(
        !kafka.iter().any(|argument| argument.contains("kafka-") || argument.contains("java")),
        "{kafka:?}"
    );
    assert_eq!(compose.service("prometheus").health_command()[0], "promtool");
}

#[test]
fn services_that_mount_files_of_the_checkout_wait_for_the_check_that_other_users_can_read_them() {
    let compose = Compose::read();
    let checked: BTreeSet<_> =
        compose.service("deploy-is-readable").mounts().into_iter().map(|(path, _)| path).collect();
    for (name, service) in &compose.services {
        for (path, _) in service.mounts() {
            assert!(
                path.ancestors().any(|folder| checked.contains(folder)),
                "{name}: {} is not checked",
                path.display()
            );
            assert!(
                name == "deploy-is-readable" || service.depends_on.contains_key("deploy-is-readable"),
                "{name} does not wait for the check"
            );
        }
    }
}

#[test]
fn the_dockerfile_fetches_no_frontend_and_the_allocator_supports_every_page_size_of_arm64() {
    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).expect("readable");
    assert!(!dockerfile.contains("syntax="), "the first line makes Docker fetch a frontend");
    let text = fs::read_to_string(repository().join(".cargo/config.toml")).expect("readable");
    for library in ["GNU", "MUSL"] {
        let line = format!("AARCH64_UNKNOWN_LINUX_{library}_JEMALLOC_SYS_WITH_LG_PAGE = \"16\"");
        assert!(text.lines().any(|each| each == line), "{line}");
    }
    let copied = dockerfile.find("COPY .cargo .cargo").expect("the settings are copied into the build");
    assert!(copied < dockerfile.find("cargo build").expect("a build"), "before the dependencies are built");
    let ignored = fs::read_to_string(repository().join(".dockerignore")).expect("readable");
    assert!(ignored.lines().any(|line| line == "!.cargo"), "it is in the build context");
}

#[test]
fn every_mounted_file_exists_and_every_volume_is_used() {
    let compose = Compose::read();
    let mut named = BTreeSet::new();
    for (name, service) in &compose.services {
        let mounts = service.mounts();
        for (path, _) in &mounts {
            assert!(path.exists(), "{name}: {} does not exist", path.display());
        }
        let others = service.volumes.iter().filter(|volume| !volume.starts_with("./"));
        named.extend(others.map(|volume| volume.split(':').next().expect("a name").to_owned()));
    }
    assert_eq!(named, compose.volumes.into_keys().collect());
}

#[test]
fn each_consumer_has_valid_settings_existing_topics_and_its_own_group_and_database() {
    let compose = Compose::read();
    let manual = fs::read_to_string(repository().join("examples/consumers/README.md")).expect("readable");
    let actions = Actions::default();
    let mut groups = BTreeSet::new();
    for name in ["consumer-billing", "consumer-access"] {
        let service = compose.service(name);
        let environment = service.environment();
        for variable in environment.keys() {
            assert!(manual.contains(&format!("| `{variable}` |")), "{name}: {variable} is no setting of it");
        }
        for topic in environment["KAFKA_TOPICS"].split(',') {
            let action = topic.strip_prefix("nexudus.").expect("the default prefix");
            assert!(actions.iter().any(|known| known.name() == action), "{name}: {topic}");
        }
        let letters = &environment["DEAD_LETTER_TOPIC"];
        assert_eq!(letters, &format!("{}.dead-letters", environment["KAFKA_GROUP"]), "{name}");
        let creates = compose.service("dead-letters").command.as_ref().expect("a command").join(" ");
        assert!(creates.contains(&environment["KAFKA_GROUP"]), "{name}: no service creates {letters}");
        let volume = service.volumes.iter().find(|volume| volume.ends_with(":/data")).expect("a volume");
        assert!(
            environment["DATABASE"].starts_with("/data/"),
            "{name}: its database is lost with the container"
        );
        assert!(groups.insert((environment["KAFKA_GROUP"].clone(), volume)), "{name} shares another's state");
        let folder = repository().join(service.build.as_ref().expect("it is built"));
        assert!(folder.join("Dockerfile").is_file(), "{name}: {}", folder.display());
    }
    assert_eq!(compose.service("consumer-access").scale(), 2, "members that share the events");
}

#[test]
fn the_example_of_env_has_every_variable_with_its_default_and_no_other() {
    let text = compose::text();
    let used: BTreeMap<&str, &str> =
        variables(&text).into_iter().map(|(name, default, _)| (name, default)).collect();
    let example = fs::read_to_string(repository().join(".env.example")).expect("readable");
    let shown: BTreeMap<&str, &str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(|(name, value)| (name, value.trim_matches('\'')))
        .collect();
    assert!(used.len() > 10, "{used:?}");
    assert_eq!(shown, used, "of .env.example, and of docker-compose.yml");
}

#[test]
fn grafana_is_provisioned_with_the_services_of_the_compose_file() {
    let compose = Compose::read();
    let yaml = |path: &str| -> Value {
        let text = fs::read_to_string(repository().join("deploy").join(path)).expect("readable");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let source = &yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let published = &compose.service("prometheus").ports[0];
    assert!(published.ends_with(":9090"), "{published}");
    let scraped = &yaml("prometheus/prometheus.yml")["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], scraped, "what $__rate_interval is made of");

    let grafana = compose.service("grafana");
    let provider = &yaml("grafana/provisioning/dashboards/nexudus-bridge.yml")["providers"][0];
    let folder = provider["options"]["path"].as_str().expect("a path");
    let mounts = grafana.mounts();
    let (outside, _) = mounts.iter().find(|(_, inside)| *inside == folder).expect("it is mounted");
    let home = &grafana.environment()["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    let below = Path::new(home).strip_prefix(folder).expect("one of the dashboards");
    assert!(outside.join(below).is_file(), "{home}");
    assert!(mounts.iter().any(|(_, inside)| *inside == "/etc/grafana/provisioning"));
}
