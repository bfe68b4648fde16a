//! Checks whether Kafka accepts connections, for commands that a person waits for.
//!
//! librdkafka connects in the background and reports after its own, longer time-outs, often without an address. So a command calls
//! [`reach`] first. If nothing listens at an address, the error contains the address and comes within seconds.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::without_scheme;

/// Time for which a refused connection is retried: the broker may start together with the command.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// Time-out of one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Wait between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// librdkafka's default port.
const DEFAULT_PORT: u16 = 9092;

/// The error if no address of `bootstrap.servers` accepts a connection. Holds each address with the reason.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to Kafka at {0}; is it running there? The address is kafka.bootstrap_servers, or --bootstrap where the command \
     has it; \"nexudus-bridge dev\" runs a broker at 127.0.0.1:9092"
)]
pub struct NoConnection(String);

/// Waits until one of these addresses, as in `bootstrap.servers`, accepts a connection; at most `CONNECT_TIMEOUT`.
///
/// # Errors
/// [`NoConnection`] if none does.
pub async fn reach(servers: &str) -> Result<(), NoConnection> {
    let mut attempts = JoinSet::new();
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        let address = address(server);
        attempts
            .spawn(async move { connect(&address).await.map_err(|reason| format!("{address}: {reason}")) });
    }
    let mut failures = Vec::new();
    while let Some(attempt) = attempts.join_next().await {
        match attempt.expect("an attempt does not panic") {
            Ok(()) => return Ok(()),
            Err(failure) => failures.push(failure),
        }
    }
    failures.sort();
    Err(NoConnection(failures.join(", ")))
}

/// Returns `host:port` of an address: removes the protocol, and adds the default port if there is none.
fn address(server: &str) -> String {
    let server = without_scheme(server);
    let host_ends = server.rfind(']').unwrap_or(0); // of an IPv6 address
    match server[host_ends..].contains(':') {
        true => server.to_owned(),
        false => format!("{server}:{DEFAULT_PORT}"),
    }
}

async fn connect(address: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let error = match timeout_at(begun + CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
        };
        if error.kind() != io::ErrorKind::ConnectionRefused || begun.elapsed() > RETRY_FOR {
            return Err(reason(&error));
        }
        sleep(PAUSE).await;
    }
}

/// Returns the kind of an error of the system as text. Returns the own text of other errors, such as an unknown host name.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_librdkafka_reads_them() {
        for (server, expected) in [
            ("kafka:1234", "kafka:1234"),
            ("kafka", "kafka:9092"),
            ("SASL_SSL://kafka:9094", "kafka:9094"),
            ("[::1]:9093", "[::1]:9093"),
            ("[::1]", "[::1]:9092"),
        ] {
            assert_eq!(address(server), expected);
        }
    }

    #[tokio::test]
    async fn one_address_that_answers_is_enough_and_else_each_is_named_with_its_reason() {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let open = taken.local_addr().unwrap();
        let nobody = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            free.local_addr().unwrap()
        };
        reach(&format!("{nobody}, {open}")).await.unwrap();
        let error = reach(&format!("{nobody},no-such-host.invalid")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{nobody}: connection refused")), "{error}");
        assert!(error.contains("no-such-host.invalid:9092: "), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_about_to_listen_is_waited_for() {
        let address = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            free.local_addr().unwrap()
        };
        let reached = tokio::spawn(async move { reach(&address.to_string()).await });
        sleep(PAUSE).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        reached.await.unwrap().unwrap();
        drop(listener);
    }
}
