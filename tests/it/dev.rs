//! `dev` and `demo` beside a configured account of Nexudus, and the commands for Nexudus without one.

use std::time::{Duration, Instant};

use crate::support::bridge::MAX_WAIT;
use crate::support::kafka::{free_port, pause};
use crate::support::nexudus::Tenant;
use crate::support::program::{Running, err, out, program, run};

#[test]
fn commands_for_nexudus_without_a_configuration_name_the_tour_in_their_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["catch-up", "--since", "1h"][..], &["webhooks", "plan"], &["webhooks", "apply"]] {
        let output = program().args(arguments).current_dir(folder.path()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}{}", out(&output), err(&output));
        assert!(err(&output).contains("type the export line that it prints"), "{}", err(&output));
    }
}

#[test]
fn dev_and_demo_do_not_use_the_account_of_a_configuration() {
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
        assert!(begun.elapsed() < MAX_WAIT, "it is not ready");
        pause(Duration::from_millis(50));
    }
    dev.signal("TERM");
    let (status, log) = dev.ended(MAX_WAIT);
    assert!(status.success(), "{log}");
    assert!(tenant.asked().is_empty(), "no request was sent to Nexudus");
}
