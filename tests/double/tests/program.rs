//! The program of the tour: starts, prints its banner, and stops in order at a signal.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nexudus-double"))
}

/// Returns four ports that are free at the time of the call.
fn ports() -> [String; 4] {
    let bound: [TcpListener; 4] =
        std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("it is bound").port().to_string())
}

fn options([port, kafka, admin, nexudus]: &[String; 4]) -> [&str; 8] {
    ["--port", port, "--kafka-port", kafka, "--admin-port", admin, "--nexudus-port", nexudus]
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program().args(arguments).output().expect("the program runs");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[test]
fn a_signal_ends_the_tour_in_order() {
    let mut child = program()
        .args(options(&ports()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Ctrl-C ends it")), "the program ended before its banner");
    let sent = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "the signal cannot be sent");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_error_names_the_option_that_chooses_another_port() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    for (index, option) in ["--port", "--kafka-port", "--admin-port", "--nexudus-port"].iter().enumerate() {
        let mut ports = ports();
        ports[index].clone_from(&port);
        let (code, stderr) = run(&options(&ports));
        assert_eq!(code, Some(1), "{option}: {stderr}");
        assert!(stderr.contains(option) && stderr.contains(&port), "{option}: {stderr}");
    }
    let (code, stderr) = run(&["--rate", "0"]);
    assert!(code == Some(2) && stderr.contains("expected 0.01 to 100"), "{stderr}");
}
