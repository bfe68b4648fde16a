//! What the bridge costs, end to end: confirmed deliveries a second, their latency, and the processor time of each,
//! beside a *floor* that does the least that could be called a webhook receiver for Kafka (see [`floor`]).
//!
//! Both run as processes of their own, alive all the time, against the same broker and from the same client; rounds
//! alternate between them, so that whatever else the machine does hits both. Ratios are those of neighbouring rounds:
//! trust these more than the absolute figures, above all where client, broker and contestants share few cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its figures are what a benchmark is for")]

mod floor;
#[path = "../../tests/it/support/kafka/mod.rs"]
mod kafka;
mod load;
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use nexudus_bridge::sender::payloads::{Template, payload, wire_body};
use nexudus_bridge::signature::SigningKey;

use self::floor::Messages;
use self::kafka::{OwnBroker, plain, unique};
use self::load::Load;
use self::process::Contestant;

/// Known to everybody; everything here is on loopback.
const SECRET: &str = "end-to-end-bench-secret";

/// Whose fixture is sent: a booking, 2.2 KiB.
const ACTION: &str = "BookingUpdate";

/// How many different records, hence message keys, are sent in turn.
const RECORDS: u64 = 64;

/// The partitions of a topic, those that the bridge's own topics have by default.
const PARTITIONS: i32 = 3;

/// How long both may settle after their start before their memory is read: one interval of the client's statistics.
const SETTLE: Duration = Duration::from_secs(6);

/// Topics are cut to a few hundred megabytes while the bench runs; it would fill a small disk otherwise.
const TOPIC_SETTINGS: [(&str, &str); 3] =
    [("segment.bytes", "33554432"), ("retention.bytes", "67108864"), ("file.delete.delay.ms", "1000")];

/// The shared broker's defaults where a busy machine needs them, and a look at retention often enough to matter.
const BROKER_SETTINGS: [(&str, &str); 3] = [
    ("broker.session.timeout.ms", "9000"),
    ("broker.heartbeat.interval.ms", "2000"),
    ("log.retention.check.interval.ms", "2000"),
];

/// Compares the bridge with the least that a webhook receiver for Kafka can do, on a real Kafka broker.
///
/// The broker is the one that NEXUDUS_BRIDGE_TEST_KAFKA names, else an Apache Kafka started for this run (Java and
/// Maven, or Docker). Compare on an idle machine.
#[derive(Debug, Parser)]
#[command(name = "end_to_end")]
struct Args {
    /// How often each contestant is measured at each number of connections
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long one measurement takes, in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Keep-alive connections, each with one request on its way at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256], value_parser = clap::value_parser!(u32).range(1..=2000))]
    connections: Vec<u32>,
    /// The bridge to measure, if not the one that cargo has just built
    #[arg(long, value_name = "FILE")]
    bridge: Option<PathBuf>,
    /// Cargo passes this; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor: publish to this topic
    #[arg(long, hide = true, requires = "bootstrap")]
    floor: Option<String>,
    /// What the floor's messages hold
    #[arg(long, hide = true, default_value = "bare")]
    messages: Messages,
    /// The floor's cluster
    #[arg(long, hide = true)]
    bootstrap: Option<String>,
}

/// Who is measured, with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Floor,
    FloorWithFormat,
    Bridge,
    BridgeNonAscii,
}

/// One measurement, or the medians of several.
#[derive(Debug, Clone, Copy)]
struct Figures {
    requests_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    cpu_micros: f64,
    resident_bytes: f64,
}

/// One measurement with its circumstances.
#[derive(Debug)]
struct Round {
    connections: u32,
    number: u32,
    case: Case,
    figures: Figures,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (&args.floor, &args.bootstrap) {
        (Some(topic), Some(bootstrap)) => floor::run(bootstrap, topic, SECRET, args.messages),
        _ if args.bench => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(compare(&args)))
        }
        _ => {
            println!("nothing was measured: run it by `cargo bench --bench end_to_end`");
            Ok(())
        }
    };
    result.map(|()| ExitCode::SUCCESS).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    let given = std::env::var_os(kafka::CLUSTER_VARIABLE).is_some_and(|address| !address.is_empty());
    let own = (!given).then(|| OwnBroker::start_with(&BROKER_SETTINGS));
    let bootstrap = own.as_ref().map_or_else(|| plain().bootstrap().to_owned(), OwnBroker::bootstrap);
    let prefix = unique("bench");
    let topics = ["floor", "format", ACTION, "quarantine"].map(|name| format!("{prefix}.{name}"));
    for topic in &topics {
        kafka::Client::new(&bootstrap).create_topic(topic, PARTITIONS, &TOPIC_SETTINGS);
    }
    let floor = Contestant::floor(&bootstrap, &topics[0], Messages::Bare)?;
    let format = Contestant::floor(&bootstrap, &topics[1], Messages::AsTheContract)?;
    let program = args.bridge.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_nexudus-bridge")));
    let bridge = Contestant::bridge(program, &bootstrap, &format!("{prefix}."), SECRET).await?;
    tokio::time::sleep(SETTLE).await;
    for (name, contestant) in [("bridge", &bridge), ("floor", &floor)] {
        let resident = contestant.resident_bytes()? as f64 / 1e6;
        println!("{name}, idle before any traffic: {resident:.1} MB resident");
    }
    let rounds = measure(args, [&floor, &format, &bridge]).await?;
    report(args, &rounds);
    Ok(())
}

async fn measure(args: &Args, [floor, format, bridge]: [&Contestant; 3]) -> anyhow::Result<Vec<Round>> {
    let real = Bytes::from(wire_body(payload(ACTION).expect("every action has a fixture")));
    let letters = |byte: &u8| if byte.is_ascii() { *byte } else { b'x' };
    let (real, ascii) = (requests(&real), requests(&real.iter().map(letters).collect()));
    let cases = [
        (Case::Floor, floor, Load::new(floor.address(), ascii.clone())),
        (Case::FloorWithFormat, format, Load::new(format.address(), ascii.clone())),
        (Case::Bridge, bridge, Load::new(bridge.address(), ascii)),
        (Case::BridgeNonAscii, bridge, Load::new(bridge.address(), real)),
    ];
    let mut rounds = Vec::new();
    for &connections in &args.connections {
        for number in 0..args.rounds {
            // Another one begins each time: what drifts with time favours nobody.
            for turn in 0..cases.len() {
                let (case, contestant, load) = &cases[(turn + number as usize) % cases.len()];
                let figures = once(contestant, load, connections, args.seconds).await?;
                eprintln!("round {number}: {}", row(connections, *case, &figures));
                rounds.push(Round { connections, number, case: *case, figures });
            }
        }
    }
    Ok(rounds)
}

async fn once(
    contestant: &Contestant,
    load: &Load,
    connections: u32,
    seconds: u64,
) -> anyhow::Result<Figures> {
    let measured = load.run(connections, Duration::from_secs(seconds), || contestant.cpu_time()).await?;
    let requests = measured.latency.len() as f64;
    Ok(Figures {
        requests_per_second: requests / measured.elapsed.as_secs_f64(),
        p50_micros: measured.latency.value_at_quantile(0.5) as f64,
        p99_micros: measured.latency.value_at_quantile(0.99) as f64,
        cpu_micros: measured.cpu.as_secs_f64() * 1e6 / requests,
        resident_bytes: contestant.resident_bytes()? as f64,
    })
}

/// Signed requests whose records have different keys.
fn requests(body: &Bytes) -> Vec<Bytes> {
    let key = SigningKey::new(SECRET).expect("the secret is not empty");
    let template = Template::new(body.clone());
    let request = |number| {
        let body = template.copy(number);
        let (signature, length) = (key.sign(&body), body.len());
        let head = format!(
            "POST /webhooks/{ACTION} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             x-nexudus-hook-signature: {signature}\r\ncontent-length: {length}\r\n\r\n"
        );
        Bytes::from([head.as_bytes(), &body].concat())
    };
    (0..RECORDS).map(request).collect()
}

impl Case {
    const ALL: [Self; 4] = [Self::Floor, Self::FloorWithFormat, Self::Bridge, Self::BridgeNonAscii];

    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorWithFormat => "floor with format",
            Self::Bridge => "bridge",
            Self::BridgeNonAscii => "bridge, non-ASCII",
        }
    }
}

fn report(args: &Args, rounds: &[Round]) {
    println!("\nmedians of {} rounds of {} s", args.rounds, args.seconds);
    println!("connections  contestant            req/s    p50 µs    p99 µs  CPU µs/req  RSS MB");
    for &connections in &args.connections {
        for case in Case::ALL {
            let of = |pick: fn(&Figures) -> f64| {
                let these =
                    rounds.iter().filter(|round| (round.connections, round.case) == (connections, case));
                median(these.map(|round| pick(&round.figures)).collect())
            };
            let medians = Figures {
                requests_per_second: of(|figures| figures.requests_per_second),
                p50_micros: of(|figures| figures.p50_micros),
                p99_micros: of(|figures| figures.p99_micros),
                cpu_micros: of(|figures| figures.cpu_micros),
                resident_bytes: of(|figures| figures.resident_bytes),
            };
            println!("{}", row(connections, case, &medians));
        }
    }
    for (base, cases) in [
        (Case::Floor, &[Case::FloorWithFormat, Case::Bridge, Case::BridgeNonAscii][..]),
        (Case::FloorWithFormat, &[Case::Bridge, Case::BridgeNonAscii]),
    ] {
        println!("\nagainst the {}, medians of the rounds' ratios (least to most)", base.name());
        println!("connections  contestant                      req/s            CPU µs/req");
        for &connections in &args.connections {
            for &case in cases {
                let [rate, cpu] =
                    [|figures: &Figures| figures.requests_per_second, |figures: &Figures| figures.cpu_micros]
                        .map(|pick| ratios(rounds, connections, (case, base), pick));
                println!("{connections:>11}  {:<18}  {rate}  {cpu}", case.name());
            }
        }
    }
}

fn row(connections: u32, case: Case, figures: &Figures) -> String {
    let Figures { requests_per_second, p50_micros, p99_micros, cpu_micros, resident_bytes } = figures;
    format!(
        "{connections:>11}  {:<18}  {requests_per_second:>7.0}  {p50_micros:>8.0}  {p99_micros:>8.0}  {cpu_micros:>10.1}  {:>6.1}",
        case.name(),
        resident_bytes / 1e6
    )
}

/// What `case` has of the figure of `base`, round by round.
fn ratios(
    rounds: &[Round],
    connections: u32,
    (case, base): (Case, Case),
    pick: fn(&Figures) -> f64,
) -> String {
    let of = |case, number| {
        let wanted =
            |round: &&Round| (round.connections, round.case, round.number) == (connections, case, number);
        rounds.iter().find(wanted).map(|round| pick(&round.figures))
    };
    let numbers = rounds.iter().filter(|round| (round.connections, round.case) == (connections, case));
    let ratio = |round: &Round| Some(pick(&round.figures) / of(base, round.number)?);
    let ratios: Vec<f64> = numbers.filter_map(ratio).collect();
    let (least, most) = ratios
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    format!("{:>6.3} ({least:.3} to {most:.3})", median(ratios))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1].midpoint(values[middle]) }
}
