use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::load::{Environment, Mistakes, load};
use super::*;
use crate::kafka::settings::check_property;

const SECRET: &str = "NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS";

pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A file in a folder of its own. The drop removes the folder.
struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bridge.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bridge.toml")
    }
}

pub(super) fn from_file(text: &str, variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    load(Some(&Written::new(text).path()), &environment(variables), check_property)
}

pub(super) fn mistakes(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    from_file(text, variables).expect_err("mistakes").0
}

pub(super) const MINIMAL: &str = "[sources.default]\nsecrets = [\"hush-hush\"]\n";

#[test]
fn only_a_secret_is_required() {
    let config = load(None, &environment(&[(SECRET, r#"["hush-hush"]"#)]), check_property).unwrap();
    assert_eq!(config.ingress.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.ingress.max_body_bytes, 4 << 20);
    assert_eq!(config.kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(config.kafka.confirm_timeout, Duration::from_secs(10));
    assert_eq!((config.topics.prefix.as_str(), config.topics.key.as_str()), ("nexudus.", "Id"));
    assert_eq!((config.topics.general.partitions, config.topics.general.replication_factor), (3, -1));
    assert_eq!(config.sources["default"].policy, SignaturePolicy::Enforce);
    assert_eq!(config.sources["default"].keys.len(), 1);
    assert!(config.warnings.is_empty());
}

#[test]
fn every_setting_of_the_documentation_is_read() {
    let config = from_file(
        r#"
        [ingress]
        listen = "127.0.0.1:1"
        max_body_bytes = 1_048_576
        body_timeout = "3s"
        max_in_flight = 10
        max_in_flight_bytes = 2_097_152
        shutdown_delay = "5s"
        shutdown_grace = "1m"
        [admin]
        listen = "localhost:2"
        [kafka]
        bootstrap_servers = "a:1,b:2"
        confirm_timeout = "2s 500ms"
        [kafka.properties]
        "security.protocol" = "SASL_SSL"
        "sasl.password" = "hush"
        "linger.ms" = 5
        "socket.keepalive.enable" = true
        [topics]
        prefix = "n."
        key = "CoworkerId"
        create = false
        partitions = -1
        replication_factor = 3
        config = { "retention.ms" = "1" }
        quarantine_config = { "retention.ms" = 2 }
        [sources.default]
        secrets = ["one", "two"]
        url_tokens = ["t"]
        extra_actions = ["SomethingNew"]
        [sources.north]
        signature = "off"
        [log]
        format = "json"
        level = "warn,nexudus_bridge=debug"
        [telemetry]
        otlp_endpoint = "https://collector:4317"
        otlp_protocol = "http/protobuf"
        sample_ratio = 1
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(config.ingress.shutdown_grace, Duration::from_secs(60));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:2");
    assert_eq!(config.kafka.confirm_timeout, Duration::from_millis(2500));
    assert_eq!(config.kafka.properties["linger.ms"].expose(), "5");
    assert_eq!(config.kafka.properties["socket.keepalive.enable"].expose(), "true");
    assert_eq!(config.topics.quarantine_config["retention.ms"], "2");
    assert_eq!(config.sources["default"].keys.len(), 2);
    assert!(config.sources["default"].actions.find("somethingnew").is_some());
    assert!(
        config.sources["default"].accepts_token(Some("t")) && !config.sources["default"].accepts_token(None)
    );
    assert_eq!(config.log.format, LogFormat::Json);
    let telemetry = config.telemetry.unwrap();
    assert_eq!(telemetry.otlp_endpoint.as_str(), "https://collector:4317/");
    assert_eq!((telemetry.otlp_protocol, telemetry.sample_ratio), (OtlpProtocol::HttpProtobuf, Some(1.0)));
    assert!(config.warnings.iter().any(|warning| warning.contains("north")), "{:?}", config.warnings);
}

#[test]
fn the_environment_takes_precedence_and_an_empty_variable_counts_as_unset() {
    let text =
        format!("{MINIMAL}[kafka.properties]\n\"sasl.username\" = \"file\"\n\"client.rack\" = \"r\"\n");
    let config = from_file(
        &text,
        &[
            ("NEXUDUS_BRIDGE__INGRESS__LISTEN", "127.0.0.1:7"),
            ("NEXUDUS_BRIDGE__INGRESS__MAX_IN_FLIGHT", "128"),
            ("NEXUDUS_BRIDGE__TOPICS__CREATE", "false"),
            ("NEXUDUS_BRIDGE__TOPICS__CONFIG__RETENTION_MS", "60000"),
            ("NEXUDUS_BRIDGE__KAFKA__PROPERTIES__SASL_USERNAME", "environment"),
            ("NEXUDUS_BRIDGE__KAFKA__CONFIRM_TIMEOUT", ""),
            ("NEXUDUS_BRIDGE__SOURCES__NORTH__SECRETS", r#"["n1", "n2"]"#),
            ("UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.ingress.listen.port(), 7);
    assert_eq!(config.ingress.max_in_flight, 128);
    assert!(!config.topics.create);
    assert_eq!(config.topics.general.config["retention.ms"], "60000");
    assert_eq!(config.kafka.properties["sasl.username"].expose(), "environment");
    assert_eq!(config.kafka.properties["client.rack"].expose(), "r");
    assert_eq!(config.kafka.confirm_timeout, Duration::from_secs(10));
    assert_eq!(config.sources["north"].keys.len(), 2);
    let origin =
        |key: &str| config.settings.iter().find(|setting| setting.key == key).unwrap().origin.clone();
    assert_eq!(origin("ingress.listen"), "NEXUDUS_BRIDGE__INGRESS__LISTEN");
    let property = origin(r#"kafka.properties."sasl.username""#);
    assert_eq!(property, "NEXUDUS_BRIDGE__KAFKA__PROPERTIES__SASL_USERNAME");
    assert!(origin("sources.default.secrets").ends_with("bridge.toml"));
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn all_mistakes_are_reported_at_once_with_origin_and_remedy() {
    let found = mistakes(
        r#"
        [ingress]
        listen = "8080"
        max_body_bytes = "large"
        body_timeout = 10
        max_inflight = 3
        [kafka]
        confirm_timeout = "0s"
        [kafka.properties]
        "acks" = "1"
        "no.such" = "1"
        [topics]
        prefix = "a b"
        partitions = 0
        [sources.default]
        extra_actions = ["BookingCreate", "a/b"]
        [sources.North]
        secrets = [""]
        signature = "maybe"
        [surces]
        x = 1
        "#,
        &[("NEXUDUS_BRIDGE__TOPICS__CREATE", "perhaps")],
    );
    for expected in [
        r#"ingress.listen = "8080" is not an address, expected IP:port"#,
        r#"ingress.max_body_bytes = "large" is not a number in bounds, expected 1024 to"#,
        "ingress.body_timeout = 10 is not a duration",
        "ingress.max_inflight is not a setting, did you mean max_in_flight?",
        r#"kafka.confirm_timeout = "0s" is out of bounds, expected 500ms to 15m"#,
        r#"kafka.properties."acks" = "1" may only be "all": a 2xx means"#,
        r#"kafka.properties."no.such" is not a property of librdkafka"#,
        r#"topics.prefix = "a b" cannot begin a topic's name"#,
        "topics.partitions = 0 makes no topic",
        r#"topics.create = "perhaps" is not true or false (from NEXUDUS_BRIDGE__TOPICS__CREATE)"#,
        "sources.default.extra_actions[0] cannot be added",
        "sources.default.extra_actions[1] cannot be added",
        "sources.default enforces signatures but has no secret",
        "sources.North is not a source's name",
        "sources.North.secrets[0] is empty",
        r#"sources.North.signature = "maybe" is not one of "enforce", "warn", "off""#,
        "surces is not a section, did you mean sources?",
    ] {
        let matching: Vec<&String> = found.iter().filter(|mistake| mistake.starts_with(expected)).collect();
        assert_eq!(matching.len(), 1, "{expected}\nin\n{}", found.join("\n"));
        let origin = matching[0].rsplit_once(" (from ").map(|(_, origin)| origin);
        let is_named =
            |origin: &str| origin.ends_with("bridge.toml)") || origin.starts_with("NEXUDUS_BRIDGE__");
        assert!(origin.is_some_and(is_named), "{}", matching[0]);
    }
    assert_eq!(found.len(), 17, "{}", found.join("\n"));
}

#[test]
fn properties_that_weaken_the_guarantee_are_refused_under_every_alias() {
    for (name, value) in [
        ("acks", "0"),
        ("request.required.acks", "1"),
        ("enable.idempotence", "false"),
        ("message.timeout.ms", "1"),
        ("delivery.timeout.ms", "1"),
        ("delivery.report.only.error", "true"),
        ("transactional.id", "x"),
        ("partitioner", "random"),
        ("bootstrap.servers", "x:1"),
        ("metadata.broker.list", "x:1"),
        ("retries", "0"),
        ("message.send.max.retries", "0"),
        ("message.max.bytes", "1000"),
        ("test.mock.num.brokers", "1"),
        ("enabled_events", "1"),
    ] {
        let found = mistakes(&format!("{MINIMAL}[kafka.properties]\n\"{name}\" = \"{value}\"\n"), &[]);
        assert!(
            found.len() == 1
                && ["may not be set", "may only be", "is too small"].iter().any(|why| found[0].contains(why)),
            "{name}: {found:?}"
        );
    }
    for (name, value) in [("acks", "all"), ("request.required.acks", "-1"), ("enable.idempotence", "true")] {
        assert!(
            from_file(&format!("{MINIMAL}[kafka.properties]\n\"{name}\" = \"{value}\"\n"), &[]).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn secrets_come_from_files_too_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, empty) = (file("good", "from-a-file\n"), file("empty", "\n"));
    let password = file("password", "pass-from-file\r\n");
    let text = format!(
        "[sources.default]\nsecrets = [\"hush-hush\", \"clé\"]\nsecret_files = [{good:?}]\nurl_tokens = [\"tok-tok\"]\nurl_token_files = [{good:?}]\n\
         [kafka.properties]\n\"sasl.password\" = \"hush-pass\"\n\
         [kafka.property_files]\n\"ssl.key.password\" = {password:?}\n"
    );
    let config = from_file(&text, &[]).unwrap();
    assert_eq!(config.sources["default"].keys.len(), 3);
    assert!(config.sources["default"].accepts_token(Some("from-a-file")));
    assert_eq!(config.kafka.properties["ssl.key.password"].expose(), "pass-from-file");
    assert!(config.warnings[0].contains("non-ASCII"));
    let everything = format!("{}{config:?}", config.show());
    for secret in ["hush-hush", "clé", "from-a-file", "tok-tok", "hush-pass", "pass-from-file"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
    assert!(everything.contains("sources.default.secrets = [\"***\", \"***\"]"), "{everything}");
    let found = mistakes(&format!("[sources.default]\nsecret_files = [{empty:?}, \"/no/such/file\"]\n"), &[]);
    assert!(found[0].contains("which is empty") && found[1].contains("cannot be read"), "{found:?}");
}

#[test]
fn a_mistake_in_a_secret_does_not_repeat_it() {
    for (name, value) in
        [(SECRET, "hush-hush"), ("NEXUDUS_BRIDGE__KAFKA__PROPERTIES__SASL_PASSWORDS", "hush-hush")]
    {
        let found = mistakes(MINIMAL, &[(name, value)]);
        assert!(found.len() == 1 && !found[0].contains("hush-hush") && found[0].contains(name), "{found:?}");
    }
}

#[test]
fn a_syntax_error_in_the_line_of_a_secret_is_reported_without_the_line() {
    for text in ["[sources.default]\nsecrets = [\"hush-hush]\n", "x = 1\ny = \"hush\"hush\"\n", "hush hush"] {
        let found = mistakes(text, &[]);
        let expected = format!("TOML parse error at line {}, column ", text.lines().count());
        assert!(found[0].starts_with(&expected) && found[0].ends_with("bridge.toml"), "{found:?}");
        assert!(!found[0].contains("hush") && !found[0].contains(['|', '\n']), "{found:?}");
    }
}

#[test]
fn names_that_look_like_list_indexes_are_no_sections() {
    let text = format!("\"topics[99999999999]\" = 1\n\"log[-99999999999]\" = 1\n{MINIMAL}");
    let found = mistakes(&text, &[("NEXUDUS_BRIDGE__KAFKA[99999999999]", "x")]);
    assert_eq!(found.len(), 3, "{found:?}");
    for name in ["topics[99999999999]", "log[-99999999999]", "kafka[99999999999]"] {
        let expected = format!("{name} is not a section");
        assert!(found.iter().any(|mistake| mistake.starts_with(&expected)), "{found:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let missing =
        load(Some("/no/such/bridge.toml".as_ref()), &Environment::new(), check_property).unwrap_err();
    assert!(missing.0[0].starts_with("cannot read the configuration file /no/such/bridge.toml"), "{missing}");
    let broken = mistakes("[ingress\n", &[]);
    assert!(broken[0].contains("bridge.toml"), "{broken:?}");
    assert!(
        load(None, &Environment::new(), check_property).unwrap_err().0[0].contains("no source is configured")
    );
}

const TOKENS: &str = "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n[kafka.oauth]\n";

#[test]
fn a_token_server_is_read_from_file_and_environment_and_its_secret_is_not_shown() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hush-hush\n").unwrap();
    let text = format!(
        "{MINIMAL}{TOKENS}token_endpoint = \"http://idp.example.com/token\"\nclient_id = \"bridge\"\nclient_secret_file = {:?}\n",
        secret.path()
    );
    let config = from_file(&text, &[("NEXUDUS_BRIDGE__KAFKA__OAUTH__SCOPE", "a b")]).unwrap();
    let oauth = config.kafka.oauth.as_ref().unwrap();
    assert_eq!(oauth.token_endpoint.as_str(), "http://idp.example.com/token");
    assert_eq!((oauth.client_id.as_str(), oauth.scope.as_deref()), ("bridge", Some("a b")));
    assert_eq!(oauth.client_secret.expose_secret(), "hush-hush");
    assert!(config.warnings[0].contains("unencrypted"), "{:?}", config.warnings);
    let variables = [
        ("PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("OAUTH__TOKEN_ENDPOINT", "http://localhost/token"),
        ("OAUTH__CLIENT_ID", "bridge"),
        ("OAUTH__CLIENT_SECRET", "hush-hush"),
    ];
    let variables = variables.map(|(name, value)| (format!("NEXUDUS_BRIDGE__KAFKA__{name}"), value));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let config = from_file(MINIMAL, &variables).unwrap();
    assert_eq!(config.warnings, [] as [&str; 0]);
    let text = format!("{config:?}{}", config.show());
    assert!(text.contains(r#"kafka.oauth.client_secret = "***""#) && !text.contains("hush-hush"), "{text}");
}

#[test]
fn settings_with_which_no_client_can_sign_in_are_refused_with_the_remedy() {
    let whole = "token_endpoint = \"https://idp/t\"\nclient_id = \"b\"\nclient_secret = \"hush\"\n";
    let with =
        |properties: &str, oauth: &str| format!("[kafka.properties]\n{properties}\n[kafka.oauth]\n{oauth}");
    let sasl = "\"security.protocol\" = \"sasl_ssl\"";
    for (text, expected) in [
        (with(sasl, ""), vec!["token_endpoint", "client_id", "client_secret"]),
        (
            with(sasl, "token_endpoint = \"https://idp/t\"\nclient_id = \"b\"\nclient_secret = \"\""),
            vec!["is empty"],
        ),
        (with(sasl, &format!("{whole}client_secret_file = \"/nowhere\"")), vec!["cannot be read"]),
        (with(sasl, &format!("{whole}secret = \"hush\"")), vec!["kafka.oauth.secret is not a setting"]),
        (with(sasl, &whole.replace("https://idp/t", "idp:8080/t")), vec!["expected https://host/path"]),
        (with(sasl, &whole.replace("https://idp", "https://me:hush@idp")), vec!["may hold neither a user"]),
        (with("", whole), vec![r#""security.protocol" is "plaintext""#]),
        (with("\"security.protocol\" = \"SSL\"", whole), vec![r#"is "SSL", so the tokens"#]),
        (
            with(&format!("{sasl}\n\"sasl.mechanisms\" = \"PLAIN\""), whole),
            vec![r#"kafka.properties."sasl.mechanisms" is "PLAIN", but tokens are for "OAUTHBEARER" only"#],
        ),
        (
            format!("[kafka.properties]\n{sasl}\n\"sasl.mechanism\" = \"OAUTHBEARER\""),
            vec!["expected [kafka.oauth]"],
        ),
        ("[kafka.properties]\n\"sasl.oauthbearer.method\" = \"oidc\"".into(), vec!["expected [kafka.oauth]"]),
        (
            "[kafka.properties]\n\"sasl.oauthbearer.client.secret\" = \"hush\"".into(),
            vec!["expected [kafka.oauth]"],
        ),
        (
            "[kafka.properties]\n\"enable.sasl.oauthbearer.unsecure.jwt\" = true".into(),
            vec!["expected [kafka.oauth]"],
        ),
    ] {
        let found = mistakes(&format!("{MINIMAL}{text}"), &[]);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (mistake, expected) in found.iter().zip(expected) {
            assert!(mistake.starts_with("kafka") && mistake.contains(expected), "{mistake}");
            assert!(!mistake.contains("hush"), "{mistake}");
        }
    }
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hush").unwrap();
    let both = with(sasl, &format!("{whole}client_secret_file = {:?}", secret.path()));
    let found = mistakes(&format!("{MINIMAL}{both}"), &[]);
    let both = "kafka.oauth has both client_secret and client_secret_file, expected one of them (from ";
    assert!(found.len() == 1 && found[0].starts_with(both), "{found:?}");
    from_file(
        &format!("{MINIMAL}{}", with(&format!("{sasl}\n\"sasl.mechanism\" = \"OAUTHBEARER\""), whole)),
        &[],
    )
    .unwrap();
}
