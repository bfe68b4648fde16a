//! AsyncAPI: every published message matches the document of `asyncapi`. The official parser validates its form in
//! `deploy/asyncapi/check`.

use std::collections::BTreeSet;

use nexudus_bridge::action::catalogue::ENTRIES;
use serde_json::{Map, Value, json};

use crate::support::kafka::free_port;
use crate::support::program::{Running, err, header, out, program, run};
use crate::support::validator;

fn document(arguments: &[&str]) -> Value {
    let output = run(&[&["asyncapi"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    serde_json::from_str(&out(&output)).expect("JSON")
}

/// Returns the name of the message that the document has for an event on the channel of its topic.
fn message_of(document: &Value, event: &Value) -> String {
    let channels = document["channels"].as_object().expect("channels");
    let (channel_name, channel) =
        channels.iter().find(|(_, channel)| channel["address"] == event["topic"]).expect("a channel");
    let name = match channel_name.as_str() {
        "quarantine" => "quarantine",
        _ if !header(event, "nexudus-tombstone").is_null() => "tombstone",
        _ => {
            let kind = header(event, "ce_type").as_str().expect("a ce_type");
            kind.strip_prefix("com.nexudus.").expect("the bridge's")
        }
    };
    let reference = &channel["messages"][name]["$ref"];
    assert_eq!(*reference, format!("#/components/messages/{name}"));
    let operation = &document["operations"][format!("send.{channel_name}")];
    assert_eq!(operation["channel"]["$ref"], format!("#/channels/{channel_name}"));
    let of_channel = format!("#/channels/{channel_name}/messages/{name}");
    let messages = operation["messages"].as_array().expect("a list");
    assert!(messages.iter().any(|message| message["$ref"] == *of_channel), "{operation}");
    name.to_owned()
}

/// Validates an event of `tail --json` against the document: names and values of its headers, and its record.
fn validate(document: &Value, event: &Value) {
    let name = message_of(document, event);
    let part = |part: &str| json!({ "$ref": format!("#/components/messages/{name}/{part}") });
    let schema = json!({
        "properties": { "headers": part("headers"), "value": part("payload") },
        "components": document["components"],
    });
    let validator = validator(&schema);
    let headers: Map<String, Value> = event["headers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|header| (header["name"].as_str().expect("a name").to_owned(), header["value"].clone()))
        .collect();
    let common = &document["components"]["schemas"]["Headers"]["properties"];
    let own = &document["components"]["messages"][&name]["headers"]["properties"];
    let known: BTreeSet<&String> =
        [common, own].into_iter().flat_map(|it| it.as_object().expect("headers").keys()).collect();
    let unknown: Vec<&String> = headers.keys().filter(|header| !known.contains(header)).collect();
    assert!(unknown.is_empty(), "{name}: not in the document: {unknown:?}");
    let instance = json!({ "headers": headers, "value": event["value"] });
    let errors: Vec<String> =
        validator.iter_errors(&instance).map(|error| format!("{} {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
    for header in common["required"].as_array().into_iter().flatten() {
        let mut without = instance.clone();
        without["headers"].as_object_mut().expect("headers").remove(header.as_str().expect("a name"));
        assert!(!validator.is_valid(&without), "{name}: accepted without {header}");
    }
    let mut wrong = instance.clone();
    wrong["headers"]["ce_source"] = json!("/nexudus/elsewhere");
    assert!(!validator.is_valid(&wrong), "{name}: any source is accepted");
}

#[test]
fn every_published_message_matches_the_document() {
    published_messages_match("", 90);
}

#[test]
fn every_message_on_shared_topics_matches_the_document() {
    published_messages_match(
        "[topics]\ntombstones = true\n[topics.layout]\n\"*\" = \"{entity}\"\n\"CoworkerCheck*\" = \"people\"\n[topics.overrides.people]\npartitions = 7\n",
        30,
    );
}

/// Publishes one event of each action and a quarantined delivery, on this number of topics, and validates all of them.
fn published_messages_match(layout: &str, channels: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml").display().to_string();
    let listen = "listen = \"127.0.0.1:0\"\n";
    let text = format!("[sources.default]\nsecrets = [\"s\"]\n[ingress]\n{listen}[admin]\n{listen}{layout}");
    std::fs::write(&file, text).expect("written");
    let config = ["--config", &file];
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let [port, kafka, admin] = ports.each_ref().map(String::as_str);
    let dev = ["dev", "--port", port, "--kafka-port", kafka, "--admin-port", admin];
    let dev = Running::start(program().args(dev).args(config));
    dev.line_with("Ctrl-C");
    let url = format!("http://127.0.0.1:{port}");
    let body = folder.path().join("body.json").display().to_string();
    std::fs::write(&body, r#"[{"Id":1}]"#).expect("written");
    let unknown = ["send", "SomethingNew", "--payload", &body, "--url", &url];
    for sent in [&["send", "all", "--url", &url][..], &unknown] {
        let sent = run(&[sent, &config].concat());
        assert_eq!(sent.status.code(), Some(0), "{}{}", out(&sent), err(&sent));
    }
    let document = document(&config);
    let bootstrap = format!("127.0.0.1:{kafka}");
    let mut topics = BTreeSet::new();
    let tombstones = ENTRIES.iter().filter(|entry| entry.verb == "deleted").count();
    let messages = if layout.contains("tombstones") { 90 + tombstones } else { 90 }.to_string();
    let tail =
        ["tail", "*", "--bootstrap", &bootstrap, "--from", "beginning", "--json", "--count", &messages];
    for line in out(&run(&[&tail, &config[..]].concat())).lines() {
        let event: Value = serde_json::from_str(line).expect("an object a line");
        validate(&document, &event);
        topics.insert(event["topic"].as_str().expect("a topic").to_owned());
    }
    let addresses: BTreeSet<String> = document["channels"]
        .as_object()
        .expect("channels")
        .values()
        .map(|it| it["address"].as_str().expect("an address").to_owned())
        .collect();
    assert_eq!((&topics, topics.len()), (&addresses, channels));
    let people = &document["channels"]["people"]["bindings"]["kafka"]["partitions"];
    assert_eq!(people.as_i64(), layout.contains("people").then_some(7));
}

#[test]
fn the_document_describes_the_configuration_and_holds_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bridge.toml");
    let text = r#"
        [kafka]
        bootstrap_servers = "kafka-1:9093,kafka-2:9093"
        [kafka.properties]
        "security.protocol" = "sasl_ssl"
        "sasl.mechanisms" = "SCRAM-SHA-512"
        "sasl.username" = "bridge"
        "sasl.password" = "n0t-for-the-document"
        [topics]
        prefix = "n."
        key = "CoworkerId"
        partitions = 6
        replication_factor = 3
        config = { "cleanup.policy" = "compact,delete", "retention.ms" = "604800000", "min.insync.replicas" = "2" }
        [sources.default]
        secrets = ["n0t-for-the-document"]
        [sources.north]
        secrets = ["n0t-for-the-document"]
        extra_actions = ["SomethingNew"]
    "#;
    std::fs::write(&file, text).expect("written");
    let document = document(&["--config", &file.display().to_string()]);
    assert!(!document.to_string().contains("n0t-for-the-document"));
    assert_eq!(document["channels"].as_object().expect("channels").len(), 91);
    assert_eq!(
        document["servers"]["kafka-2"],
        json!({"host": "kafka-2:9093", "protocol": "kafka-secure", "security": [{"$ref": "#/components/securitySchemes/sasl"}]})
    );
    assert_eq!(document["components"]["securitySchemes"], json!({"sasl": {"type": "scramSha512"}}));
    let binding = &document["channels"]["BookingDelete"]["bindings"]["kafka"];
    assert_eq!(
        (&binding["topic"], &binding["partitions"], &binding["replicas"]),
        (&json!("n.BookingDelete"), &json!(6), &json!(3))
    );
    let settings = &binding["topicConfiguration"];
    assert_eq!(
        (&settings["cleanup.policy"], &settings["retention.ms"]),
        (&json!(["compact", "delete"]), &json!(604_800_000))
    );
    assert!(
        settings["max.message.bytes"].is_u64() && settings["min.insync.replicas"].is_null(),
        "{settings}"
    );
    let messages = &document["components"]["messages"];
    assert_eq!(
        messages["BookingDelete"]["headers"]["properties"]["ce_source"]["enum"],
        json!(["/nexudus/default", "/nexudus/north"])
    );
    assert_eq!(messages["BookingDelete"]["x-json-schema-id"], "urn:nexudus-bridge:schema:1:BookingDelete");
    assert_eq!(messages["BookingDelete"]["payload"]["$ref"], "#/components/schemas/Booking");
    assert_eq!(
        messages["SomethingNew"]["headers"]["properties"]["ce_source"]["enum"],
        json!(["/nexudus/north"])
    );
    assert_eq!(messages["SomethingNew"]["payload"], json!({"type": "object"}));
    let key = messages["BookingDelete"]["bindings"]["kafka"]["key"]["description"].as_str().expect("text");
    assert!(key.contains("CoworkerId"), "{key}");
}
