//! The program of the tour: see `nexudus-double --help`.

use std::process::ExitCode;

use clap::Parser;
use nexudus_bridge::app::Ended;
use nexudus_bridge::telemetry::log;
use nexudus_double::tour::{Args, Tour};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

/// Runs the bridge, an embedded Kafka broker and a double of Nexudus in one process, and prints the commands to try.
#[derive(Debug, Parser)]
#[command(name = "nexudus-double", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Cli { args } = Cli::parse();
    let config = args.configuration()?;
    let log = log::start(&config.log)?;
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let signals = Mutex::new((terminate, interrupt));
    let next = async || {
        let (terminate, interrupt) = &mut *signals.lock().await;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let tour = Tour::start(&args, config)?;
    tour.app().count_dropped_lines(log.dropped_lines());
    println!("\n{}", args.banner());
    Ok(match tour.run(next(), next()).await {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Left(_) | Ended::Failed => ExitCode::FAILURE,
    })
}
