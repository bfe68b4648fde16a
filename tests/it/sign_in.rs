//! Every way to sign in to Kafka, on a real broker: successes, and the messages about failures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nexudus_bridge::kafka::consumer::{Reader, Selection, Start, Stop};
use nexudus_bridge::kafka::topics::Topics;

use crate::support::bridge::{MAX_WAIT, SECRET, TestBridge, config, http_client, sign};
use crate::support::kafka::{Acl, Authority, Pattern, Resource, free_port, pause, secured, unique};
use crate::support::program::{Running, err, field, out, program};
use crate::support::tokens::{CLIENT, CLIENT_SECRET, TokenServer};

const RECORD: &str = r#"{"Id":1,"FullName":"José"}"#;

/// Settings of a bridge, for `TestBridge`.
type Settings = Vec<(&'static str, String)>;

/// Creates topics on the secured broker, on which the user `bridge` has all rights. Returns their prefix.
fn topics() -> String {
    secured().topics(&["Write", "Describe", "Read", "Create", "DescribeConfigs"])
}

fn protocol(name: &str) -> Settings {
    vec![
        ("kafka.confirm_timeout", "3s".to_owned()),
        ("kafka.properties.security_protocol", name.to_owned()),
        ("kafka.properties.ssl_ca_location", secured().ca_pem_path().display().to_string()),
    ]
}

fn password(mechanism: &str, password: &str) -> Settings {
    let mut settings = protocol("SASL_SSL");
    settings.push(("kafka.properties.sasl_mechanism", mechanism.to_owned()));
    settings.push(("kafka.properties.sasl_username", "bridge".to_owned()));
    settings.push(("kafka.properties.sasl_password", password.to_owned()));
    settings
}

fn tokens(endpoint: String, secret: &str) -> Settings {
    let mut settings = protocol("SASL_SSL");
    settings.push(("kafka.oauth.token_endpoint", endpoint));
    settings.push(("kafka.oauth.client_id", CLIENT.to_owned()));
    settings.push(("kafka.oauth.client_secret", secret.to_owned()));
    settings.push(("kafka.oauth.scope", "kafka".to_owned()));
    settings
}

fn borrowed(settings: &Settings) -> Vec<(&str, &str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

async fn bridge(bootstrap: &str, prefix: &str, settings: &Settings) -> TestBridge {
    TestBridge::on(bootstrap, secured().client("admin"), prefix.to_owned(), &borrowed(settings)).await
}

/// Asserts that refusals and readiness have this text, and that neither has the secret.
async fn assert_named(bridge: &TestBridge, words: &str, secret: &str) {
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    let reasons = bridge.wait_until_ready_is(503).await.json().to_string();
    for text in [detail, reasons] {
        assert!(text.contains(words) && !text.contains(secret) && !text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_sign_in_by_plain_and_both_scrams_and_a_wrong_one_is_named() {
    let prefix = topics();
    let broker = secured();
    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    for (number, mechanism) in mechanisms.into_iter().enumerate() {
        let right = password(mechanism, broker.password("bridge"));
        let bridge = bridge(&broker.bootstrap(), &prefix, &right).await;
        bridge.wait_until_ready_is(200).await;
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        assert_eq!(bridge.topic("BookingCreate", number + 1)[number].value, RECORD.as_bytes());
    }
    for mechanism in mechanisms {
        let wrong = password(mechanism, "wrong-password");
        let bridge = bridge(&broker.bootstrap(), &prefix, &wrong).await;
        assert_named(&bridge, "Authentication", "wrong-password").await;
        bridge.topic("BookingCreate", mechanisms.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_authenticates_and_a_missing_or_foreign_one_is_named() {
    let prefix = topics();
    let broker = secured();
    let with = |[certificate, key]: [std::path::PathBuf; 2]| {
        let mut settings = protocol("SSL");
        settings.push(("kafka.properties.ssl_certificate_location", certificate.display().to_string()));
        settings.push(("kafka.properties.ssl_key_location", key.display().to_string()));
        settings
    };
    let known = bridge(&broker.mutual_bootstrap(), &prefix, &with(broker.client_pem_paths())).await;
    known.wait_until_ready_is(200).await;
    known.deliver("BookingCreate", RECORD).await.events("confirmed");
    for settings in [protocol("SSL"), with(broker.foreign_pem_paths())] {
        let refused = bridge(&broker.mutual_bootstrap(), &prefix, &settings).await;
        assert_named(&refused, "SSL", "PRIVATE KEY").await;
    }
    assert_eq!(known.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_sessions_are_renewed_while_deliveries_continue() {
    let prefix = topics();
    let narrow = format!("{prefix}BookingUpdate");
    secured().client("admin").create_topic(&narrow, 1, &[("max.message.bytes", "600")]);
    let server = TokenServer::start(0, Duration::from_secs(4));
    let settings = tokens(server.endpoint(), CLIENT_SECRET);
    let bridge = bridge(&secured().bootstrap(), &prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    let begun = Instant::now();
    let mut delivered = 0;
    // Three lifetimes of a token, and four of a session on the broker.
    while begun.elapsed() < Duration::from_secs(13) {
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        bridge.wait_until_ready_is(200).await;
        delivered += 1;
        pause(Duration::from_millis(100));
    }
    assert!(server.given() >= 4, "{} tokens", server.given());
    assert_eq!(server.refused(), 0);
    bridge.topic("BookingCreate", delivered);
    // The producer for single messages is created now, and has the token at once.
    let large = format!(r#"{{"Id":1,"Notes":"{}"}}"#, "x".repeat(2_000));
    bridge.deliver("BookingUpdate", large.clone()).await.events("quarantined");
    assert_eq!(bridge.topic("quarantine", 1)[0].value, large.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_producer_gets_the_current_token() {
    let prefix = topics();
    let user = unique("user");
    let server = TokenServer::start_for(&user, Duration::from_secs(600));
    let bridge = bridge(&secured().bootstrap(), &prefix, &tokens(server.endpoint(), CLIENT_SECRET)).await;
    let detail = bridge.deliver("BookingCreate", RECORD).await.problem(503, "broker");
    assert!(
        detail.contains("AuthorizationFailed"),
        "without any right a producer has a fatal error: {detail}"
    );
    let replaced = |reply: &crate::support::bridge::Reply| {
        !String::from_utf8_lossy(&reply.body).contains("nexudus_bridge_producer_rebuilds_total 0\n")
    };
    bridge.wait_until_admin("/metrics", replaced).await;
    let right = |operation| Acl {
        user: &user,
        resource: Resource::Topic,
        name: &prefix,
        pattern: Pattern::Prefixed,
        operation,
    };
    secured().grant_all(&["Write", "Describe"].map(right));
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    assert!(!bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_token_server_is_named_and_deliveries_continue_after_it_returns() {
    let prefix = topics();
    let port = free_port();
    let settings = tokens(format!("http://127.0.0.1:{port}/realms/test/token"), CLIENT_SECRET);
    let bridge = bridge(&secured().bootstrap(), &prefix, &settings).await;
    let words = "no token to sign in with: the token server cannot be reached";
    assert_named(&bridge, words, CLIENT_SECRET).await;
    let server = TokenServer::start(port, Duration::from_secs(60));
    bridge.wait_until_ready_is(200).await;
    bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
    assert_eq!(bridge.topic("BookingCreate", 1)[0].value, RECORD.as_bytes());
    assert!((1..=2).contains(&server.given()), "one for deliveries, one for requests about topics");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_during_an_outage_of_its_server_until_it_expires() {
    let prefix = topics();
    let port = free_port();
    let server = TokenServer::start(port, Duration::from_secs(15));
    let settings = tokens(server.endpoint(), CLIENT_SECRET);
    let bridge = bridge(&secured().bootstrap(), &prefix, &settings).await;
    bridge.wait_until_ready_is(200).await;
    let begun = Instant::now();
    drop(server);
    while begun.elapsed() < Duration::from_secs(6) {
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        pause(Duration::from_millis(500));
    }
    let reasons = bridge.wait_until_ready_is(503).await.json().to_string();
    assert!(reasons.contains("no token to sign in with: the token server cannot be reached"), "{reasons}");
    let _server = TokenServer::start(port, Duration::from_secs(60));
    bridge.wait_until_ready_is(200).await;
    bridge.deliver_until_confirmed("BookingCreate", RECORD).await;
    assert!(!bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_is_named_in_the_answer_and_in_readiness_without_being_shown() {
    let prefix = topics();
    let server = TokenServer::start(0, Duration::from_secs(60));
    let bridge =
        bridge(&secured().bootstrap(), &prefix, &tokens(server.endpoint(), "wrong-client-secret")).await;
    let words = "no token to sign in with: the token server refuses with 401 invalid_client";
    assert_named(&bridge, words, "wrong-client-secret").await;
    // Each attempt sends two requests, with the secret in the header and in the body. Attempts have a back-off.
    assert!((2..=30).contains(&server.refused()), "{} requests", server.refused());
    bridge.topic("BookingCreate", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_broker_does_not_accept_is_named() {
    let prefix = topics();
    let server = TokenServer::start_with_stale_tokens();
    let bridge = bridge(&secured().bootstrap(), &prefix, &tokens(server.endpoint(), CLIENT_SECRET)).await;
    assert_named(&bridge, "last error: Authentication", CLIENT_SECRET).await;
    assert!(server.given() > 0);
    bridge.topic("BookingCreate", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_planned_and_created_and_events_are_read_with_tokens() {
    let prefix = topics();
    let server = TokenServer::start(0, Duration::from_secs(4));
    let settings = tokens(server.endpoint(), CLIENT_SECRET);
    let config = config(&secured().bootstrap(), &prefix, &borrowed(&settings));
    let topics = Topics::new(&config).expect("clients can be made");
    let plan = topics.plan().await.expect("the cluster answers");
    assert_eq!(plan.create.len(), 88, "two topics exist");
    assert_eq!(topics.apply(&plan).await.expect("the cluster answers"), BTreeMap::new());
    let topic = format!("{prefix}BookingCreate");
    let mut reader =
        Reader::open(&config.kafka, Selection::Named(vec![topic]), Start::End, Stop::Never).await.unwrap();
    let bridge = bridge(&secured().bootstrap(), &prefix, &settings).await;
    let begun = Instant::now();
    // Longer than the lifetimes of a token and a session.
    while begun.elapsed() < Duration::from_secs(9) {
        bridge.deliver("BookingCreate", RECORD).await.events("confirmed");
        let read = tokio::time::timeout(MAX_WAIT, reader.next()).await.expect("in time").unwrap();
        assert_eq!(read.and_then(|message| message.value).as_deref(), Some(RECORD.as_bytes()));
        pause(Duration::from_millis(200));
    }
    let wrong = tokens(server.endpoint(), "wrong-client-secret");
    let config = crate::support::bridge::config(&secured().bootstrap(), &prefix, &borrowed(&wrong));
    let refused = Topics::new(&config).expect("clients can be made").plan().await.expect_err("refused");
    let unread = Reader::open(&config.kafka, Selection::Named(vec![]), Start::End, Stop::Never).await;
    for text in [refused.to_string(), unread.err().expect("refused").to_string()] {
        assert!(text.contains("refuses with 401 invalid_client") && !text.contains("wrong"), "{text}");
    }
}

/// Writes a configuration with `[kafka.oauth]`, whose secret is in a file.
fn settings_file(folder: &Path, prefix: &str, server: &TokenServer, secret: &Path) -> PathBuf {
    let file = folder.join("bridge.toml");
    let text = format!(
        "ingress.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog.level = \"nexudus_bridge=debug\"\n\
             [topics]\nprefix = {prefix:?}\ncreate = false\n[sources.default]\nsecrets = [{SECRET:?}]\n\
             [kafka]\nbootstrap_servers = {:?}\n\
             [kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\"ssl.ca.location\" = {:?}\n\
             [kafka.oauth]\ntoken_endpoint = {:?}\nclient_id = {CLIENT:?}\nclient_secret_file = {secret:?}\n",
        secured().bootstrap(),
        secured().ca_pem_path(),
        server.endpoint(),
    );
    std::fs::write(&file, text).expect("writable");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_that_was_rotated_is_taken_over_without_a_restart() {
    let prefix = topics();
    let folder = tempfile::tempdir().expect("a folder");
    let server = TokenServer::start(0, Duration::from_secs(60));
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "the one before\n").expect("writable");
    let running = Running::serve(&settings_file(folder.path(), &prefix, &server, &secret));
    let line = running.line_with("the bridge is listening");
    running.line_with("no token for Kafka: the token server refuses with 401 invalid_client");

    std::fs::write(&secret, CLIENT_SECRET).expect("writable");
    running.signal("HUP");
    post_until_confirmed(field(&line, "ingress"), "BookingCreate", RECORD).await;
    let messages = secured().client("admin").read_to_end(&format!("{prefix}BookingCreate"));
    assert_eq!(messages.last().expect("it was answered 200").value, RECORD.as_bytes());

    running.signal("TERM");
    let (status, log) = running.ended(MAX_WAIT);
    assert!(status.success() && log.contains("everything in flight was settled"), "{status}: {log}");
    assert!(!log.contains(CLIENT_SECRET) && !log.contains("only a restart"), "{log}");
}

/// A producer that is created after the reload needs the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_valid_token_while_the_token_server_is_down() {
    let prefix = topics();
    let narrow = format!("{prefix}BookingUpdate");
    secured().client("admin").create_topic(&narrow, 1, &[("max.message.bytes", "600")]);
    let folder = tempfile::tempdir().expect("a folder");
    let server = TokenServer::start(0, Duration::from_secs(600));
    let secret = folder.path().join("secret");
    std::fs::write(&secret, CLIENT_SECRET).expect("writable");
    let running = Running::serve(&settings_file(folder.path(), &prefix, &server, &secret));
    let line = running.line_with("the bridge is listening");
    let ingress = field(&line, "ingress").to_owned();
    post_until_confirmed(&ingress, "BookingCreate", RECORD).await;
    drop(server);
    running.signal("HUP");
    running.line_with("no token for Kafka: the token server cannot be reached");
    // The batch is refused, so the producer for single messages is created now.
    let large = format!(r#"{{"Id":1,"Notes":"{}"}}"#, "x".repeat(2_000));
    post_until_confirmed(&ingress, "BookingUpdate", &large).await;
    let kept = secured().client("admin").read_to_end(&format!("{prefix}quarantine"));
    assert_eq!(kept.last().expect("it was answered 200").value, large.as_bytes());
}

/// Posts a signed record until the bridge confirms it.
async fn post_until_confirmed(ingress: &str, action: &str, record: &str) {
    let url = format!("http://{ingress}/webhooks/{action}");
    let begun = Instant::now();
    loop {
        let request = http_client().post(&url).header("X-Nexudus-Hook-Signature", sign(record.as_bytes()));
        let status = request.body(record.to_owned()).send().await.expect("the bridge answers").status();
        if status == 200 {
            return;
        }
        assert!(status == 503 && begun.elapsed() < 2 * MAX_WAIT, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_rotated_is_taken_over_without_a_restart() {
    let prefix = topics();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, password) = (folder.path().join("bridge.toml"), folder.path().join("password"));
    std::fs::write(&password, "wrong-password\n").expect("writable");
    let text = format!(
        "ingress.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n\
         [topics]\nprefix = {prefix:?}\npartitions = 1\n[sources.default]\nsecrets = [{SECRET:?}]\n\
         [kafka]\nconfirm_timeout = \"3s\"\nbootstrap_servers = {:?}\n\
         [kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\"ssl.ca.location\" = {:?}\n\
         \"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = \"bridge\"\n\
         [kafka.property_files]\n\"sasl.password\" = {password:?}\n",
        secured().bootstrap(),
        secured().ca_pem_path(),
    );
    std::fs::write(&file, text).expect("writable");
    let running = Running::serve(&file);
    let ingress = field(&running.line_with("the bridge is listening"), "ingress").to_owned();
    running.line_with("cannot look at the topics");
    // A changed file needs no signal. Topics are created with the new password too.
    std::fs::write(&password, secured().password("bridge")).expect("writable");
    let lines = running.lines_until("sources and secrets were taken over");
    assert!(!lines.iter().any(|line| line.contains("only a restart")), "{lines:?}");
    running.line_with("topics were created");
    post_until_confirmed(&ingress, "BookingDelete", RECORD).await;
    let messages = secured().client("admin").read_to_end(&format!("{prefix}BookingDelete"));
    assert_eq!(messages.last().expect("it was answered 200").value, RECORD.as_bytes());
    running.signal("TERM");
    let (status, log) = running.ended(MAX_WAIT);
    assert!(status.success() && !log.contains(secured().password("bridge")), "{status}: {log}");
}

#[test]
fn over_https_the_token_server_s_certificate_is_checked_and_no_log_shows_a_secret_or_token() {
    let prefix = topics();
    let authority = Authority::new("nexudus-bridge token authority");
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, secret) = (folder.path().join("ca.pem"), folder.path().join("secret"));
    std::fs::write(&ca, &authority.pem).expect("writable");
    std::fs::write(&secret, format!("{CLIENT_SECRET}\n")).expect("writable");
    let server = TokenServer::start_with_tls(Duration::from_secs(60), &authority);
    let file = settings_file(folder.path(), &prefix, &server, &secret);
    let trusting = |trusted: &std::path::Path| {
        let mut program = program();
        program.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        program
    };

    let shown = trusting(&ca).args(["config", "show", "--config"]).arg(&file).output().expect("it runs");
    assert!(out(&shown).contains("kafka.oauth.client_id"), "{}", out(&shown));
    let planned = trusting(&ca).args(["topics", "plan", "--config"]).arg(&file).output().expect("it runs");
    assert!(planned.status.success() && server.given() == 1, "{}", err(&planned));
    let other_authority = secured().foreign_ca_pem_path();
    let refused =
        trusting(&other_authority).args(["topics", "plan", "--config"]).arg(&file).output().expect("it runs");
    assert!(!refused.status.success() && server.given() == 1, "{}", out(&refused));
    assert!(err(&refused).contains("the token server cannot be reached"), "{}", err(&refused));

    // A private authority beside others: a file and a folder, as in the chart, with the kubelet's links.
    for (given, [in_file, in_folder]) in (2..).zip([[&ca, &other_authority], [&other_authority, &ca]]) {
        let authorities = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(authorities.path().join("..1")).expect("a folder");
        std::fs::copy(in_folder, authorities.path().join("..1/ca.crt")).expect("copied");
        std::os::unix::fs::symlink("..1", authorities.path().join("..data")).expect("linked");
        std::os::unix::fs::symlink("..data/ca.crt", authorities.path().join("ca.crt")).expect("linked");
        let both = trusting(in_file)
            .env("SSL_CERT_DIR", authorities.path())
            .args(["topics", "plan", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(both.status.success() && server.given() == given, "{}", err(&both));
    }

    let running = Running::start(trusting(&other_authority).args(["serve", "--config"]).arg(&file));
    let line = running.line_with("no token for Kafka: the token server cannot be reached");
    assert!(line.contains("certificate"), "{line}");
    running.signal("TERM");
    let (_, failing) = running.ended(MAX_WAIT);
    let (mut working, mut stopping) = (String::new(), String::new());
    // Many times, while the client is connecting: one end in thirty crashed in OpenSSL.
    for millis in 0..40 {
        let running = Running::start(trusting(&ca).args(["serve", "--config"]).arg(&file));
        working += &running.lines_until("a token was fetched").join("\n");
        let connecting = Duration::from_millis(millis % 12);
        #[expect(clippy::disallowed_methods, reason = "no sign tells how far a connection is")]
        std::thread::sleep(connecting);
        running.signal("TERM");
        let (status, log) = running.ended(MAX_WAIT);
        assert!(status.success(), "{status}: {log}");
        stopping += &log;
    }
    for text in [out(&shown), err(&shown), err(&planned), err(&refused), line, failing, working, stopping] {
        assert!(!text.contains(CLIENT_SECRET) && !text.contains("eyJ"), "{text}");
    }
}
