//! Floods of headers, connections and bytes on a separate process: their cost, and that they leave nothing behind.

use std::net::SocketAddr;

use futures_util::future::join_all;
use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{RECORD, delivery, signed_head, until_closed};
use crate::support::bridge::{MAX_WAIT, SECRET, http_client};
use crate::support::program::{PROGRAM, Running, field, isolated};
use crate::support::say;

/// The real program on an embedded broker. It is a separate process, so that its memory and files can be measured.
struct Served {
    ingress: SocketAddr,
    admin: String,
    http: reqwest::Client,
    /// Its log lines up to the start.
    lines: Vec<String>,
    running: Running,
    _broker: EmbeddedBroker,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Starts the program through `sh`, which sets the limits of the process.
    fn start(ulimit: &str) -> Self {
        let topics = ["BookingCreate", "quarantine"].map(|action| (format!("nexudus.{action}"), 1)).to_vec();
        let broker = EmbeddedBroker::start(None, topics).expect("a broker");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "ingress.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\ntopics.create = false\n\
             kafka.bootstrap_servers = {:?}\ningress.body_timeout = \"5m\"\nsources.default.secrets = [{SECRET:?}]\n",
            broker.bootstrap_servers()
        );
        std::fs::write(&file, text).expect("written");
        let mut shell = isolated("sh");
        shell.args(["-c", &format!("{ulimit}; exec \"$0\" serve --config \"$1\"")]).arg(PROGRAM).arg(&file);
        let running = Running::start(&mut shell);
        let lines = running.lines_until("the bridge is listening");
        let line = lines.last().expect("it ends with the line");
        let ingress = field(line, "ingress").parse().expect("an address");
        let admin = format!("http://{}/metrics", field(line, "admin"));
        Self { ingress, admin, http: http_client(), lines, running, _broker: broker, _folder: folder }
    }

    /// Returns the series of `/metrics` with their values.
    async fn metrics(&self) -> Vec<(String, f64)> {
        let answer = self.http.get(&self.admin).send().await.expect("the admin listener answers");
        let text = answer.text().await.expect("text");
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
    }

    async fn metric(&self, wanted: &str) -> f64 {
        let metrics = self.metrics().await;
        metrics.iter().find(|(series, _)| series == wanted).unwrap_or_else(|| panic!("no {wanted}")).1
    }

    /// Waits until a series with this beginning exists.
    async fn wait_for_series(&self, series: &str) {
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        while !self.metrics().await.iter().any(|(there, _)| there.starts_with(series)) {
            assert!(tokio::time::Instant::now() < deadline, "no series {series}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits until `wanted` is true for a metric.
    async fn wait_for(&self, series: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        loop {
            let value = self.metric(series).await;
            if wanted(value) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{series} stays {value}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Sends a valid delivery on a new connection.
    async fn deliver(&self) {
        let answers = until_closed(self.ingress, delivery(RECORD, "Connection: close\r\n").as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200], "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_and_names_are_refused_and_use_no_lasting_memory() {
    let served = Served::start("ulimit -n 1024");
    served.deliver().await;
    let flood = |round: usize| {
        let mut requests = Vec::new();
        for number in 0..20 {
            let many: String = (0..10_000).map(|n| format!("X-{n}-{number}: y\r\n")).collect();
            let long = format!("X: {}\r\n", "y".repeat(1 << 20));
            let target = format!("/webhooks/6?{}", "x".repeat(1 << 20));
            for (headers, target) in [(many.as_str(), "/webhooks/6"), (&long, "/webhooks/6"), ("", &target)] {
                requests.push(format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
            }
            for method in ["POST", "PUT", "GET", "BREW"] {
                let name = format!("made{round}up{number}");
                for path in [name.clone(), format!("{name}/6"), format!("default/{name}?token={name}")] {
                    requests.push(format!(
                        "{method} /webhooks/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-{name}: {name}\r\n\r\n"
                    ));
                }
            }
        }
        requests
    };
    served.wait_for_series("nexudus_bridge_broker_up{").await; // appears with the client's first statistics
    let mut seen: Vec<(usize, f64)> = Vec::new();
    for round in 0..4 {
        for requests in flood(round).chunks(16) {
            let sent = requests.iter().map(async |request| {
                for answer in until_closed(served.ingress, request.as_bytes()).await {
                    assert!((400..500).contains(&answer.status), "{answer:?} to {:.200}", request);
                }
            });
            join_all(sent).await;
        }
        let metrics = served.metrics().await;
        assert!(metrics.iter().all(|(series, _)| !series.contains("made")), "{metrics:?}");
        seen.push((metrics.len(), served.metric("process_resident_memory_bytes").await));
    }
    // The first round creates the series and buffers of every kind of refusal. After that nothing grows.
    let (first, last) = (seen[0], seen[3]);
    assert_eq!(first.0, last.0, "series: {seen:?}");
    assert!(last.1 < first.1 + 16e6, "memory: {seen:?}");
    served.deliver().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_is_an_error_in_the_log() {
    let served = Served::start("ulimit -n 1024");
    let head = signed_head(RECORD);
    for request in [
        "what is no HTTP\r\n\r\n".to_owned(),
        "POST /webhooks/6 HTTP/1.1\r\n\r\n".to_owned(),
        format!("{head}Content-Length: +8\r\n\r\n{RECORD}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("{head}X: {}\r\n\r\n", "y".repeat(1 << 20)),
    ] {
        let answers = until_closed(served.ingress, request.as_bytes()).await;
        assert!(
            answers.iter().all(|answer| (400..500).contains(&answer.status)),
            "{request:.100}: {answers:?}"
        );
    }
    // This refusal logs a line, which marks the end of the lines to check.
    let unsigned = "POST /webhooks/6 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    until_closed(served.ingress, unsigned.as_bytes()).await;
    let lines = served.running.lines_until("missing_signature");
    assert!(lines.iter().all(|line| !line.contains("ERROR")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signed_body_or_head_multiplies_its_size_in_memory() {
    /// A few copies of the largest body: the one that is gathered, the Kafka client's, and 1,000 events.
    const MOST_EXTRA_BYTES: u64 = 48_000_000;
    const LARGEST: usize = 4 * 1024 * 1024;
    let served = Served::start("ulimit -n 1024");
    served.deliver().await;
    let filled = |piece: &str, before: &str, after: &str| {
        let count = (LARGEST - before.len() - after.len()) / piece.len();
        format!("{before}{}{after}", piece.repeat(count))
    };
    let levels = LARGEST / 2 - 10;
    let thousand = format!("[{}{{}}]", r#"{"Id":1},"#.repeat(999));
    let trace = format!(
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: {}\r\n",
        "a=b,".repeat(28_000)
    );
    let query = format!("?{}", "a=b&".repeat(15_000));
    let many_headers: String =
        (0..90).map(|number| format!("X-{number}: {}\r\n", "y".repeat(1300))).collect();
    let large_key = filled("k", r#"[{"Id":""#, r#""}]"#);
    for (case, query, headers, body) in [
        ("records", "", "", filled("{},", "[", "{}]")),
        ("records with a key", "", "", filled(r#"{"Id":1},"#, "[", "{}]")),
        ("levels of arrays", "", "", format!("[{}{}]", "[".repeat(levels), "]".repeat(levels))),
        ("levels in a record", "", "", format!(r#"[{{"a":{}{}}}]"#, "[".repeat(levels), "]".repeat(levels))),
        ("fields", "", "", filled(r#""Id":"\u0041","#, "[{", r#""Id":1}]"#)),
        ("a key of escapes", "", "", filled("\\u0041", r#"[{"Id":""#, r#""}]"#)),
        ("a large key", "", "", large_key),
        ("a trace for each record", "", trace.as_str(), thousand.clone()),
        ("parameters", query.as_str(), "", thousand.clone()),
        ("header lines", "", many_headers.as_str(), thousand.clone()),
        ("bytes that are not text", "", "", filled("\u{1}", "", "")),
    ] {
        let before = served.running.reset_peak_bytes();
        let request = delivery(&body, &format!("{headers}Connection: close\r\n"));
        let request = request.replacen("/BookingCreate", &format!("/BookingCreate{query}"), 1);
        let answers = until_closed(served.ingress, request.as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let extra = served.running.peak_bytes().saturating_sub(before);
        say(&format!("{case}: {statuses:?}, {extra} bytes above {before}"));
        assert_eq!(statuses, [200], "{case}");
        assert!(extra < MOST_EXTRA_BYTES, "{case}: {extra} bytes above {before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_do_not_prevent_deliveries() {
    const CONNECTIONS: usize = 2_000;
    // The test opens all connections, so it raises its own limit as the bridge does.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    // The limit with which most systems start a program.
    let served = Served::start("ulimit -Sn 1024");
    assert_eq!(
        served.metric("process_max_fds").await,
        limit.maximum.map_or(f64::INFINITY, |most| most as f64)
    );
    served.deliver().await;
    let before = served.metric("process_open_fds").await;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(served.ingress).await.expect("the bridge listens");
        let begun = format!("{}Content-Length: 100\r\n\r\n[", signed_head(RECORD));
        stream.write_all(begun.as_bytes()).await.expect("written");
        connections.push(stream);
        if number % 500 == 0 {
            // Some clients send nothing, and some half a head. The bridge closes both after a while.
            let (silent, mut half) =
                tokio::join!(TcpStream::connect(served.ingress), TcpStream::connect(served.ingress));
            half.as_mut().expect("it listens").write_all(&begun.as_bytes()[..50]).await.expect("written");
            connections.extend(silent.into_iter().chain(half));
            served.deliver().await;
        }
    }
    served
        .wait_for("nexudus_bridge_in_flight_deliveries", |deliveries| deliveries == CONNECTIONS as f64)
        .await;
    assert!(served.metric("process_open_fds").await > CONNECTIONS as f64);
    served.deliver().await;
    drop(connections);
    served.wait_for("process_open_fds", |open| open < before + 50.0).await;
    served.wait_for("nexudus_bridge_in_flight_deliveries", |deliveries| deliveries == 0.0).await;
    served.deliver().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_open_files_connections_wait_and_the_log_has_warned_of_it() {
    let served = Served::start("ulimit -n 200");
    assert!(served.lines.iter().any(|line| line.contains("fewer files may be open")), "{:?}", served.lines);
    let before = served.metric("process_open_fds").await;
    let connect = (0..400).map(|_| TcpStream::connect(served.ingress));
    let connections: Vec<TcpStream> =
        join_all(connect).await.into_iter().map(|stream| stream.expect("it waits in the backlog")).collect();
    let waiting = tokio::spawn({
        let ingress = served.ingress;
        async move { until_closed(ingress, delivery(RECORD, "Connection: close\r\n").as_bytes()).await }
    });
    tokio::task::yield_now().await;
    drop(connections);
    let answers = waiting.await.expect("it ends");
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    served.wait_for("process_open_fds", |open| open < before + 50.0).await;
}
